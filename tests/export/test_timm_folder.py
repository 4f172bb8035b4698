"""Export to timm's layout: a copy that timm loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from zoo.cli import main
from zoo.errors import InputError
from zoo.export.artifacts import export_timm


def test_safetensors_copies_a_model_that_timm_loads(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert export_timm(model_folder, copy) == [copy / "config.json", copy / "model.safetensors"]
    assert json.loads((copy / "config.json").read_text())["zoo"]
    ours, theirs = (timm.create_model(f"local-dir:{f}", pretrained=True).eval() for f in (model_folder, copy))
    x = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    assert main(["export", str(model_folder), "--safetensors", "-o", str(copy)]) == 2
    assert main(["export", str(model_folder), "--safetensors", "-o", str(copy), "--force"]) == 0


@pytest.mark.parametrize("output", [None, "copy.onnx"])
def test_a_copy_needs_a_folder_of_its_own(output: str | None, model_folder: Path) -> None:
    with pytest.raises(InputError, match="name another folder with --output"):
        export_timm(model_folder, output)
