"""Every picture of a set looked at once: identities, sizes, damage, duplicates; and what two sets have in common."""

import contextlib
import functools
import hashlib
import multiprocessing
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.data.folder import PairPictures, RecordDataset
from zoo.data.open import open_pictures
from zoo.errors import InputError
from zoo.formats.images import Image, decode
from zoo.formats.read_ahead import map_ahead
from zoo.machine import cores
from zoo.messages import Bar, Progress, no_bar, no_progress

Hashes = npt.NDArray[np.uint64]  #: (images, 4): 256 bits per picture
NEAR = 50
"""Hashes that differ in at most so many of 256 bits are near-duplicates, by `benchmarks/data.py near`: docs/data.md."""
_ROWS = 1024
PAYS_FROM = 20_000  #: Pictures from which several processes are faster than one, as `benchmarks/data.py scan` measures
_CHUNK = 128


def exact_hash(content: bytes) -> bytes:
    """16 bytes that are the same for the same encoded bytes only."""
    return hashlib.blake2b(content, digest_size=16).digest()


def perceptual_hash(image: Image) -> Hashes:
    """(4,): which of the 16×16 lowest frequencies of the grey picture, the mean left out, lie above their median.

    The classical DCT hash (Zauner, 2010) with four times its bits: aligned faces share their lowest frequencies.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    waves = cv2.dct(grey.astype(np.float32))[1:17, 1:17].ravel()
    return np.packbits(waves > np.median(waves)).view(np.uint64)


def near_pairs(a: Hashes, b: Hashes, distance: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """(i, j, bits) for every a[i] and b[j] that differ in at most `distance` bits, by i; in blocks of a few MB."""
    for start in range(0, len(a), _ROWS):
        block = a[start : start + _ROWS]
        for place in range(0, len(b), _ROWS):
            other = b[place : place + _ROWS]
            bits = np.zeros((len(block), len(other)), np.uint16)
            for word in range(4):
                bits += np.bitwise_count(block[:, word, None] ^ other[None, :, word])
            for i, j in np.argwhere(bits <= distance).tolist():
                yield start + i, place + j, int(bits[i, j])


@dataclass(frozen=True)
class Look:
    """What is known of an intact picture."""

    size: tuple[int, int]  #: (height, width) in pixels
    length: int  #: Bytes of the encoded picture
    exact: bytes  #: The same for the same encoded bytes only
    near: Hashes  #: (views, 4): perceptual hashes of the picture and of its mirror image, as many as were asked for


def scan(
    dataset: EncodedFaces, *, views: int = 0, workers: int | None = None, progress: Progress = no_progress
) -> Iterator[Look | str]:
    """A look at each picture in order, or one sentence about why it cannot be read.

    `views` perceptual hashes per picture: 0 none, 1 as it is, 2 its mirror image too. This process reads, `workers`
    processes unpack and hash; with 1, this one does. None takes as many as there are cores from PAYS_FROM pictures on.
    A few chunks are in memory, whatever the set's size. Threads would spend their time passing the interpreter's lock.
    """
    if workers is None:
        workers = cores() if len(dataset) >= PAYS_FROM else 1
    if workers < 1:
        raise InputError(f"expected --workers of at least 1, found {workers}")
    chunks = (_read(dataset, start) for start in range(0, len(dataset), _CHUNK))
    # spawned: a fork would copy the threads' locks of whatever library reads the set
    spawn = multiprocessing.get_context("spawn")
    started = ProcessPoolExecutor(workers, spawn, cv2.setNumThreads, (0,)) if workers > 1 else contextlib.nullcontext()
    with started as pool:
        for found in map_ahead(functools.partial(_look, views=views), chunks, 0, 3 * workers, pool):
            yield from found
            progress(len(found))


def _read(dataset: EncodedFaces, start: int) -> list[tuple[bytes | None, str]]:
    """The content and the place of each picture of a chunk; no content, but what is wrong, where it cannot be read."""
    contents: list[tuple[bytes | None, str]] = []
    for i in range(start, min(start + _CHUNK, len(dataset))):
        try:
            contents.append((dataset.content(i), dataset.where(i)))
        except InputError as error:
            contents.append((None, str(error)))
    return contents


def _look(contents: list[tuple[bytes | None, str]], views: int) -> list[Look | str]:
    looks: list[Look | str] = []
    for content, where in contents:
        try:
            image = None if content is None else decode(content, where)
        except InputError as error:
            where, image = str(error), None
        if content is None or image is None:
            looks.append(where)
            continue
        near = np.empty((views, 4), np.uint64)
        for view in range(views):
            near[view] = perceptual_hash(cv2.flip(image, 1) if view else image)  # type: ignore[arg-type]
        looks.append(Look((image.shape[0], image.shape[1]), len(content), exact_hash(content), near))
    return looks


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
    identities: int | None = None  #: None for a benchmark of pairs, which does not tell them
    images_per_identity: dict[str, Any] | None = None  #: `mean`, quantiles `q0` … `q100`, `histogram`
    pairs: int | None = None  #: None for all but a benchmark of pairs
    same: int | None = None  #: Pairs of one person
    contents: Contents | None = None  #: None where no picture was read
    index: str | None = None  #: For RecordIO: where the offsets came from
    notes: tuple[str, ...] = ()  #: What of the files at the set's place is not in it

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
    facts: dict[str, Any] = {"notes": tuple(dataset.notes)}
    if isinstance(dataset, PairPictures):
        facts |= {"pairs": len(dataset.same), "same": int(dataset.same.sum())}
    else:
        counts, at = np.bincount(dataset.labels), (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
        spread = {"mean": float(counts.mean()), **{f"q{round(100 * q)}": float(np.quantile(counts, q)) for q in at}}
        facts |= {"identities": dataset.num_classes, "images_per_identity": {**spread, "histogram": histogram(counts)}}
    if isinstance(dataset, RecordDataset):
        facts["index"] = dataset.index_note
    if quick:
        return Summary(dataset.name, dataset.kind, len(dataset), **facts)
    sizes, corrupt, total = Counter[str](), list[str](), 0
    hashes, intact = np.zeros((len(dataset), 2), np.uint64), np.ones(len(dataset), np.bool_)
    with bar("reading", len(dataset)) as progress:
        for i, look in enumerate(scan(dataset, workers=workers, progress=progress)):
            if isinstance(look, str):
                corrupt.append(look)
                intact[i] = False
                continue
            total += look.length
            sizes[f"{look.size[0]}×{look.size[1]}"] += 1
            hashes[i] = np.frombuffer(look.exact, np.uint64)
    groups = same_rows(hashes, np.flatnonzero(intact))
    pairs = isinstance(dataset, PairPictures)  # which may well use a picture several times
    across = [group for group in groups if len(set(dataset.labels[group].tolist())) > 1 and not pairs]
    named = [[dataset.where(i) for i in group] for group in (across + groups)[:5]]
    duplicates = Duplicates(len(groups), sum(len(group) - 1 for group in groups), len(across), named)
    contents = Contents(dict(sizes.most_common()), total, corrupt, duplicates)
    return Summary(dataset.name, dataset.kind, len(dataset), contents=contents, **facts)


def histogram(counts: npt.ArrayLike) -> dict[str, int]:
    """How many identities have 1, 2-3, 4-7, … images."""
    spans = np.bincount(np.frexp(counts)[1])[1:].tolist()
    return {f"{2**i}-{2 ** (i + 1) - 1}" if i else "1": identities for i, identities in enumerate(spans)}


def same_rows(hashes: npt.NDArray[np.uint64], chosen: npt.NDArray[np.int64]) -> list[list[int]]:
    """The numbers of equal rows among the `chosen` ones of (rows, 2), in groups of two and more, by their first."""
    order = chosen[np.lexsort((chosen, hashes[chosen, 1], hashes[chosen, 0]))]
    edges = np.flatnonzero(np.diff((hashes[order[1:]] == hashes[order[:-1]]).all(axis=1), prepend=False, append=False))
    return sorted([order[start : end + 1].tolist() for start, end in edges.reshape(-1, 2).tolist()])


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
    wanted: dict[bytes, list[int]] = {}
    matches: dict[int, tuple[int, int]] = {}  # of a picture of the benchmark: (bits, −1 for the same bytes; its match)

    def hashed(dataset: EncodedFaces, views: int, progress: Progress) -> tuple[Sequence[int], Hashes]:
        """The intact pictures, by number, and their hashes: (views · intact, 4)."""
        numbers, hashes = array("q"), np.empty((len(dataset), views, 4), np.uint64)
        for i, look in enumerate(scan(dataset, views=views, workers=workers, progress=progress)):
            if isinstance(look, str):
                continue
            hashes[len(numbers)] = look.near
            numbers.append(i)
            if dataset is bench:
                wanted.setdefault(look.exact, []).append(i)
            else:
                matches.update((j, (-1, i)) for j in wanted.get(look.exact, ()))
        return numbers, hashes[: len(numbers)].reshape(-1, 4)

    with bar("comparing", len(trained) + len(bench)) as progress:
        (theirs, views), (ours, hashes) = hashed(bench, 2, progress), hashed(trained, 1, progress)
        for place, other, bits in near_pairs(views, hashes, distance):
            j, match = theirs[place // 2], (bits, ours[other])
            matches[j] = min(matches.get(j, match), match)
    found = sorted(matches.items(), key=lambda item: (item[1][0], item[0]))
    listed = [Match(bench.where(j), trained.where(i), max(bits, 0), exact=bits < 0) for j, (bits, i) in found]
    sets, exact = (bench.name, len(bench), trained.name, len(trained)), sum(match.exact for match in listed)
    damaged = {"train": len(trained) - len(ours), "benchmark": len(bench) - len(theirs)}
    return Overlap(*sets, distance, exact, len(listed) - exact, damaged, listed)
