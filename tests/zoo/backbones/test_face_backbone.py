"""Backbones: any timm model with the face stem and a neck builds, trains a step, and loads again through timm."""

from __future__ import annotations

import functools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.backbones import FaceBackbone, create_backbone, load_timm, save_timm, timm_config
from zoo.backbones.necks import FlatNeck, GapNeck, as_map
from zoo.backbones.stems import drop_unused_children, features_of, halve_first_stride
from zoo.errors import InputError

NECK_OF = {
    "resnet18": "flat",
    "resnet50": "gap",
    "convnext_atto": "flat",
    "mobilenetv3_large_100": "gap",
    "efficientnet_b0": "gap",
    "vit_tiny_patch16_224": "gap",
    "edgenext_xx_small": "flat",
    "iresnet18": "native",
    "iresnet50": "native",
    "mobilefacenet": "native",
}
"""The named alternatives and the neck that each takes by itself."""
DIM = 37


@functools.cache
def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create_backbone(name, embedding_dim=DIM)


def body_of(model: nn.Module) -> nn.Module:
    return model.body if isinstance(model, FaceBackbone) else model


@pytest.mark.parametrize("name", NECK_OF)
def test_a_named_backbone_embeds_trains_a_step_and_wastes_no_parameter(name: str) -> None:
    model = built(name).train()
    assert model.neck_name == NECK_OF[name]
    assert model.embedding_dim == DIM
    embedding = model(torch.randn(2, 3, 112, 112))
    assert embedding.shape == (2, DIM)
    before = [p.detach().clone() for p in model.parameters()]
    embedding.square().sum().backward()
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, p in learning if p.grad is None] == []
    torch.optim.SGD([p for _, p in learning], lr=1e-3).step()
    model.zero_grad(set_to_none=True)
    after = list(model.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NECK_OF)
def test_the_face_stem_leaves_seven_by_seven_or_fourteen_by_fourteen_tokens(name: str) -> None:
    body = body_of(built(name))
    shape = features_of(body, torch.zeros(1, 3, 112, 112)).shape
    assert shape[1:] == (197, 192) if name.startswith("vit") else shape[2:] == (7, 7)


def test_the_stock_stem_is_timms_own() -> None:
    stock = create_backbone("resnet18", DIM, neck="native", stem="stock")
    assert type(stock) is type(timm.create_model("resnet18", num_classes=DIM))
    assert features_of(stock, torch.zeros(1, 3, 112, 112)).shape == (1, 512, 4, 4)


def test_a_windowed_transformer_gets_its_channels_last_map_turned() -> None:
    model = create_backbone("swin_tiny_patch4_window7_224", DIM, neck="gap")
    assert isinstance(model, FaceBackbone) and model.channels_last
    assert model.neck[3].in_features == 768
    assert model.eval()(torch.zeros(1, 3, 112, 112)).shape == (1, DIM)


def test_a_family_whose_stride_cannot_be_halved_names_the_stock_stem() -> None:
    with pytest.raises(InputError, match=r'use stem="stock"'):
        create_backbone("inception_v3", DIM)


def test_parallel_branches_of_a_stem_are_halved_together() -> None:
    model = create_backbone("repvgg_a0", DIM)
    assert isinstance(model, FaceBackbone)
    assert len(model.halved) == 2


def test_a_halved_patch_sees_the_picture_as_the_stock_one_sees_it_enlarged_twofold() -> None:
    body = timm.create_model("convnext_atto", num_classes=0)
    x = torch.randn(1, 3, 48, 48)
    enlarged = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    with torch.no_grad():
        expected = body.stem[0](enlarged)
        assert halve_first_stride(body, x) == ["stem.0"]
        found = body.stem[0](x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_dropping_timms_classifier_leaves_the_features_as_they_were() -> None:
    body = timm.create_model("mobilenetv3_large_100", num_classes=0)
    x = torch.randn(1, 3, 64, 64)
    before = features_of(body, x)
    parameters = sum(p.numel() for p in body.parameters())
    drop_unused_children(body, x)
    assert torch.equal(features_of(body, x), before)
    assert sum(p.numel() for p in body.parameters()) < parameters


def test_tokens_lose_their_prefix_and_keep_their_order() -> None:
    tokens = torch.arange(2 * 7 * 3, dtype=torch.float32).reshape(2, 7, 3)
    found = as_map(tokens, prefix_tokens=2, channels_last=False)
    assert found.shape == (2, 3, 5, 1)
    assert torch.equal(found[1, :, 0, 0], tokens[1, 2])


def test_each_neck_is_what_its_name_says() -> None:
    flat, gap = FlatNeck(5, 3, 3, DIM, 0.25), GapNeck(5, DIM, 0.25)
    assert [type(m).__name__ for m in flat] == ["BatchNorm2d", "Dropout", "Flatten", "Linear", "BatchNorm1d"]
    assert [type(m).__name__ for m in gap] == ["AdaptiveAvgPool2d", "Flatten", "Dropout", "Linear", "BatchNorm1d"]
    x = torch.randn(3, 5, 3, 3)
    assert flat(x).shape == gap(x).shape == (3, DIM)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"neck": "gap", "dropout": 0.25}),
        ("resnet18", {"neck": "native"}),
        ("resnet18", {"neck": "native", "stem": "stock"}),
        ("vit_tiny_patch16_224", {"neck": "native"}),
        ("mobilefacenet", {"image_size": (96, 80)}),
        ("convnext_atto", {"neck": "flat", "image_size": (80, 112)}),
    ],
)
def test_what_is_saved_loads_through_zoo_and_through_timm(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    model = create_backbone(name, DIM, **options)
    x = torch.randn(2, 3, *options.get("image_size", (112, 112)))
    model.train()(x)
    save_timm(model, tmp_path, {"stem": options.get("stem", "face")})
    ours = load_timm(tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        expected = model.eval()(x)
        assert torch.equal(ours(x), expected)
        assert torch.equal(theirs(x), expected)
    assert timm_config(ours) == timm_config(model)
    assert ours.neck_name == model.neck_name
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] is None, "ImageNet's license is not that of what was trained here"
    assert config["zoo"] == {"stem": options.get("stem", "face")}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o666 & ~umask


def test_a_native_stock_model_loads_in_timm_without_zoo(tmp_path: Path) -> None:
    save_timm(create_backbone("mobilenetv3_small_050", DIM, neck="native", stem="stock"), tmp_path, {})
    code = (
        "import sys, timm; m = timm.create_model(sys.argv[1], pretrained=True); "
        "assert not any(n.split('.')[0] == 'zoo' for n in sys.modules); print(m.num_classes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"local-dir:{tmp_path}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(DIM), done.stderr


def test_our_architectures_are_listed_by_timm() -> None:
    assert {"face_backbone", "mobilefacenet"} <= set(timm.list_models("*face*"))
    assert {"iresnet18", "iresnet34", "iresnet50", "iresnet100"} <= set(timm.list_models("iresnet*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "did you mean resnet"),
        ({"name": "hf-hub:somebody/something"}, "found the source"),
        ({"name": "face_backbone"}, "no model called"),
        ({"name": "resnet18", "stem": "fase"}, "did you mean face"),
        ({"name": "resnet18", "neck": "flatt"}, "did you mean flat"),
        ({"name": "resnet18", "embedding_dim": 0}, "positive embedding length"),
        ({"name": "resnet18", "image_size": (8, 112)}, "at least 16 pixels"),
        ({"name": "resnet18", "dropout": 1.0}, "dropout"),
        ({"name": "vit_tiny_patch16_224", "image_size": (100, 100), "stem": "stock"}, "multiples of vit_tiny"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create_backbone(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "evilnet"}, "timm does not know"),
        ({"model_args": {"pretrained_backbone": True}}, "model_args that zoo does not know"),
        ({"model_args": {"backbone": "hf-hub:evil/model"}}, "found the source"),
        ({"num_classes": "many"}, "num_classes"),
        ({"num_classes": DIM + 1}, "does not fit"),
    ],
)
def test_a_strangers_folder_builds_only_what_is_known(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save_timm(create_backbone("mobilenetv3_small_050", DIM), tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
        load_timm(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_or_broken_file_is_named(missing: str, tmp_path: Path) -> None:
    save_timm(create_backbone("mobilenetv3_small_050", DIM), tmp_path, {})
    (tmp_path / missing).write_bytes(b"no model")
    with pytest.raises(InputError, match=missing):
        load_timm(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"found no {missing}"):
        load_timm(tmp_path)
