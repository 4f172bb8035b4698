"""Embeddings kept between evaluations, under a key of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

import zoo.evaluate.protocols
import zoo.faces.align
import zoo.faces.detect
import zoo.formats.images
import zoo.inference.embed
import zoo.inference.providers
import zoo.inference.session
import zoo.modelinfo
from zoo.files import atomic_path, sha256


def cache_key(facts: dict[str, Any]) -> str:
    """The name of an entry: a hash over `facts` (model, data, options) and over the code and libraries that embed."""
    code = [Path(module.__file__ or "") for module in (zoo.faces.align, zoo.modelinfo, zoo.formats.images)]
    code += [
        Path(module.__file__ or "") for module in (zoo.inference.embed, zoo.inference.providers, zoo.inference.session)
    ]
    code += sorted(Path(zoo.evaluate.protocols.__file__ or "").parent.glob("*.py"))
    made_by = {
        "code": [sha256(path) for path in code],
        "numpy": np.__version__,
        "cv2": cv2.__version__,
        "onnxruntime": onnxruntime.__version__,
        "zoo": version("timm-face-zoo"),
    }
    text = json.dumps({**facts, "made_by": made_by}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load(folder: Path, key: str, images: int) -> npt.NDArray[np.float32] | None:
    """The embeddings (images, dim) of an entry; None where there is none that is whole and of this length."""
    try:
        with np.load(folder / f"{key}.npz", allow_pickle=False) as entry:
            embeddings, digest = entry["embeddings"], str(entry["sha256"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = embeddings.dtype == np.float32 and embeddings.ndim == 2 and len(embeddings) == images
    if not whole or hashlib.sha256(embeddings.tobytes()).hexdigest() != digest:
        return None
    return np.asarray(embeddings, np.float32)


def store(folder: Path, key: str, embeddings: npt.NDArray[np.float32]) -> None:
    """Keeps embeddings, which are biometric data, in a folder that nobody else may read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    with atomic_path(folder / f"{key}.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, embeddings=embeddings, sha256=hashlib.sha256(embeddings.data).hexdigest())
