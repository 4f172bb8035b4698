"""A recipe that cannot be read is one sentence, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.train.recipes import load_recipe, load_yaml


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"lr: 0.1\nhead: [arcface\nepochs: 3\n", r"cannot read it \(.* line 3, column 7"),
        (b"lr: 0.1\n  epochs: 3\n", r"cannot read it \(mapping values are not allowed here .*mine\.yaml\", line 2"),
        (b"- lr\n", "found a list"),
        (b"lr=0.1\n", "found the text 'lr=0.1'"),
        (b"", "found nothing"),
        (b"lr: \xff", "cannot read it"),
    ],
)
def test_a_yaml_error_tells_its_line(tmp_path: Path, text: bytes, found: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(text)
    for read in (load_recipe, lambda path: load_yaml(Path(path))):
        with pytest.raises(InputError, match=f"mine.yaml, {found}") as refusal:
            read(str(tmp_path / "mine.yaml"))
        assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="No such file"):
        load_recipe(str(tmp_path / "absent.yaml"))
    with pytest.raises(InputError, match="no recipe is called 'quick'; did you mean quick-cpu"):
        load_recipe("quick")
