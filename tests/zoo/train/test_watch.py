"""Where a run stands, as a person reads it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.training import in_process, same_weights, signalled, start, tiny
from zoo.train import checkpoint
from zoo.train.loop import train
from zoo.train.start import CHECKPOINT, Interrupted, Standing, facts, heartbeat, stop_signals, unwatched


def test_the_figures_of_a_line_are_those_that_it_has() -> None:
    record = {"step": 3, "loss": 1.25, "images_per_second": 99.6, "t": 0.5, "mean_target_cosine": 0.25, "skipped": 2}
    assert facts(record) == [
        "100 images/s",
        "loss 1.250",
        "t 0.500",
        "target cosine 0.250",
        "2 damaged images skipped",
    ]
    assert facts({"loss": 1.0, "images_per_second": 5.0, "skipped": 0}) == ["5 images/s", "loss 1.000"]
    assert facts({}) == []


def test_watching_costs_nothing_to_whoever_does_not() -> None:
    assert unwatched(Standing(1, 2, 1, 1, {})) is None
    code = "import sys, zoo.train, zoo.train.start; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_heartbeat_comes_once_in_so_many_seconds_and_tells_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "zoo")
    now = [0.0]
    watch = heartbeat(60, lambda: now[0])
    for step in range(101, 111):  # a resumed run, a step in half a minute
        now[0] += 30
        watch(Standing(step, 230, 2, 3, {"loss": 0.5, "images_per_second": 70.0}))
    assert len(caplog.messages) == 5
    assert caplog.messages[-1] == "epoch 2/3  step 110 of 230  1.0 h left  70 images/s  loss 0.500"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_first_signal_is_noted_and_tells_its_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert stop.asked == 0
        stop.at_once()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked == CHECKPOINT
        stop.at_once()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked == number + 1 > CHECKPOINT
        with pytest.raises(Interrupted):
            stop.at_once()
    assert signal.getsignal(number) is before
    stopped = Interrupted(number, 7)
    assert stopped.exit_code == code and str(stopped).startswith(f"stopped by {number.name} after step 7;")


def test_a_second_interrupt_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one of these waits like the first
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_another_thread_hears_no_signals_and_changes_no_handler() -> None:
    found: list[object] = []

    def work() -> None:
        with stop_signals() as stop:
            found.append((stop.asked, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, before)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_all_processes_of_a_run_with_loader_workers_saves_it(
    whole: tuple[Path, float], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    config, run = tiny(workers=2, log_every=1), tmp_path / "run"
    assert signalled(config, run, number) == code
    assert checkpoint.steps(run / "checkpoint")[-1].name < "step-00000021"
    assert in_process(config, run, resume=True) == 0 and same_weights(run, whole[0])


def test_sigusr1_saves_and_the_run_goes_on(whole: tuple[Path, float], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert signalled(tiny(log_every=1, keep=99), run, signal.SIGUSR1) == 0
    saved = {int(step.name[-2:]) for step in checkpoint.steps(run / "checkpoint")}
    assert len(saved) == 5 and saved > {0, 7, 14, 21} and same_weights(run, whole[0])


def test_a_signal_during_the_validation_ends_it_at_once_and_a_resume_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.data.synthetic import synthetic_pairs
    from zoo.evaluate.protocols.pairs import PairsProtocol

    images, same = synthetic_pairs(pairs=40, seed=1)
    protocol, seen = PairsProtocol(images, same, data="pairs"), []

    def disturbed() -> object:
        for number, image in enumerate(images):
            seen.append(number)
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield image

    monkeypatch.setattr("zoo.train.loop.open_validation", lambda config, held: [protocol])
    config = tiny(epochs=1)
    run = start(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "images", disturbed)
        with pytest.raises(Interrupted, match="SIGTERM after step 7"):
            train(config, run)
    assert len(seen) < 80 and not (run / "best").exists()
    assert [step.name for step in checkpoint.steps(run / "checkpoint")] == ["step-00000000", "step-00000007"]
    record = train(config, run, resume=True)
    assert 0 <= record["validation"]["auc"] <= 1 and (run / "best/model.safetensors").is_file()
    assert (run / "checkpoint/best").read_text() == "step-00000007\n"
