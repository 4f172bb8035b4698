"""The code of docs/recipes-in-your-loop.md, block by block, on a tiny set that it must learn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from tests.support.places import ROOT
from zoo.heads import MarginSoftmaxLoss, build_head

PEOPLE = 6


def sections() -> dict[str, str]:
    """The code of each section of the page."""
    text = (ROOT / "docs" / "recipes-in-your-loop.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        title: "\n".join(re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL))
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Any]]:
    """What the first section leaves to the others: its imports."""
    names = fresh()
    exec(sections()["PyTorch"], names)
    yield names


def fresh() -> dict[str, Any]:
    """A backbone, people that it can tell apart, and their loader."""
    torch.manual_seed(0)
    faces = torch.randn(PEOPLE, 1, 4, 4)
    labels = torch.arange(PEOPLE).repeat(8)
    images = faces[labels] + 0.3 * torch.randn(len(labels), 1, 4, 4)
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 64), torch.nn.BatchNorm1d(64))
    loader = DataLoader(TensorDataset(images, labels), batch_size=12, drop_last=True)
    return {"backbone": backbone, "loader": loader, "people": PEOPLE, "images": images, "labels": labels}


def spread(backbone: torch.nn.Module, names: dict[str, Any]) -> float:
    """How much nearer than others the images of a person are, as a mean difference of cosines."""
    with torch.no_grad():
        unit = torch.nn.functional.normalize(backbone.eval()(names["images"]))
    same = names["labels"][:, None] == names["labels"]
    cosines = unit @ unit.T
    return float(cosines[same].mean() - cosines[~same].mean())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("title", list(sections()))
def test_a_recipe_runs_as_printed_and_learns(title: str, started: dict[str, Any], tmp_path: Any) -> None:
    names = {**started, **fresh()}
    backbone, before = names["backbone"], spread(names["backbone"], names)
    backbone.train()
    if title == "Several GPUs":
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        exec(sections()[title], names)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert spread(backbone, names) > before + 0.05


def test_the_loss_taken_over_from_pytorch_metric_learning_is_theirs(started: dict[str, Any]) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    torch.manual_seed(1)
    x, y = torch.randn(9, 64), torch.randint(PEOPLE, (9,))
    theirs = losses.ArcFaceLoss(PEOPLE, 64, margin=28.6, scale=64)
    ours = MarginSoftmaxLoss(build_head("arcface", margin=torch.tensor(28.6).deg2rad().item()), PEOPLE, 64)
    ours.weight.data.copy_(theirs.W.detach().T)
    torch.testing.assert_close(ours(x, y), theirs(x, y), rtol=1e-4, atol=1e-4)
