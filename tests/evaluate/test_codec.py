"""Typed values survive JSON, and what is no such value is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from zoo.evaluate.intervals import Estimate
from zoo.evaluate.results import to_json
from zoo.modelinfo import ModelInfo, typed


@dataclass(frozen=True)
class Inner:
    x: float
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Outer:
    compat: str | None
    count: int
    inner: Inner | None = None
    rates: Mapping[float, float] = field(default_factory=dict)
    ranks: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    many: tuple[Inner, ...] = ()
    info: ModelInfo | None = None
    estimate: Estimate | None = None
    thumbnails: Mapping[str, str] = field(default_factory=dict, metadata={"written": False})


FULL = Outer(
    compat=None,
    count=3,
    inner=Inner(1, ("a",)),
    rates={0.1: 0.5, 1e-5: 0.25},
    ranks={1: (0.1, 0.2), 20: (0.3, 0.4)},
    many=(Inner(0.5), Inner(2.5, ("b", "c"))),
    info=ModelInfo(7, backbone="x"),
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value), allow_nan=False))


def test_every_kind_of_field_comes_back() -> None:
    assert typed(Outer, through_json(FULL)) == FULL
    assert through_json(FULL)["rates"] == {"0.1": 0.5, "1e-05": 0.25}


def test_nothing_is_written_of_what_is_empty_but_for_what_format_1_holds() -> None:
    assert to_json(Outer(None, 0)) == {"compat": None, "count": 0, "info": None}


def test_not_measurable_is_null_and_comes_back_as_nan() -> None:
    value = Outer(None, 1, Inner(math.nan), {0.1: math.nan, 0.2: -math.inf})
    held = through_json(value)
    assert held["inner"] == {"x": None} and held["rates"] == {"0.1": None, "0.2": None}
    again = typed(Outer, held)
    assert math.isnan(again.inner.x) and math.isnan(again.rates[0.1])


def test_an_estimate_comes_back_with_its_replicates() -> None:
    value = Outer(None, 1, estimate=Estimate(0.5, np.linspace(0, 1, 9), 4))
    again = typed(Outer, through_json(value)).estimate
    np.testing.assert_allclose(again.replicates, value.estimate.replicates, atol=1e-7)
    assert (again.value, again.people) == (0.5, 4)


def test_faces_are_never_written_or_read() -> None:
    assert "thumbnails" not in to_json(Outer(None, 1, thumbnails={"a": "data:"}))
    assert typed(Outer, {"compat": None, "count": 1, "thumbnails": {"a": "data:"}}).thumbnails == {}


@pytest.mark.parametrize(
    "held",
    [
        {"compat": None},
        {"compat": 3, "count": 1},
        {"compat": None, "count": 1.5},
        {"compat": None, "count": True},
        {"compat": None, "count": 1, "inner": {"x": "1"}},
        {"compat": None, "count": 1, "ranks": {"1": [0.1]}},
        {"compat": None, "count": 1, "rates": {"x": 0.1}},
        {"compat": None, "count": 1, "many": 3},
        [],
    ],
    ids=str,
)
def test_what_is_no_such_value_is_refused(held: Any) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        typed(Outer, held)
