"""What is in a set: identities, sizes, damage, duplicates; and what two sets have in common."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.data.folder import PairPictures
from zoo.data.open import open_pictures
from zoo.data.scan import NEAR, near_pairs, scan
from zoo.errors import InputError
from zoo.messages import Bar, Progress, no_bar


@dataclass(frozen=True)
class Duplicates:
    """Groups of pictures with the same bytes."""

    groups: int
    images_too_many: int  #: Pictures that would go if each group kept one
    across_identities: int  #: Groups with different labels, which no training can satisfy
    examples: list[list[str]]  #: Where the pictures of some groups lie, those across identities first


@dataclass(frozen=True)
class Contents:
    """What reading every picture tells."""

    sizes: dict[str, int]  #: Pictures by height×width in pixels, the most frequent size first
    bytes: int  #: Of all intact pictures, encoded
    corrupt: list[str]  #: What is wrong with each damaged picture
    duplicates: Duplicates


@dataclass(frozen=True)
class Summary:
    name: str
    format: str
    images: int
    identities: int | None  #: None for a benchmark of pairs, which does not tell them
    images_per_identity: dict[str, Any] | None  #: `mean`, quantiles `q0` … `q100`, a `histogram` over 1, 2-3, 4-7, …
    pairs: int | None  #: None for all but a benchmark of pairs
    same: int | None  #: Pairs of one person
    contents: Contents | None  #: None where no picture was read
    index: str | None  #: For RecordIO: where the offsets came from
    notes: tuple[str, ...]  #: What of the files at the set's place is not in it

    def to_json(self) -> dict[str, Any]:
        """What `zoo data info --json` prints: the facts that there are, those of the contents among them."""
        found = asdict(self)
        contents = found.pop("contents") or {}
        return {key: value for key, value in {**found, **contents}.items() if value not in (None, ())}


def summary(uri: str, *, quick: bool = False, workers: int | None = None, bar: Bar = no_bar) -> Summary:
    """The facts of the set or benchmark at `uri`, as `open_pictures` takes it; with `quick`, no picture is read.

    `workers` processes unpack the pictures; None chooses their number.
    """
    dataset = open_pictures(uri)
    pairs = dataset if isinstance(dataset, PairPictures) else None
    contents = None
    if not quick:
        with bar("reading", len(dataset)) as progress:
            contents = _contents(dataset, workers, progress)
    return Summary(
        name=dataset.name,
        format=dataset.kind,
        images=len(dataset),
        identities=None if pairs else dataset.num_classes,
        images_per_identity=None if pairs else _images_per_identity(dataset),
        pairs=len(pairs.same) if pairs else None,
        same=int(pairs.same.sum()) if pairs else None,
        contents=contents,
        index=getattr(getattr(dataset, "records", None), "index_note", None),
        notes=tuple(dataset.notes),
    )


def _images_per_identity(dataset: EncodedFaces) -> dict[str, Any]:
    counts = np.bincount(dataset.labels)
    quantiles = {f"q{round(100 * q)}": float(np.quantile(counts, q)) for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)}
    return {"mean": float(counts.mean()), **quantiles, "histogram": histogram(counts.tolist())}


def _contents(dataset: EncodedFaces, workers: int | None, progress: Progress) -> Contents:
    sizes: Counter[str] = Counter()
    corrupt: list[str] = []
    hashes = np.zeros((len(dataset), 2), np.uint64)
    intact = np.ones(len(dataset), np.bool_)
    total = 0
    for i, look in enumerate(scan(dataset, workers=workers, progress=progress)):
        if isinstance(look, str):
            corrupt.append(look)
            intact[i] = False
        else:
            total += look.length
            sizes[f"{look.size[0]}×{look.size[1]}"] += 1
            hashes[i] = np.frombuffer(look.exact, np.uint64)
    groups = same_rows(hashes, np.flatnonzero(intact))
    pairs = isinstance(dataset, PairPictures)  # which may well use a picture several times
    across = [group for group in groups if len(set(dataset.labels[group].tolist())) > 1 and not pairs]
    return Contents(
        sizes=dict(sizes.most_common()),
        bytes=total,
        corrupt=corrupt,
        duplicates=Duplicates(
            groups=len(groups),
            images_too_many=sum(len(group) - 1 for group in groups),
            across_identities=len(across),
            examples=[[dataset.where(i) for i in group] for group in (across + groups)[:5]],
        ),
    )


def same_rows(hashes: npt.NDArray[np.uint64], chosen: npt.NDArray[np.int64]) -> list[list[int]]:
    """The numbers of equal rows among the `chosen` ones of (rows, 2), in groups of two and more, by their first."""
    order = chosen[np.lexsort((chosen, hashes[chosen, 1], hashes[chosen, 0]))]
    same = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], same, [0]))))
    groups = [order[start : end + 1].tolist() for start, end in edges.reshape(-1, 2).tolist()]
    return sorted(groups)


def histogram(counts: Sequence[int]) -> dict[str, int]:
    """How many identities have 1, 2-3, 4-7, 8-15, … images."""
    bins = Counter(count.bit_length() for count in counts if count)
    return {
        f"{1 << bits - 1}" if bits == 1 else f"{1 << bits - 1}-{(1 << bits) - 1}": bins[bits]
        for bits in range(1, max(bins, default=0) + 1)
    }


@dataclass(frozen=True)
class Match:
    """A picture of a benchmark that is in a training set too."""

    benchmark: str  #: Where it lies in the benchmark
    train: str  #: Where its closest match lies in the training set
    bits: int  #: Bits of 256 in which their perceptual hashes differ
    exact: bool  #: Whether they have the same bytes


@dataclass(frozen=True)
class Overlap:
    """What a benchmark and a training set have in common; also what `zoo data check --json` prints."""

    benchmark: str
    benchmark_images: int
    train: str
    train_images: int
    distance: int  #: Bits of 256 within which two pictures are nearly the same
    exact: int  #: Pictures of the benchmark that are in the training set byte for byte
    near: int  #: Pictures of the benchmark that are nearly in it
    damaged: dict[str, int]  #: Pictures of either set that could not be read and were left out
    matches: list[Match]  #: The closest first


def overlap(
    train: str, benchmark: str, *, distance: int = NEAR, workers: int | None = None, bar: Bar = no_bar
) -> Overlap:
    """Which pictures of `benchmark` are in `train`: by their bytes, or nearly by what they show, mirrored ones too.

    Near-duplicates are those within `distance` bits of the perceptual hash. A picture that is damaged on either side is
    counted and left out. `workers` processes unpack the pictures; None chooses their number.
    """
    if not 0 <= distance <= 256:
        raise InputError(f"expected --distance between 0 and 256 bits, found {distance}")
    trained, bench = open_pictures(train), open_pictures(benchmark)
    with bar("comparing", len(trained) + len(bench)) as progress:
        matches, damaged = _matches(trained, bench, distance, workers, progress)
    listed = [
        Match(bench.where(j), trained.where(i), max(bits, 0), exact=bits < 0)
        for j, (bits, i) in sorted(matches.items(), key=lambda item: (item[1][0], item[0]))
    ]
    return Overlap(
        benchmark=bench.name,
        benchmark_images=len(bench),
        train=trained.name,
        train_images=len(trained),
        distance=distance,
        exact=sum(match.exact for match in listed),
        near=sum(not match.exact for match in listed),
        damaged=damaged,
        matches=listed,
    )


def _matches(
    train: EncodedFaces, bench: EncodedFaces, distance: int, workers: int | None, progress: Progress
) -> tuple[dict[int, tuple[int, int]], dict[str, int]]:
    """The number of each matched picture of `bench` → (bits, or −1 for the same bytes; number of its match in `train`).

    And how many pictures of either are damaged.
    """
    damaged = {"train": 0, "benchmark": 0}
    wanted: dict[bytes, list[int]] = {}
    numbers, hashes = np.empty(2 * len(bench), np.int64), np.empty((2 * len(bench), 4), np.uint64)
    filled = 0
    for j, look in enumerate(scan(bench, views=2, workers=workers, progress=progress)):
        if isinstance(look, str):
            damaged["benchmark"] += 1
            continue
        wanted.setdefault(look.exact, []).append(j)
        numbers[filled : filled + 2], hashes[filled : filled + 2] = j, look.near
        filled += 2
    matches: dict[int, tuple[int, int]] = {}
    ours, theirs = np.empty(len(train), np.int64), np.empty((len(train), 4), np.uint64)
    taken = 0
    for i, look in enumerate(scan(train, views=1, workers=workers, progress=progress)):
        if isinstance(look, str):
            damaged["train"] += 1
            continue
        theirs[taken], ours[taken] = look.near, i
        taken += 1
        for j in wanted.get(look.exact, ()):
            matches[j] = (-1, i)
    if taken and filled:
        for place, other, bits in near_pairs(hashes[:filled], theirs[:taken], distance):
            j, match = int(numbers[place]), (bits, int(ours[other]))
            matches[j] = min(matches.get(j, match), match)
    return matches, damaged
