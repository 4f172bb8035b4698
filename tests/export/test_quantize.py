"""float16 and int8: close to float32, with the layers kept in float32 that must be, and named."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.support.exporting import DIM
from zoo.errors import InputError
from zoo.export import parity, quantize
from zoo.export.onnx import to_proto
from zoo.modelinfo import InputSpec

INPUTS = InputSpec().to_input(parity.crops_for_parity((112, 112), 16))


class Small(nn.Module):
    """Two convolutions and an FC; `gain` lets the first one's values leave float16."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 8, 8)
        self.second = nn.Conv2d(8, 8, 7, 7)
        self.fc = nn.Linear(32, DIM)
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.first(x * self.gain)
        embedding: torch.Tensor = self.fc((self.second(large.relu()) / self.gain).flatten(1))
        return embedding


def run(proto: onnx.ModelProto) -> parity.Embeddings:
    return np.asarray(parity.session(proto.SerializeToString(), optimise=True).run(None, {"input": INPUTS})[0])


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    return to_proto(Small().eval(), (112, 112))


def test_half_is_half_as_large_and_computes_nearly_the_same(small: onnx.ModelProto) -> None:
    half = quantize.to_float16(small, INPUTS)
    onnx.checker.check_model(half.proto, full_check=True)
    assert half.conversion.kept_in_float32 == ()
    assert {t.data_type for t in half.proto.graph.initializer} <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert parity.row_cosines(run(small), run(half.proto)).min() > 0.9999
    elem = {v.type.tensor_type.elem_type for v in (*half.proto.graph.input, *half.proto.graph.output)}
    assert elem == {onnx.TensorProto.FLOAT}, "consumers feed and read float32"


def test_a_layer_whose_values_leave_float16_stays_in_float32_and_is_named() -> None:
    loud = to_proto(Small(gain=1e6).eval(), (112, 112))
    weights = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in loud.graph.initializer]
    loud.graph.value_info.extend(weights)  # as the exporter states them
    half = quantize.to_float16(loud, INPUTS)
    onnx.checker.check_model(half.proto, full_check=True)
    assert "first" in half.conversion.kept_in_float32
    assert "fc" not in half.conversion.kept_in_float32
    assert "values reach" in half.conversion.why
    found = run(half.proto)
    assert np.isfinite(found).all()
    assert parity.row_cosines(run(loud), found).min() > 0.999


def test_an_embedding_beyond_float16_is_not_rounded_to_infinity_on_its_way_out() -> None:
    model = Small().eval()
    model.fc.weight.data *= 1e8
    loud = to_proto(model, (112, 112))
    half = quantize.to_float16(loud, INPUTS)
    assert "fc" in half.conversion.kept_in_float32
    found = run(half.proto)
    assert np.abs(found).max() > np.finfo(np.float16).max
    assert parity.row_cosines(run(loud), found).min() > 0.999


def test_the_largest_magnitudes_are_those_of_a_plain_run(small: onnx.ModelProto) -> None:
    with torch.inference_mode():
        expected = Small().eval().first(torch.from_numpy(INPUTS)).abs().max()
    found = quantize.largest_magnitudes(small, INPUTS)
    conv = next(node for node in small.graph.node if node.op_type == "Conv")
    assert found[conv.output[0]] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("method", quantize.METHODS)
def test_int8_by_every_method_stays_close_and_keeps_float32_ports(
    small: onnx.ModelProto, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "METHODS", {method: quantize.METHODS[method]})
    variant = quantize.to_int8(small, INPUTS)
    onnx.checker.check_model(variant.proto, full_check=True)
    assert variant.conversion.method == method
    assert parity.row_cosines(run(small), run(variant.proto)).mean() > 0.99
    weights = [t for t in variant.proto.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert weights, "no weight became int8"
    seven_bits = [np.abs(onnx.numpy_helper.to_array(t).astype(int)).max() for t in weights]
    assert max(seven_bits) <= 64, "AVX2 without VNNI saturates with eight bits of weight"


def test_the_search_keeps_the_costliest_layers_and_gains_by_it(
    small: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = quantize.to_int8(small, INPUTS)
    monkeypatch.setattr(quantize, "GOOD_COSINE", 1.1)  # never reached: the search goes to its end
    searched = quantize.to_int8(small, INPUTS)
    assert plain.conversion.kept_in_float32 == ()
    assert len(searched.conversion.kept_in_float32) == 1 and searched.conversion.why
    assert (
        parity.row_cosines(run(small), run(searched.proto)).mean()
        > parity.row_cosines(run(small), run(plain.proto)).mean()
    )


def test_the_same_crops_give_the_same_int8_bytes(small: onnx.ModelProto) -> None:
    one, other = (quantize.to_int8(small, INPUTS).proto.SerializeToString(deterministic=True) for _ in "ab")
    assert one == other


def test_too_few_crops_are_refused(small: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="at least 4 crops"):
        quantize.to_int8(small, INPUTS[:3])


def test_the_metadata_of_a_conversion_has_only_what_it_has() -> None:
    half = quantize.Conversion("float16", ("fc",), "their values reach 70000")
    told = {"precision": "float16", "kept_in_float32": ["fc"], "why": "their values reach 70000"}
    assert half.facts() == {**told, "to_float32": {}}
    eighth = quantize.Conversion("int8", method="entropy", mean_cosine_by_method={"entropy": 0.99}, calibration="faces")
    assert eighth.facts() == {
        **{"precision": "int8", "kept_in_float32": [], "why": "", "method": "entropy"},
        **{"mean_cosine_by_method": {"entropy": 0.99}, "calibration": "faces", "to_float32": {}},
    }
