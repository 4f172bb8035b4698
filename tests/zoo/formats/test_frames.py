"""Records as the description of the format has them."""

from __future__ import annotations

import io

import hypothesis
import hypothesis.strategies as st

from tests.support.records import MAGIC, framed
from zoo.formats.frames import Header, RecordWriter, frame, pack, unpack

payloads = st.lists(
    st.binary(max_size=20).map(lambda tail: bytes(24) + tail)
    | st.lists(st.sampled_from([MAGIC, b"abcd", b"x"]), max_size=6).map(lambda parts: bytes(24) + b"".join(parts)),
    min_size=1,
    max_size=7,
)


@hypothesis.given(payload=st.lists(st.sampled_from([MAGIC, MAGIC[:2], b"abcd", b"x"]), max_size=9).map(b"".join))
@hypothesis.settings(deadline=None)
def test_a_payload_is_framed_as_the_description_says(payload):
    assert frame(payload) == framed(payload)


@hypothesis.given(made=payloads)
@hypothesis.settings(deadline=None)
def test_the_writer_makes_the_file_of_the_description(made):
    records, index = io.BytesIO(), io.BytesIO()
    writer = RecordWriter(records, index)
    expected = b""
    for key, payload in enumerate(made):
        assert index.getvalue().count(b"\n") == key
        writer.write(key, payload)
        assert index.getvalue().endswith(b"%d\t%d\n" % (key, len(expected)))
        expected += framed(payload)
    assert records.getvalue() == expected


def test_headers_survive_packing():
    for header in (Header((3.0,), 7, 1), Header((1.0, 5.0), 9, several=True), Header((2.0,), 1, several=True)):
        assert unpack(pack(header, b"rest"), "x") == (header, b"rest")
