"""The training set of a run, and what must stay true of it: who is on which picture, and who is held out.

Also the benchmarks that a run is measured on while it trains, and the set without what its centres call mislabelled.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.backbones.timm_folder import TorchEmbedder, TorchFolder
from zoo.data.base import EncodedFaces, FaceDataset, Selected, fingerprint, per_epoch, select
from zoo.data.open import is_synthetic, open_dataset
from zoo.data.pack import pack_records
from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import find_benchmarks
from zoo.evaluate.protocols import PairsProtocol, Protocol
from zoo.files import atomic_path, write_json, write_text
from zoo.formats.images import Image, resized
from zoo.heads import find_sub_centres
from zoo.inference.embed import embed
from zoo.messages import Bar, Progress, no_bar
from zoo.modelinfo import InputSpec
from zoo.train.checkpoint import CRITERION, newest_whole, read, require_same_step
from zoo.train.config import TrainConfig, load_config
from zoo.train.distributed import Facts, Rank


@dataclass(frozen=True)
class Intact:
    """The pictures of a set, None for one that is damaged."""

    dataset: FaceDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Image | None:
        try:
            return self.dataset.image(index)
        except InputError:
            return None


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
    if len(people := np.unique(who)) < 2:
        raise InputError(f"expected intact pictures of two people or more held out, found {len(people)}; hold out more")
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


@dataclass(frozen=True)
class Cleaned:
    images: int  #: Images that were kept
    identities: int
    removed: int  #: Images beyond the angle, listed in removed.csv
    lost: int  #: Identities none of whose images was kept
    sub_centres: int  #: Centres per class of the run


def clean(
    run: str | Path, out: str | Path, *, degrees: float = 75.0, device: str = "auto", bar: Bar = no_bar
) -> Cleaned:
    """Writes the training set of `run` without the images beyond `degrees` from their dominant sub-centre.

    `out` becomes a RecordIO set, with `removed.csv` (image, place, label, sub_centre, degrees) and with the dominant
    centres of the people who are left as `centres.safetensors`: `weight` (classes, dim), to go on with one centre per
    class. InputError where the run has no whole checkpoint or its training set is not there, and when `out` exists.
    """
    run = Path(run)
    config = load_config(run / "config.yaml")
    model = TorchFolder(run, device)
    dataset, _ = open_training(config, model.input.size)
    if not isinstance(dataset, EncodedFaces):
        raise InputError(f"expected a run on pictures of a set, found one on {config.data}; its labels are right")
    folder = newest_whole(run / "checkpoint")
    require_same_step(run / "model.safetensors", folder)
    weight, labels = read(folder, CRITERION)["weight"], torch.from_numpy(dataset.labels)
    with bar("embedding", len(dataset)) as progress:
        embeddings = torch.from_numpy(embed(model, dataset, progress=progress, dim=model.embedding_dim))
    found = find_sub_centres(weight, embeddings, labels)
    removed = found.outliers(degrees)
    kept = np.setdiff1d(np.arange(len(dataset)), removed.numpy())
    if len(kept) == 0:
        raise InputError(f"expected some images within {degrees} degrees of their centres, found none; train longer")
    written = pack_records(Selected(dataset, kept), out, bar=bar)
    people = torch.from_numpy(np.unique(dataset.labels[kept]))
    with atomic_path(Path(out) / "centres.safetensors") as temporary:
        save_file({"weight": found.centres[people].contiguous()}, temporary)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("image", "place", "label", "sub_centre", "degrees"))
    for i in removed.tolist():
        angle = f"{math.degrees(float(found.angle[i])):.1f}"
        rows.writerow((i, dataset.where(i), int(labels[i]), int(found.nearest[i]), angle))
    write_text(Path(out) / "removed.csv", table.getvalue())
    sub_centres = weight.shape[1] if weight.ndim == 3 else 1
    return Cleaned(written.images, written.identities, len(removed), len(weight) - len(people), sub_centres)


def open_validation(config: TrainConfig, held: EncodedFaces | None = None) -> list[Protocol]:
    """The benchmarks of a run: those that --validation names, and pairs of the people who are `held` out."""
    names = config.validation
    if names == "auto":
        names = "synthetic" if is_synthetic(config.data) else "none"
    own: list[Protocol] = [pairs_of(held, config.on_corrupt == "skip")] if held else []
    found = own + [one for name in names.split(",") if name != "none" for one in benchmarks_at(name.strip())]
    for one in found:
        if isinstance(one, PairsProtocol):  # pairs of one kind are rejected before the training
            one.score(np.random.default_rng(0).normal(size=(len(one), 2)).astype(np.float32))
    return found


def benchmarks_at(place: str) -> list[Protocol]:
    """Those of a file or a folder; InputError for a protocol without scores of pairs, which give an AUC."""
    if place == "synthetic":
        from zoo.data.synthetic import synthetic_pairs

        # with another seed than those of `zoo evaluate --data synthetic`, which stay unseen
        images, same = synthetic_pairs(pairs=300, seed=1)
        return [PairsProtocol(images, same, data="synthetic validation")]
    found = find_benchmarks(place)
    for one in found:
        if one.protocol not in ("pairs", "ijb"):
            raise InputError(f"expected pairs or IJB for --validation, found {one.protocol} at {one.path}")
    return [one.open() for one in found]


def measured(
    model: nn.Module, spec: InputSpec, device: torch.device, benchmarks: Sequence[Protocol], progress: Progress
) -> dict[str, float]:
    """Accuracy of pairs, AUC and TAR at FAR 1e-4 as far as they are measurable.

    Their means over the benchmarks and, where there are several, those of each. `progress` may end it.
    """
    embedder, found = TorchEmbedder(model, spec, device), {}
    for one in benchmarks:
        pictures = (image if image is None else resized(image, spec.size) for image in one.images())
        scored = one.score(embed(embedder, pictures, progress=progress))
        figures = {"accuracy": scored.accuracy, "auc": scored.auc, "tar_at_far_1e-4": scored.tar_at_far.get(1e-4)}
        found[one.data] = {name: float(x) for name, x in figures.items() if x is not None and math.isfinite(x)}
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    means = {name: fmean(figures[name] for figures in found.values() if name in figures) for name in names}
    each = {f"{name} {data}": value for data, figures in found.items() for name, value in figures.items()}
    return {**means, **(each if len(found) > 1 else {})}
