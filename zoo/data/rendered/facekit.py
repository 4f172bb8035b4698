"""The morphable model of ICT-FaceKit (MIT licence), as its repository stores it: https://github.com/ICT-VGL/ICT-FaceKit."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.errors import explained

Floats = npt.NDArray[np.float32]
WHOLE = 26719  #: Vertices of every mesh in the repository
USED = np.r_[0:11248, 21451:24591]  #: The face, head and neck, and the eyeballs
FACE, HEAD = 9409, 11248  #: Where the face ends, and the head with its neck, among the used ones; the eyeballs follow
IDENTITIES = 100
MOUTH = "mouthSmile mouthFrown mouthStretch mouthUpperUp mouthLowerDown"
EYES = "browInnerUp browDown cheekSquint eyeSquint eyeBlink"
EXPRESSIONS = ("jawOpen", "mouthPucker", *(f"{name}_{side}" for name in f"{MOUTH} {EYES}".split() for side in "LR"))
FETCH = "git clone --depth 1 https://github.com/ICT-VGL/ICT-FaceKit"


@dataclass(frozen=True)
class FaceKit:
    """A mean head and what may be added to it; lengths in centimetres, x to the model's left, y up, z forward."""

    vertices: Floats  #: (vertices, 3)
    quads: npt.NDArray[np.int64]  #: (quads, 4)
    identity: Floats  #: (100, vertices, 3): to be weighted by standard normal draws
    expression: Floats  #: (expressions, vertices, 3): to be weighted by 0 to 1
    expression_names: tuple[str, ...]


def read_facekit(folder: str | Path) -> FaceKit:
    """The model in a clone of the repository, or in a folder with `ict_face.npz`, a packed copy of it.

    InputError, one sentence, where neither is there, for another version, and for a damaged file.
    """
    packed, meshes = Path(folder) / "ict_face.npz", Path(folder) / "FaceXModel"
    broken = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
    with explained(f"expected a clone of ICT-FaceKit in {folder}, cannot read it", *broken, advice=FETCH):
        if packed.is_file():
            with np.load(packed) as stored:
                floats = (stored[name].astype(np.float32) for name in ("vertices", "identity", "expression"))
                (mean, identity, expression), quads = floats, stored["quads"].astype(np.int64)
                names = tuple(map(str, stored["expression_names"]))
        else:
            mean, corners = _read_mesh(meshes / "generic_neutral_mesh.obj")
            place = np.full(WHOLE, -1)
            place[USED] = np.arange(len(USED))
            quads, names = place[corners], EXPRESSIONS
            quads = quads[(quads >= 0).all(1)]
            identity = np.stack([_read_mesh(meshes / f"identity{i:03d}.obj")[0] - mean for i in range(IDENTITIES)])
            expression = np.stack([_read_mesh(meshes / f"{name}.obj")[0] - mean for name in names])
        shapes = np.concatenate([mean[None], identity, expression]).shape
        if shapes != (1 + IDENTITIES + len(names), len(USED), 3) or quads.max() >= len(USED):
            raise ValueError(f"other numbers of vertices than those of ICT Face Model Light in {packed.name}")
    return FaceKit(mean, quads, identity, expression, names)


def _read_mesh(path: Path) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The used vertices (vertices, 3) of a mesh, and the quads between all of them (quads, 4)."""
    if not path.is_file():
        raise OSError(f"no {path.parent.name}/{path.name}")
    lines = path.read_bytes().splitlines()
    rows = np.array([line.split()[1:4] for line in lines if line.startswith(b"v ")], np.float32)
    if rows.shape != (WHOLE, 3) or not np.isfinite(rows).all():
        raise ValueError(f"expected the {WHOLE:,} vertices of ICT Face Model Light in {path.name}, found {len(rows):,}")
    corners = [line.split()[1:] for line in lines if line.startswith(b"f ")]
    numbers = [[int(corner.partition(b"/")[0]) - 1 for corner in one] for one in corners if len(one) == 4]
    return rows[USED], np.array(numbers, np.int64).reshape(-1, 4)
