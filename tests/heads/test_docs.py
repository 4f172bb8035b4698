"""docs/heads.md says what the heads say."""

from __future__ import annotations

import importlib.util
import inspect
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from tests.support.places import ROOT
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head, head_options
from zoo.train.config import build

PAGE = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")

STATED = {
    "CurricularFace, hard negatives only": (33.42, 27.74, 25.79, 25.79, 25.79),
    "CurricularFace, all negatives": (33.42, 27.74, 24.53, 23.07, 18.08),
    "ReCurricularFace 1.1 / 0.4, hard only": (32.06, 29.81, 28.40, 27.72, 25.79),
    "ReCurricularFace 1.1 / 0.4, all": (32.06, 29.81, 28.40, 27.72, 25.18),
    "derived 1.1106 / 0.3541, hard only": (31.92, 29.94, 28.68, 28.08, 25.79),
    "derived 1.1106 / 0.3541, all": (31.92, 29.94, 28.68, 28.08, 25.79),
    "equation (6) as printed, hard only": (31.92, 29.04, 27.27, 26.42, 25.79),
}
"""θ_y of the boundary at t = 0, 0.3, 0.5, 0.6 and 1, as an independent reading of the paper computed them."""


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("head_figures", ROOT / "benchmarks" / "head_figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_heads_page_are_those_that_its_command_writes(figures: ModuleType) -> None:
    assert figures.with_tables(PAGE) == PAGE
    assert figures.with_tables(PAGE.replace("80.2226", "80.2227").replace("33.42", "33.43")) == PAGE


@pytest.mark.parametrize("reading", list(STATED))
def test_the_boundaries_are_those_of_an_independent_reading(reading: str, figures: ModuleType) -> None:
    found = [figures.boundary(figures.BOUNDARIES[reading](), t) for t in (0, 0.3, 0.5, 0.6, 1)]
    assert found == pytest.approx(STATED[reading], abs=0.01)


def test_the_worked_head_trains_with_options_from_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.split("A whole head")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(HEADS, "data", dict(HEADS.data))
    exec(code, {"__name__": "my_head"})
    words = {"head_options.gain": "3e-1", "head_options.wait": "1", "head_options.scale": "7"}
    config = build({"head": "my-head", **words})
    assert config.head_options == {"gain": 0.3, "wait": 1, "scale": 7.0}
    assert build({"head": "my-head", "head_options.wait": "none"}).head_options == {"wait": None}
    loss = MarginSoftmaxLoss(build_head("my-head", **config.head_options), 5, 3, seed=0)
    x, y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    cosines = F.normalize(x) @ F.normalize(loss.weight.detach()).T
    target = cosines[range(4), y] - 0.35
    for factor in (1.0, 1.3, 1.3):
        logits = torch.where(cosines > target[:, None], factor * cosines, cosines)
        logits[range(4), y] = target
        assert loss(x, y).item() == pytest.approx(float(F.cross_entropy(7 * logits, y)), rel=1e-5)


def test_every_option_of_every_head_and_of_the_centres_is_explained() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `")]
    explained = [(options, heads) for options, heads in rows]
    for name in HEADS:
        for option in head_options(HEADS[name]):
            assert any(
                f"`{option.name}`" in options and (f" {name}," in f" {heads.strip()}," or "all" in heads)
                for options, heads in explained
            ), (name, option.name)
    for option in list(inspect.signature(MarginSoftmaxLoss).parameters)[3:]:
        assert any(f"`{option}`" in options for options, _ in explained), option
