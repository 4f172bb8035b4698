"""What every training set has in common."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.layouts import (
    LABELS,
    SOURCES,
    picture,
)
from zoo.data import open_dataset
from zoo.data.base import contiguous
from zoo.errors import InputError


@pytest.mark.parametrize("source", ["RecordIO", "tar, .cls", "parquet, bytes", "folder"])
def test_filters_leave_people_out_and_number_the_rest_anew(root, source):
    uri = SOURCES[source](root)
    dataset = open_dataset(uri, image_size=(8, 8), min_images=3, max_images=4)
    kept = [i for i, label in enumerate(LABELS) if label != 1][: 3 + 4 + 4]
    assert dataset.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 4 and dataset.num_classes == 3
    assert all(np.array_equal(dataset.image(place), picture(i)) for place, i in enumerate(kept))
    with pytest.raises(InputError, match="at least two identities"):
        open_dataset(uri, min_images=5)
    with pytest.raises(InputError, match="at least one image"):
        open_dataset(uri, max_images=0)


def test_numbers_are_sorted_as_numbers():
    assert contiguous([10, 9, 10])[1].tolist() == [1, 0, 1]
    assert contiguous(["b", "a"])[0] == ["a", "b"]
