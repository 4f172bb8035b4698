"""A model and pictures that a test can make: coarse random tiles, and the mean of each tile as embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.formats.images import encode_png
from zoo.inference.metadata import write_model_info
from zoo.modelinfo import ModelInfo, Threshold

Image = npt.NDArray[np.uint8]
DIM = 48


def write_model(path: Path, info: ModelInfo | None = None, gain: float = 1.0) -> Path:
    """An embedder that averages the crop over a 4×4 grid: (batch, 3, 112, 112) → (batch, 48), times `gain`."""
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "gain"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "grid",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(np.full(DIM, gain, np.float32), "gain")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    if info is not None:
        write_model_info(path, info)
    return path


def crop(seed: int, size: tuple[int, int] = (112, 112), noise: int = 0) -> Image:
    """Random tiles: two seeds give unlike embeddings, one seed alike ones, equal without `noise`."""
    tiles = np.random.default_rng(seed).integers(0, 256, (4, 4, 3))
    tiles = tiles + np.random.default_rng((seed, noise)).integers(-9, 10, tiles.shape) * bool(noise)
    pixels = np.clip(tiles, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def write_people(folder: Path, people: dict[str, list[tuple[int, int]]]) -> Path:
    """A folder of people; each photo is a (seed, noise) of `crop`."""
    for name, photos in people.items():
        (folder / name).mkdir(parents=True)
        for number, (seed, noise) in enumerate(photos):
            (folder / name / f"{number}.png").write_bytes(encode_png(crop(seed, noise=noise)))
    return folder


def write_town(folder: Path) -> Path:
    """model.onnx; people/ with every oddity that a folder of people may have; ada.png, bob.png and stranger.png."""
    write_model(folder / "model.onnx")
    people = {"Ada": [(1, 1), (1, 2)], "ada": [(2, 1)], "Bob": [(3, 1), (3, 1)], "Eve": [(1, 1)]}
    write_people(folder / "people", people)
    (folder / "people" / "Nobody").mkdir()
    (folder / "people" / "Broken").mkdir()
    (folder / "people" / "Broken" / "x.png").write_bytes(b"no picture")
    for name, seed in (("ada", 1), ("bob", 3), ("stranger", 9)):
        (folder / f"{name}.png").write_bytes(encode_png(crop(seed, noise=5)))
    return folder


def unit_rows(rows: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    """Random unit-length embeddings (rows, dim)."""
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


LOOSE = Threshold(
    far=0.1,
    threshold=0.2,
    protocol="pairs",
    data="made up",
    data_sha256="0" * 64,
    negatives=1000,
    false_accepts=100,
    far_interval=(0.08, 0.12),
    flip=True,
)
STRICT = replace(LOOSE, far=0.01, threshold=0.9, false_accepts=10)
"""Two thresholds as a model may store them."""
