"""A Python program starts and resumes a run by the call that the command makes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT
from tests.support.training import TINY, weights
from zoo.errors import InputError
from zoo.train import resume, train
from zoo.train.config import load_config
from zoo.train.watch import Standing

SHORT: dict[str, Any] = {**TINY, "epochs": 1}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_program_trains_and_resumes_and_watches(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zoo")
    seen: list[Standing] = []
    trained = train(name="first", watch=seen.append, **{**SHORT, "epochs": 2, "head": "arcface"})
    assert trained.run == Path("runs/first") and load_config(trained.run / "config.yaml").head == "arcface"
    assert [now.step for now in seen] == list(range(1, 15)) and {now.total_steps for now in seen} == {14}
    assert [now.epoch for now in seen] == [1] * 7 + [2] * 7 and seen[-1].epochs == 2
    assert seen[0].record == {} and seen[-1].record["step"] == trained.record["step"] == 14
    last = json.loads((trained.run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {key: last[key] for key in trained.record} == trained.record
    told = caplog.text
    assert "35 images of 5 identities" in told and "synthetic faces: the model" in told and "epoch 2/2" in told
    before = weights(trained.run)
    again = resume("first", log_every=1)
    assert again.run == trained.run and all((weights(again.run)[name] == before[name]).all() for name in before)


def test_a_resumed_run_keeps_the_options_that_decide_its_weights() -> None:
    train(name="first", **SHORT)
    with pytest.raises(InputError, match="found other values for lr, seed;"):
        resume(lr=0.2, seed=5, workers=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "a/b"}, "expected --name to be a plain folder name"),
        ({"name": ".."}, "expected --name to be a plain folder name"),
        ({"head": "arcfase"}, "did you mean arcface"),
        ({"lr": "fast"}, "expected --lr to be a number, found 'fast'"),
        ({"centres": {"chunk_size": "foo"}}, "expected centres.chunk_size to be a whole number or auto or none"),
        ({"data": 2024}, "expected --data to be a text, found 2024"),
        ({"recipe": "arcface-r18-casia", "data": None}, "expected --data to be a text, found None"),
        ({"init": "no-such-run"}, "no model is called 'no-such-run'"),
        ({"freeze": ["body", "neck"]}, "expected --freeze to leave some parameters to train, found body, neck"),
        ({"batch_size": 36}, "at least one batch of 36, found 35 images"),
    ],
)
def test_what_is_refused_leaves_no_folder(here: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match="(?s)" + sentence.replace(".", r"\.")):
        train(**{**SHORT, **options})
    assert not list(here.iterdir())


def test_a_fault_of_ours_leaves_no_folder_either(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("zoo.train.loop.build", broken)
    with pytest.raises(ZeroDivisionError):
        train(**SHORT)
    assert not list(here.iterdir())


def test_a_recipe_without_data_asks_for_it() -> None:
    with pytest.raises(InputError, match="expected --data with the recipe arcface-r18-casia"):
        train(recipe="arcface-r18-casia")


def test_a_run_of_that_name_is_never_written_over() -> None:
    train(name="first", **SHORT)
    before = (Path("runs/first/config.yaml").read_text(), Path("runs/first/metrics.jsonl").read_text())
    with pytest.raises(InputError, match="expected a new run, found one at runs/first"):
        train(name="first", **{**SHORT, "seed": 1})
    assert before == (Path("runs/first/config.yaml").read_text(), Path("runs/first/metrics.jsonl").read_text())


@pytest.mark.parametrize("spelling", ["first", "runs/first", "local-dir:runs/first"])
def test_a_run_starts_from_any_model(spelling: str) -> None:
    train(name="first", **SHORT)
    second = train(name="second", **SHORT, init=spelling, freeze=["body"], seed=1)
    mine, theirs = weights(second.run), weights(Path("runs/first"))
    kept = [name for name in theirs if name.startswith("body.") and name.endswith("weight")]
    assert len(kept) > 5 and all((mine[name] == theirs[name]).all() for name in kept)
    assert load_config(second.run / "config.yaml").init == spelling


def test_the_python_of_the_documentation_runs() -> None:
    text = (ROOT / "docs/training.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    call = 'train("resnet18", head="recurricularface", data="faces/", epochs=34, name="first")'
    assert call in code
    exec(code.replace(call, 'train(name="first", **SHORT)'), {"SHORT": SHORT})
    assert Path("runs/first/model.safetensors").is_file()
