"""Every backbone that the project names, with every stem and neck: exported, checked and proven, or refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from tests.support.exporting import require_same, silent_layers, trained_a_little
from zoo.backbones.face_backbone import NECKS, STEMS, create_backbone
from zoo.errors import InputError
from zoo.export import parity
from zoo.export.onnx import write_onnx
from zoo.modelinfo import InputSpec, ModelInfo

DIM = 37
BACKBONES = (
    "resnet18",
    "resnet50",
    "convnext_atto",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "vit_tiny_patch16_224",
    "edgenext_xx_small",
    "iresnet18",
    "iresnet50",
    "mobilefacenet",
)
QUICK = {
    ("resnet18", "stock", "native"),
    ("convnext_atto", "face", "flat"),
    ("vit_tiny_patch16_224", "stock", "gap"),
}
"""Each stem, each neck, and a family of each kind: convolutions, patches, tokens."""
REFUSED: dict[tuple[str, str, str], str] = {}
"""The combinations that cannot be built, and a word of the reason."""
MATRIX = list(itertools.product(BACKBONES, STEMS, NECKS))


@pytest.mark.parametrize(
    ("name", "stem", "neck"),
    [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.soak) for case in MATRIX],
)
def test_a_named_backbone_exports_with_parity(name: str, stem: str, neck: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if (name, stem, neck) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name, stem, neck]) as caught:
            create_backbone(name, DIM, neck=neck, stem=stem)
        assert "\n" not in str(caught.value)
        return
    model = trained_a_little(create_backbone(name, DIM, neck=neck, stem=stem))
    crops = torch.from_numpy(InputSpec().to_input(parity.crops_for_parity((112, 112), 2)))
    silent, layers = silent_layers(model, crops), sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules())
    assert len(silent) <= layers / 4, f"a wrong conversion of {silent} would pass"  # 12 of edgenext's 51: small weights
    path = tmp_path / "model.onnx"
    info = write_onnx(model, path, ModelInfo(DIM, backbone=name, stem=stem, neck=neck))
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    assert set(info.parity) == {"1", "2", "5", "33"}
    figures = [f for record in info.parity.values() for f in (record, record["unoptimised"])]
    operators = {node.op_type for node in proto.graph.node}
    print(
        f"{name} {stem} {neck}: cosine {min(f['cosine'] for f in figures)}, largest difference "
        f"{max(f['max_relative'] for f in figures):.0e} of the largest coordinate; {len(proto.graph.node)} nodes"
        f"{', BatchNormalization kept' if 'BatchNormalization' in operators else ''}"
    )
    require_same(path, model)


def test_the_quick_part_of_the_matrix_sees_every_stem_and_neck() -> None:
    assert {stem for _, stem, _ in QUICK} == set(STEMS)
    assert {neck for _, _, neck in QUICK} == set(NECKS)
    assert {*QUICK, *REFUSED} <= set(MATRIX)
