"""WebDataset shards as a training set: tar files whose neighbours of one name are a picture and its label."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.data.base import EncodedFaces, contiguous
from zoo.errors import InputError
from zoo.formats.images import SUFFIXES


class TarDataset(EncodedFaces):
    """The samples of uncompressed tar shards: NAME.jpg (or .png, …) with NAME.cls, or NAME.json that has a "label".

    Opening reads the headers of each shard and the labels; a picture is one read at its offset, so nothing of a shard
    stays in memory. Nothing is ever unpacked to disk. InputError for a shard that is truncated or compressed, for a
    member that is a link or whose name leads out of the archive, and for a sample without a label.
    """

    kind = "WebDataset"

    def __init__(self, shards: Sequence[str | Path], name: str, image_size: tuple[int, int] = (112, 112)) -> None:
        self.image_size, self.name = image_size, name
        self._shards = [Path(shard) for shard in shards]
        self._samples: list[tuple[int, str, int, int]] = []
        words: list[str] = []
        starts = [0]
        for number, shard in enumerate(self._shards):
            for key, offset, size, label in _samples(shard):
                self._samples.append((number, key, offset, size))
                words.append(label)
            starts.append(len(words))
        if not words:
            raise InputError(f"expected pictures with labels in {name}, found none in {len(self._shards):,} shards")
        numbers = all(word.isdecimal() and len(word) < 18 for word in words)
        self.identities, self.labels = contiguous([int(word) for word in words] if numbers else words)
        self.blocks = np.array(starts, np.int64)

    def content(self, i: int) -> bytes:
        number, _, offset, size = self._samples[i]
        try:
            with open(self._shards[number], "rb") as shard:
                shard.seek(offset)
                found = shard.read(size)
        except OSError as error:
            raise InputError(f"expected a picture in {self.where(i)}, cannot read it ({error.strerror})") from None
        if len(found) != size:
            raise InputError(f"expected {size:,} bytes in {self.where(i)}, found {len(found):,}; fetch the shard again")
        return found

    def where(self, i: int) -> str:
        number, key, _, _ = self._samples[i]
        return f"{self._shards[number]}, sample {key}"


def open_tars(uri: str, image_size: tuple[int, int]) -> TarDataset:
    """The shards of a folder, of one .tar, or of a pattern such as `https://host/train-{000..099}.tar`.

    Patterns and addresses need the webdataset package (the extra `data`), which keeps fetched shards in
    $WDS_CACHE, by default ~/.cache/zoo/shards: an index needs whole shards.
    """
    path = Path(uri)
    if path.is_dir():
        return TarDataset(sorted(path.glob("*.tar")), path.resolve().name, image_size)
    if path.is_file():
        return TarDataset([path], path.stem, image_size)
    try:
        import webdataset
    except ImportError:
        raise InputError(
            f"expected the package webdataset to open {uri}, found none; pip install 'timm-face-zoo[data]'"
        ) from None
    shards = webdataset.shardlists.expand_urls(uri)
    if not all(shard.startswith(("http://", "https://")) or "://" not in shard for shard in shards):
        raise InputError(f"expected the paths or http addresses of shards, found {uri}; fetch them first")
    if "://" in uri:
        folder = Path(os.environ.get("WDS_CACHE", Path.home() / ".cache" / "zoo" / "shards"))
        folder.mkdir(parents=True, exist_ok=True)
        cache = webdataset.cache.FileCache(cache_dir=str(folder), url_to_name=_cache_name, validator=_is_tar)
        try:
            shards = [cache.get_file(shard) for shard in shards]
        except (OSError, ValueError) as error:
            raise InputError(
                f"expected the shards of {uri}, could not fetch them ({error}); check the address"
            ) from None
    for shard in shards:
        if not Path(shard).is_file():
            raise InputError(f"expected a shard at {shard}, found nothing; check the path")
    return TarDataset(shards, PurePosixPath(uri).stem.split("{")[0].strip("-_") or "shards", image_size)


def _cache_name(url: str) -> str:
    """A file name for a fetched shard: two hosts may both have a train-000.tar."""
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{PurePosixPath(url.split('?')[0]).name}"


def _is_tar(path: str) -> bool:
    return tarfile.is_tarfile(path)


def _samples(shard: Path) -> list[tuple[str, int, int, str]]:
    """(key, offset, size, label) of each sample: neighbours that share what precedes their first dot."""
    found: list[tuple[str, int, int, str]] = []
    picture: tuple[int, int] | None = None
    label: str | None = None
    current: str | None = None

    def finish() -> None:
        if picture is not None and current is not None:
            if label is None:
                raise InputError(
                    f"expected {current}.cls beside the picture {current} in {shard}, found none; add labels"
                )
            found.append((current, *picture, label))

    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                place = PurePosixPath(member.name)
                if not member.isreg() or member.issparse() or place.is_absolute() or ".." in place.parts:
                    raise InputError(
                        f"expected plain files inside {shard}, found the member {member.name!r}, which is a link or"
                        " leads out of the archive; do not trust this file"
                    )
                stem, _, suffix = place.name.partition(".")
                key, suffix = str(place.parent / stem), "." + suffix.lower()
                if key != current:
                    finish()
                    picture, label, current = None, None, key
                if suffix in SUFFIXES:
                    picture = (member.offset_data, member.size)
                elif suffix in (".cls", ".json"):
                    label = _label(archive, member, shard) or label
            finish()
    except (OSError, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected an uncompressed tar file at {shard}, found none ({error}); unpack or fetch it"
        ) from None
    if any(offset + size > shard.stat().st_size for _, offset, size, _ in found):
        raise InputError(f"expected a whole tar file at {shard}, found one that is truncated; fetch it again")
    return found


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path) -> str | None:
    """The text of a .cls or the "label" of a .json; None for a .json without one."""
    file = archive.extractfile(member)
    text = file.read(1 << 20).decode("utf-8", "replace").strip() if file else ""
    if member.name.endswith(".json"):
        try:
            described = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"expected JSON in the member {member.name} of {shard}, found none ({error})") from None
        return str(described["label"]) if isinstance(described, dict) and "label" in described else None
    if not text:
        raise InputError(f"expected a label in the member {member.name} of {shard}, found an empty file")
    return text
