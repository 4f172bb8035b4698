"""The morphable model of ICT-FaceKit (MIT licence), as its repository stores it: https://github.com/ICT-VGL/ICT-FaceKit."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError

Floats = npt.NDArray[np.float32]

WHOLE = 26719
"""Vertices of every mesh in the repository, of which these parts are used: the face, head and neck, the eyeballs."""
PARTS = ((0, 11248), (21451, 24591))
FACE, HEAD = 9409, 11248
"""Where the face ends, and the head with its neck, among the used vertices; the eyeballs follow."""
IDENTITIES = 100
SIDED = ("mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "browInnerUp", "browDown",
         "cheekSquint", "eyeSquint", "eyeBlink")  # fmt: skip
EXPRESSIONS = ("jawOpen", "mouthPucker", *(f"{name}_{side}" for name in SIDED for side in "LR"))
"""The expressions that are used, of the repository's 53."""
FETCH = "git clone --depth 1 https://github.com/ICT-VGL/ICT-FaceKit"


@dataclass(frozen=True)
class FaceKit:
    """A mean head and what may be added to it; lengths in centimetres, x to the model's left, y up, z forward."""

    vertices: Floats  # (vertices, 3)
    quads: npt.NDArray[np.int64]  # (quads, 4)
    identity: Floats  # (100, vertices, 3): to be weighted by standard normal draws
    expression: Floats  # (expressions, vertices, 3): to be weighted by 0 to 1
    expression_names: tuple[str, ...]


def read_facekit(folder: str | Path) -> FaceKit:
    """The model in a clone of the repository, or in a folder with `ict_face.npz`, a packed copy of it.

    InputError, one sentence, where neither is there, for another version, and for a damaged file.
    """
    packed, meshes = Path(folder) / "ict_face.npz", Path(folder) / "FaceXModel"
    if packed.is_file():
        return _read_packed(packed)
    if not meshes.is_dir():
        found = "no such folder" if not Path(folder).is_dir() else "neither FaceXModel/ nor ict_face.npz"
        raise InputError(f"expected a clone of ICT-FaceKit in {folder}, found {found}; {FETCH}")
    mean, quads = _read_obj(meshes / "generic_neutral_mesh.obj", faces=True)
    identity = [_read_obj(meshes / f"identity{i:03d}.obj")[0] - mean for i in range(IDENTITIES)]
    expression = [_read_obj(meshes / f"{name}.obj")[0] - mean for name in EXPRESSIONS]
    return FaceKit(mean, quads, np.stack(identity), np.stack(expression), EXPRESSIONS)


def _read_obj(path: Path, faces: bool = False) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The used vertices (vertices, 3) of a mesh and, with `faces`, the quads between them (quads, 4)."""
    try:
        lines = path.read_bytes().splitlines()
        rows = np.array([line.split()[1:4] for line in lines if line.startswith(b"v ")], np.float32)
        corners = [line.split()[1:] for line in lines if faces and line.startswith(b"f ")]
        numbers = np.array([[int(c.partition(b"/")[0]) - 1 for c in one] for one in corners if len(one) == 4], np.int64)
    except (OSError, ValueError) as error:
        raise InputError(f"expected a mesh of ICT-FaceKit at {path}, cannot read it ({error}); {FETCH}") from None
    if rows.shape != (WHOLE, 3) or not np.isfinite(rows).all():
        found = f"found {len(rows):,}"
        raise InputError(f"expected {WHOLE:,} vertices in {path}, those of ICT Face Model Light, {found}; {FETCH}")
    place = np.full(WHOLE, -1)
    place[np.r_[tuple(np.s_[start:end] for start, end in PARTS)]] = np.arange(sum(end - start for start, end in PARTS))
    quads = place[numbers.reshape(-1, 4)]
    return rows[place >= 0], quads[(quads >= 0).all(1)]


def _read_packed(path: Path) -> FaceKit:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            vertices, quads = stored["vertices"].astype(np.float32), stored["quads"].astype(np.int64)
            identity, expression = stored["identity"].astype(np.float32), stored["expression"].astype(np.float32)
            names = tuple(map(str, stored["expression_names"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"expected a packed ICT-FaceKit in {path}, cannot read it ({error})") from None
    shape = (sum(end - start for start, end in PARTS), 3)
    fits = vertices.shape == shape and identity.shape == (IDENTITIES, *shape)
    if not fits or expression.shape != (len(names), *shape) or quads.max() >= shape[0]:
        raise InputError(f"expected {shape[0]:,} vertices and {IDENTITIES} identities in {path}")
    return FaceKit(vertices, quads, identity, expression, names)
