"""Facts in an ONNX file: written and read back, the hash that ignores them, and the files that hold weights."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.onnx_models import DIM, write_model
from zoo.errors import InputError
from zoo.inference import metadata
from zoo.inference.metadata import external_files, load_proto, model_sha256, read_model_info, write_model_info
from zoo.inference.session import OnnxEmbedder
from zoo.modelinfo import InputSpec, ModelInfo, Threshold

THRESHOLD = Threshold(
    far=0.1, threshold=0.25, protocol="pairs", data="x.bin", data_sha256="0" * 64, negatives=554, false_accepts=55,
    far_interval=(0.08, 0.13), flip=True,
)  # fmt: skip


def test_facts_come_back_as_written_and_the_hash_ignores_them(tmp_path: Path) -> None:
    crops = np.random.default_rng(3).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)
    path = write_model(tmp_path / "m.onnx")
    hash_before, before = model_sha256(path), OnnxEmbedder(path, device="cpu")(crops)
    assert read_model_info(path) is None
    info = ModelInfo(DIM, backbone="resnet18", thresholds=(THRESHOLD,))
    write_model_info(path, info)
    write_model_info(path, info)
    assert read_model_info(path) == info
    model = OnnxEmbedder(path, device="cpu")
    assert model.info == info and model.model_sha256 == hash_before
    np.testing.assert_array_equal(model(crops), before)
    assert model_sha256(write_model(tmp_path / "other.onnx", seed=1)) != hash_before


def test_other_metadata_stays_and_a_failed_write_leaves_the_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.metadata_props.add(key="author", value="somebody")
    onnx.save(model, path)
    write_model_info(path, ModelInfo(DIM))
    assert {entry.key for entry in onnx.load(path).metadata_props} == {"author", "zoo"}
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError):
        write_model_info(tmp_path / "text.onnx", ModelInfo(DIM))
    assert (tmp_path / "text.onnx").read_text() == "no model"
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "text.onnx"]


def test_weights_in_a_second_file_are_part_of_the_hash(tmp_path: Path) -> None:
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    big = tmp_path / "big.onnx"
    onnx.save(model, big, save_as_external_data=True, location="big.data", size_threshold=0)
    first = model_sha256(big)
    content = bytearray((tmp_path / "big.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "big.data").write_bytes(content)
    assert model_sha256(big) != first
    (tmp_path / "big.data").unlink()
    with pytest.raises(InputError, match="copy both files"):
        model_sha256(big)


@pytest.mark.parametrize("content", [b"this is no model", b"\x08\x07\xff\xff\xff"])
def test_what_is_no_onnx_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    for read in (load_proto, read_model_info, model_sha256):
        with pytest.raises(InputError, match="found another kind of file") as caught:
            read(tmp_path / "x.onnx")
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="found no such file"):
            read(tmp_path / "absent.onnx")


def test_weights_outside_the_file_are_found_wherever_a_tensor_may_be(tmp_path: Path) -> None:
    def tensor(location: str) -> onnx.TensorProto:
        found = TensorProto(name=location, dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        found.external_data.add(key="location", value=location)
        return found

    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor("inner.data"))], "inner", [], [])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([branch], "g", [], [], [tensor("b.data"), tensor("a.data"), tensor("a.data")])
    proto = helper.make_model(graph)
    assert external_files(proto) == ["a.data", "b.data", "inner.data"]
    assert external_files(load_proto(write_model(tmp_path / "m.onnx"))) == []


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
    monkeypatch.setattr(metadata, "LARGEST", 100)
    large = OnnxEmbedder(tmp_path / "m.onnx", device="cpu", raw=True)
    assert not large.raw and large(np.zeros((2, 112, 112, 3), np.uint8)).shape[0] == 2
    assert metadata.with_raw_input(tmp_path / "m.onnx", InputSpec(), False) is None
