"""Errors as RFC 9457 has them."""

from __future__ import annotations

import json

import pytest

from zoo.serve.problems import Problem, busy


def test_a_problem_has_the_members_and_the_media_type_of_the_standard() -> None:
    answer = Problem(413, "too much", {"X-A": "b"}).response()
    assert answer.media_type == "application/problem+json" and answer.headers["x-a"] == "b"
    told = json.loads(bytes(answer.body))
    assert told == {"type": "about:blank", "title": told["title"], "status": 413, "detail": "too much"}
    assert answer.status_code == 413 and told["title"]


@pytest.mark.parametrize(("seconds", "told"), [(0.01, "1"), (7.4, "7"), (0, "1")])
def test_whoever_is_put_off_is_told_for_how_many_whole_seconds(seconds: float, told: str) -> None:
    problem = busy(seconds, "later")
    assert (problem.status, problem.headers) == (503, {"Retry-After": told})
