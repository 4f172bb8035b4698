"""Training sets and benchmarks into the field's files, and out of them into plain folders."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zoo.data.base import EncodedFaces
from zoo.data.scan import Progress
from zoo.errors import InputError
from zoo.files import fsync_folder
from zoo.formats.bins import read_bin, write_bin
from zoo.formats.frames import Header, RecordWriter, frame
from zoo.formats.frames import pack as pack_record
from zoo.formats.images import decode, encode_jpeg, read_file, resized, suffix_of
from zoo.formats.pairs import read_lfw_pairs, read_pairs_csv


def pack_records(
    dataset: EncodedFaces,
    out: str | Path,
    *,
    resize: tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    progress: Progress = lambda count: None,
) -> list[str]:
    """Writes `out`/train.rec, train.idx and property as insightface has them; gives what was wrong with the left-out.

    Pictures are stored as they are, sorted by identity: a set that MXNet wrote comes back byte for byte. With `resize`,
    (height, width), those of another size are scaled and encoded as JPEG of quality 95. InputError for a damaged
    picture unless `skip_corrupt`, for pictures of several sizes, and when `out` exists already.
    """
    problems: list[str] = []
    lengths: list[int] = []
    size = resize
    with _new_folder(Path(out)) as folder:
        with open(folder / "train.rec", "wb") as records, open(folder / "train.idx", "wb") as index:
            writer = RecordWriter(records, index)
            writer.write(0, _record_0(0, 0))
            key, last = 1, None
            for number in np.argsort(dataset.labels, kind="stable").tolist():
                progress(1)
                try:
                    content = dataset.content(number)
                    image = decode(content, dataset.where(number))
                except InputError as error:
                    if not skip_corrupt:
                        raise
                    problems.append(str(error))
                    continue
                size = size or (image.shape[0], image.shape[1])
                if image.shape[:2] != size:
                    if resize is None:
                        raise InputError(
                            f"expected every picture to be {size[0]}×{size[1]} as the first, found"
                            f" {dataset.where(number)} with {image.shape[0]}×{image.shape[1]}; pass --image-size"
                        )
                    content = encode_jpeg(resized(image, size))
                if dataset.labels[number] != last:
                    last = dataset.labels[number]
                    lengths.append(0)
                writer.write(key, pack_record(Header((float(len(lengths) - 1),), key), content))
                lengths[-1] += 1
                key += 1
            if size is None or key == 1:
                raise InputError(f"expected pictures in {dataset.name}, found none that can be read")
            start = 1
            for identity, length in enumerate(lengths, start=key):
                span = (float(start), float(start + length))
                writer.write(identity, pack_record(Header(span, identity, several=True), b""))
                start += length
            records.seek(0)
            records.write(frame(_record_0(key, key + len(lengths))))
        (folder / "property").write_text(f"{len(lengths)},{size[0]},{size[1]}")
    return problems


def _record_0(images_end: int, identities_end: int) -> bytes:
    """What insightface reads first: where the pictures end, which start at 1, and where the identities end."""
    return pack_record(Header((float(images_end), float(identities_end)), 0, several=True), b"")


def extract(
    dataset: EncodedFaces, out: str | Path, *, skip_corrupt: bool = False, progress: Progress = lambda count: None
) -> list[str]:
    """Writes each picture, as it is stored, to `out`/IDENTITY/NUMBER.jpg (or .png, …); gives what was wrong with the
    left-out.

    The folders are numbered as the labels are; where the set has names, `identities.csv` says which is which. Nothing
    of the source decides a file's name. InputError for a damaged picture unless `skip_corrupt`, and when `out` exists.
    """
    problems: list[str] = []
    digits = max(6, len(str(dataset.num_classes - 1)))
    with _new_folder(Path(out)) as folder:
        for number, label in enumerate(dataset.labels.tolist()):
            progress(1)
            try:
                content = dataset.content(number)
                decode(content, dataset.where(number))
            except InputError as error:
                if not skip_corrupt:
                    raise
                problems.append(str(error))
                continue
            person = folder / f"{label:0{digits}d}"
            person.mkdir(exist_ok=True)
            (person / f"{number:08d}{suffix_of(content)}").write_bytes(content)
        if dataset.identities is not None:
            with open(folder / "identities.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("label", "name"), *enumerate(dataset.identities)])
    return problems


def pack_pairs(listed: str | Path, out: str | Path, folder: str | Path | None = None) -> tuple[int, int]:
    """Writes the pictures that a list of pairs names as a .bin; gives (pairs of one person, pairs of two).

    The list is a CSV with the columns a, b, same, or LFW's pairs.txt over `folder`. Pictures are stored as they are.
    InputError for a pair without truth and for a picture that is missing or damaged.
    """
    listed = Path(listed)
    if listed.suffix == ".txt":
        pairs = read_lfw_pairs(listed, folder or listed.parent)
    else:
        pairs = read_pairs_csv(listed, folder)
    images: list[bytes] = []
    same: list[bool] = []
    for a, b, truth in pairs:
        if truth is None:
            raise InputError(f"expected 1 or 0 for every pair of {listed}, found none for {a.name} and {b.name}")
        for picture in (a, b):
            content = read_file(picture)
            decode(content, str(picture))
            images.append(content)
        same.append(truth)
    write_bin(out, images, same)
    return sum(same), len(same) - sum(same)


def extract_pairs(path: str | Path, out: str | Path) -> int:
    """Writes the pictures of a .bin into the new folder `out`, with pairs.csv; gives the number of pairs."""
    images, same = read_bin(path)
    with _new_folder(Path(out)) as folder:
        names = [f"{number:06d}{suffix_of(content)}" for number, content in enumerate(images)]
        for name, content in zip(names, images, strict=True):
            (folder / name).write_bytes(content)
        rows: Sequence[tuple[object, ...]] = [
            (names[2 * pair], names[2 * pair + 1], int(truth)) for pair, truth in enumerate(same.tolist())
        ]
        with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b", "same"), *rows])
    return len(same)


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends without an exception, and vanishes otherwise."""
    if out.exists():
        raise InputError(f"expected no file or folder at {out} yet, found one; remove it or choose another name")
    if not out.parent.is_dir():
        raise InputError(f"expected a folder to write {out.name} into, found none at {out.parent}; create it first")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"cannot write into {out.parent} ({error.strerror}); choose another folder") from None
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)  # mkdtemp makes 0700, which would keep colleagues out
        os.rename(temporary, out)
        fsync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
