"""Alignment: the transform against Umeyama's own SVD, known motions, mirrors, the template's conventions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.faces.align import ARCFACE_TEMPLATE, align, similarity_transform, template

Points = npt.NDArray[np.float64]


def umeyama(source: Points, target: Points) -> Points:
    """Umeyama's equations 38 to 43 as printed, by SVD: the brute force of the closed form."""
    n = len(source)
    mu_x, mu_y = source.mean(0), target.mean(0)
    variance = ((source - mu_x) ** 2).sum() / n
    covariance = (target - mu_y).T @ (source - mu_x) / n
    u, d, vt = np.linalg.svd(covariance)
    s = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(s) @ vt
    scale = (d * s).sum() / variance
    return np.column_stack([scale * rotation, mu_y - scale * rotation @ mu_x])


def move(points: Points, matrix: Points) -> Points:
    return points @ matrix[:, :2].T + matrix[:, 2]


coordinates = st.floats(-500, 500, allow_nan=False)


@settings(deadline=None, max_examples=150)
@given(st.floats(-np.pi, np.pi), st.floats(0.02, 50), coordinates, coordinates)
def test_a_known_rotation_scale_and_shift_is_recovered(angle: float, scale: float, x: float, y: float) -> None:
    known = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), x],
            [scale * np.sin(angle), scale * np.cos(angle), y],
        ]
    )
    found = similarity_transform(ARCFACE_TEMPLATE, move(ARCFACE_TEMPLATE, known))
    np.testing.assert_allclose(found, known, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(st.lists(coordinates, min_size=10, max_size=10))
def test_the_closed_form_is_umeyamas(flat: list[float]) -> None:
    source = np.array(flat).reshape(5, 2)
    if np.ptp(source, axis=0).max() < 1e-3:  # both refuse or divide by rounding noise
        return
    found, expected = similarity_transform(source, ARCFACE_TEMPLATE), umeyama(source, ARCFACE_TEMPLATE)

    def error(matrix: Points) -> float:
        return float(((move(source, matrix) - ARCFACE_TEMPLATE) ** 2).sum())

    # the minimum is unique unless the best scale is 0, where rounding picks the SVD's angle
    assert error(found) <= error(expected) + 1e-6
    if np.hypot(*found[:, 0]) > 1e-6:
        np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-6, atol=1e-9)


def test_a_mirror_image_is_not_taken_for_a_rotation() -> None:
    mirrored = ARCFACE_TEMPLATE * np.array([-1, 1]) + np.array([111, 0])
    found = similarity_transform(mirrored, ARCFACE_TEMPLATE)
    assert np.linalg.det(found[:, :2]) > 0
    # a reflection would fit perfectly; a rotation must leave the points where they do not fit
    assert np.abs(move(mirrored, found) - ARCFACE_TEMPLATE).max() > 5


def test_many_faces_at_once_equal_each_alone() -> None:
    faces = np.random.default_rng(0).normal(50, 30, (7, 3, 5, 2))
    together = similarity_transform(faces, ARCFACE_TEMPLATE)
    assert together.shape == (7, 3, 2, 3)
    np.testing.assert_array_equal(together[4, 1], similarity_transform(faces[4, 1], ARCFACE_TEMPLATE))


def test_the_template_follows_insightface_at_its_sizes_and_scales_elsewhere() -> None:
    np.testing.assert_array_equal(template((112, 112)), ARCFACE_TEMPLATE)
    np.testing.assert_allclose(template((224, 224)), 2 * ARCFACE_TEMPLATE)
    np.testing.assert_allclose(template((128, 128)), ARCFACE_TEMPLATE + np.array([8, 0]))
    np.testing.assert_allclose(template((256, 256)), 2 * ARCFACE_TEMPLATE + np.array([16, 0]))
    np.testing.assert_allclose(template((112, 96)), ARCFACE_TEMPLATE - np.array([8, 0]))  # the older 112×96 crops
    np.testing.assert_allclose(template((56, 56)), ARCFACE_TEMPLATE / 2)


def test_an_aligned_crop_aligns_to_itself() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(crop, ARCFACE_TEMPLATE), crop)


def test_alignment_undoes_a_quarter_turn_and_a_shift_exactly() -> None:
    crop = np.random.default_rng(2).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    canvas = np.zeros((301, 251, 3), np.uint8)
    canvas[40:152, 60:172] = np.rot90(crop, k=-1)  # clockwise: (x, y) → (111 − y, x)
    landmarks = np.column_stack([111 - ARCFACE_TEMPLATE[:, 1], ARCFACE_TEMPLATE[:, 0]]) + np.array([60, 40])
    np.testing.assert_array_equal(align(canvas, landmarks), crop)


def test_outside_the_picture_is_black() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    crop = align(image, ARCFACE_TEMPLATE)  # the picture covers only the template's upper left
    assert crop.shape == (112, 112, 3)
    assert (crop[:38, :38] == 200).all() and (crop[60:] == 0).all()


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.full((5, 2), 7.0), "all at one point"),
        (np.full((5, 2), np.nan), "NaN"),
        (np.zeros((4, 2)), "shape"),
        (np.zeros((5, 3)), "shape"),
    ],
)
def test_landmarks_that_define_no_face_are_refused(landmarks: Points, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        align(np.zeros((9, 9, 3), np.uint8), landmarks)
