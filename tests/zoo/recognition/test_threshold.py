"""Which threshold answers: the given one, the one for a rate, or none; and the rates of one and of many."""

from __future__ import annotations

import math

import pytest

from tests.support.toy_faces import DIM, LOOSE, STRICT
from zoo.errors import InputError
from zoo.modelinfo import ModelInfo
from zoo.recognition.threshold import decide, decide_identification, far_for, fpir_of


@pytest.mark.parametrize(
    ("far", "threshold", "reason"),
    [(0.1, 0.5, "both"), (None, 1.5, "between -1 and 1"), (None, float("nan"), "between"), (0.0, None, "above 0")],
)
def test_contradictory_or_senseless_thresholds_are_refused(
    far: float | None, threshold: float | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        decide(ModelInfo(48, thresholds=(LOOSE,)), far, threshold)


def test_the_smallest_stored_far_is_the_default_whatever_the_order_in_the_file() -> None:
    for stored in ((LOOSE, STRICT), (STRICT, LOOSE)):
        info = ModelInfo(48, thresholds=stored)
        assert decide(info).stored == STRICT
        assert decide(info, far=0.1).threshold == LOOSE.threshold


def test_a_decision_in_a_line_says_where_the_threshold_comes_from() -> None:
    assert str(decide(ModelInfo(48, thresholds=(STRICT,)))) == (
        "0.9000: FAR 0.01 on made up, 10 of 1,000 different pairs above it"
    )
    assert str(decide(None)).startswith("unknown: this model stores none")
    assert str(decide(None, threshold=0.25)) == "0.2500: given with --threshold"


@pytest.mark.parametrize("people", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("fpir", [1e-6, 0.01, 0.5, 0.999])
def test_the_rates_of_one_and_of_many_are_each_others_inverse(people: int, fpir: float) -> None:
    assert fpir_of(far_for(fpir, people), people) == pytest.approx(fpir, rel=1e-9)


def test_the_rate_of_many_is_the_definitions_example() -> None:
    assert fpir_of(1e-4, 1000) == pytest.approx(0.095, abs=5e-4)


def test_the_threshold_for_an_fpir_is_the_largest_far_that_keeps_it_and_refused_where_none_does() -> None:
    info = ModelInfo(DIM, thresholds=(LOOSE, STRICT))  # FAR 0.1 and 0.01
    assert decide_identification(info, 1, fpir=0.1).threshold == LOOSE.threshold
    assert decide_identification(info, 2, fpir=0.1).threshold == STRICT.threshold
    with pytest.raises(InputError, match=r"FAR 0\.00501 or less.* the smallest measured is 0\.01"):
        decide_identification(info, 20, fpir=0.0956)
    with pytest.raises(InputError, match="none measured"):
        decide_identification(None, 20, fpir=0.1)
    unasked = decide_identification(info, 1000)
    assert unasked.threshold is None and "1 with 1,000 people" in unasked.origin
    for wrong in ({"fpir": 0.0}, {"fpir": math.nan}, {"fpir": 0.1, "threshold": 0.1}, {"threshold": 2.0}):
        with pytest.raises(InputError):
            decide_identification(info, 3, **wrong)
