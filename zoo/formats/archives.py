"""Zip and tar archives as folders, unpacked for as long as somebody reads them."""

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from zoo.errors import InputError

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
