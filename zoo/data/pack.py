"""Writes training sets and benchmarks as the field's files, and extracts them into plain folders."""

import contextlib
import csv
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.base import EncodedFaces
from zoo.data.folder import write_names
from zoo.data.open import open_people
from zoo.errors import InputError
from zoo.files import fsync_folder, open_to_others, temporary_folder
from zoo.formats.bins import read_bin, write_bin
from zoo.formats.frames import Header, RecordWriter, frame
from zoo.formats.frames import pack as pack_record
from zoo.formats.images import Image, decode, encode_jpeg, read_file, resized, suffix_of
from zoo.formats.pairs import read_lfw_pairs, read_pairs_csv
from zoo.messages import Bar, Progress, no_bar


@dataclass(frozen=True)
class Written:
    images: int
    identities: int
    problems: list[str]  #: What was wrong with each picture that was left out


def pack_records(
    source: str | EncodedFaces,
    out: str | Path,
    *,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    bar: Bar = no_bar,
) -> Written:
    """Writes a set, or the one at a place, as `out`/train.rec, train.idx and property, as insightface has them.

    What its people are called, where they have names, goes into identities.csv there. Pictures are stored as they are,
    sorted by identity: a set that MXNet wrote comes back byte for byte. With `image_size`, those that are not squares
    of so many pixels are scaled and encoded as JPEG of quality 95. InputError for a damaged picture unless
    `skip_corrupt`, for pictures of several sizes, and when `out` exists already.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"expected --image-size of at least 1 pixel, found {image_size}")
    dataset = open_people(source) if isinstance(source, str) else source
    problems: list[str] = []
    with _new_folder(Path(out)) as folder, bar("packing", len(dataset)) as progress:
        with open(folder / "train.rec", "wb") as records, open(folder / "train.idx", "wb") as index:
            writer = RecordWriter(records, index)
            writer.write(0, _range(0, 0, 0))
            size = None if image_size is None else (image_size, image_size)
            lengths: dict[int, int] = {}  # pictures by label
            order = np.argsort(dataset.labels, kind="stable").tolist()
            intact = _intact(dataset, order, skip_corrupt, problems, progress)
            for key, (number, content, image) in enumerate(intact, start=1):
                size = size or (image.shape[0], image.shape[1])
                if image.shape[:2] != size:
                    if image_size is None:
                        told = f"{dataset.where(number)} with {image.shape[0]}×{image.shape[1]}; pass --image-size"
                        raise InputError(f"expected every picture to be {size[0]}×{size[1]} as the first, found {told}")
                    content = encode_jpeg(resized(image, size))
                label = int(dataset.labels[number])
                lengths[label] = lengths.get(label, 0) + 1
                writer.write(key, pack_record(Header((float(len(lengths) - 1),), key), content))
            if size is None or not lengths:
                raise InputError(f"expected pictures in {dataset.name}, found none that can be read")
            edges = np.cumsum([1, *lengths.values()]).tolist()
            for identity, (start, end) in enumerate(itertools.pairwise(edges), start=edges[-1]):
                writer.write(identity, _range(start, end, identity))
            records.seek(0)
            records.write(frame(_range(edges[-1], edges[-1] + len(lengths), 0)))
        (folder / "property").write_text(f"{len(lengths)},{size[0]},{size[1]}")
        if dataset.identities is not None:
            write_names(folder, [dataset.identities[label] for label in lengths])
    return Written(edges[-1] - 1, len(lengths), problems)


def _intact(
    dataset: EncodedFaces, order: Iterable[int], skip_corrupt: bool, problems: list[str], progress: Progress
) -> Iterator[tuple[int, bytes, Image]]:
    """(number, encoded, decoded) of each picture; a damaged one is raised, or noted in `problems` and left out."""
    for number in order:
        progress(1)
        try:
            content = dataset.content(number)
            image = decode(content, dataset.where(number))
        except InputError as error:
            if not skip_corrupt:
                raise
            problems.append(str(error))
            continue
        yield number, content, image


def _range(start: int, end: int, key: int) -> bytes:
    """What tells the pictures of an identity, or, in record 0, where the pictures and the identities end."""
    return pack_record(Header((float(start), float(end)), key, several=True), b"")


def extract(uri: str, out: str | Path, *, skip_corrupt: bool = False, bar: Bar = no_bar) -> Written:
    """Writes each picture of the set at `uri`, as it is stored, to `out`/IDENTITY/NUMBER.jpg (or .png, …).

    The folders are numbered as the labels are; where the set has names, `identities.csv` says which is which. Nothing
    of the source decides a file's name. InputError for a damaged picture unless `skip_corrupt`, and when `out` exists.
    """
    dataset = open_people(uri)
    problems: list[str] = []
    digits = max(6, len(str(dataset.num_classes - 1)))
    with _new_folder(Path(out)) as folder, bar("extracting", len(dataset)) as progress:
        for number, content, _ in _intact(dataset, range(len(dataset)), skip_corrupt, problems, progress):
            person = folder / f"{dataset.labels[number]:0{digits}d}"
            person.mkdir(exist_ok=True)
            (person / f"{number:08d}{suffix_of(content)}").write_bytes(content)
        if dataset.identities is not None:
            write_names(folder, dataset.identities)
    return Written(len(dataset) - len(problems), dataset.num_classes, problems)


def pack_pairs(listed: str | Path, out: str | Path, folder: str | Path | None = None) -> tuple[int, int]:
    """Writes the pictures that a list of pairs names as a .bin; gives (pairs of one person, pairs of two).

    The list is a CSV with the columns a, b, same, or LFW's pairs.txt over `folder`. Pictures are stored as they are.
    Where one of the ten folds that accuracy is measured over would hold one kind of pairs only, the pairs are put in
    another order (`mixed_folds`). InputError for a pair without truth, and for a missing or damaged picture.
    """
    listed = Path(listed)
    from_folder = folder or listed.parent
    pairs = read_lfw_pairs(listed, from_folder) if listed.suffix == ".txt" else read_pairs_csv(listed, from_folder)
    images: list[bytes] = []
    same: list[bool] = []
    for i in mixed_folds(np.array([truth is True for _, _, truth in pairs])).tolist():
        a, b, truth = pairs[i]
        if truth is None:
            raise InputError(f"expected 1 or 0 for every pair of {listed}, found none for {a.name} and {b.name}")
        images += [read_file(a), read_file(b)]
        decode(images[-2], str(a))
        decode(images[-1], str(b))
        same.append(truth)
    write_bin(out, images, same)
    return sum(same), len(same) - sum(same)


def mixed_folds(same: npt.NDArray[np.bool_], folds: int = 10) -> npt.NDArray[np.int64]:
    """An order of pairs in which each fold has its share of both kinds; their own one where every fold has both."""
    if all(part.any() and not part.all() for part in np.array_split(same, folds) if len(part)):
        return np.arange(len(same))
    fold = np.empty(len(same), np.int64)
    for kind in (True, False):
        places = np.flatnonzero(same == kind)
        fold[places] = np.arange(len(places)) * folds // max(len(places), 1)
    return np.argsort(fold, kind="stable")


def extract_pairs(path: str | Path, out: str | Path) -> int:
    """Writes the pictures of a .bin into the new folder `out`, with pairs.csv; gives the number of pairs."""
    images, same = read_bin(path)
    with _new_folder(Path(out)) as folder:
        names = [f"{number:06d}{suffix_of(content)}" for number, content in enumerate(images)]
        for name, content in zip(names, images, strict=True):
            (folder / name).write_bytes(content)
        rows = [(*names[2 * pair : 2 * pair + 2], int(truth)) for pair, truth in enumerate(same.tolist())]
        with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b", "same"), *rows])
    return len(same)


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` if the block succeeds and is removed otherwise."""
    if out.exists():
        raise InputError(f"expected no file or folder at {out} yet, found one; remove it or choose another name")
    with temporary_folder(out) as temporary:
        yield temporary
        open_to_others(temporary, 0o777)  # mkdtemp makes 0700, which would keep colleagues out
        os.rename(temporary, out)
        fsync_folder(out.parent)
