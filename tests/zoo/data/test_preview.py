"""A contact sheet shows originals above what an augmentation makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.layouts import write_faces
from zoo.data import open_dataset
from zoo.data.augment import build_augmentation, preview
from zoo.errors import InputError
from zoo.formats.images import read_image


def test_a_preview_shows_the_originals_above(tmp_path):
    folder = write_faces(tmp_path / "people")
    preview(str(folder), tmp_path / "p.png", columns=5, epochs=2)
    sheet = read_image(tmp_path / "p.png")
    dataset = open_dataset(str(folder))
    size = 112
    assert sheet.shape == (3 * (size + 4) + 8, 5 * (size + 4) + 4, 3)
    shown = [sheet[4 : 4 + size, 4 + c * (size + 4) :][:, :size] for c in range(5)]
    originals = [dataset.image(i) for i in range(len(dataset))]
    numbers = [next(i for i, original in enumerate(originals) if np.array_equal(crop, original)) for crop in shown]
    assert numbers == sorted(set(numbers))
    top = 4 + size + 4 + 4
    below = [sheet[top : top + size, 4 + c * (size + 4) :][:, :size] for c in range(5)]
    augment = build_augmentation("strong")
    expected = [augment(originals[i], (0, 0, i)) for i in numbers]
    assert all(np.array_equal(crop, changed) for crop, changed in zip(below, expected, strict=True))
    preview(str(folder), tmp_path / "q.png", columns=5, epochs=2)
    assert (tmp_path / "q.png").read_bytes() == (tmp_path / "p.png").read_bytes()


def test_a_sheet_of_nothing_is_refused(tmp_path):
    folder = str(write_faces(tmp_path / "people"))
    for wrong in ({"columns": 0}, {"epochs": 0}):
        with pytest.raises(InputError, match="at least one column and one epoch"):
            preview(folder, tmp_path / "x.png", **wrong)
    assert not (tmp_path / "x.png").exists()
