"""CONTRIBUTING's table of rooms is generated from the law."""

from __future__ import annotations

from tests.architecture import law
from tests.support.places import ROOT

START, END = "<!-- rooms: python -m tests.architecture --write -->\n", "<!-- end of rooms -->\n"


def written() -> str:
    """The table as it stands in CONTRIBUTING.md."""
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(START)[1].split(END)[0]


def write_table() -> None:
    """Renews the table in CONTRIBUTING.md."""
    path = ROOT / "CONTRIBUTING.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(START)
    path.write_text(before + START + law.table() + END + rest.split(END)[1], encoding="utf-8")
