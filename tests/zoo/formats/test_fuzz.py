"""Random and coverage-guided bytes into the readers of strangers' files: records, or one InputError."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.support.memory import growth
from tests.support.places import ROOT
from tests.support.records import MAGIC, framed, identity_payloads, picture_payload, range_payload, write
from zoo.errors import InputError
from zoo.formats.recordio import RecordFile

pieces = st.sampled_from(
    [
        MAGIC,
        b"\0\0\0\0",
        b"\x20\0\0\0",
        b"\xff\xff\xff\xff",
        framed(picture_payload(1, 1, b"x")),
        framed(range_payload(1, 2, 0)),
    ]
) | st.binary(max_size=9)


@hypothesis.given(parts=st.lists(pieces, max_size=9), index=st.none() | st.text("0123456789\t\n -", max_size=40))
@hypothesis.settings(
    deadline=None, max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_records_or_one_input_error(tmp_path, parts, index):
    (tmp_path / "train.rec").write_bytes(b"".join(parts))
    (tmp_path / "train.idx").unlink(missing_ok=True)
    if index is not None:
        (tmp_path / "train.idx").write_text(index)
    read_all(tmp_path)


@hypothesis.given(data=st.data())
@hypothesis.settings(
    deadline=None, max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_a_damaged_file_gives_records_or_one_input_error(tmp_path, data):
    rec = write(tmp_path, identity_payloads([[b"a", b"b" + MAGIC], [b"c"]]), index=data.draw(st.booleans()))
    content = bytearray(rec.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    rec.write_bytes(content)
    read_all(tmp_path)


def read_all(folder: Path) -> None:
    try:
        records = RecordFile(folder)
        for i in range(len(records)):
            records.content(i)
    except InputError as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize("content", [b"", bytes(70)], ids=["no picture", "70 bytes"])
def test_a_file_of_small_records_takes_no_more_memory_than_it_and_64_mb(tmp_path, content):
    record = framed(picture_payload(1, 1, content))
    (tmp_path / "train.rec").write_bytes(record * (30_000_000 // len(record)))
    taken = growth(
        "from zoo.errors import InputError; from zoo.formats.recordio import RecordFile",
        f"try:\n    RecordFile({str(tmp_path)!r})\nexcept InputError:\n    pass",
    )
    assert taken < 30_000_000 + (64 << 20)


@pytest.mark.parametrize("word", [b"1 ", b"\n", b"1" * 1000 + b"\n", b"0\t0\n"], ids=["ones", "ends", "long", "zeros"])
def test_an_index_of_junk_takes_no_more_memory_than_it_and_64_mb(tmp_path, word):
    write(tmp_path, [picture_payload(i, i, b"x") for i in range(3)], index=False)
    (tmp_path / "train.idx").write_bytes(word * (30_000_000 // len(word)))
    taken = growth("from zoo.formats.recordio import RecordFile", f"assert len(RecordFile({str(tmp_path)!r})) == 3")
    assert taken < 64 << 20


def test_growth_sees_what_is_taken() -> None:
    assert growth("", "x = bytearray(50_000_000)") >= 50_000_000


def fuzz(target: str, *flags: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris, the extra `fuzz`, is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzz_formats", target, *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("target", ["recordio", "bins", "checkpoints"])
def test_some_thousand_guided_cases_find_nothing(target):
    fuzz(target, "-runs=3000", "-seed=1")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("target", ["recordio", "bins", "checkpoints"])
def test_a_million_guided_cases_find_nothing(target):
    fuzz(target, "-runs=1000000")
