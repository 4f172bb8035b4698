"""Cores by affinity, container quota and OMP_NUM_THREADS; the commit of a checkout."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from zoo.machine import commit, cores, installed, is_loopback

WHOLE = os.cpu_count() or 1


@pytest.fixture(autouse=True)
def no_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def allow(monkeypatch: pytest.MonkeyPatch, allowed: int, whole: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: whole)


def test_affinity_is_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allow(monkeypatch, 3, 64)
    assert cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 16), ("nonsense", 16), ("", 16)],
)
def test_a_containers_quota_is_respected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int
) -> None:
    allow(monkeypatch, 16, 16)
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path) == expected


@pytest.mark.parametrize(("given", "expected"), [("2", 2), ("99", 16), ("0", 16), ("many", 16), ("4,2", 16)])
def test_omp_num_threads_is_respected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, expected: int
) -> None:
    allow(monkeypatch, 16, 16)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cores(tmp_path) == expected


def test_the_real_machine_has_cores() -> None:
    assert 1 <= cores() <= WHOLE


def test_a_checkouts_commit_is_a_hash_and_says_when_files_were_changed() -> None:
    assert re.fullmatch(r"([0-9a-f]{40}\+?)?", commit())


def test_only_packages_that_are_there_have_a_version() -> None:
    found = installed("numpy", "no-such-package")
    assert list(found) == ["numpy"] and found["numpy"][0].isdecimal()


def test_loopback_is_this_machine() -> None:
    assert is_loopback("localhost") and is_loopback("127.8.9.10") and is_loopback("::1")
    assert not is_loopback("localhost.example") and not is_loopback("10.0.0.1") and not is_loopback("")
