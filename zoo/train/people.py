"""The training set of a run, and what must stay true of it: who is on which picture, and who is held out."""

import json
from pathlib import Path

import numpy as np

from zoo.data.base import EncodedFaces, FaceDataset, Selected, fingerprint, per_epoch, select
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.evaluate.protocols import PairsProtocol
from zoo.files import write_json
from zoo.train.config import TrainConfig
from zoo.train.distill import Intact
from zoo.train.distributed import Facts, Rank


def open_training(config: TrainConfig, size: tuple[int, int]) -> tuple[FaceDataset, EncodedFaces | None]:
    """The training set of a run at `size`, (height, width), and the pictures of the people who are held out of it."""
    dataset = open_dataset(config.data, size, min_images=config.min_images, max_images=config.max_images)
    if not config.held_out:
        return dataset, None
    left, held = hold_out(dataset, config.held_out)
    return left, select(held, 2, 10)


def hold_out(dataset: FaceDataset, people: int) -> tuple[EncodedFaces, EncodedFaces]:
    """The set without so many of its people, and their pictures; always the same people, with two images or more."""
    several = np.flatnonzero(np.bincount(dataset.labels) > 1)
    if not isinstance(dataset, EncodedFaces) or not 2 <= people <= min(len(several), dataset.num_classes - 2):
        found = f"found {people} for {dataset.name}, where {len(several):,} have two images"
        raise InputError(f"expected --held-out of 2 people or more of a set in files, and two to train on, {found}")
    held = np.isin(dataset.labels, np.random.default_rng(0).choice(several, people, replace=False))
    return Selected(dataset, np.flatnonzero(~held)), Selected(dataset, np.flatnonzero(held))


def pairs_of(held: EncodedFaces, skip_corrupt: bool = False) -> PairsProtocol:
    """Pairs of neighbouring pictures of a person, each before a pair with a picture of another one."""
    draws, chosen = np.random.default_rng(0), np.argsort(held.labels, kind="stable")
    if skip_corrupt:
        chosen = chosen[[Intact(held).image(i) is not None for i in chosen.tolist()]]
    who = held.labels[chosen]
    left = np.flatnonzero(who[:-1] == who[1:])
    other = draws.integers(len(who), size=len(left))
    while (same := who[other] == who[left]).any():
        other[same] = draws.integers(len(who), size=int(same.sum()))
    place = np.stack([left, left + 1, left, other], axis=1).ravel()
    pictures = [held.content(i) for i in chosen.tolist()]
    return PairsProtocol(pictures, np.tile([True, False], len(left)), "people held out", place=place)


def facts_of(dataset: FaceDataset) -> Facts:
    """What must stay the same about a training set on every process and on a resume."""
    return {"images": per_epoch(dataset), "identities": dataset.num_classes, "people": fingerprint(dataset)}


def same_data(run: Path, found: Facts, progress: dict[str, int], rank: Rank) -> None:
    """Notes in `run`/data.json what it trains on; InputError where a run that is resumed finds another set.

    A set may move: what counts is who is on which picture.
    """
    kept = run / "data.json"
    before = {"images": progress["images"]} if progress["images"] else {}  # all that older runs know
    if progress["images"] and kept.is_file():
        before = {**json.loads(kept.read_text()), **before}
    for name, value in before.items():
        if value != found[name]:
            told = f"found {name} {found[name]} in place of {value}"
            advice = "bring it back, name the place that it moved to with --data, or start a new run"
            sentence = f"expected the training set that the run began with, {told}; {advice}"
            raise InputError(f"{sentence}, with --init if the weights are to be kept")
    progress["images"] = found["images"]
    if rank.first and not before:
        write_json(kept, found)
