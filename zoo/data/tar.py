"""WebDataset shards as a training set: tar files in which neighbours of one name are a picture and its label."""

import contextlib
import hashlib
import http.client
import itertools
import json
import mmap
import operator
import re
import shutil
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.request import urlopen

import numpy as np

from zoo.data.base import BlockedFaces, Size
from zoo.errors import InputError, explained, needs
from zoo.files import atomic_path, cache_folder, write_text
from zoo.formats.images import SUFFIXES
from zoo.formats.lists import Labels

SPLITS = ("train", "validation", "valid", "val", "dev", "test")  #: How files begin that belong to a part of a set
REMOTE = ("http://", "https://")  #: How the address of a shard begins that is fetched
Sample = tuple[str, int, int, str]  #: (key, offset of the picture, its bytes, label)


def index_file(shard: str, fields: tuple[str, str]) -> Path:
    """Where a shard's index is kept: by its path, and by what tells one state of a file from another."""
    facts = Path(shard).stat()
    state = f"{facts.st_size} {facts.st_mtime_ns} {fields[0]}?{fields[1]} {Path(shard).resolve()}"
    folder = cache_folder("shards")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(state.encode()).hexdigest()[:16]}-{Path(shard).stem}.json"


def training_files(files: Sequence[Path], split: str = "train") -> tuple[list[Path], list[str]]:
    """Those of a folder's tables or shards that are of a split, by their names, and a note of what is left out.

    train-0-of-7.parquet is of "train". Where no name begins with one of SPLITS, or all with the same, none is left out.
    """
    splits = {file: re.split(r"[-_.]", file.name.lower())[0] for file in files}
    if len({name if name in SPLITS else "" for name in splits.values()}) < 2:
        return list(files), []
    chosen = [file for file, name in splits.items() if name == split]
    if not chosen:
        found = f"found {', '.join(sorted(set(splits.values())))}"
        raise InputError(f"expected files of the split {split} in {files[0].parent}, {found}")
    others = Counter(name for name in splits.values() if name != split)
    told = ", ".join(f"{count} of {name}" for name, count in others.items())
    return chosen, [f"files of other splits are left out: {told}"]


class TarDataset(BlockedFaces):
    """The samples of uncompressed tar shards: NAME.jpg (or .png, …) with NAME.cls, or NAME.json that has a "label".

    As in webdataset a sample's key is what precedes the first dot of a name, its field what follows: 0001.face.jpg is
    the field face.jpg of 0001. Where a sample has several pictures, `image` names the field to take, and `label` the
    field, or the name inside the .json, of the label.

    Opening reads the headers and labels of each shard, once: they are kept in zoo's cache for the next time. A picture
    is then one slice of a mapped file, so nothing of a shard stays in memory. Nothing is ever unpacked.
    InputError for a shard that is truncated or compressed, for a member that is a link or whose name leads out of the
    archive, for a sample without a label, and for a field that comes twice.
    """

    kind = "WebDataset"

    def __init__(self, uri: str, image_size: Size | None = None, image: str = "", label: str = "") -> None:
        """The shards of a folder, one .tar, a pattern `train-{000..099}.tar` or its http address (extra `data`)."""
        self.image_size, self._fields = image_size, (image, label)
        self.name, self._shards, self.notes = _shards_at(uri)
        self._sizes: list[int] = []
        offsets, lengths, words = array("q"), array("i"), Labels()
        starts = [0]
        for shard in self._shards:
            size, samples = _indexed(shard, self._fields)
            self._sizes.append(size)
            for _, offset, length, word in samples:
                offsets.append(offset)
                lengths.append(length)
                words.append(word)
            starts.append(len(words))
        if not words:
            raise InputError(f"expected pictures with labels in {uri}, found none in {len(self._shards):,} shards")
        self.identities, self.labels = words.numbered()
        self.blocks = np.array(starts, np.int64)
        self._offsets, self._lengths = np.array(offsets, np.int64), np.array(lengths, np.int32)

    def content(self, i: int) -> bytes:
        offset = self._offsets.item(i)
        return bytes(self.opened(self.place(i)[0])[offset : offset + self._lengths.item(i)])

    def where(self, i: int) -> str:
        number, place = self.place(i)
        shard = self._shards[number]
        _, samples = _indexed(shard, self._fields)  # keys are not kept: they are longer than all the rest
        return f"{shard}, sample {samples[place][0]}"

    def open_block(self, number: int) -> mmap.mmap:
        """The shard's bytes; InputError unless they are those that were indexed."""
        shard, size = self._shards[number], self._sizes[number]
        told = f"expected the shard {shard}, cannot read it"
        with explained(told, OSError, ValueError, advice="check the path"), open(shard, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(content) != size:
            found = f"found {len(content):,}: it has changed; remove {index_file(shard, self._fields)}"
            raise InputError(f"expected {size:,} bytes in {shard} as its kept index says, {found}")
        return content


def _shards_at(uri: str) -> tuple[str, list[str], list[str]]:
    """The name of a set, the paths of its shards, and a note of what is left out."""
    path = Path(uri)
    if path.is_dir():
        shards, notes = training_files(sorted(path.glob("*.tar")))
        return path.resolve().name, [str(shard) for shard in shards], notes
    if path.is_file():
        return path.stem, [uri], []
    with needs("webdataset", "data", f"to open {uri}"):
        from webdataset.shardlists import expand_urls
    urls: list[str] = expand_urls(uri)
    for shard in urls:
        if not shard.startswith(REMOTE) and not Path(shard).is_file():
            raise InputError(f"expected a shard at {shard}, found nothing; check the path")
    name = PurePosixPath(uri).stem.split("{")[0].strip("-_") or "shards"
    return name, [str(_fetched(url)) if url.startswith(REMOTE) else url for url in urls], []


def _fetched(url: str) -> Path:
    """The shard at `url` in zoo's cache; it is fetched whole the first time, or InputError and nothing is kept."""
    name = PurePosixPath(url.partition("?")[0]).name
    shard = cache_folder("shards") / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    told = f"expected a shard at {url}, could not fetch it into {shard.parent}"
    with explained(told, OSError, http.client.HTTPException, advice="check the address and the connection"):
        shard.parent.mkdir(parents=True, exist_ok=True)
        if not shard.is_file():
            with atomic_path(shard) as temporary, open(temporary, "w+b") as file, urlopen(url, timeout=60) as answer:
                shutil.copyfileobj(answer, file, 1 << 20)
                if answer.length:
                    raise ConnectionError(f"the connection ended {answer.length:,} bytes early")
                _samples(file, url, ("", ""))  # what is no shard is not kept
    return shard


def _indexed(shard: str, fields: tuple[str, str]) -> tuple[int, list[Sample]]:
    """The size of a shard in bytes and its samples, from the kept index or, the first time, from its headers."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # none is kept, or none that can be read
        found = json.loads(index_file(shard, fields).read_bytes())
        return int(found["size"]), [(str(k), int(o), int(n), str(label)) for k, o, n, label in found["samples"]]
    told = f"expected a shard at {shard}, cannot read it"
    with explained(told, OSError, advice="check the path"), open(shard, "rb") as file:
        size, samples = file.seek(0, 2), _samples(file, shard, fields)
    with contextlib.suppress(OSError, InputError):  # without a writable cache, the next opening reads the headers again
        write_text(index_file(shard, fields), json.dumps({"size": size, "samples": samples}))
    return size, samples


def _samples(file: IO[bytes], shard: str, fields: tuple[str, str]) -> list[Sample]:
    """The samples of `file`, called `shard`: neighbours that share what precedes their first dot."""
    found: list[Sample] = []
    image_field, label_field = (field.lower() for field in fields)
    told = f"expected an uncompressed tar file at {shard}, found none"
    with explained(told, OSError, tarfile.TarError, EOFError, UnicodeDecodeError, advice="unpack or fetch it"):
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for key, members in itertools.groupby(_members(archive, shard), operator.itemgetter(0)):
                pictures: dict[str, tuple[int, int]] = {}
                label: str | None = None
                for _, field, member in members:
                    kind = "." + field.lower().rpartition(".")[2]
                    if kind in SUFFIXES and field.lower() == (image_field or field.lower()):
                        if field in pictures:
                            what = f"found {member.name} twice, as webdataset refuses it"
                            raise InputError(f"expected each name once in {shard}, {what}")
                        pictures[field] = (member.offset_data, member.size)
                    elif kind == ".json" or field.lower() == (label_field or "cls"):
                        label = _label(archive, member, shard, kind == ".json", fields[1]) or label
                if len(pictures) > 1:
                    told = f"found {', '.join(pictures)} of {key}; name the one to take: PATH?image=FIELD"
                    raise InputError(f"expected one picture a sample in {shard}, {told}")
                for offset, length in pictures.values():
                    if label is None:
                        what = f"in {shard}, found none; add labels, or name the field that has them: PATH?label=FIELD"
                        raise InputError(f"expected {key}.{fields[1] or 'cls'} beside the picture {key} {what}")
                    found.append((key, offset, length, label))
            end = archive.offset
    file.seek(end)  # to tarfile the end of the file, and junk too, ends the archive
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        advice = "it is truncated or damaged; fetch it again"
        raise InputError(f"expected a whole tar file at {shard}, found no end mark at byte {end:,}: {advice}")
    return found


def _members(archive: tarfile.TarFile, shard: str) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """(key, field, member) of each file; InputError for one that is not to be trusted."""
    for member in archive:
        place = PurePosixPath(member.name)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse() or place.is_absolute() or ".." in place.parts:
            how = "which is a link or leads out of the archive; do not trust this file"
            raise InputError(f"expected plain files inside {shard}, found the member {member.name!r}, {how}")
        stem, _, field = place.name.partition(".")
        yield str(place.parent / stem), field, member


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: str, described: bool, field: str) -> str | None:
    """The text of a .cls, or the "label" (or `field`) of a .json that is `described`; None for one without it."""
    file = archive.extractfile(member)
    text = file.read(1 << 20).decode("utf-8", "replace").strip() if file else ""
    if described:
        told = f"expected JSON in the member {member.name} of {shard}, found none"
        with explained(told, json.JSONDecodeError, RecursionError):
            facts = json.loads(text)
        return str(facts[field or "label"]) if isinstance(facts, dict) and (field or "label") in facts else None
    if not text:
        raise InputError(f"expected a label in the member {member.name} of {shard}, found an empty file")
    return text
