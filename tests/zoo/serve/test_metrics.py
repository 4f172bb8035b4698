"""Workers count in files of their own, and the text adds them up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.serve.metrics import Metrics


def test_the_counts_of_all_workers_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Metrics(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    other = Metrics(tmp_path)
    for metrics, seconds in ((one, 0.004), (one, 0.2), (other, 99.0)):
        metrics.request("/verify", 200, seconds)
    other.request("none", 404, 0.001)
    other.event("removed")
    for metrics in (one, other):
        told = metrics.text({"waiting": 3})
        assert 'zoo_requests_total{route="/verify",status="200"} 3\n' in told
        assert 'zoo_requests_total{route="none",status="404"} 1\n' in told
        assert 'zoo_request_seconds_bucket{route="/verify",le="0.005"} 1\n' in told
        assert 'zoo_request_seconds_bucket{route="/verify",le="0.25"} 2\n' in told
        assert 'zoo_request_seconds_bucket{route="/verify",le="30.0"} 2\n' in told
        assert 'zoo_request_seconds_bucket{route="/verify",le="+Inf"} 3\n' in told
        assert 'zoo_request_seconds_sum{route="/verify"} 99.204000\n' in told
        assert 'zoo_request_seconds_count{route="/verify"} 3\n' in told
        assert "zoo_removed_total 1\n" in told and "zoo_waiting 3\n" in told


def test_a_status_that_is_not_foreseen_counts_as_a_fault(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.request("/verify", 418, 0.1)
    assert 'zoo_requests_total{route="/verify",status="500"} 1\n' in metrics.text({})
