"""Files whole or absent, folders that leave nothing behind, and a lock that ends with its process."""

from __future__ import annotations

import hashlib
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.files import atomic_path, cache_folder, hold, json_safe, new_folder, sha256, write_json, write_text


def test_a_file_is_replaced_whole_and_stays_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    write_text(file, "new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_colleagues_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_file_that_was_closed_to_others_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    path.chmod(0o600)
    write_text(path, "after")
    assert path.read_text() == "after" and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create it first"):
        write_text(tmp_path / "no" / "a.txt", "x")


def test_a_folder_in_the_place_of_a_file_is_one_sentence_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="expected the name of a file to write, found the folder"):
        write_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": (2, 3)})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    2,\n    3\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": math.nan})
    assert not (tmp_path / "b.json").exists()


def test_what_is_not_finite_becomes_none_at_any_depth() -> None:
    assert json_safe({"a": [1.5, math.nan, (math.inf, {"b": -math.inf})]}) == {"a": [1.5, None, [None, {"b": None}]]}


def test_new_folders_go_again_after_an_error_and_old_ones_stay(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
        raise RuntimeError
    assert (tmp_path / "a" / "b" / "kept").exists()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "c", keep=lambda folder: False):
        (tmp_path / "a" / "c" / "gone").touch()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    with new_folder(tmp_path / "d"):
        pass
    assert (tmp_path / "d").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot create the folder"), new_folder(tmp_path / "file" / "e"):
        pass


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("shards") == tmp_path / "zoo" / "shards"
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    assert cache_folder("shards") == tmp_path / "own" / "shards"


HOLDER = """
import sys
from zoo.files import hold
file = open(sys.argv[1], "a")
print(hold(file), flush=True)
sys.stdin.read()
"""


def test_a_file_is_held_by_one_process_until_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    with open(file, "a") as mine:
        assert not hold(mine)
        other.kill()
        other.communicate()
        assert hold(mine)


def test_a_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content" * 1000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"content" * 1000).hexdigest()
