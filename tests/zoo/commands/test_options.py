"""The options that commands share: types, notes, and defaults that the help shows."""

from __future__ import annotations

import argparse
import io
import sys

import pytest

from zoo import cli
from zoo.commands.options import bar, positive, print_notes


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many"])
def test_a_count_below_one_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive(text)
    assert positive("7") == 7


def test_more_notes_than_asked_for_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    print_notes(["a", "b", "c"], most=2, where="out.npz")
    assert capsys.readouterr().err == "note: a\nnote: b\nnote: and 1 more, listed in out.npz\n"
    print_notes(["a", "b"])
    assert capsys.readouterr().err == "note: a\nnote: b\n"


@pytest.mark.parametrize("command", ["verify", "identify", "index", "embed", "align"])
def test_the_help_of_every_option_with_a_default_shows_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions: list[argparse.Action] = []

    def parse(self: cli.Parser, words: object) -> argparse.Namespace:
        actions.extend(self._actions)
        raise SystemExit(0)

    monkeypatch.setattr(cli.Parser, "parse", parse)
    with pytest.raises(SystemExit):
        cli.run([command])
    shown = [a for a in actions if a.option_strings and a.default not in (None, False, [], argparse.SUPPRESS)]
    assert shown or command == "verify"
    for action in shown:
        assert f"(default: {action.default})" in str(action.help), action.option_strings


def test_outside_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("embed", 3) as progress:
        progress(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [3, None])
def test_on_a_terminal_the_caption_and_the_count_are_drawn_on_stderr(
    total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with bar("embed", total) as progress:
        progress(2)
        progress(1)
    assert "embed" in terminal.getvalue() and "3/" in terminal.getvalue()
