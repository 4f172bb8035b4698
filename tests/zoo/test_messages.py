"""What library code tells goes to the logger and, through the command, to stderr."""

from __future__ import annotations

import logging

import pytest

from zoo import cli
from zoo.messages import log, no_bar, no_progress


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
