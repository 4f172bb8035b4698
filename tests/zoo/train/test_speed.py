"""The arithmetic that a run takes, torch's settings while it trains, and batches that are copied ahead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.training import tiny
from zoo.errors import InputError
from zoo.train import step
from zoo.train.config import TrainConfig, load_config
from zoo.train.loop import train
from zoo.train.start import resume, train_in

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bf16"), ((7, 5), "fp32")])
def test_on_a_gpu_auto_is_bf16_where_it_has_it(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert step.settled(TrainConfig(), CARD).precision == expected
    assert step.settled(TrainConfig(precision="fp16"), CARD).precision == "fp16"


@pytest.mark.parametrize("flags", [set(), {"avx512_bf16"}, {"amx_tile"}])
def test_on_a_cpu_auto_is_bf16_where_it_has_instructions_for_it(
    flags: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in flags, raising=False)
    assert step.settled(TrainConfig(), CPU).precision == ("bf16" if flags else "fp32")


def test_what_auto_means_is_saved_and_a_run_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(step, "multiplies_bf16", lambda device: True)
    run = tmp_path / "runs" / "one"
    train_in(run, tiny(precision="auto", epochs=1))
    assert load_config(run / "config.yaml").precision == "bf16"
    monkeypatch.setattr(step, "multiplies_bf16", lambda device: False)
    assert resume(run, precision="auto").run == run
    assert load_config(run / "config.yaml").precision == "bf16"


def test_the_settings_last_as_long_as_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def now() -> tuple[bool, bool]:
        return torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()

    before = now()
    for options, device, expected in (
        ({}, CARD, (True, False)),
        ({}, CPU, (False, False)),
        ({"deterministic": True}, CARD, (False, True)),
    ):
        with step.settings(TrainConfig(**options), device):
            assert now() == expected
        assert now() == before


def test_a_deterministic_run_trains(tmp_path: Path) -> None:
    record = train(tiny(deterministic=True, epochs=1), tmp_path)
    assert record["step"] == 7 and not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_fixed_order_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def operation() -> None:
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but ...")

    expected = "expected operations with a fixed order of sums for --deterministic, found adaptive_avg_pool2d_backward"
    with pytest.raises(InputError, match=expected), step.settings(TrainConfig(deterministic=True), CPU):
        operation()
    with pytest.raises(RuntimeError, match="implementation"), step.settings(TrainConfig(), CPU):
        operation()


def test_on_a_gpu_the_next_batch_is_prepared_before_the_current_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stream that only notes what happens."""
    events: list[str] = []
    stream = SimpleNamespace(wait_stream=lambda other: events.append("wait"))

    @contextlib.contextmanager
    def on(given: object) -> Iterator[None]:
        events.append("copy {")
        yield
        events.append("}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    batches = iter([(torch.tensor(i),) * 3 for i in range(2)])

    def prepare(batch: step.Batch) -> step.Batch:
        events.append(f"prepare {int(batch[0])}")
        return batch

    for batch in step.ahead(batches, CARD, prepare):
        events.append(f"step {int(batch[0])}")
    assert events == (
        ["copy {", "prepare 0", "}", "wait", "copy {", "prepare 1", "}", "step 0", "wait", "copy {", "}", "step 1"]
    )
    assert [int(b[0]) for b in step.ahead(iter([(torch.tensor(7),) * 3]), CPU, lambda batch: batch)] == [7]
