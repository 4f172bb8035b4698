"""RecordIO against files made by hand, against MXNet's own, and against damage of every kind."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import struct
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.support.records import MAGIC, framed, identity_payloads, picture_payload, range_payload, write
from zoo.errors import InputError
from zoo.formats.frames import RecordWriter, pack, unpack
from zoo.formats.recordio import RecordFile, kept_index

PEOPLE = [[b"first", b"second!"], [b"third"], [b"", b"fifth" + MAGIC * 3, b"sixth"]]
"""Three people; two contents with lengths that need padding, one empty, one with the magic (at an unaligned place)."""


payloads = st.lists(
    st.binary(max_size=20).map(lambda tail: bytes(24) + tail)
    | st.lists(st.sampled_from([MAGIC, b"abcd", b"x"]), max_size=6).map(lambda parts: bytes(24) + b"".join(parts)),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("index", [True, False])
def test_ranges_of_record_0_give_the_labels(tmp_path, index):
    made = [
        picture_payload(77.0, 1, payload[24:]) if payload[:4] == bytes(4) else payload
        for payload in identity_payloads(PEOPLE)
    ]
    records = RecordFile(write(tmp_path, made, index))
    assert records.labels.tolist() == [0, 0, 1, 2, 2, 2] and records.num_classes == 3
    assert records.labels.dtype == np.int64
    assert [records.content(i) for i in range(len(records))] == [content for person in PEOPLE for content in person]


def test_a_file_without_ranges_takes_each_label_from_its_header(tmp_path):
    labels = [30.0, 7.0, 30.0, 1e6]
    rec = write(tmp_path, [picture_payload(label, i, b"p%d" % i) for i, label in enumerate(labels)])
    records = RecordFile(rec)
    assert records.labels.tolist() == [1, 0, 1, 2] and records.num_classes == 3
    assert records.content(2) == b"p2"


def test_a_header_with_several_labels_counts_its_first(tmp_path):
    several = struct.pack("<IfQQ3f", 3, 0.0, 0, 0, 5.0, 8.0, 9.0)
    records = RecordFile(write(tmp_path, [several + b"a", picture_payload(2.0, 1, b"b")]))
    assert records.labels.tolist() == [1, 0]
    assert [records.content(i) for i in range(2)] == [b"a", b"b"]


def test_pictures_outside_every_range_make_the_headers_count(tmp_path):
    made = identity_payloads(PEOPLE)
    made[-1] = range_payload(4, 5, len(made) - 1)
    assert RecordFile(write(tmp_path, made)).labels.tolist() == [0, 0, 1, 2, 2, 2]


def test_an_identity_without_pictures_takes_no_label(tmp_path):
    records = RecordFile(write(tmp_path, identity_payloads([[b"a"], [], [b"b", b"c"]])))
    assert records.labels.tolist() == [0, 1, 1] and records.num_classes == 2


def test_ranges_beyond_float32_leave_it_to_the_records(tmp_path):
    made = identity_payloads(PEOPLE)
    made[0] = range_payload(2.0**24 + 2, 2.0**24 + 8, 0)  # what a file of 17 million pictures says, rounded
    made = [made[0], *[p for p in made[1:] if p[24:]]]  # the empty picture would look like no picture
    records = RecordFile(write(tmp_path, made))
    assert records.labels.tolist() == [0, 0, 1, 2, 2]


@hypothesis.given(made=payloads)
@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=60
)
def test_every_payload_is_read_back_with_and_without_an_index(tmp_path, made):
    for index in (True, False):
        (tmp_path / "train.idx").unlink(missing_ok=True)
        records = RecordFile(write(tmp_path, made, index))
        assert [records.payload(i) for i in range(len(made))] == made
        with pytest.raises(IndexError):
            records.payload(len(made))


def test_mxnets_own_file_is_reproduced_byte_for_byte(shared: Path):
    folder = shared / "data" / "lfw_rec"
    found = RecordFile(folder)
    assert (len(found), found.num_classes, found.index_note) == (4462, 941, "train.idx")
    records, index = io.BytesIO(), io.BytesIO()
    writer = RecordWriter(records, index)
    for key in range(int(unpack(found.payload(0), "x")[0].labels[1])):
        writer.write(key, pack(*unpack(found.payload(key), "x")))
    assert records.getvalue() == (folder / "train.rec").read_bytes()
    assert index.getvalue() == (folder / "train.idx").read_bytes()


def test_mxnets_own_file_without_its_index_is_the_same(shared: Path, tmp_path):
    (tmp_path / "train.rec").symlink_to(shared / "data" / "lfw_rec" / "train.rec")
    scanned, indexed = RecordFile(tmp_path), RecordFile(shared / "data" / "lfw_rec")
    assert scanned.index_note == "a scan: there is no train.idx"
    assert np.array_equal(scanned.labels, indexed.labels)
    assert all(scanned.content(i) == indexed.content(i) for i in range(0, 4462, 371))


@pytest.mark.parametrize(
    "stale",
    [
        "",
        "no numbers",
        "0\t0\n1\t8\n",
        "0 0 1",
        "0\t0\n0\t52\n",
        "0\t0\n1\t99999999999\n",
        "9" * 40 + "\t0\n",
        "\0",
    ],
)
def test_an_index_that_does_not_fit_is_replaced_by_a_scan(tmp_path, stale):
    rec = write(tmp_path, identity_payloads(PEOPLE))
    (tmp_path / "train.idx").write_text(stale)
    records = RecordFile(rec)
    assert records.index_note.startswith("a scan: train.idx")
    assert [records.content(i) for i in (0, 5)] == [b"first", b"sixth"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("index", [True, False])
def test_a_truncation_is_refused_by_name(tmp_path, ranges, index):
    made = identity_payloads(PEOPLE) if ranges else [picture_payload(i, i, b"content") for i in range(5)]
    rec = write(tmp_path, made, index)
    whole = rec.read_bytes()
    borders = {sum(len(framed(p)) for p in made[:count]) for count in range(1, len(made))}
    for length in range(0, len(whole), 3):  # at every remainder of 4
        rec.write_bytes(whole[:length])
        if not ranges and not index and length in borders:
            assert len(RecordFile(rec)) < 5  # nothing in such a file tells how long it should be
            continue
        with pytest.raises(InputError, match=r"train\.rec"):
            RecordFile(rec)


def test_an_index_of_a_part_of_the_records_stands_for_that_part(tmp_path):
    made = [picture_payload(label, i, b"p%d" % i) for i, label in enumerate([5.0, 5.0, 7.0, 9.0, 7.0, 5.0])]
    rec = write(tmp_path, made)
    whole = (tmp_path / "train.idx").read_text().splitlines(keepends=True)
    for chosen in ([1, 2, 4], [0, 1, 2], [0, 5], [5], [3]):
        (tmp_path / "train.idx").write_text("".join(whole[i] for i in chosen))
        records = RecordFile(rec)
        assert records.index_note == "train.idx, which lists a part of the records"
        assert [records.content(i) for i in range(len(records))] == [b"p%d" % i for i in chosen]
    made = identity_payloads(PEOPLE)
    rec = write(tmp_path, made)
    (tmp_path / "train.idx").write_text("".join((tmp_path / "train.idx").read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(InputError, match=r"as its record 0 says, found 5 in train\.idx; delete that"):
        RecordFile(rec)
    rec = write(tmp_path, [picture_payload(1.0, i, b"p%d" % i) for i in range(6)])
    (tmp_path / "train.idx").write_text("".join(reversed(whole)))  # all of them, in another order
    assert RecordFile(rec).index_note == "train.idx" and len(RecordFile(rec)) == 6


@pytest.mark.parametrize("layout", ["plain", "wide", "no index"])
def test_what_a_whole_reading_found_is_kept_until_the_file_changes(tmp_path, monkeypatch, layout):
    monkeypatch.setattr("zoo.formats.recordio.KEEP_FROM_BYTES", 1)
    made = identity_payloads([[b"first", b"second!"], [b"third"]])
    if layout == "plain":
        made = [p for p in made if p[24:] and p[:4] == bytes(4)]
    if layout == "wide":
        made[0] = range_payload(2.0**24 + 2, 2.0**24 + 8, 0)
    rec = write(tmp_path, made, index=layout != "no index")
    first = RecordFile(rec)
    kept = kept_index(rec)
    assert kept.parent == tmp_path and kept.is_file()
    with monkeypatch.context() as patch:
        patch.setattr(RecordFile, "_look", lambda self: 1 // 0)
        again = RecordFile(rec)
        assert again.index_note == f"{kept.name}, kept from {first.index_note}"
        assert again.labels.tolist() == first.labels.tolist() == [0, 0, 1] and again.num_classes == 2
        assert digest(again) == digest(first) and again.where(1) == first.where(1)
        kept.write_bytes(b"damaged")
        with pytest.raises(ZeroDivisionError):
            RecordFile(rec)
    with open(rec, "ab") as file:
        file.write(framed(picture_payload(9.0, 9, b"new")))
    assert kept_index(rec) != kept
    assert "kept" not in RecordFile(write(tmp_path, identity_payloads(PEOPLE))).index_note


def test_a_folder_that_nobody_may_write_to_keeps_its_index_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.formats.recordio.os.access", lambda *_: False)
    (tmp_path / "set").mkdir()
    rec = write(tmp_path / "set", [picture_payload(1.0, 1, b"x")])
    assert kept_index(rec).parent == tmp_path / "cache/records"


def test_a_wrong_magic_is_refused_with_its_place(tmp_path):
    rec = write(tmp_path, identity_payloads(PEOPLE))
    whole = bytearray(rec.read_bytes())
    whole[40] ^= 1
    rec.write_bytes(whole)
    with pytest.raises(InputError, match="expected the magic 0xced7230a at byte 40"):
        RecordFile(rec)


def test_damage_that_the_sample_missed_is_found_by_the_read(tmp_path):
    rec = write(tmp_path, identity_payloads([[b"content"] * 100] * 5))
    whole = bytearray(rec.read_bytes())
    size = len(framed(picture_payload(0, 0, b"content")))
    assert size == len(framed(range_payload(0, 0, 0)))
    whole[78 * size + 4] = 3  # a length
    rec.write_bytes(whole)
    records = RecordFile(rec)
    assert records.content(76) == b"content"
    with pytest.raises(InputError, match=r"record 78 "):
        records.content(77)


@pytest.mark.parametrize(
    "change",
    [
        {0: range_payload(7.5, 10, 0)},
        {0: range_payload(0, 10, 0)},
        {0: range_payload(8, 7, 0)},
        {0: range_payload(float("nan"), float("inf"), 0)},
        {-1: range_payload(4, 99, 9)},
        {-1: range_payload(1, 3, 9)},
        {-1: struct.pack("<IfQQf", 1, 0.0, 9, 0, 1.0)},
        {-1: struct.pack("<IfQQ", 1 << 31, 0.0, 9, 0)},
        {-1: range_payload(-1, 3, 9)},
    ],
)
def test_ranges_that_cannot_be_are_refused(tmp_path, change):
    made = identity_payloads(PEOPLE)
    for position, payload in change.items():
        made[position] = payload
    with pytest.raises(InputError, match=r"train\.rec"):
        RecordFile(write(tmp_path, made))


def test_a_label_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(InputError, match="finite label"):
        RecordFile(write(tmp_path, [picture_payload(float("nan"), 0, b"x")]))


def test_part_kinds_out_of_order_are_refused(tmp_path):
    for kinds in ((2,), (3,), (1, 1), (1, 0), (1, 2), (0, 3), (1,), (5,)):
        parts = b"".join(MAGIC + struct.pack("<I", kind << 29 | 24) + bytes(24) for kind in kinds)
        (tmp_path / "train.rec").write_bytes(parts)
        with pytest.raises(InputError, match=r"train\.rec"):
            RecordFile(tmp_path)


def test_a_folder_without_or_with_several_recs_is_refused(tmp_path):
    with pytest.raises(InputError, match="found nothing"):
        RecordFile(tmp_path / "absent")
    with pytest.raises(InputError, match=r"expected one \.rec"):
        RecordFile(tmp_path)
    write(tmp_path, identity_payloads(PEOPLE), name="a")
    write(tmp_path, identity_payloads(PEOPLE), name="b")
    with pytest.raises(InputError, match="found 2"):
        RecordFile(tmp_path)
    write(tmp_path, identity_payloads(PEOPLE))
    assert RecordFile(tmp_path).path.name == "train.rec"


def digest(records: RecordFile) -> list[bytes]:
    return [records.content(i) for i in range(len(records))]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_file_crosses_into_other_processes(tmp_path, method):
    records = RecordFile(write(tmp_path, identity_payloads(PEOPLE)))
    expected = digest(records)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(digest, [records] * 2) == [expected] * 2


def test_pickling_carries_the_path_and_not_the_content(tmp_path):
    people = [[bytes(10_000)] * 4, [bytes(10_000)] * 4]
    records = RecordFile(write(tmp_path, identity_payloads(people)))
    records.content(0)
    dumped = pickle.dumps(records)
    assert len(dumped) < 2_000
    assert pickle.loads(dumped).content(7) == people[1][3]


def test_a_picture_number_outside_the_file_is_an_index_error(tmp_path):
    records = RecordFile(write(tmp_path, identity_payloads(PEOPLE)))
    for i in (-1, 6):
        with pytest.raises(IndexError):
            records.content(i)


def test_a_record_that_ends_before_its_label_is_one_sentence(tmp_path: Path) -> None:
    """Found by guided fuzzing: a last record of no bytes, which leaves no room for the header that is looked at."""
    record = bytes.fromhex("0a23d7ce18000000") + bytes(16) + bytes.fromhex("607800000a23d700")
    (tmp_path / "train.rec").write_bytes(record + bytes.fromhex("0a23d7ce00000000"))
    with pytest.raises(InputError, match=r"record 1"):
        RecordFile(tmp_path)
