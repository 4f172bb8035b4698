"""What library code tells goes to the logger and, through the command, to stderr."""

from __future__ import annotations

import contextlib
import logging
import warnings

import pytest

from zoo import cli
from zoo.messages import log, no_bar, no_progress, quiet


def test_the_command_shows_the_librarys_messages_once_and_leaves_the_logger_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(argv: object) -> int:
        log.info("fetching something")
        log.debug("a detail")
        return 0

    monkeypatch.setattr(cli, "run", tell)
    handlers = list(log.handlers)
    assert cli.main(["list"]) == cli.main(["list"]) == 0
    assert capsys.readouterr().err == "zoo: fetching something\n" * 2
    assert log.handlers == handlers


def test_a_program_hears_nothing_unless_it_listens(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("quiet")
    assert capsys.readouterr().err == ""
    assert logging.getLogger("zoo") is log


def test_nobody_has_to_watch() -> None:
    no_progress(3)
    with no_bar("embedding", 7) as progress:
        progress(7)


def test_other_libraries_are_quiet_in_a_block_and_heard_after_it(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    for block in (quiet(), contextlib.nullcontext()):
        with block:
            print("printed")
            logging.getLogger("other").warning("logged")
            warnings.warn("warned", stacklevel=1)
    assert capsys.readouterr().out == "printed\n"
    assert caplog.messages == ["logged"]
    assert [str(warning.message) for warning in recwarn] == ["warned"]


def test_a_quiet_block_raises_what_goes_wrong_in_it() -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 / 0
    assert logging.getLogger("other").isEnabledFor(logging.WARNING)
