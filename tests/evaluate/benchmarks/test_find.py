"""Benchmarks are found where they lie, whatever their layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.benchmarks import (
    lfw,
    write_pairs,
)
from zoo import cli
from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import describe, find_benchmarks
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.results import Evaluation

__all__ = ["lfw"]


def of_pairs(count: int) -> Evaluation:
    return Evaluation("pairs", "x", "", None, pairs=count)


def test_benchmarks_are_found_where_they_lie_and_narrowed_by_name(tmp_path: Path) -> None:
    write_pairs(tmp_path / "val" / "lfw.bin")
    write_pairs(tmp_path / "val" / "own.bin")
    (tmp_path / "ijb" / "IJBB" / "meta").mkdir(parents=True)
    (tmp_path / "ijb" / "IJBB" / "meta" / "ijbb_face_tid_mid.txt").write_text("")
    (tmp_path / "tinyface" / "Testing_Set").mkdir(parents=True)
    found = {one.name: one for one in find_benchmarks(tmp_path)}
    assert sorted(found) == ["ijbb", "lfw", "own", "tinyface"]
    assert [one.name for one in find_benchmarks(tmp_path, ["lfw"])] == ["lfw"]
    assert sorted(one.name for one in find_benchmarks(tmp_path, ["pairs"])) == ["lfw", "own"]
    assert "40 pairs instead of 6,000" in found["lfw"].shortfall(of_pairs(40))
    assert found["own"].shortfall(of_pairs(40)) == "" == found["lfw"].shortfall(of_pairs(6000))
    with pytest.raises(InputError, match="did you mean lfw"):
        find_benchmarks(tmp_path, ["lwf"])
    with pytest.raises(InputError, match="expected a benchmark of ijbc under"):
        find_benchmarks(tmp_path, ["ijbc"])
    with pytest.raises(InputError, match="missing there"):
        found["tinyface"].open()
    with pytest.raises(InputError, match="ijbb_name_5pts_score"):
        found["ijbb"].open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        find_benchmarks(tmp_path / "empty")


def test_no_file_name_belongs_to_two_benchmarks() -> None:
    names = [name for one in PROTOCOLS for benchmark in PROTOCOLS[one].benchmarks for name in benchmark.files]
    assert len(names) == len(set(names))


def test_benchmarks_below_a_list_are_found_too(lfw: Path) -> None:
    write_pairs(lfw / "more" / "cfp_fp.bin")
    assert [one.name for one in find_benchmarks(lfw)] == ["lfw", "cfp_fp"]


def test_every_benchmark_tells_how_many_pictures_pairs_and_people_it_holds() -> None:
    described = {one["name"]: one for name in PROTOCOLS for one in describe(name)["benchmarks"]}
    assert {"lfw", "cfp_fp", "agedb_30", "rfw_asian", "ijbb", "ijbc", "tinyface"} < set(described)
    assert described.pop("vgg2_fp") == {"name": "vgg2_fp", "title": "VGG2-FP"}
    for one in described.values():
        assert "people" in one and ("pairs" in one or "probes" in one) and ("images" in one or "gallery" in one)


def test_the_list_of_protocols_is_their_description(capsys: pytest.CaptureFixture[str]) -> None:

    assert cli.main(["list", "protocols", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [describe(name) for name in PROTOCOLS]
    assert cli.main(["list", "protocols"]) == 0
    assert "IJB-C: 469,375 images, 23,124 templates, 15,658,489 pairs, 3,531 people" in capsys.readouterr().out


def test_every_protocol_has_a_line_that_describes_it() -> None:
    assert "pairs" in PROTOCOLS
    for name in PROTOCOLS:
        assert 20 < len(describe(name)["summary"]) < 140


def test_linked_folders_are_searched_once_and_what_is_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pairs(tmp_path / "disk" / "lfw.bin")
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "linked").symlink_to(tmp_path / "disk")
    (data / "again").symlink_to(tmp_path / "disk")
    (data / "sub" / "loop").symlink_to(data)
    (data / "gone.bin").symlink_to(tmp_path / "nothing")
    told: list[str] = []
    found = find_benchmarks(data, tell=told.append)
    assert [one.name for one in found] == ["lfw"]
    assert told == [f"not read: {data / 'gone.bin'} is a link to nothing"]
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told.clear()
    find_benchmarks(data, tell=told.append)
    assert f"not searched for benchmarks: {data / 'sub'} (Permission denied)" in told
