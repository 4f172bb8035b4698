"""Tar shards: what third parties may put into one, and indexes that are kept."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

import zoo.data.tar
from tests.support.layouts import (
    CONTENTS,
    LABELS,
    add,
    make_tars,
    picture,
    write_tar,
)
from zoo.data import open_dataset
from zoo.errors import InputError


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_a_tar_member_that_leads_out_is_refused_by_name(root, name):
    with tarfile.open(root / "a.tar", "w") as archive:
        add(archive, name, CONTENTS[0])
    with pytest.raises(InputError, match=r"a link or leads out") as refusal:
        open_dataset(str(root))
    assert repr(name) in str(refusal.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_member_that_is_no_plain_file_is_refused(root, kind):
    with tarfile.open(root / "a.tar", "w") as archive:
        archive.addfile(link("0.png", "/etc/passwd", kind))
    with pytest.raises(InputError, match="a link or leads out"):
        open_dataset(str(root))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([("0.png", CONTENTS[0])], r"expected 0\.cls"),
        ([("0.cls", b"1")], "found none in 1 shards"),
        ([("0.png", CONTENTS[0]), ("0.cls", b"")], "found an empty file"),
        ([("0.png", CONTENTS[0]), ("0.json", b"{")], "expected JSON"),
        ([("0.png", CONTENTS[0]), ("0.json", b"[" * 100_000)], "expected JSON"),
        ([("0.png", CONTENTS[0]), ("0.json", b"{}")], r"expected 0\.cls"),
        ([], "found none in 1 shards"),
    ],
)
def test_a_shard_without_labelled_pictures_is_refused(root, members, found):
    with tarfile.open(root / "a.tar", "w") as archive:
        for name, content in members:
            add(archive, name, content)
    with pytest.raises(InputError, match=found):
        open_dataset(str(root))


def test_a_truncated_or_compressed_shard_is_refused(root):
    write_tar(root / "a.tar", range(15))
    whole = (root / "a.tar").read_bytes()
    end = whole.rindex(b"sub.dir/0014.cls") + 513
    for length in (0, 100, 512, 5000, end // 2, end - 1):
        (root / "a.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.tar|set"):
            open_dataset(str(root))
    with tarfile.open(root / "a.tar", "w:gz") as archive:
        add(archive, "0.png", CONTENTS[0])
    with pytest.raises(InputError, match="uncompressed"):
        open_dataset(str(root))


def test_a_shard_cut_between_two_samples_does_not_end_the_epoch_silently(root):
    write_tar(root / "a.tar", range(15))
    whole = (root / "a.tar").read_bytes()
    with tarfile.open(root / "a.tar") as archive:
        places = [member.offset for member in archive if member.name.endswith("png")][1:]
    for place in places:
        for rest in (b"", b"junk" * 128, bytes(100)):
            (root / "a.tar").write_bytes(whole[:place] + rest)
            with pytest.raises(InputError, match="truncated"):
                open_dataset(str(root))
    (root / "a.tar").write_bytes(whole[: places[-1]] + bytes(1024))  # the twin: an end mark is an end
    assert len(open_dataset(str(root))) == 14


@pytest.fixture
def headers_read(monkeypatch) -> list[str]:
    """The shards whose headers were read, as they are."""
    read: list[str] = []
    samples = zoo.data.tar._samples
    monkeypatch.setattr(
        zoo.data.tar, "_samples", lambda file, shard, fields: read.append(shard) or samples(file, shard, fields)
    )
    return read


def test_headers_are_read_again_only_where_a_shard_changed(root, headers_read, shards):
    make_tars(root, "cls")
    first = open_dataset(str(root), image_size=(8, 8))
    assert len(headers_read) == 2
    again = open_dataset(str(root), image_size=(8, 8))
    assert len(headers_read) == 2
    assert again.labels.tolist() == LABELS and np.array_equal(again.image(9), first.image(9))
    assert again.where(9) == first.where(9)
    for index in shards.glob("*.json"):
        index.write_text("{")
    unread = open_dataset(str(root))
    assert len(headers_read) == 4
    write_tar(root / "a-001.tar", range(0, 15))
    assert len(open_dataset(str(root))) == 22 and len(headers_read) == 5
    with pytest.raises(InputError, match="it has changed"):
        unread.image(9)


def test_a_folder_that_nobody_may_write_to_costs_only_time(root, headers_read, monkeypatch, tmp_path):
    make_tars(root, "cls")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert len(open_dataset(str(root))) == 15 == len(open_dataset(str(root))) and len(headers_read) == 4


@pytest.mark.parametrize("uri", ["pipe:touch x.tar", "ftp://host/x.tar", "pipe:touch {0..1}.tar", "s3://b/x{0..1}.tar"])
def test_an_address_that_runs_something_is_refused(root, uri, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(InputError):
        open_dataset(uri)
    assert not list(root.iterdir())


def test_a_pattern_names_local_shards(root):
    pytest.importorskip("webdataset", reason="the extra `data` is not installed")
    make_tars(root, "cls")
    assert len(open_dataset(f"{root}/a-{{000..001}}.tar")) == 15
    with pytest.raises(InputError, match=r"a-002\.tar"):
        open_dataset(f"{root}/a-{{000..002}}.tar")


def tar_of(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            add(archive, name, content)
    return str(path)


def test_a_field_may_have_dots_and_capital_letters(root):
    members = [("0.face.jpg", CONTENTS[0]), ("0.JSON", b'{"label": 4}'), ("1.PNG", CONTENTS[1]), ("1.CLS", b"3")]
    dataset = open_dataset(tar_of(root / "a.tar", members), image_size=(8, 8))
    assert dataset.labels.tolist() == [1, 0] and np.array_equal(dataset.image(0), picture(0))
    assert dataset.where(1).endswith("a.tar, sample 1")


def test_samples_with_two_pictures_or_two_labels_name_the_field(root):
    members = [
        (f"{i}.{field}", content)
        for i in range(2)
        for field, content in (
            ("face.png", CONTENTS[i]),
            ("photo.png", CONTENTS[7]),
            ("json", b'{"age": 3, "person": %d}' % (5 - i)),
        )
    ]
    uri = tar_of(root / "a.tar", members)
    with pytest.raises(InputError, match=r"found face\.png, photo\.png of 0; name .*\?image=FIELD"):
        open_dataset(uri)
    with pytest.raises(InputError, match=r"PATH\?label=FIELD"):
        open_dataset(f"{uri}?image=face.png")
    dataset = open_dataset(f"{uri}?image=face.png&label=person", image_size=(8, 8))
    assert dataset.labels.tolist() == [1, 0] and np.array_equal(dataset.image(1), picture(1))


def test_a_name_that_comes_twice_is_refused(root):
    members = [("0.png", CONTENTS[0]), ("0.png", CONTENTS[1]), ("0.cls", b"1")]
    with pytest.raises(InputError, match=r"found 0\.png twice"):
        open_dataset(tar_of(root / "a.tar", members))


def test_a_folder_of_shards_trains_on_those_of_training(root):
    write_tar(root / "train-000.tar", range(0, 9))
    write_tar(root / "val-000.tar", range(9, 15))
    dataset = open_dataset(str(root))
    assert len(dataset) == 9 and dataset.notes == ["files of other splits are left out: 1 of val"]
