"""What every training set has in common."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.layouts import (
    LABELS,
    SOURCES,
    make_folder,
    make_rec,
    make_tars,
    picture,
)
from zoo.data import open_dataset
from zoo.data.base import per_epoch
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


def test_several_sets_are_one_with_people_of_their_own(root):
    for name in ("a", "b"):
        (root / name).mkdir()
    make_folder(root / "a"), make_rec(root / "b")
    dataset = open_dataset(f"{root / 'a'}, {root / 'b'}?weight=0.5", image_size=(8, 8), max_images=4)
    kept = [i for place, i in enumerate(range(15)) if LABELS[:place].count(LABELS[i]) < 4]
    assert dataset.num_classes == 8 and dataset.labels.tolist() == [LABELS[i] for i in kept] + [
        4 + LABELS[i] for i in kept
    ]
    assert dataset.identities == [f"a/p{label}" for label in range(4)] + [f"b/{label}" for label in range(4)]
    assert all(np.array_equal(dataset.image(place), picture(i)) for place, i in enumerate(2 * kept))
    assert dataset.shares.tolist() == [1.0] * 13 + [0.5] * 13 and per_epoch(dataset) == 19
    assert dataset.kind == "folder+RecordIO × 0.5" and "b/train.rec, record" in dataset.where(13)


def test_shards_are_joined_with_shards_and_weights_are_numbers(root):
    for name in ("a", "b", "c"):
        (root / name).mkdir()
    make_tars(root / "a", "cls"), make_tars(root / "b", "cls"), make_folder(root / "c")
    dataset = open_dataset(f"{root / 'a'},{root / 'b'}")
    assert dataset.blocks.tolist() == [0, 7, 15, 22, 30] and len(set(dataset.labels.tolist())) == 8
    with pytest.raises(InputError, match=r"or none in shards or tables, found WebDataset\+folder; pack them"):
        open_dataset(f"{root / 'a'},{root / 'c'}")
    for weight in ("0", "-1", "much"):
        with pytest.raises(InputError, match=f"expected weight=NUMBER above 0 .*, found {weight}"):
            open_dataset(f"{root / 'a'}?weight={weight}")
