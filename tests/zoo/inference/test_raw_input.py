"""A model that takes crops as they are gives the embeddings of the model that takes them normalised."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.support.onnx_models import write_model
from zoo.inference import raw_input, session
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("batch", 3, 112, 112), TensorProto.FLOAT),
        (("batch", 3, 112, 112), TensorProto.FLOAT16),
        (("batch", 112, 112, 3), TensorProto.FLOAT),
        ((4, 3, 112, 112), TensorProto.FLOAT),
        (("batch", 3, "h", "w"), TensorProto.DOUBLE),
    ],
)
@pytest.mark.parametrize(
    "spec", [InputSpec(), InputSpec(mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0), channel_order="BGR")]
)
def test_the_embeddings_are_the_same(tmp_path: Path, shape: tuple[object, ...], kind: int, spec: InputSpec) -> None:
    path = write_model(tmp_path / "m.onnx", shape, kind)
    crops = np.random.default_rng(0).integers(0, 256, (6, 112, 112, 3), dtype=np.uint8)
    usual, raw = (OnnxEmbedder(path, device="cpu", input=spec, raw=on) for on in (False, True))
    bound = OnnxEmbedder(path, device="cpu", input=spec, raw=True, bound=True)
    assert raw.raw and not usual.raw and raw.precision == usual.precision
    near = 1e-2 if kind == TensorProto.FLOAT16 else 1e-5  # a mean over 12,544 pixels, added in another order
    np.testing.assert_allclose(raw(crops), usual(crops), atol=near * max(0.1, np.abs(usual(crops)).max()))
    np.testing.assert_array_equal(bound(crops), raw(crops))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(raw))(crops[:1]), raw(crops[:1]))


def test_a_model_that_takes_bytes_or_is_too_large_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not OnnxEmbedder(write_model(tmp_path / "m.onnx"), device="cpu").raw
    monkeypatch.setattr(raw_input, "LARGEST", 100)
    large = OnnxEmbedder(tmp_path / "m.onnx", device="cpu", raw=True)
    assert not large.raw and large(np.zeros((2, 112, 112, 3), np.uint8)).shape[0] == 2
    assert session.with_raw_input(tmp_path / "m.onnx", InputSpec(), False) is None
