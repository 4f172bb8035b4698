"""The angle between neighbouring class centres on the unit sphere, from which ReCurricularFace's constants follow."""

import itertools
import math

from scipy.integrate import quad
from scipy.special import betainc, gammaln

from zoo.errors import InputError


def cap_fraction(angle: float, dim: int) -> float:
    """The fraction of the unit sphere in R^dim within `angle` (radians, 0 to π) of a point on it.

    >>> cap_fraction(math.pi / 2, 512), cap_fraction(math.pi, 512)
    (0.5, 1.0)
    """
    half = 0.5 * float(betainc((dim - 1) / 2, 0.5, math.sin(angle) ** 2))
    return half if angle <= math.pi / 2 else 1 - half


def nearest_centre_angle(num_classes: int, dim: int) -> float:
    """The exact expected angle (radians) from a class centre to its nearest neighbour.

    For `num_classes` centres independent and uniform on the unit sphere in R^dim, with F = `cap_fraction`,

        E = ∫₀^π (1 − F(θ))^{num_classes − 1} dθ

    InputError for fewer than two classes or dimensions.

    >>> f"{math.degrees(nearest_centre_angle(10572, 512)):.4f}"
    '80.2226'
    """
    _check(num_classes, dim)
    others = num_classes - 1

    def none_within(angle: float) -> float:
        inside = cap_fraction(angle, dim)
        return math.exp(others * math.log1p(-inside)) if inside < 1 else 0.0

    # The integrand falls from 1 to 0 around the angle within which one neighbour is expected. For many centres in
    # few dimensions that is a spike at 0, which an adaptive rule over (0, π) would miss.
    low, high = 1e-300, math.pi
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if others * cap_fraction(middle, dim) < 1 else (low, middle)
    edges = sorted({0.0, *(min(high * factor, math.pi) for factor in (0.5, 1, 2, 8, 64)), math.pi})
    within = (quad(none_within, *ends, epsabs=1e-14, epsrel=1e-12, limit=500) for ends in itertools.pairwise(edges))
    return math.fsum(value for value, *_ in within)


def minimum_separation_asymptotic(num_classes: int, dim: int) -> float:
    """Equation (2) of the ReCurricularFace paper as printed, in radians; for comparison only.

        n^{−2/(d−1)} · Γ(1 + 1/(d−1)) · ( Γ(d/2) / (2·√π·(d−1)·Γ((d−1)/2)) )^{−1/(d−1)}

    For many centres it is the limit of the smallest angle over ALL pairs, not of the angle from a centre to its
    nearest neighbour, and d = 512 is far from that limit. InputError for fewer than two classes or dimensions.

    >>> f"{minimum_separation_asymptotic(1000, 3):.4f}"
    '0.0025'
    """
    _check(num_classes, dim)
    power = 1 / (dim - 1)
    log_density = gammaln(dim / 2) - math.log(2 * math.sqrt(math.pi) * (dim - 1)) - gammaln((dim - 1) / 2)
    return float(math.exp(-2 * power * math.log(num_classes) + gammaln(1 + power) - power * log_density))


def _check(num_classes: int, dim: int) -> None:
    if num_classes < 2 or dim < 2:
        raise InputError(f"expected at least 2 classes and 2 dimensions, found {num_classes} and {dim}")
