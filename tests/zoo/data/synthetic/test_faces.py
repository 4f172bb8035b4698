"""Synthetic faces are the same everywhere, and raw pixels do not tell them apart."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest

from zoo.data.synthetic import PAIR_IMAGES, SyntheticFaces, pair_plan, synthetic_pairs
from zoo.data.synthetic.faces import aligned, depth, render
from zoo.data.synthetic.person import Draws, draw_identity, draw_shot
from zoo.errors import InputError
from zoo.faces.align import ARCFACE_TEMPLATE

GOLDEN = {
    (0, "train", 0): "4936354d302952342c42555f4e563d62433e75555259434b5f624d7d5f5a82625d6c51515c324c644a50675d5a62655e",
    (0, "test", 11): "de8262564239694c3f459949bd6565976c579a6e5861676fb7536fa7755da2725b636676b947707d5046815a484f805c",
    (7, "train", 5): "92844f9c86497264514955498a87759177547d664a5e52458d8c84a17e5790714e6959469d9d97aa845f9774556c7557",
}
"""(seed, split, index) → the image of SyntheticFaces(3, 4, seed, split) shrunk to 4×4, red-green-blue by rows."""


def shrunk(image: np.ndarray) -> np.ndarray:
    """The mean colour of each of 4×4 tiles: (4, 4, 3)."""
    height, width = image.shape[0] // 4, image.shape[1] // 4
    return image.reshape(4, height, 4, width, 3).mean(axis=(1, 3))


def area_under_curve(vectors: np.ndarray, same: np.ndarray) -> float:
    """How often a same-person pair has the greater cosine than a different-person one, over all such couples."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = (unit[::2] * unit[1::2]).sum(axis=1)
    positive, negative = scores[same][:, None], scores[~same][None]
    return float((positive > negative).mean() + (positive == negative).mean() / 2)


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    return synthetic_pairs(401, seed=0)


@pytest.mark.parametrize("key", GOLDEN)
def test_images_are_those_of_every_machine(key: tuple[int, str, int]) -> None:
    seed, split, index = key
    found = shrunk(SyntheticFaces(3, 4, seed, split).image(index))
    golden = np.frombuffer(bytes.fromhex(GOLDEN[key]), dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_allclose(found, golden, atol=1.5)  # half a level of rounding and one of OpenCV's versions


def test_another_process_in_another_order_draws_the_same_bytes() -> None:
    script = (
        "import hashlib; from zoo.data.synthetic import SyntheticFaces; f = SyntheticFaces(5, 3, 3);"
        "images = {i: f.image(i).tobytes() for i in reversed(range(15))};"
        "print(hashlib.sha256(b''.join(images[i] for i in range(15))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    faces = SyntheticFaces(5, 3, 3)
    import hashlib

    assert hashlib.sha256(b"".join(faces.image(i).tobytes() for i in range(15))).hexdigest() == other


def test_more_identities_or_images_leave_the_others_as_they_are() -> None:
    small, large = SyntheticFaces(2, 2), SyntheticFaces(9, 5)
    np.testing.assert_array_equal(small.image(3), large.image(6))  # person 1, image 1


def test_images_of_a_person_differ() -> None:
    faces = SyntheticFaces(2, 6)
    drawn = [faces.image(i).astype(float) for i in range(6)]
    assert min(np.abs(a - b).mean() for i, a in enumerate(drawn) for b in drawn[:i]) > 5


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (97, 131), (33, 33), (224, 224)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    image = SyntheticFaces(2, 1, image_size=size).image(0)
    assert image.shape == (*size, 3) and image.dtype == np.uint8 and image.flags.c_contiguous


def test_a_larger_image_shows_the_same_face() -> None:
    """Enlarged twice and shrunk again, only noise and the rounding of backgrounds remain."""
    small, large = (SyntheticFaces(3, 1, image_size=size).image(2) for size in (112, 224))
    assert np.abs(shrunk(small) - shrunk(large)).mean() < 8


def test_a_narrow_crop_is_the_middle_of_the_square_one() -> None:
    square = SyntheticFaces(3, 1).image(1)[:, 8:-8].astype(float)
    narrow = SyntheticFaces(3, 1, image_size=(112, 96)).image(1).astype(float)
    middle = (slice(48, 80), slice(32, 64))  # the face: a background has its own canvas
    assert np.abs(square[middle] - narrow[middle]).mean() < 12


def test_labels_name_each_person_in_turn() -> None:
    faces = SyntheticFaces(3, 5)
    assert len(faces) == 15 and faces.num_classes == 3 and faces.labels.dtype == np.int64
    assert faces.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert "15 images of 3 identities" in faces.describe() and "not real faces" in faces.describe()
    with pytest.raises(IndexError):
        faces.image(15)
    with pytest.raises(IndexError):
        faces.image(-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identities": 1}, "at least 2"),
        ({"images_per_identity": 0}, "at least 1"),
        ({"split": "validation"}, "train or test"),
        ({"seed": -1}, "from 0 to"),
        ({"seed": 2**32}, "from 0 to"),
        ({"image_size": 8}, "16 to 512"),
        ({"image_size": (112, 9999)}, "16 to 512"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SyntheticFaces(**arguments)


@pytest.mark.parametrize("count", [2, 3, 7, 100, 1501, 6000])
def test_pairs_are_balanced_distinct_and_true(count: int) -> None:
    identities, index, same = pair_plan(count, seed=5)
    people = index // PAIR_IMAGES
    assert index.shape == (count, 2) and index.min() >= 0 and people.max() < identities
    assert ((people[:, 0] == people[:, 1]) == same).all()
    assert same.sum() == (count + 1) // 2
    assert (index[:, 0] != index[:, 1]).all()
    assert len({tuple(sorted(pair)) for pair in index.tolist()}) == count
    assert len({tuple(sorted(pair)) for pair in people[~same].tolist()}) == (~same).sum()


def test_pairs_show_test_people(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    images, same = pairs
    identities, index, _ = pair_plan(401, seed=0)
    faces = SyntheticFaces(identities, PAIR_IMAGES, 0, "test")
    for position in (0, 777, 801):
        np.testing.assert_array_equal(images[position], faces.image(index.reshape(-1)[position]))
    assert same.shape == (401,) and images.shape == (802, 112, 112, 3)


def test_raw_pixels_do_not_tell_people_apart(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    images, same = pairs
    pixels = images.reshape(len(images), -1).astype(np.float32)
    grey = np.stack(
        [cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), (28, 28), interpolation=cv2.INTER_AREA) for i in images]
    )
    grey = grey.reshape(len(images), -1).astype(np.float32)
    views = {
        "as they are": pixels,
        "less their own mean": pixels - pixels.mean(axis=1, keepdims=True),
        "less the mean image": pixels - pixels.mean(axis=0),
        "grey and small, less the mean": grey - grey.mean(axis=1, keepdims=True),
        "mean colour": images.mean(axis=(1, 2)) - images.mean(axis=(0, 1, 2)),
    }
    found = {name: round(area_under_curve(view, same), 3) for name, view in views.items()}
    assert max(found.values()) < 0.75, found


def test_the_raw_pixel_measure_sees_people_where_nothing_varies() -> None:
    """The twin: on images that differ from a person's own by noise alone, raw pixels reach 1."""
    faces = SyntheticFaces(20, 1)
    drawn = np.stack([faces.image(i) for i in range(20)]).reshape(20, -1).astype(np.float32)
    order = np.stack([np.arange(20), np.where(np.arange(20) % 2 == 0, np.arange(20), (np.arange(20) + 1) % 20)], axis=1)
    noise = np.random.default_rng(0).normal(0, 3, (40, drawn.shape[1])).astype(np.float32)
    vectors = drawn[order.reshape(-1)] + noise
    assert area_under_curve(vectors - vectors.mean(axis=1, keepdims=True), np.arange(20) % 2 == 0) == 1


def test_a_turned_face_is_brought_near_the_landmarks_of_an_aligned_crop() -> None:
    for key in range(9):
        who, shot = draw_identity(0, 0, key), draw_shot(Draws(0, 0, key, 1))
        a, b = aligned(who, shot)
        eyes = np.array([[-who.eye_gap, 0.0], [who.eye_gap, 0.0]])
        turned = np.concatenate([eyes, depth(eyes, who)[:, None]], axis=1) @ shot.turn.T
        placed = a * (turned[:, 0] + 1j * turned[:, 1]) + b
        target = ARCFACE_TEMPLATE[:2, 0] + 1j * ARCFACE_TEMPLATE[:2, 1]
        assert np.abs(placed - target).max() < 16


def test_identities_differ_in_shape_and_not_only_in_colour() -> None:
    """With one palette, pose, light and background, two people still differ by more than two levels a pixel."""
    model = draw_identity(0, 0, 0)
    palette = {name: getattr(model, name) for name in ("skin", "hair", "iris", "lips")}
    drawn = [
        render(dataclasses.replace(draw_identity(0, 0, person), **palette), Draws(1), 112, 112).astype(float)
        for person in range(12)
    ]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert np.abs(one - other).mean() > 2
