"""Embeddings stored between evaluations, under a key of everything that they depend on."""

import functools
import hashlib
import inspect
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import zoo
from zoo.errors import InputError
from zoo.evaluate.protocols import Protocol
from zoo.files import atomic_path, sha256
from zoo.machine import installed

Embeddings = npt.NDArray[np.float32]
PACKAGE = Path(zoo.__file__).parent
ROOMS = ("modelinfo.py", "formats", "faces", "inference", "evaluate/lists.py", "evaluate/protocols")
"""Every room whose code handles a picture before or while it is embedded."""
LIBRARIES = ("numpy", "simplejpeg", "pillow", "timm-face-zoo")
BY_TORCH = (("backbones",), ("torch", "timm"))  #: Rooms and libraries that only torch's embeddings depend on


def cache_key(facts: Mapping[str, Any], protocol: Protocol, torch: bool = False) -> str:
    """The name of an entry: a hash over `facts` (model, options), the pictures, and the code that embeds them."""
    rooms, libraries = BY_TORCH if torch else ((), ("onnxruntime-gpu", "onnxruntime"))
    own = inspect.getsourcefile(type(protocol))
    facts = {
        **facts,
        "data": protocol.content_sha256(),
        "rooms": {room: source_sha256(PACKAGE / room) for room in (*ROOMS, *rooms)},
        "protocol": [type(protocol).__name__, source_sha256(Path(own)) if own else ""],
        "libraries": {**installed(*LIBRARIES, *libraries), "cv2": cv2.__version__},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode()).hexdigest()


@functools.cache
def source_sha256(room: Path) -> str:
    """One hash over the source of a module, or of every module in a folder: by name and content, once a process."""
    files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
    assert files, f"there is no source in {room}"
    lines = (f"{file.relative_to(room.parent)}\0{sha256(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(folder: Path, key: str, images: int) -> Embeddings | None:
    """The embeddings (images, dim) of an entry; None unless it is intact and holds this many."""
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as entry:
            embeddings, digest = entry["embeddings"], str(entry["sha256"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = embeddings.dtype == np.float32 and embeddings.ndim == 2 and len(embeddings) == images
    intact = whole and hashlib.sha256(embeddings.tobytes()).hexdigest() == digest
    return np.asarray(embeddings, np.float32) if intact else None


def store(folder: Path, key: str, embeddings: Embeddings) -> None:
    """Stores embeddings, which are biometric data, in a folder that only its owner may read."""
    for place in (folder.parent, folder):  # what mkdir makes on the way gets no mode
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    with atomic_path(folder / f"{key}.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, embeddings=embeddings, sha256=hashlib.sha256(embeddings.data).hexdigest())


class Parts:
    """An evaluation's embeddings, kept by the number of their first picture, so that a killed one resumes."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.why_not = folder, ""  # why nothing is kept; figures do not depend on the cache

    def known(self, start: int, stop: int) -> Embeddings | None:
        """The rows of pictures `start` to before `stop`, where they are kept."""
        return load(self.folder, str(start), stop - start) if self.folder else None

    def add(self, start: int, rows: Embeddings) -> None:
        """Keeps the rows of the pictures from `start` on."""
        if self.folder:
            self._write(self.folder, str(start), rows)

    def finish(self, whole: Embeddings) -> None:
        """Stores the whole for the next evaluation, and drops the parts."""
        if self.folder:
            self._write(self.folder.parent, self.folder.name.partition("-")[0], whole)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, folder: Path, key: str, rows: Embeddings) -> None:
        try:
            if not self.why_not:
                store(folder, key, rows)
        except (OSError, InputError) as error:
            self.why_not = f"{folder} ({getattr(error, 'strerror', None) or error})"
