"""The progress bar: silent where nobody watches, drawn on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from zoo.commands.progress import bar


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
