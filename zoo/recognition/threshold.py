"""The threshold above which two faces count as the same person: given, or stored in the model with its conditions."""

import math
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError
from zoo.modelinfo import ModelInfo, Threshold


@dataclass(frozen=True)
class Decision:
    """The threshold that similarities are compared with."""

    threshold: float | None  #: A pair is the same person when its similarity is greater; None where none is known
    origin: str  #: Where the threshold comes from, or why there is none
    stored: Threshold | None = None  #: The stored record, where it comes from the model

    def __str__(self) -> str:
        return f"{'unknown' if self.threshold is None else f'{self.threshold:.4f}'}: {self.origin}"

    def accepts(self, similarity: float) -> bool | None:
        """Whether a similarity is above the threshold; None where none is known."""
        return None if self.threshold is None else similarity > self.threshold

    def facts(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "far": self.stored and self.stored.far, "origin": self.origin}


def decide(info: ModelInfo | None, far: float | None = None, threshold: float | None = None) -> Decision:
    """The threshold for a model: the given one, or the stored one for `far` (default: the smallest stored).

    InputError where both are given, where `threshold` is not a cosine, and where `far` was not measured.
    """
    if given := _given(info, threshold, "--far", far):
        return given
    if far is not None and not 0 < far <= 1:
        raise InputError(f"expected a false accept rate above 0 and at most 1, found {far}; 0.001 is one in a thousand")
    stored = sorted(info.thresholds, key=lambda t: t.far) if info else []
    if not stored:
        advice = "or measure some with `zoo evaluate MODEL --data … --write-thresholds`"
        return Decision(None, f"this model stores none: give one with --threshold, {advice}")
    best = next((t for t in stored if far is None or math.isclose(t.far, far, rel_tol=1e-6)), None)
    if best is None:
        known = ", ".join(f"{t.far:g}" for t in stored)
        raise InputError(f"expected a false accept rate that this model has a threshold for ({known}), found {far:g}")
    origin = f"FAR {best.far:g} on {best.data}, {best.false_accepts:,} of {best.negatives:,} different pairs above it"
    return Decision(best.threshold, origin, best)


def decide_identification(
    info: ModelInfo | None, people: int, fpir: float | None = None, threshold: float | None = None
) -> Decision:
    """The threshold above which a face is identified in a gallery of `people`.

    For `fpir` it is the stored threshold with the largest false accept rate that keeps this false positive
    identification rate. InputError where none of the stored ones is small enough, and where both are given.
    """
    if given := _given(info, threshold, "--fpir", fpir):
        return given
    stored = sorted(info.thresholds, key=lambda t: t.far) if info else []
    if fpir is None and not stored:
        return Decision(None, "this model stores none: give one with --threshold")
    if fpir is None:
        far, rate = stored[0].far, fpir_of(stored[0].far, people)
        means = f"{far:g}, means a false positive identification rate of {rate:.2g} with {people:,} people"
        return Decision(None, f"give --fpir, or one with --threshold; the smallest measured FAR, {means}")
    needed = far_for(fpir, people)
    fitting = [t for t in stored if t.far <= needed * (1 + 1e-9)]
    if not fitting:
        measured = f"the smallest measured is {stored[0].far:g}" if stored else "this model has none measured"
        advice = "measure it on more pairs, allow a larger --fpir, or give --threshold"
        needs = f"FAR {needed:.3g} or less, which FPIR {fpir:g} needs with {people:,} people"
        raise InputError(f"expected a threshold for {needs}, but {measured}; {advice}")
    best, rate = fitting[-1], fpir_of(fitting[-1].far, people)
    origin = f"FAR {best.far:g} on {best.data}, which means FPIR {rate:.2g} with {people:,} people"
    return Decision(best.threshold, origin, best)


def far_for(fpir: float, people: int) -> float:
    """The FAR at which a gallery of `people` has FPIR `fpir`: FPIR = 1 − (1 − FAR)^N for N independent comparisons."""
    if not 0 < fpir < 1:
        raise InputError(f"expected a false positive identification rate between 0 and 1, found {fpir}")
    return -math.expm1(math.log1p(-fpir) / people)


def fpir_of(far: float, people: int) -> float:
    """The inverse of `far_for`: 1 − (1 − FAR)^N."""
    return 1.0 if far >= 1 else -math.expm1(people * math.log1p(-far))


def _given(info: ModelInfo | None, threshold: float | None, flag: str, rate: float | None) -> Decision | None:
    """The decision for a model that is too weak for verdicts, and for a given threshold; None for any other."""
    if info is not None and info.worth:
        worth, asked = f"its similarities are worth {info.worth}", threshold if rate is None else rate
        if asked is not None:
            found = f"found {asked:g}; {worth}"
            raise InputError(f"expected no threshold and no rate for a model that gives no verdicts, {found}")
        return Decision(None, f"this model gives no verdicts; {worth}")
    if threshold is None:
        return None
    if rate is not None:
        raise InputError(f"expected --threshold or {flag}, found both; give one of them")
    if not -1 <= threshold <= 1:
        raise InputError(f"expected a threshold between -1 and 1, as cosines are, found {threshold}")
    return Decision(threshold, "given with --threshold")
