"""The geometry of class centres, and ReCurricularFace's constants that follow from it."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.errors import InputError
from zoo.heads import (
    cap_fraction,
    minimum_separation_asymptotic,
    nearest_centre_angle,
    recurricular_constants,
)

TABLE = [
    # classes, dim, E in degrees, a, b: the project's table of constants for m = 0.5
    (941, 512, 81.8397, 1.118335, 0.362453),
    (10_572, 512, 80.2226, 1.110599, 0.354050),
    (85_742, 512, 79.0020, 1.104975, 0.347783),
    (360_232, 512, 78.2343, 1.101531, 0.343874),
    (2_059_906, 512, 77.3621, 1.097704, 0.339462),
    (10_572, 128, 70.5069, 1.070640, 0.305775),
]


@pytest.mark.parametrize(("classes", "dim", "degrees", "a", "b"), TABLE)
def test_the_derivation_reproduces_the_table(classes: int, dim: int, degrees: float, a: float, b: float) -> None:
    separation = nearest_centre_angle(classes, dim)
    assert round(math.degrees(separation), 4) == degrees
    assert tuple(round(value, 6) for value in recurricular_constants(separation, 0.5)) == (a, b)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("classes", [2, 3, 17, 10**4, 10**9])
def test_the_angle_equals_the_closed_form_on_circle_and_sphere(classes: int, dim: int) -> None:
    # circle: F = θ/π, so E = π/n; sphere: F = sin²(θ/2), so E = ∫ cos^{2(n−1)}(θ/2) dθ = π·C(2k, k)/4^k at k = n−1
    k = classes - 1
    on_sphere = math.pi * math.exp(math.lgamma(2 * k + 1) - 2 * math.lgamma(k + 1) - 2 * k * math.log(2))
    stirling = math.sqrt(math.pi / k) * (1 - 1 / (8 * k))  # lgamma loses its digits in the difference
    expected = math.pi / classes if dim == 2 else (stirling if k > 1000 else on_sphere)
    assert nearest_centre_angle(classes, dim) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("dim", [2, 3, 512, 100_000])
def test_two_centres_are_a_right_angle_apart_on_average(dim: int) -> None:
    assert nearest_centre_angle(2, dim) == pytest.approx(math.pi / 2, rel=1e-9)


def test_the_angle_equals_a_monte_carlo_run() -> None:
    generator = torch.Generator().manual_seed(7)
    classes, dim = 601, 33
    centres = torch.nn.functional.normalize(torch.randn(5 * classes, dim, generator=generator)).split(classes)
    nearest = torch.cat([(c @ c.T).fill_diagonal_(-1).amax(dim=1).acos() for c in centres]).double()
    error = nearest.std().item() / math.sqrt(len(nearest))
    assert nearest_centre_angle(classes, dim) == pytest.approx(nearest.mean().item(), abs=5 * error)


def test_a_cap_of_a_right_angle_is_half_the_sphere_and_caps_grow() -> None:
    angles = [math.pi * i / 50 for i in range(51)]
    fractions = [cap_fraction(angle, 37) for angle in angles]
    assert fractions == sorted(fractions)
    assert fractions[25] == pytest.approx(0.5)
    assert (fractions[0], fractions[50]) == (0, 1)


def test_equation_two_as_printed_is_far_from_the_expected_nearest_angle() -> None:
    assert math.degrees(minimum_separation_asymptotic(10_572, 512)) == pytest.approx(55.7, abs=0.05)
    assert minimum_separation_asymptotic(1000, 3) == pytest.approx(0.0025, abs=5e-5)
    assert nearest_centre_angle(1000, 3) == pytest.approx(0.0560, abs=1e-4)


def test_the_derived_modulation_is_one_at_the_ideal_boundary() -> None:
    separation, margin = nearest_centre_angle(10_572, 512), 0.5
    a, b = recurricular_constants(separation, margin)
    assert a * math.cos((separation + margin) / 2) + b == pytest.approx(1)
    assert (round(a, 1), round(b, 1)) == (1.1, 0.4)


@pytest.mark.parametrize(("classes", "dim"), [(1, 512), (0, 3), (5, 1)])
def test_fewer_than_two_classes_or_dimensions_are_refused(classes: int, dim: int) -> None:
    with pytest.raises(InputError, match="at least 2 classes and 2 dimensions"):
        nearest_centre_angle(classes, dim)
