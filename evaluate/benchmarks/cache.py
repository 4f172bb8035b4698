"""Embeddings stored between evaluations, under a key of everything that they depend on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt

import zoo
from zoo.errors import InputError
from zoo.evaluate.protocols import Protocol
from zoo.files import atomic_path, hold, sha256

Embeddings = npt.NDArray[np.float32]
RECORD = struct.Struct("<QIII")
"""What precedes the rows in a file of parts: first picture, rows, dimension, CRC-32."""

PACKAGE = Path(zoo.__file__).parent
ROOMS = ("modelinfo.py", "formats", "faces", "inference", "evaluate/lists.py", "evaluate/protocols")
"""Every room whose code handles a picture before or while it is embedded."""
LIBRARIES = ("numpy", "simplejpeg", "pillow", "timm-face-zoo")
BY_TORCH = (("backbones",), ("torch", "timm"))
"""The rooms and libraries that compute an embedding by torch, which ONNX Runtime's do not depend on."""


def cache_key(facts: Mapping[str, Any], protocol: Protocol, torch: bool = False) -> str:
    """The name of an entry: a hash over `facts` (model, options), the pictures, and the code that embeds them."""
    rooms, libraries = BY_TORCH if torch else ((), ("onnxruntime-gpu", "onnxruntime"))
    own = inspect.getsourcefile(type(protocol))
    made_by = {
        "rooms": {room: source_sha256(PACKAGE / room) for room in (*ROOMS, *rooms)},
        "protocol": [type(protocol).__name__, source_sha256(Path(own)) if own else ""],
        "libraries": {name: _version(name) for name in (*LIBRARIES, *libraries)},
        "cv2": cv2.__version__,
    }
    text = json.dumps({**facts, "data": protocol.content_sha256(), "made_by": made_by}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def source_sha256(room: Path) -> str:
    """One hash over the source of a module, or of every module in a folder: by name and content, once a process."""
    files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
    assert files, f"there is no source in {room}"
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(room.parent)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def load(folder: Path, key: str, images: int) -> Embeddings | None:
    """The embeddings (images, dim) of an entry; None unless it is intact and holds this many."""
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as entry:
            embeddings, digest = entry["embeddings"], str(entry["sha256"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = embeddings.dtype == np.float32 and embeddings.ndim == 2 and len(embeddings) == images
    if not whole or hashlib.sha256(embeddings.tobytes()).hexdigest() != digest:
        return None
    return np.asarray(embeddings, np.float32)


def store(folder: Path, key: str, embeddings: Embeddings) -> None:
    """Stores embeddings, which are biometric data, in a folder that only its owner may read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    with atomic_path(folder / f"{key}.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, embeddings=embeddings, sha256=hashlib.sha256(embeddings.data).hexdigest())


class Unfinished:
    """The embeddings of an evaluation under way, kept as they come, so that a killed one resumes where it stopped.

    KEY-BATCH.part in `folder` holds records: the number of the first picture, rows, dimension, CRC-32, then the rows as
    float32. A record that is cut off or damaged ends the file. Without a folder, or where it cannot be written, nothing
    is kept and `why_not` says why: figures do not depend on the cache.
    """

    def __init__(self, folder: Path | None, key: str = "", batch_size: int = 0) -> None:
        self.folder, self.key = folder, key
        self.name = f"{key}-{batch_size}.part"
        self.why_not = ""
        self.parts: dict[int, Embeddings] = {}
        """The rows that are known, by the number of their first picture."""
        self._file: IO[bytes] | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = open(folder / self.name, "a+b")  # noqa: SIM115 - held as long as the evaluation
        except OSError as error:
            self._give_up(error)
            return
        if hold(file):  # another process that embeds the same keeps it
            self._file = file
            self._read(file)
        else:
            file.close()

    def _read(self, file: IO[bytes]) -> None:
        size = file.seek(0, 2)
        end = file.seek(0)
        while len(head := file.read(RECORD.size)) == RECORD.size:
            start, rows, dim, check = RECORD.unpack(head)
            if 4 * rows * dim > size - file.tell() or zlib.crc32(content := file.read(4 * rows * dim)) != check:
                break
            self.parts[start] = np.frombuffer(content, np.float32).reshape(rows, dim)
            end = file.tell()
        file.truncate(end)

    def add(self, start: int, embeddings: Embeddings) -> None:
        """Keeps the rows of the pictures from `start` on."""
        if self._file is None:
            return
        content = np.ascontiguousarray(embeddings, np.float32).tobytes()
        try:
            self._file.write(RECORD.pack(start, *embeddings.shape, zlib.crc32(content)) + content)
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def finish(self, embeddings: Embeddings) -> None:
        """Stores the whole for the next evaluation, and drops the parts."""
        if self.folder is not None and not self.why_not:
            try:
                store(self.folder, self.key, embeddings)
            except (OSError, InputError) as error:
                self._give_up(error)
        self.close()
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of the file, which stays for the next evaluation."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _give_up(self, error: Exception) -> None:
        self.why_not = f"{self.folder} ({getattr(error, 'strerror', None) or error})"
        self.close()
