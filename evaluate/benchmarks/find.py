"""Benchmarks as they lie on disk, or in an archive: every protocol looks for its own."""

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import InputError, unknown_name
from zoo.evaluate.protocols import PROTOCOLS, Found
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.formats.images import PHOTO_SUFFIXES
from zoo.formats.pairs import people_in
from zoo.messages import log


def find_benchmarks(
    root: str | Path, only: Sequence[str] = (), tell: Callable[[str], object] = log.warning
) -> list[Found]:
    """Every benchmark at or under `root`; `only` narrows by names of benchmarks, families (rfw) or protocols.

    Links are followed, each folder once; `tell` is told what could not be read. InputError where nothing is found, or
    where a name is none of these and no file's that was found.
    """
    root = Path(root)
    if root.is_file():
        found = [one for one in _in(root.parent, [], [root.name]) if one.path == root] or [PairsProtocol.named(root)]
    elif root.is_dir():
        crowded = {name for protocol in PROTOCOLS for name in PROTOCOLS[protocol].crowded}
        found = []
        seen: set[str] = set()
        unread = "not searched for benchmarks: {0.filename} ({0.strerror})"
        for folder, names, files in os.walk(root, onerror=lambda e: tell(unread.format(e)), followlinks=True):
            if (real := os.path.realpath(folder)) in seen:
                names.clear()
                continue
            seen.add(real)
            whole = [name for name in files if os.path.exists(os.path.join(folder, name))]
            for name in sorted(set(files) - set(whole)):
                tell(f"not read: {os.path.join(folder, name)} is a link to nothing")
            names[:] = sorted(name for name in names if name not in crowded and not name.startswith("."))
            here = _in(Path(folder), names, sorted(whole))
            names[:] = [name for name in names if not any(name in one.own_folders for one in here)]
            found += here
        if not found and not only and len(people_in(root, PHOTO_SUFFIXES)) > 1:
            found = [PairsProtocol.named(root)]
    else:
        wanted = "a benchmark's file, a folder of benchmarks or the word synthetic"
        raise InputError(f"expected {wanted} at {root}, found nothing")
    published = [benchmark for protocol in PROTOCOLS.values() for benchmark in protocol.benchmarks]
    known = {*PROTOCOLS, *(one.name for one in published), *(one.name for one in found)}
    known |= {one.family for one in published if one.family}
    if unknown := [name for name in only if name not in known]:
        raise unknown_name("protocol or benchmark", unknown[0], known)
    chosen = [one for one in found if not only or {one.name, one.protocol, one.family} & set(only)]
    if not chosen:
        kinds = "(.bin, pairs.txt, .parquet, RFW, IJBB/IJBC with meta/, tinyface, SCface) or folders of people"
        what = f"of {', '.join(only)}" if only else kinds
        raise InputError(f"expected a benchmark {what} under {root}, found none")
    return chosen


def _in(folder: Path, folders: Sequence[str], files: Sequence[str]) -> list[Found]:
    return [one for protocol in PROTOCOLS for one in PROTOCOLS[protocol].find(folder, folders, files)]


def describe(protocol: str) -> dict[str, Any]:
    """What is known of a protocol: its name, the line that tells what it measures, and its benchmarks with counts."""
    kind = PROTOCOLS[protocol]
    benchmarks = [{"name": one.name, "title": one.title, **dict(one.whole + one.counts)} for one in kind.benchmarks]
    return {"name": protocol, "summary": (kind.__doc__ or "").strip().splitlines()[0], "benchmarks": benchmarks}


ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar archive, compressed or not, by its name."""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def unpacked(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder with the archive's files, readable by its owner alone, which is removed with the last reference to it.

    No member leads out of the folder. InputError for encrypted and damaged archives, and where the disk is full.
    """
    folder = tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True)
    try:
        rules = {} if path.name.lower().endswith(".zip") else {"filter": "data"}
        shutil.unpack_archive(path, folder.name, **rules)  # type: ignore[arg-type]  # a rule of tar alone
    except (shutil.ReadError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, EOFError, OSError) as error:
        folder.cleanup()
        raise InputError(f"expected a whole archive at {path}, cannot unpack it ({error})") from None
    return folder
