"""The audit log is a chain that tells of every change and of nobody's name."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.serve.audit import AuditLog, check_audit


def lines(log: AuditLog) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    found = AuditLog(tmp_path / "people.gallery")
    for number, name in enumerate(["Ada", "Bob", "Ada", "Zoë"], 1):
        found.append("enrol", name, number, number)
    return found


def test_the_chain_holds_and_ends_with_the_hash_that_was_given(log: AuditLog) -> None:
    newest = log.append("remove", "Bob", 2, 3)
    assert check_audit(log.path) == (5, newest)
    assert stat.S_IMODE(log.path.stat().st_mode) == stat.S_IMODE(log.key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("harm", ["change", "take out", "swap", "add", "rehash"])
def test_whatever_is_done_to_a_line_breaks_the_chain(log: AuditLog, harm: str) -> None:
    told = log.path.read_bytes().splitlines(keepends=True)
    if harm == "change":
        told[1] = told[1].replace(b"enrol", b"enrxl")
    elif harm == "take out":
        del told[1]
    elif harm == "swap":
        told[1], told[2] = told[2], told[1]
    elif harm == "add":
        told.insert(1, told[0])
    else:
        from zoo.serve.audit import digest

        record = json.loads(told[1]) | {"action": "remove"}
        told[1] = json.dumps({**record, "hash": digest(record)}).encode() + b"\n"
    log.path.write_bytes(b"".join(told))
    with pytest.raises(InputError, match="unbroken chain"):
        check_audit(log.path)


def test_no_name_is_in_the_log_and_one_person_keeps_one_hash_until_removed(log: AuditLog) -> None:
    people = [line["person"] for line in lines(log)]
    assert people[0] == people[2] and len({*people}) == 3
    assert not any(name in log.path.read_text() for name in ("Ada", "Bob", "Zo"))
    log.append("remove", "Ada", 2, 2)
    log.keep(["Bob", "Zoë"])
    assert lines(log)[-1]["person"] == people[0], "the removal is the same person's"
    assert "Ada" not in log.key_file.read_text() and "Bob" in log.key_file.read_text()
    log.append("enrol", "Ada", 3, 3)
    assert lines(log)[-1]["person"] != people[0], "nothing links who comes back to what was removed"


def test_what_a_killed_process_left_half_written_is_cut_off(log: AuditLog) -> None:
    with open(log.path, "ab") as file:
        file.write(b'{"time": "2026-')
    newest = log.append("enrol", "Eve", 4, 5)
    assert check_audit(log.path) == (5, newest)
