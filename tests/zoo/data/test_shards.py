"""Sets of several files: the split that counts, and an index for each state of a shard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.data.tar import index_file, training_files
from zoo.errors import InputError


def test_files_of_other_splits_are_left_out_and_told() -> None:
    files = [Path(name) for name in ("train-0.tar", "train-1.tar", "val-0.tar", "test.tar")]
    chosen, notes = training_files(files)
    assert chosen == files[:2] and notes == ["files of other splits are left out: 1 of val, 1 of test"]
    assert training_files(files, "test")[0] == files[3:]
    plain = [Path("a.tar"), Path("b.tar")]
    assert training_files(plain) == (plain, [])
    with pytest.raises(InputError, match="of the split dev"):
        training_files(files, "dev")


def test_another_state_or_another_field_of_a_shard_has_another_index(shards: Path, tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"one")
    first = index_file(str(shard), ("", ""))
    assert first.parent == shards and first == index_file(str(shard), ("", ""))
    assert index_file(str(shard), ("face.jpg", "")) != first
    os.utime(shard, ns=(1, 1))
    assert index_file(str(shard), ("", "")) != first
