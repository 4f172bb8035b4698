"""Zip and tar archives as folders, unpacked for as long as somebody reads them."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from pathlib import Path

from zoo.errors import InputError

MOST_BYTES = 200 << 30
"""What an archive may hold unpacked."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar archive, compressed or not, by its name and its content."""
    name = path.name.lower()
    if name.endswith(".zip"):
        return zipfile.is_zipfile(path)
    return name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")) and tarfile.is_tarfile(path)


def unpacked(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder with the archive's files, readable by its owner alone, which is removed with the last reference to it.

    Links and devices are left out. InputError for members that lead out of the archive, for encrypted or damaged ones,
    and for more than MOST_BYTES.
    """
    folder = tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _refuse_bombs(path, sum(member.file_size for member in archive.infolist()))
                archive.extractall(folder.name)  # which keeps every name inside the folder
        else:
            with tarfile.open(path) as archive:
                members = [member for member in archive if member.isfile() or member.isdir()]
                _refuse_bombs(path, sum(member.size for member in members))
                archive.extractall(folder.name, members, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, RuntimeError, EOFError, OSError, NotImplementedError) as error:
        folder.cleanup()
        raise InputError(f"expected a whole archive at {path}, cannot unpack it ({error})") from None
    return folder


def _refuse_bombs(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(f"expected at most {MOST_BYTES:,} bytes in {path}, found {size:,}; unpack it by hand")
