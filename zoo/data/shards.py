"""Shards at an http address: fetched when they are needed, kept on disk up to a limit, never partly."""

import contextlib
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import filelock

from zoo.errors import InputError, explained
from zoo.files import atomic_path, cache_folder

TRIES = 5  #: How often a shard is requested, each time from where the connection broke

PAUSE_SECONDS = 1.0  #: Before the second try; each further one waits twice as long

PATIENCE_SECONDS = 60.0  #: How long a server may be silent

_PIECE = 1 << 20


def shard_folder() -> Path:
    """$WDS_CACHE, which webdataset knows too, by default shards/ of zoo's cache; it is made where it is missing."""
    folder = Path(os.environ.get("WDS_CACHE") or cache_folder("shards"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_limit() -> float:
    """How many bytes of fetched shards the folder may hold: $WDS_CACHE_SIZE, by default 100 GB."""
    text = os.environ.get("WDS_CACHE_SIZE") or "1e11"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"expected a number of bytes in WDS_CACHE_SIZE, found {text!r}") from None


def cache_name(address: str, suffix: str) -> str:
    """A file name that is unique to an address or a path: two hosts may both have a train-000.tar."""
    return f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{PurePosixPath(address.split('?')[0]).stem}{suffix}"


def fetched(url: str) -> IO[bytes]:
    """The shard at `url`, opened; it is fetched unless the cache has it.

    Processes that want the same shard wait for the one that fetches it. The least recently used ones make room; an open
    file stays readable. InputError where it cannot be fetched whole.
    """
    told = f"expected room for the shard {url} in the cache, cannot write there"
    with explained(told, OSError, advice="set $WDS_CACHE"):
        folder = shard_folder()
        shard = folder / cache_name(url, ".tar")
        with filelock.FileLock(f"{shard}.lock"):
            for _ in range(TRIES):  # another process may make room of this very shard before it is open
                with contextlib.suppress(FileNotFoundError):
                    file = open(shard, "rb")  # noqa: SIM115  # the caller closes it
                    os.utime(file.fileno(), ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))  # used now
                    return file
                with atomic_path(shard) as temporary, open(temporary, "wb") as new:
                    _fetch(url, new)
                _make_room(folder, keep=shard)
    raise InputError(f"expected room for the shard {url}, found it removed at once; set $WDS_CACHE_SIZE higher")


def training_files(files: Sequence[Path], split: str = "train") -> tuple[list[Path], list[str]]:
    """Those of a folder's tables or shards that are of a split, by their names, and a note of what is left out.

    train-00000-of-00007.parquet is of "train". Where no name begins with one of SPLITS, or all with the same, none is
    left out.
    """
    splits = {file: re.split(r"[-_.]", file.name.lower())[0] for file in files}
    if len({name if name in SPLITS else "" for name in splits.values()}) < 2:
        return list(files), []
    chosen = [file for file, name in splits.items() if name == split]
    if not chosen:
        raise InputError(
            f"expected files of the split {split} in {files[0].parent}, found {', '.join(sorted(set(splits.values())))}"
        )
    others = Counter(name for name in splits.values() if name != split)
    told = ", ".join(f"{count} of {name}" for name, count in others.items())
    return chosen, [f"files of other splits are left out: {told}"]


SPLITS = ("train", "validation", "valid", "val", "dev", "test")  #: How files begin that belong to a part of a set


def forget(url: str) -> None:
    """Removes the shard at `url` from the cache."""
    with contextlib.suppress(OSError):
        (shard_folder() / cache_name(url, ".tar")).unlink()


def _make_room(folder: Path, keep: Path) -> None:
    limit = cache_limit()
    kept = []
    for file in folder.glob("*.tar"):
        try:
            facts = file.stat()
        except FileNotFoundError:  # another process made room
            continue
        kept.append((facts.st_atime_ns, facts.st_size, file))
    total = sum(size for _, size, _ in kept)
    for _, size, file in sorted(kept):
        if total > limit and file != keep:
            file.unlink(missing_ok=True)
            total -= size


def _fetch(url: str, file: IO[bytes]) -> None:
    """Copies what is at `url` into `file`, a piece at a time; InputError when it cannot be had whole."""
    whole: int | None = None
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        have = file.tell()
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # no ranges here: from the start
                    file.seek(0)
                    file.truncate()
                    have = 0
                length = answer.headers.get("Content-Length")
                total = have + int(length) if length else None
                if have and total != whole:
                    raise InputError(f"expected {url} to stay as it was, found another size; try again")
                whole = total
                while piece := answer.read(_PIECE):
                    file.write(piece)
            if whole is None or file.tell() == whole:
                return
            reason = f"the connection ended after {file.tell():,} of {whole:,} bytes"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = f"{getattr(error, 'reason', None) or error or type(error).__name__}"
    raise InputError(f"expected a shard at {url}, could not fetch it ({reason}); check the address and the connection")
