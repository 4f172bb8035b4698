"""What is in a set: identities, sizes, damage, duplicates; and what two sets have in common."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from zoo.data.base import EncodedFaces
from zoo.data.hashes import NEAR, near_pairs
from zoo.data.pairs import PairPictures
from zoo.data.scan import Progress, survey


def summary(
    dataset: EncodedFaces, *, quick: bool = False, workers: int = 1, progress: Progress = lambda count: None
) -> dict[str, Any]:
    """The facts of a set, ready for JSON. `quick` leaves the pictures unread, and with them sizes, damage, duplicates.

    "duplicates" are groups of pictures with the same bytes; those "across_identities" carry different labels, which no
    training can satisfy.
    """
    counts = np.bincount(dataset.labels)
    found: dict[str, Any] = {
        "name": dataset.name,
        "format": dataset.kind,
        "images": len(dataset),
        "identities": dataset.num_classes,
        "images_per_identity": {
            "mean": float(counts.mean()),
            **{f"q{round(100 * q)}": float(np.quantile(counts, q)) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)},
            "histogram": histogram(counts.tolist()),
        },
    }
    if isinstance(dataset, PairPictures):
        found |= {"pairs": len(dataset.same), "same": int(dataset.same.sum())}
        del found["identities"], found["images_per_identity"]
    if quick:
        return found
    sizes: Counter[str] = Counter()
    corrupt: list[str] = []
    seen: dict[bytes, list[int]] = {}
    total = 0
    for i, look in enumerate(survey(dataset, workers=workers, progress=progress)):
        if isinstance(look, str):
            corrupt.append(look)
        else:
            total += look.length
            sizes[f"{look.size[0]}×{look.size[1]}"] += 1
            seen.setdefault(look.exact, []).append(i)
    groups = [group for group in seen.values() if len(group) > 1]
    pairs = isinstance(dataset, PairPictures)  # which may well use a picture several times
    across = [group for group in groups if len(set(dataset.labels[group].tolist())) > 1 and not pairs]
    return found | {
        "sizes": dict(sizes.most_common()),
        "bytes": total,
        "corrupt": corrupt,
        "duplicates": {
            "groups": len(groups),
            "images_too_many": sum(len(group) - 1 for group in groups),
            "across_identities": len(across),
            "examples": [[dataset.where(i) for i in group] for group in (across + groups)[:5]],
        },
    }


def histogram(counts: list[int]) -> dict[str, int]:
    """How many identities have 1, 2-3, 4-7, 8-15, … images."""
    bins = Counter(count.bit_length() for count in counts if count)
    return {
        f"{1 << bits - 1}" if bits == 1 else f"{1 << bits - 1}-{(1 << bits) - 1}": bins[bits]
        for bits in range(1, max(bins, default=0) + 1)
    }


def overlap(
    train: EncodedFaces,
    bench: EncodedFaces,
    *,
    distance: int = NEAR,
    workers: int = 1,
    progress: Progress = lambda count: None,
) -> dict[str, Any]:
    """Which pictures of `bench` are in `train`: by their bytes, or nearly by what they show, mirrored ones too.

    Near-duplicates are those within `distance` bits of the perceptual hash. A picture that is damaged on either side is
    counted and left out.
    """
    damaged = {"train": 0, "benchmark": 0}
    wanted: dict[bytes, list[int]] = {}
    numbers: list[int] = []
    hashes = []
    for i, look in enumerate(survey(bench, views=2, workers=workers, progress=progress)):
        if isinstance(look, str):
            damaged["benchmark"] += 1
            continue
        wanted.setdefault(look.exact, []).append(i)
        numbers += [i, i]
        hashes.append(look.near)
    theirs = []
    ours: list[int] = []
    matches: dict[int, tuple[int, int]] = {}
    for i, look in enumerate(survey(train, views=1, workers=workers, progress=progress)):
        if isinstance(look, str):
            damaged["train"] += 1
            continue
        ours.append(i)
        theirs.append(look.near)
        for j in wanted.get(look.exact, ()):
            matches[j] = (-1, i)
    if theirs and hashes:
        for place, other, bits in near_pairs(np.concatenate(hashes), np.concatenate(theirs), distance):
            j = numbers[place]
            matches[j] = min(matches.get(j, (bits, ours[other])), (bits, ours[other]))
    listed = [
        {"benchmark": bench.where(j), "train": train.where(i), "bits": max(bits, 0), "exact": bits < 0}
        for j, (bits, i) in sorted(matches.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return {
        "benchmark": bench.name,
        "benchmark_images": len(bench),
        "train": train.name,
        "train_images": len(train),
        "distance": distance,
        "exact": sum(match["exact"] for match in listed),
        "near": sum(not match["exact"] for match in listed),
        "damaged": damaged,
        "matches": listed,
    }
