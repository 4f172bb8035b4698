"""Which checkpoints of a run are kept, and what becomes of them on a full disk."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.profiler import ProfilerActivity, profile

from tests.support.small_disk import mounted
from tests.support.training import same_weights, start, tiny, weights
from zoo.cli import main
from zoo.errors import InputError
from zoo.train import checkpoint
from zoo.train.build import build as parts_of
from zoo.train.loop import train


def names(run: Path) -> list[str]:
    """The steps whose checkpoints a run keeps."""
    return [str(int(step.name.removeprefix("step-"))) for step in checkpoint.steps(run / "checkpoint")]


class Verdicts:
    """In the place of validation pairs: says the given accuracies, one after the other."""

    def __init__(self, data: str, accuracies: list[float]) -> None:
        self.data, self.accuracies = data, iter(accuracies)

    def images(self) -> list[np.ndarray[Any, Any]]:
        return [np.zeros((112, 112, 3), np.uint8)]

    def score(self, embeddings: np.ndarray[Any, Any]) -> SimpleNamespace:
        assert embeddings.shape == (1, 9)
        return SimpleNamespace(accuracy=next(self.accuracies), auc=0.5, tar_at_far={})


def validated(monkeypatch: pytest.MonkeyPatch, accuracies: list[float], data: str = "pairs") -> None:
    monkeypatch.setattr("zoo.train.loop.open_validation", lambda config, held: [Verdicts(data, accuracies)])


def test_the_best_checkpoint_and_model_are_kept_beside_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(keep=1, epochs=4)
    run = start(config, tmp_path / "run")
    validated(monkeypatch, [0.5, 0.75, 0.75, 0.625])
    train(config, run)
    assert names(run) == ["14", "28"] and (run / "checkpoint/best").read_text() == "step-00000014\n"
    second = parts_of(config, 5, torch.device("cpu"))
    shutil.copytree(run / "checkpoint/step-00000014", tmp_path / "second/step-00000014")
    second.restore(tmp_path / "second")
    best = weights(run / "best")
    assert all(np.array_equal(best[name], tensor) for name, tensor in second.model.state_dict().items())
    assert any(not np.array_equal(best[name], tensor) for name, tensor in weights(run).items())


def test_a_resumed_run_remembers_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tiny(keep=1, epochs=3), tmp_path / "run")
    validated(monkeypatch, [0.75, 0.5])
    with pytest.raises(StopIteration):  # the third validation ends it
        train(tiny(keep=1, epochs=3), run)
    assert names(run) == ["7", "21"]
    validated(monkeypatch, [0.625])
    train(tiny(keep=1, epochs=3), run, resume=True)
    assert names(run) == ["7", "21"]


def test_the_best_on_other_pairs_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tiny(keep=1, epochs=2), tmp_path / "run")
    validated(monkeypatch, [0.75])
    with pytest.raises(StopIteration):
        train(tiny(keep=1, epochs=2), run)
    validated(monkeypatch, [0.25], data="other pairs")
    train(tiny(keep=1, epochs=2), run, resume=True)
    assert names(run) == ["14"] and (run / "checkpoint/best").read_text() == "step-00000014\n"


def test_a_checkpoint_comes_when_its_minutes_have_passed(tmp_path: Path) -> None:
    often = tiny(epochs=1, checkpoint_minutes=1e-9, keep=99)
    train(often, start(often, tmp_path / "often"))
    assert names(tmp_path / "often") == ["0", "1", "2", "3", "4", "5", "6", "7"]
    seldom = tiny(epochs=1, checkpoint_minutes=1e9, keep=99)
    train(seldom, start(seldom, tmp_path / "seldom"))
    assert names(tmp_path / "seldom") == ["0", "7"]


def test_what_a_checkpoint_in_the_background_ends_with_comes_to_the_one_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.train.checkpoint.os.rename", full)
    with pytest.raises(InputError, match="No space left"), checkpoint.Saver(tmp_path / "checkpoint", keep=1) as saver:
        saver.save({"x": torch.zeros(3)}, step=1)
    assert not names(tmp_path)


def test_a_state_that_changes_while_it_is_written_is_saved_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), checkpoint.dcp_save

    def slow(*arguments: Any, **options: Any) -> None:
        assert go.wait(60)
        write(*arguments, **options)

    monkeypatch.setattr("zoo.train.checkpoint.dcp_save", slow)
    x = torch.ones(3)
    with checkpoint.Saver(tmp_path / "checkpoint", keep=1) as saver:
        saver.save({"x": x}, step=1)
        x += 1
        go.set()
    state = {"x": torch.zeros(3)}
    checkpoint.load(state, tmp_path / "checkpoint")
    assert state["x"].tolist() == [1, 1, 1]


def test_a_stager_that_closes_itself_after_each_copy_as_in_torch_2_11_stops_no_second_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = DefaultStager._stage

    def closing(self: DefaultStager, *arguments: Any, **options: Any) -> Any:
        try:
            return once(self, *arguments, **options)
        finally:
            self._state_dict_stager.close()

    monkeypatch.setattr(DefaultStager, "_stage", closing)
    state = {"x": torch.ones(3), "steps": 2}
    twin = DefaultStager(StagingOptions(False, False, False, False))
    twin.stage(state)
    with pytest.raises(KeyError, match="type"):
        twin.stage(state)
    with profile(activities=[ProfilerActivity.CPU]), checkpoint.Saver(tmp_path / "checkpoint", keep=2) as saver:
        for step in (1, 2):
            saver.save(state, step)
    assert len(checkpoint.steps(tmp_path / "checkpoint")) == 2


def test_a_checkpoint_of_another_model_or_set_is_a_sentence(tmp_path: Path) -> None:
    run = start(tiny(epochs=1), tmp_path / "run")
    train(tiny(epochs=1), run)
    for other, found in (
        (tiny(epochs=1, embedding_dim=7), "of shape (9,"),
        (tiny(epochs=1, backbone="test_vit", neck="native"), "of shape ()"),
        (tiny(epochs=1, data="synthetic:6x7"), "weight of shape (5, 9) in place of (6, 9)"),
        (tiny(epochs=1, data="synthetic:5x8"), "found images 40 in place of 35"),
    ):
        with pytest.raises(InputError) as refused:
            train(other, run, resume=True)
        assert found in str(refused.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with mounted(tmp_path / "disk", "24m") as folder:
        yield folder


def test_a_disk_that_fills_up_at_any_write_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(epochs=2, curves=True)
    whole = start(config, tmp_path / "whole")
    train(config, whole)
    run = small_disk / "runs/run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoint/step-00000014")
    monkeypatch.chdir(small_disk)
    model = (run / "model.safetensors").stat().st_size
    step = sum(file.stat().st_size for file in (run / "checkpoint/step-00000007").iterdir())
    # At the end of an epoch the model and the checkpoint are written side by side, so either may be the one that fails;
    # in the middle of one only a checkpoint is.
    middle = ["--checkpoint-every", "3"]
    for free, options, told in (
        (0, [], "[Errno 28]"),
        (12 << 10, [], "Error while serializing"),
        (model // 2, [], ""),
        ((model + step) // 2, [], ""),
        ((model + step) // 2, middle, "could not write the checkpoint"),
        (step - (20 << 10), middle, "could not write the checkpoint"),
    ):
        (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
        assert main(["train", "--resume", "run", "--quiet", *options]) == 2, free
        (sentence,) = capsys.readouterr().err.strip().splitlines()
        assert "No space left on device" in sentence and told in sentence, free
        assert names(run) == ["7"] and checkpoint.damage(run / "checkpoint/step-00000007") == ""
        assert not list(run.rglob("*.tmp")) and not list(run.glob(".*model*"))
        (small_disk / "filler").unlink()
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert all(np.array_equal(weights(run)[name], tensor) for name, tensor in weights(whole).items())


def test_a_new_run_on_a_full_disk_leaves_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_disk)
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert main(["train", "--quiet", "--data", "synthetic:5x7", "--batch-size", "5"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def a_list(file: Path) -> None:
    (file.parent / "manifest.json").write_text("[]")


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, Path.unlink, a_list])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    whole: tuple[Path, float], tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    harm(next((run / "checkpoint/step-00000021").glob("*.distcp")))
    train(tiny(), run, resume=True)
    assert (
        f"step-00000021 is damaged ({'manifest.json is no list' if harm is a_list else '__0_0.distcp'}" in caplog.text
    )
    assert same_weights(run, whole[0])


def test_no_whole_checkpoint_is_a_sentence(whole: tuple[Path, float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    for step in checkpoint.steps(run / "checkpoint"):
        (step / "manifest.json").unlink()
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        train(tiny(), run, resume=True)


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(
    whole: tuple[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(whole[0] / "checkpoint", folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.train.checkpoint.os.rename", full)
    with pytest.raises(InputError, match="No space left"):
        checkpoint.save({"x": torch.zeros(3)}, folder, step=22, keep=1)
    assert [path.name for path in checkpoint.steps(folder)] == ["step-00000014", "step-00000021"]
    assert not list(folder.glob(".*.tmp"))
    state = {"progress": {"step": 0, "bad_steps": 0}}
    assert checkpoint.load(state, folder) == (21, []) and state["progress"]["step"] == 21


def test_class_centres_are_those_of_the_newest_checkpoint(trained: Path, tmp_path: Path) -> None:
    """Compared with a loss that took the whole state from the checkpoint."""
    import torch
    from safetensors.torch import load_file

    from zoo.train.build import build
    from zoo.train.checkpoint import write_centres
    from zoo.train.config import load_config

    assert write_centres(trained, tmp_path / "head.safetensors") == (5, 2, 9)
    written = load_file(tmp_path / "head.safetensors")
    parts = build(load_config(trained / "config.yaml"), 5, torch.device("cpu"))
    before = parts.criterion.weight.clone()
    parts.restore(trained / "checkpoint")
    assert torch.equal(written["weight"], parts.criterion.weight) and not torch.equal(written["weight"], before)
    assert torch.equal(written["head.t"], parts.criterion.head.state_dict()["t"])
    assert set(written) == {"weight", "head.t"}


def test_class_centres_cut_over_processes_are_written_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tests.support.training import FP64, tiny, torchrun
    from zoo.train.checkpoint import write_centres

    run = tmp_path / "runs/two"
    run.parent.mkdir()
    done = torchrun(tiny(**FP64, epochs=1), run, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert write_centres(run, tmp_path / "head.safetensors") == (5, 9)
    rows = load_file(tmp_path / "head.safetensors")["weight"]
    assert len({tuple(row.tolist()) for row in rows}) == 5 and bool((rows.norm(dim=1) > 0).all())


def test_class_centres_of_a_later_step_than_the_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    from zoo.train.checkpoint import write_centres

    run = Path(shutil.copytree(trained, tmp_path / "run"))
    newest = max((run / "checkpoint").glob("step-*"))
    shutil.rmtree(newest)
    with pytest.raises(InputError, match="expected class centres of the same step"):
        write_centres(run, tmp_path / "head.safetensors")
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        write_centres(run, tmp_path / "head.safetensors")
    assert not (tmp_path / "head.safetensors").exists()
