"""The first signal lets the step finish, the second SIGINT does not wait, and handlers are put back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from zoo.train.signals import CHECKPOINT, Interrupted, stop_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_is_noted_and_tells_its_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), number)
        assert stop.received == number > CHECKPOINT
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
            found.append((stop.received, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, before)]
