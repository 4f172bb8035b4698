"""Small models to publish: a whole run folder of an untrained network, and an ONNX file of one matrix."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tiny_onnx(dim: int = 8, external: str | None = None) -> bytes:
    """An embedder of one matrix: (batch, 3, 112, 112) → (batch, dim); its weights in the file `external`, if named."""
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32), "weights")
    if external is not None:
        weights = TensorProto(name="weights", dims=[3, dim], data_type=TensorProto.FLOAT)
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dim])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert external is not None or onnx.checker.check_model(model) is None
    return model.SerializeToString()


def make_run(
    folder: Path, name: str = "mobilefacenet", neck: str | None = None, stem: str = "face", dim: int = 64
) -> Path:
    """A run folder as `zoo train`, `zoo export` and `zoo evaluate --report` leave it, of an untrained network."""
    import torch

    from zoo.backbones import create_backbone, save_timm
    from zoo.data.synthetic import synthetic_pairs
    from zoo.evaluate.protocols.pairs import PairsProtocol
    from zoo.evaluate.report.record import ModelFacts, Report
    from zoo.export.onnx import write_onnx
    from zoo.files import write_text
    from zoo.inference.embed import embed
    from zoo.inference.session import OnnxEmbedder
    from zoo.modelinfo import ModelInfo

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = create_backbone(name, embedding_dim=dim, neck=neck, stem=stem).eval()
    info = ModelInfo(
        embedding_dim=dim,
        backbone=name,
        neck=str(getattr(model, "neck_name", "native")),
        stem=stem,
        head="arcface(scale=64.0, margin=0.5)",
        training_set="synthetic: 8,000 images of 200 identities, drawn by zoo (not real faces)",
        commit="0" * 40,
    )
    save_timm(model, folder, asdict(info))
    write_text(folder / "config.yaml", f"backbone: {name}\nhead: arcface\nepochs: 0\ndata: /home/somebody/faces\n")
    write_onnx(model, folder / "model.onnx", info)
    embedder = OnnxEmbedder(folder / "model.onnx", device="cpu", threads=1)
    images, same = synthetic_pairs(100)
    protocol = PairsProtocol(images, same, data="synthetic (drawn faces)", data_sha256="ab" * 32)
    found = protocol.score(embed(embedder, protocol.images()))
    facts = ModelFacts(folder.name, "model.onnx", embedder.model_sha256, dim, info=info)
    Report(facts, (found,)).save(folder / "report.json")
    return folder
