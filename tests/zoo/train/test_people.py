"""Who is in a training set, who is held out of it, and that it stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.toy_faces import crop, write_people
from tests.support.training import start, tiny
from zoo.data.base import EncodedFaces
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.train.clean import clean
from zoo.train.distributed import Rank
from zoo.train.loop import train
from zoo.train.people import hold_out, open_training, pairs_of, same_data


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Five people with three to seven pictures, and one with a single one."""
    several = {f"p{who}": [(who, image) for image in range(3 + who)] for who in range(5)}
    return write_people(tmp_path / "people", {**several, "single": [(9, 0)]})


def test_people_who_are_held_out_are_not_trained_on_and_are_always_the_same(people: Path) -> None:
    dataset = open_dataset(str(people))
    left, held = hold_out(dataset, 2)
    assert isinstance(dataset, EncodedFaces) and left.identities and held.identities and dataset.identities
    assert set(left.identities) | set(held.identities) == set(dataset.identities)
    assert len(held.identities) == 2 and not set(left.identities) & set(held.identities)
    assert len(left) + len(held) == len(dataset) and "single" in left.identities
    assert hold_out(open_dataset(str(people)), 2)[1].identities == held.identities


@pytest.mark.parametrize("count", [1, 5, 6])
def test_too_few_people_on_either_side_are_refused(people: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"expected --held-out of 2 people or more .* found {count} for people"):
        hold_out(open_dataset(str(people)), count)
    with pytest.raises(InputError, match="a set in files"):
        hold_out(open_dataset("synthetic:5x7"), 2)


def test_pairs_of_people_who_are_held_out_say_who_is_the_same(people: Path) -> None:
    _, held = hold_out(open_dataset(str(people)), 4)
    pairs = pairs_of(held)
    assert len(pairs.same) == 2 * (len(held) - 4) and pairs.same.mean() == 0.5
    coarse = np.stack([np.asarray(image)[14::28, 14::28].astype(int) for image in pairs.images()])
    a, b = coarse[pairs._place[0::2]], coarse[pairs._place[1::2]]
    assert ((np.abs(a - b).max(axis=(1, 2, 3)) < 20) == pairs.same).all()  # tiles of one seed differ by 18 at most
    assert not (np.abs(crop(1).astype(int) - crop(2).astype(int)).max() < 20)


def test_a_damaged_picture_of_people_who_are_held_out_is_left_out_where_others_are(people: Path) -> None:
    _, held = hold_out(open_dataset(str(people)), 4)
    whole = len(pairs_of(held).same)
    Path(held.where(1)).write_bytes(b"no picture")
    assert len(pairs_of(held, skip_corrupt=True).same) == whole - 2
    with pytest.raises(InputError, match="found 10 bytes that begin with"):
        list(pairs_of(held).images())


def test_a_run_is_validated_on_the_people_whom_it_holds_out(people: Path, tmp_path: Path) -> None:
    config = tiny(data=str(people), held_out=2, epochs=2, embedding_dim=9)
    run = start(config, tmp_path / "run")
    record = train(config, run)
    assert 0 <= record["validation"]["auc"] <= 1 and (run / "best/model.safetensors").is_file()
    left, _ = open_training(config, (112, 112))
    cleaned = clean(run, tmp_path / "cleaned", degrees=179.9)
    assert cleaned.images == len(left) < len(open_dataset(str(people)))


def test_a_run_that_goes_on_with_other_people_is_refused(tmp_path: Path) -> None:
    progress, found = {"images": 0}, {"images": 35, "identities": 5, "people": "af"}
    same_data(tmp_path, found, progress, Rank())
    same_data(tmp_path, found, progress, Rank())
    with pytest.raises(InputError, match=r"found people 07 in place of af; .* --data"):
        same_data(tmp_path, {**found, "people": "07"}, progress, Rank())
    (tmp_path / "data.json").unlink()  # an older run, which knows the number of images alone
    same_data(tmp_path, {**found, "people": "07"}, progress, Rank())
    with pytest.raises(InputError, match="found images 34 in place of 35"):
        same_data(tmp_path, {**found, "images": 34}, progress, Rank())
