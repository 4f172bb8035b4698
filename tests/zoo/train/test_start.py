"""A Python program starts and resumes a run by the call that the command makes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.places import ROOT
from tests.support.training import TINY, fresh, same_weights, weights
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.train import checkpoint, resume, train
from zoo.train.config import load_config
from zoo.train.start import Standing, configured, dry_run, rescaled

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
    with pytest.raises(InputError, match=r"found other values for epochs, seed;.*--lr.* may change"):
        resume(lr=0.2, seed=5, epochs=9, workers=0)
    with pytest.raises(InputError, match="expected --precision fp32 to stay, found fp64"):
        resume(precision="fp64")


def test_what_stopped_a_run_is_mended_on_resume_and_kept_in_its_history(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = pictures(here / "faces")
    good = (people / "0/3.png").read_bytes()
    (people / "0/3.png").write_bytes(good[:40])
    options = {**SHORT, "data": str(people), "checkpoint_every": 1, "epochs": 3}
    with pytest.raises(InputError, match=r"faces/0/3\.png.*or leave such pictures out with --on-corrupt skip"):
        train(name="first", **options)
    people = people.rename(here / "moved")
    with pytest.raises(InputError, match=r"at .*faces, found nothing"):
        resume("first", on_corrupt="skip")
    step = checkpoint.steps(Path("runs/first/checkpoint"))[-1]
    resume("first", on_corrupt="skip", data=str(people), lr=0.01, precision="bf16")
    (line,) = map(json.loads, Path("runs/first/history.jsonl").read_text().splitlines())
    changed = {"lr": [0.05, 0.01], "precision": ["fp32", "bf16"], "on_corrupt": ["error", "skip"]}
    assert line["changed"] == {**changed, "data": [options["data"], str(people)]}
    assert line["step"] == int(step.name[-2:])
    mended = load_config(Path("runs/first/config.yaml"))
    assert (mended.lr, mended.data, mended.batch_size) == (0.01, str(people), SHORT["batch_size"])
    (people / "0").rename(people / "9")  # the same counts, other people
    with pytest.raises(InputError, match=r"the run began with, found people .* in place of"):
        resume("first")


def pictures(folder: Path) -> Path:
    """Five people with seven pictures each, as a folder."""
    faces = open_dataset("synthetic:5x7")
    for i, label in enumerate(faces.labels.tolist()):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{i % 7}.png").write_bytes(encode_png(faces.image(i)))
    return folder


def test_a_run_killed_before_its_first_checkpoint_is_started_again(here: Path) -> None:
    train(name="whole", **SHORT)
    Path("runs/first").mkdir()
    Path("runs/first/config.yaml").write_text("lr: 9.0\n")
    train(name="first", **SHORT)
    assert load_config(Path("runs/first/config.yaml")).lr == SHORT["lr"]
    assert same_weights(Path("runs/first"), Path("runs/whole"))


def test_the_script_of_a_job_starts_a_run_and_goes_on_with_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="expected --name beside --resume-or-start"):
        train(resume_or_start=True, **SHORT)
    train(name="whole", **SHORT)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("zoo.train.loop.save_timm", lambda *_: 1 // 0)  # after the checkpoint of step 7
        train(name="job", resume_or_start=True, **SHORT)
    assert [step.name for step in checkpoint.steps(Path("runs/job/checkpoint"))] == ["step-00000000", "step-00000007"]
    train(name="job", resume_or_start=True, **SHORT)
    assert same_weights(Path("runs/job"), Path("runs/whole"))
    assert len(Path("runs/job/metrics.jsonl").read_text().splitlines()) == 3  # of steps 3, 6 and 7: none twice


def test_the_file_of_an_augmentation_is_kept_in_the_run(here: Path) -> None:
    import albumentations

    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=1.0)]), "mine.yaml", "yaml")
    train(name="first", augment="mine.yaml", **SHORT)
    Path("mine.yaml").unlink()
    resume("first")
    assert "HorizontalFlip" in Path("runs/first/augment.yaml").read_text()
    assert load_config(Path("runs/first/config.yaml")).augment == "mine.yaml"


def too_little_memory(told: Path) -> None:
    """Trains with 300 MiB of address space above what the process has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), used + (300 << 20)))
    try:
        train(name="first", **{**SHORT, "data": "synthetic:5x70", "batch_size": 350, "backbone": "resnet18"})
    except InputError as error:
        told.write_text(str(error))
    os._exit(0)


def test_faults_of_the_machine_are_sentences(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = fresh(too_little_memory, here / "told")
    process.join(timeout=120)
    assert "expected enough memory" in (here / "told").read_text()
    shutil.rmtree("runs")  # it holds the state of step 0
    Path("runs").write_text("no folder")
    with pytest.raises(InputError, match="cannot create the folder runs/first"):
        train(name="first", **SHORT)
    Path("runs").unlink()

    def killed(*_: object, **__: object) -> int:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)
        return 0

    monkeypatch.setattr("zoo.train.step.dropout_seed", killed)
    with pytest.raises(InputError, match=r"found one ended by the system .*lower --workers"):
        train(name="first", **{**SHORT, "workers": 1, "epochs": 99})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "a/b"}, "expected --name to be a plain folder name"),
        ({"name": ".."}, "expected --name to be a plain folder name"),
        ({"head": "arcfase"}, "did you mean arcface"),
        ({"lr": "fast"}, "expected --lr to be a number, found 'fast'"),
        ({"centres": {"chunk_size": "foo"}}, "expected centres.chunk_size to be a whole number or auto or none"),
        ({"data": 2024}, "expected --data to be a text, found 2024"),
        ({"recipe": "arcface-r18-casia", "data": None}, "expected --data to be a text, found none"),
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


def test_a_recipes_epochs_scale_to_the_number_that_is_given(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zoo")
    recipe = {"epochs": "20", "milestones": "[10, 15, 18]", "warmup_epochs": "1", "lr": "0.5"}
    assert rescaled(recipe, {"epochs": "30"}) == {**recipe, "milestones": [15, 22, 27], "warmup_epochs": 1.5}
    config = configured("arcface-r50-ms1mv3", {"data": "synthetic", "epochs": 40, "warmup_epochs": 3})
    assert (config.milestones, config.warmup_epochs) == ((20, 30, 36), 3)
    assert caplog.messages == ["--milestones of the recipe becomes (20, 30, 36) for 40 epochs"]
    for same in ({}, {"epochs": "20"}):
        assert rescaled(recipe, same) == recipe


def test_a_dry_run_takes_one_step_and_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dry_run(**{**SHORT, "epochs": 3})
    assert (found.steps_per_epoch, found.total_steps) == (7, 21) and found.peak_bytes > 10_000_000
    assert not list(here.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="expected one process for --dry-run"):
        dry_run(**SHORT)


def test_another_image_size_passes_through_training_export_and_verification(here: Path) -> None:
    import onnxruntime

    from zoo.backbones import model_info
    from zoo.export import export_onnx
    from zoo.train.config import TrainConfig

    options = {**SHORT, "image_size": 128, "validation": "synthetic", "keep_epochs": True}
    trained = train(name="first", **options)
    assert model_info(trained.run).input.size == (128, 128) and "validation" in trained.record
    assert model_info(trained.run / "epoch-001").input.size == (128, 128)
    export_onnx(trained.run)
    session = onnxruntime.InferenceSession(trained.run / "model.onnx")
    assert session.get_inputs()[0].shape[1:] == [3, 128, 128]
    second = train(name="second", **SHORT, init="first")
    assert load_config(second.run / "config.yaml").image_size == 128 != TrainConfig().image_size
