"""A seeded sample of timm: one network of each family, with a stem and a neck drawn for it, exports with proof, or the
reason why it does not is one of those that a document names. `pytest -m soak tests/export/test_families.py -rP`
prints them."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.backbones import create_backbone
from zoo.backbones.face_backbone import OWN_FAMILIES
from zoo.errors import InputError
from zoo.export import parity
from zoo.export.onnx import write_onnx
from zoo.modelinfo import InputSpec, ModelInfo

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

FAMILIES = sorted(set(timm.list_modules()) - {*OWN_FAMILIES, "face_backbone"})
MOST_PARAMETERS = 30_000_000
SEED = 0
REASONS = (
    r"cannot process crops of 112×112: its layers fit pictures of",
    r"the stem of \S+ cannot be changed to a total stride of 16",
    r"expected a feature map or tokens of",
    r"expected an image size in multiples of",
    r"timm cannot build",
    r"the model is ill-conditioned",
    r"ONNX has no counterpart of the operator",
    r"the backbone fixes its batch",
)
"""Why a network has no crops' features, or its graph no proof. A file that computes something else is none of them."""


def drawn(family: str) -> tuple[str, str, str] | None:
    """A network of a family with at most 30 million parameters, a stem and a neck; None where it has none so small."""
    chance = random.Random(f"{SEED} {family}")
    names = [name for name in timm.list_models(module=family) if not name.startswith("test_")]
    for name in chance.sample(names, min(len(names), 12)):
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
        if size <= MOST_PARAMETERS:
            return name, chance.choice(["face", "face", "stock"]), chance.choice(["flat", "gap", "native"])
    return None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_every_family_exports_with_proof_or_says_why_not(family: str, tmp_path: Path) -> None:
    choice = drawn(family)
    if choice is None:
        pytest.skip(f"no network of {family} has at most {MOST_PARAMETERS:,} parameters")
    name, stem, neck = choice
    torch.manual_seed(SEED)
    crops = parity.crops_for_parity((112, 112), 8)
    try:
        model = create_backbone(name, 32, stem=stem, neck=neck)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0  # an untrained network's own statistics, else its values grow without bound
        with torch.no_grad():
            model.train()(torch.from_numpy(InputSpec().to_input(crops)))
        info = write_onnx(
            model.eval(), tmp_path / "model.onnx", ModelInfo(32, backbone=name), crops=crops, batches=(1, 2)
        )
        print(f"{name} {stem} {neck}: cosine {min(one['cosine'] for one in info.parity.values())}")
    except InputError as error:
        assert any(re.search(reason, str(error)) for reason in REASONS), str(error)
        assert "\n" not in str(error) and not (tmp_path / "model.onnx").exists()
        print(f"{name} {stem} {neck}: {error}")
