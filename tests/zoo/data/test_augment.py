"""Augmentation is a pure function of the picture and its key."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from tests.support.layouts import (
    batches_of,
    noise,
)
from zoo.data import open_dataset
from zoo.data.augment import PRESETS, build_augmentation, key_word, preview
from zoo.data.loader import TrainLoader
from zoo.errors import InputError


@pytest.mark.parametrize("preset", PRESETS)
def test_an_augmentation_is_a_pure_function_of_picture_and_key(preset):
    image = noise(3, (112, 112))
    before = image.copy()
    a, b = build_augmentation(preset), pickle.loads(pickle.dumps(build_augmentation(preset)))
    keys = [(seed, epoch, sample) for seed in (0, 7) for epoch in (0, 1) for sample in (0, 5, 2**40)]
    first = [a(image, key) for key in keys]
    for key, expected in reversed(list(zip(keys, first, strict=True))):
        for other in (a, b):
            assert np.array_equal(other(image, key), expected)
    assert np.array_equal(image, before), "the original was changed"
    assert all(found.shape == image.shape and found.dtype == np.uint8 for found in first)


def test_the_presets_change_what_they_say():
    image = cv2.GaussianBlur(noise(4, (112, 112)), (0, 0), 4)
    keys = [(1, 0, sample) for sample in range(400)]
    assert all(build_augmentation("none")(image, key) is image for key in keys)
    flips = [build_augmentation("flip")(image, key) for key in keys]
    mirrored = sum(np.array_equal(found, image[:, ::-1]) for found in flips)
    assert all(np.array_equal(found, image) or np.array_equal(found, image[:, ::-1]) for found in flips)
    assert 150 < mirrored < 250  # five standard deviations of a fair coin
    strong = build_augmentation("strong")
    assert len({strong(image, key).tobytes() for key in keys}) > 395


def test_adaface_crops_blurs_and_jitters_a_fifth_each_and_mirrors_half():
    image = cv2.GaussianBlur(noise(4, (112, 112)), (0, 0), 4)
    found = [build_augmentation("adaface")(image, (1, 0, sample)) for sample in range(400)]
    black = sum((changed == 0).all(axis=2).mean() > 0.05 for changed in found)
    untouched = sum(np.array_equal(changed, view) for changed in found for view in (image, image[:, ::-1]))
    assert 40 < black < 120  # of 80; crops of more than 95 % of the area look untouched
    assert abs(untouched - 400 * 0.8**3) < 5 * np.sqrt(400 * 0.51 * 0.49)


def test_any_albumentations_pipeline_comes_from_its_yaml(tmp_path):
    import albumentations as A

    pipeline = A.Compose([A.HorizontalFlip(p=0.5), A.OneOf([A.GaussianBlur(p=1), A.MotionBlur(p=1)], p=0.9)])
    A.save(pipeline, tmp_path / "mine.yaml", data_format="yaml")
    image, keys = noise(3, (112, 112)), [(0, 0, sample) for sample in range(30)]
    a, b = (build_augmentation(str(tmp_path / "mine.yaml")) for _ in range(2))
    first = [a(image, key) for key in keys]
    assert a.name == "mine" and len({changed.tobytes() for changed in first}) > 15
    assert all(np.array_equal(b(image, key), changed) for key, changed in zip(keys, first, strict=True))
    assert np.array_equal(pickle.loads(pickle.dumps(a))(image, keys[0]), first[0])


FLIP = "transform: {__class_fullname__: HorizontalFlip, p: 0.5}"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: 1", "{: :", FLIP.replace("HorizontalFlip", "os.system"), FLIP.replace("p: 0.5", "p: 7"),
     FLIP.replace("p: 0.5", "p: 0.5, probability: 1"), FLIP.replace(", p: 0.5", ""),
     "!!python/object/apply:os.system [ls]"],
)  # fmt: skip
def test_a_yaml_that_is_no_pipeline_is_one_sentence(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(FLIP)
    assert build_augmentation(str(tmp_path / "mine.yaml")).name == "mine"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml") as refusal:
        build_augmentation(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(refusal.value)


def test_keys_that_differ_in_one_part_draw_independently():
    words = np.array([[[key_word(s, e, i) for i in range(64)] for e in range(8)] for s in range(8)], np.uint64)
    assert len(np.unique(words)) == words.size
    bits = (words[..., None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(float)
    for axis in range(3):
        agreement = (np.diff(bits, axis=axis) == 0).mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(bits.size / 2)


def test_a_batch_is_drawn_as_its_pictures_are():
    samples = np.array([0, 5, 2**40, 7, 2**62, 1, 2])
    for seed, epoch in ((0, 0), (7, 3), (2**63, 1), (-1, 2)):
        assert key_word(seed, epoch, samples.astype(np.uint64)).tolist() == [
            key_word(seed, epoch, i) for i in samples.tolist()
        ]
    originals = np.stack([noise(i, (20, 22)) for i in range(len(samples))])
    for preset in PRESETS:
        augmentation, images = build_augmentation(preset), originals.copy()
        augmentation.batch(images, 7, 3, samples)
        expected = [augmentation(originals[i], (7, 3, s)) for i, s in enumerate(samples.tolist())]
        assert np.array_equal(images, np.stack(expected))


def test_the_draws_of_a_key_never_change():
    """A later version repeats an earlier one's run; the first number is SplitMix64's published one for the seed 0."""
    assert key_word(0) == 0xE220A8397B1DCDAF
    assert key_word(0, 0, 0) == 0x238275BC38FCBE91 and key_word(1, 2, 3) == 0xD0734750FDE362B3


def test_a_pipeline_that_changes_the_shape_is_refused(tmp_path, folder):
    import albumentations as A

    mine = str(tmp_path / "mine.yaml")
    for transform, told in (
        (A.Resize(20, 20), r"mine to keep the shape \(112, 112, 3\).*\(20, 20, 3\)"),
        (A.RandomCrop(200, 200), r"mine to take the shape \(112, 112, 3\), found that it cannot \(Crop size"),
    ):
        A.save(A.Compose([transform]), mine, data_format="yaml")
        with pytest.raises(InputError, match=told):
            batches_of(TrainLoader(open_dataset(str(folder)), build_augmentation(mine), 2))
        with pytest.raises(InputError, match=told):
            preview(str(folder), tmp_path / "sheet.png", augment=mine)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("transform", ["Normalize", "ToFloat"])
def test_a_pipeline_of_fractions_is_refused_as_they_would_be_noise(tmp_path, transform):
    import albumentations as A

    A.save(A.Compose([getattr(A, transform)()]), tmp_path / "mine.yaml", data_format="yaml")
    with pytest.raises(InputError, match="whole numbers from 0 to 255, found float32; leave Normalize and ToFloat out"):
        build_augmentation(str(tmp_path / "mine.yaml"))(noise(1), (0, 0, 0))


def test_an_unknown_augmentation_names_the_closest():
    with pytest.raises(InputError, match="did you mean flip"):
        build_augmentation("flipp")
