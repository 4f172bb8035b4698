"""Files and folders: written whole or not at all, held by one process at a time, cached in one place."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from zoo.errors import InputError, explained


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an exception.

    Readers see the old file or the new one, which has its permissions, never a part; an exception leaves the old one.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"expected the name of a file to write, found the folder {path}")
    with _beside(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        try:
            shutil.copymode(path, temporary)
        except FileNotFoundError:
            open_to_others(temporary, 0o666)  # mkstemp makes 0600, which would keep colleagues out
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """InputError where nothing can be made in the folder of `path`."""
    if not path.parent.is_dir():
        raise InputError(f"expected a folder to write {path.name} into, found none at {path.parent}; create it first")
    with explained(f"cannot write into {path.parent}", OSError, advice="choose another folder"):
        yield


def open_to_others(path: Path, mode: int) -> None:
    """Gives a temporary file or folder the permissions of one that was not made as temporary."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, mode & ~umask)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, removed at the end; InputError where none can be made."""
    with _beside(path):
        folder = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Writes `content` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Writes `content` as indented JSON with sorted keys, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def json_safe(value: Any) -> Any:
    """`value` fit for JSON: NaN and infinities become None ("not measurable"), tuples become lists."""
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def new_folder(folder: Path, keep: Callable[[Path], bool] = lambda folder: any(folder.iterdir())) -> Iterator[None]:
    """Makes `folder` and its parents; folders that were new are removed again after an error unless `keep(folder)`.

    InputError where the system does not allow it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with explained(f"cannot create the folder {folder}", OSError, advice="choose another one"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made and not keep(folder):
            shutil.rmtree(made[0], ignore_errors=True)
            for parent in made[1:]:
                with contextlib.suppress(OSError):  # somebody else uses it by now
                    parent.rmdir()
        raise


def cache_folder(name: str) -> Path:
    """Where files of one kind are cached: NAME in $ZOO_CACHE, else in zoo/ of the user's cache folder."""
    given = os.environ.get("ZOO_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo"
    return base / name


def hold(file: int | IO[Any], wait: bool = False) -> bool:
    """Takes the exclusive lock of an open file where it is free, or waits for it; False where another process holds it.

    The system's lock (flock) ends with the file descriptor, as of a killed process; always True where there is none.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` survive a power cut, where the system allows it."""
    with contextlib.suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
