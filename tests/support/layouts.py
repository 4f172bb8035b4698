"""One small set of 15 pictures of four people, in every layout that training reads."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.support.records import identity_payloads, write
from zoo.formats.images import encode_jpeg, encode_png

if TYPE_CHECKING:
    from zoo.data.loader import TrainLoader

COUNTS = (3, 2, 4, 6)
"""Pictures of each of four people."""


LABELS = [label for label, count in enumerate(COUNTS) for _ in range(count)]


def picture(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)


CONTENTS = [encode_png(picture(i)) for i in range(len(LABELS))]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_tar(path: Path, numbers: range, label_as: str = "cls", contents: list[bytes] = CONTENTS) -> None:
    with tarfile.open(path, "w") as archive:
        for i in numbers:
            add(archive, f"sub.dir/{i:04d}.png", contents[i])
            text = json.dumps({"label": LABELS[i]}) if label_as == "json" else str(LABELS[i])
            add(archive, f"sub.dir/{i:04d}.{label_as}", text.encode())


def make_rec(root: Path) -> str:
    people = [[CONTENTS[i] for i, label in enumerate(LABELS) if label == person] for person in range(len(COUNTS))]
    return str(write(root, identity_payloads(people)))


def make_folder(root: Path) -> str:
    for i, label in enumerate(LABELS):
        (root / f"p{label}").mkdir(exist_ok=True)
        (root / f"p{label}" / f"{i:03d}.PNG").write_bytes(CONTENTS[i])
    return str(root)


def make_list(root: Path, name: str, line: str) -> str:
    make_folder(root)
    rows = [line.format(i=i, path=f"p{label}/{i:03d}.PNG", label=label) for i, label in enumerate(LABELS)]
    (root / name).write_text("\n".join(rows))
    return str(root / name)


def make_tars(root: Path, label_as: str) -> str:
    write_tar(root / "a-000.tar", range(0, 7), label_as)
    write_tar(root / "a-001.tar", range(7, 15), label_as)
    return str(root)


def make_parquet(root: Path, images: list[object], rows: int = 4) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": images, "note": ["x"] * len(LABELS), "label": LABELS})
    parquet.write_table(table.slice(0, 9), root / "a.parquet", row_group_size=rows)
    parquet.write_table(table.slice(9), root / "b.parquet", row_group_size=rows)
    return str(root)


def make_hub(root: Path) -> str:
    pytest.importorskip("datasets", reason="the extra `data` is not installed")
    make_parquet(root, [{"bytes": content, "path": None} for content in CONTENTS])
    return f"hf://datasets/{root}"


SOURCES = {
    "RecordIO": make_rec,
    "folder": make_folder,
    "list with blanks": lambda root: make_list(root, "train.txt", "{path} {label}"),
    "list with tabs": lambda root: make_list(root, "train.tsv", "{path}\t{label}"),
    "list with commas": lambda root: make_list(root, "train.csv", "{path},{label}"),
    "MXNet's list": lambda root: make_list(root, "train.lst", "{i}\t{label}.000000\t{path}"),
    "tar, .cls": lambda root: make_tars(root, "cls"),
    "tar, .json": lambda root: make_tars(root, "json"),
    "parquet, Hub's struct": lambda root: make_parquet(root, [{"bytes": c, "path": None} for c in CONTENTS]),
    "parquet, bytes": lambda root: make_parquet(root, CONTENTS),
    "Hub dataset": make_hub,
}


def noise(seed: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """A picture of noise: RGB uint8 (*size, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def batches_of(loader: TrainLoader, epoch: int = 0, start_step: int = 0) -> list[tuple[np.ndarray, ...]]:
    """The batches of an epoch as arrays."""
    return [tuple(tensor.numpy().copy() for tensor in batch) for batch in loader.epoch(epoch, start_step)]


def face(seed: int, size: int = 32) -> np.ndarray:
    """Something smooth, as faces are: RGB uint8 (size, size, 3)."""
    blurred = cv2.GaussianBlur(noise(seed, (size, size)), (0, 0), size / 16)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)


def write_faces(root: Path) -> Path:
    """A folder of three people with 3, 1 and 9 smooth pictures."""
    for number, (name, count) in enumerate({"anna": 3, "ben": 1, "cora": 9}.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(encode_png(face(100 * number + i)))
    return root


def contents(folder: Path) -> list[bytes]:
    """The bytes of every picture in a folder, by path."""
    return [path.read_bytes() for path in sorted(folder.rglob("*.png")) + sorted(folder.rglob("*.jpg"))]


def write_lfw(root: Path, listed: str) -> Path:
    """Two people with two pictures each in `root`/lfw, and three pairs of them in `root`/`listed`.

    In the second pair both pictures are the same.
    """
    for name in ("Ann_A", "Bob_B"):
        (root / "lfw" / name).mkdir(parents=True)
        for i in (1, 2):
            (root / "lfw" / name / f"{name}_{i:04d}.jpg").write_bytes(encode_jpeg(face(10 * ord(name[0]) + i)))
    rows = [("Ann_A", 1, "Ann_A", 2), ("Bob_B", 1, "Bob_B", 1), ("Ann_A", 2, "Bob_B", 1)]
    if listed == "pairs.txt":
        lines = ["1\t2", *(f"{a}\t{i}\t{j}" if a == b else f"{a}\t{i}\t{b}\t{j}" for a, i, b, j in rows)]
    else:
        paths = [(f"lfw/{a}/{a}_{i:04d}.jpg", f"lfw/{b}/{b}_{j:04d}.jpg", int(a == b)) for a, i, b, j in rows]
        lines = ["a,b,same", *(f"{a},{b},{same}" for a, b, same in paths)]
    (root / listed).write_text("\n".join(lines))
    return root / listed
