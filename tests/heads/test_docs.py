"""docs/heads.md says what the heads say."""

from __future__ import annotations

import importlib.util

from tests.support.places import ROOT


def test_the_tables_of_the_heads_page_are_those_that_its_command_writes() -> None:
    spec = importlib.util.spec_from_file_location("head_figures", ROOT / "benchmarks" / "head_figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "heads.md").read_text()
    assert module.with_tables(text) == text
    assert module.with_tables(text.replace("80.2226", "80.2227")) == text
