"""Run folders: the newest, one by name, one that is being written, and one on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from zoo.errors import InputError
from zoo.runs import find_run, is_being_written, lock, machine_faults, newest_run, run_folders


def make(root: Path, name: str, started: int) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "config.yaml").touch()
    os.utime(root / name / "config.yaml", (started, started))
    return root / name


def test_runs_are_ordered_by_their_start_and_then_by_name(tmp_path: Path) -> None:
    later, b, a = make(tmp_path, "c", 2), make(tmp_path, "b", 1), make(tmp_path, "a", 1)
    (tmp_path / "no-run").mkdir()
    for run in (later, a):
        (run / "model.safetensors").touch()
    killed = make(tmp_path, "d", 3)
    assert run_folders(tmp_path) == [a, b, later, killed]
    assert newest_run(tmp_path) == find_run(None, tmp_path) == later, "the newest that can be exported"
    assert find_run(None, tmp_path, "config.yaml") == killed
    assert find_run("b", tmp_path) == find_run(b, tmp_path) == b


def test_a_miss_names_the_closest_run_or_how_to_list_them(tmp_path: Path) -> None:
    make(tmp_path, "resnet18-first", 1)
    with pytest.raises(InputError, match="did you mean resnet18-first"):
        find_run("resnet18-frist", tmp_path)
    with pytest.raises(InputError, match="`zoo list runs` shows those here"):
        find_run("zzz", tmp_path)
    with pytest.raises(InputError, match="train one with"):
        newest_run(tmp_path / "nothing")


def test_a_run_is_written_by_one_process_which_is_named(tmp_path: Path) -> None:
    run = make(tmp_path, "a", 1)
    assert not is_being_written(run)
    with lock(run):
        assert is_being_written(run)
        with pytest.raises(InputError, match=f"is being written by process {os.getpid()}"), lock(run):
            pass
    assert not is_being_written(run)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), SafetensorError("I/O error (os error 28)")])
def test_a_full_disk_is_one_sentence(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InputError, match="expected room to write the run"), machine_faults(tmp_path):
        raise error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EROFS, "Read-only file system"),
            r"to write the run .*Read-only file.*; choose a folder",
        ),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            r"enough memory, processes.*lower --workers",
        ),
        (MemoryError("Unable to allocate 9 GiB"), "expected enough memory .*lower --batch-size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), "ended by the system .*/dev/shm"),
    ],
)
def test_a_fault_of_the_machine_is_one_sentence(tmp_path: Path, error: Exception, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence), machine_faults(tmp_path):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), SafetensorError("header too large"), KeyError("x")])
def test_other_trouble_passes_as_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), machine_faults(tmp_path):
        raise error
