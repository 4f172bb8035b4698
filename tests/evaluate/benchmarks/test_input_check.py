"""Swapped channels and unusual inputs are noticed, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.onnx_models import write_model
from zoo.evaluate import evaluate
from zoo.evaluate.benchmarks.input_check import channel_means, look
from zoo.evaluate.protocols import PairsProtocol
from zoo.formats.images import decode, encode_jpeg, encode_png
from zoo.inference.metadata import write_model_info
from zoo.modelinfo import InputSpec, ModelInfo

Array = npt.NDArray[np.uint8]

GOLDEN_MEANS = (166.5, 124.5, 97.5)
"""The means of red, green and blue over `golden()`."""


def golden() -> Array:
    """A face of skin colour on a dark red ground, drawn by whole numbers: RGB uint8 (112, 112, 3)."""
    picture = np.empty((112, 112, 3), np.uint8)
    picture[:] = 120, 60, 45
    picture[28:84] = 213, 189, 150
    return picture


class Squares:
    """Pictures by a function of their number."""

    def __init__(self, draw: Callable[[int], Array], count: int = 20) -> None:
        self.draw, self.count = draw, count

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Array:
        return self.draw(index)


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_a_drawn_picture_keeps_its_colours_from_file_to_input(encode: Callable[[Array], bytes]) -> None:
    picture = decode(encode(golden()), "golden")
    means = picture.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(means, GOLDEN_MEANS, atol=1.5)
    assert np.abs(means[::-1] - GOLDEN_MEANS).max() > 60
    stored = {"RGB": (0.306, -0.024, -0.235), "BGR": (-0.235, -0.024, 0.306)}
    for order, expected in stored.items():
        tensor = InputSpec(channel_order=order).to_input(picture[None])
        np.testing.assert_allclose(tensor.mean(axis=(0, 2, 3)), expected, atol=0.012)


def test_swapped_red_and_blue_is_noticed_and_skin_and_grey_are_not() -> None:
    rng = np.random.default_rng(0)
    shades = rng.integers(-30, 30, 20)
    drawn = [np.clip(golden().astype(int) + shade, 0, 255).astype(np.uint8) for shade in shades]
    assert look(Squares(lambda index: drawn[index])) == []
    (note,) = look(Squares(lambda index: drawn[index][..., ::-1]))
    assert "red and blue look swapped" in note and "20 of 20" in note
    grey = Squares(lambda index: np.full((9, 9, 3), 7 * index, np.uint8))
    assert look(grey) == [] and "grey" in look(grey, order_is_assumed=True)[0]
    assert channel_means(golden())[0] > channel_means(golden())[2]


def picky_model(path: Path) -> Path:
    """A model of colours that is saturated by any input but x / 255 in the order BGR.

    It clips to [0, 1] and sees blue alone, which is the first channel of BGR.
    """
    model = onnx.load(write_model(path))
    for name, values in (("low", 0.0), ("high", 1.0), ("shift", [[0.0, 0.0]]), ("blue", [[1.0, 0], [0, 0], [0, 0]])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32), name))
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["clipped"]),
        helper.make_node("ReduceMean", ["clipped", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "blue"], ["seen"]),
        helper.make_node("Cos", ["tripled"], ["cos"]),
        helper.make_node("Sin", ["tripled"], ["sin"]),
    ]
    nodes.insert(3, helper.make_node("ReduceSum", ["seen", "one_axis"], ["sum"], keepdims=1))
    nodes.insert(4, helper.make_node("Mul", ["sum", "three"], ["tripled"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one_axis"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(3.0, np.float32), "three"))
    nodes.append(helper.make_node("Concat", ["cos", "sin"], ["embedding"], axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def blue_people(pairs: int = 240) -> PairsProtocol:
    """Pictures whose blue is the person, and whose red is anything."""
    rng = np.random.default_rng(1)
    same = np.arange(pairs) % 2 == 0
    blue = rng.integers(40, 216, (pairs, 2))
    blue[same, 1] = blue[same, 0] + 2
    colours = rng.integers(0, 256, (pairs, 2, 3))
    colours[..., 2] = blue
    pictures = np.broadcast_to(colours.reshape(-1, 1, 1, 3).astype(np.uint8), (2 * pairs, 112, 112, 3)).copy()
    return PairsProtocol(pictures, same, data="blue")


def test_the_input_that_would_work_is_named(tmp_path: Path) -> None:
    path, protocol = picky_model(tmp_path / "m.onnx"), blue_people()
    wrong = evaluate(path, protocol, device="cpu", cache=False)
    assert (wrong.auc or 0) < 0.75
    assert "on 200 pairs, BGR and (x − 0) / 255 has an AUC of" in " ".join(wrong.notes)
    assert "try --mean 0 --std 255 --bgr" in " ".join(wrong.notes)
    right = evaluate(path, protocol, device="cpu", cache=False, mean=0.0, std=255.0, bgr=True)
    assert (right.auc or 0) > 0.9 and "near chance" not in " ".join(right.notes)


def test_nothing_is_tried_where_the_file_states_its_input_and_nothing_named_that_is_no_better(tmp_path: Path) -> None:
    images, same = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2 == 0
    protocol = PairsProtocol(images, same, data="noise")
    path = write_model(tmp_path / "m.onnx")
    notes = " ".join(evaluate(path, protocol, device="cpu", cache=False).notes)
    assert "none of the six usual inputs does better on 40 pairs" in notes
    write_model_info(path, ModelInfo(5))
    assert "near chance" not in " ".join(evaluate(path, protocol, device="cpu", cache=False).notes)
