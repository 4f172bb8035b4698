"""Models on disk: saved, loaded by zoo and by timm, and what a third-party folder may not do."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from zoo.backbones import blueprint_of, create_backbone, load_timm, model_info, save_timm, timm_config
from zoo.errors import InputError
from zoo.modelinfo import InputSpec, ModelInfo

DIM = 37


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
    assert blueprint_of(ours) == blueprint_of(model)
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
def test_a_third_party_folder_builds_only_what_it_may(change: dict[str, object], message: str, tmp_path: Path) -> None:
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


CONFIG = {"architecture": "resnet18", "num_classes": 64, "pretrained_cfg": {"input_size": [3, 96, 80]}}


def write(folder: Path, **more: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **more}))
    return folder


@pytest.mark.parametrize("place", ["num_classes", "pretrained_cfg", "model_args", "mean", "std", "input_size"])
def test_whatever_timms_configuration_holds_gives_facts_or_one_sentence(place: str, tmp_path: Path) -> None:
    for value in (7, -1, True, "x", [1], [0.5, "x", 1], {"a": 1}, {"img_size": "x"}, 1e999, 10**400, [10**400] * 3):
        inside = place in ("mean", "std", "input_size")
        change = {"pretrained_cfg": {place: value}} if inside else {place: value}
        told = {"architecture": "resnet10t", "num_classes": 12, **change}
        (tmp_path / "config.json").write_text(json.dumps(told))
        with contextlib.suppress(InputError):
            assert isinstance(model_info(tmp_path), ModelInfo)
        with pytest.raises(InputError):  # there are no weights
            load_timm(tmp_path)


def test_our_block_holds_the_facts(tmp_path: Path) -> None:
    info = ModelInfo(64, InputSpec(channel_order="BGR"), backbone="x", training_set="faces")
    assert model_info(write(tmp_path, zoo=asdict(info))) == info


def test_without_our_block_timms_configuration_tells(tmp_path: Path) -> None:
    found = model_info(write(tmp_path))
    assert (found.embedding_dim, found.backbone, found.neck, found.stem) == (64, "resnet18", "native", "stock")
    assert found.input == InputSpec(size=(96, 80))
    scaled = write(tmp_path, pretrained_cfg={"mean": [0.25] * 3, "std": [1.0] * 3})
    assert model_info(scaled).input == InputSpec(mean=63.75, std=255.0)
    built = write(tmp_path, model_args={"img_size": [112, 96]})
    assert model_info(built).input.size == (112, 96), "the size that the model is built with, not its first weights'"
    with pytest.raises(InputError, match="expected the size of the input"):
        model_info(write(tmp_path, model_args={"img_size": "large"}))


def test_an_input_normalised_otherwise_in_each_channel_is_stated_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path, pretrained_cfg={"mean": [0.5, 0.25, 0.125], "std": [0.25, 0.5, 0.25]})
    assert model_info(folder).input == InputSpec(mean=(127.5, 63.75, 31.875), std=(63.75, 127.5, 63.75))


def test_timm_learns_the_models_own_mean_and_std(tmp_path: Path) -> None:
    info = ModelInfo(DIM, InputSpec(mean=0.0, std=255.0), backbone="mobilefacenet")
    save_timm(create_backbone("mobilefacenet", DIM), tmp_path, asdict(info))
    config = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).pretrained_cfg
    assert (list(config["mean"]), list(config["std"])) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("iresnet18", {}),
        ("mobilefacenet", {}),
        ("facevit_tiny_patch9", {}),
        ("resnet18", {"neck": "gap"}),
        ("resnet18", {"neck": "native"}),
        ("convnext_atto", {"neck": "flat"}),
    ],
)
def test_timm_loads_stored_weights_for_other_classes_and_channels(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = create_backbone(name, DIM, **options).eval()
    save_timm(model, tmp_path, {})
    source, x = f"local-dir:{tmp_path}", torch.randn(2, 3, 112, 112)
    features = timm.create_model(source, pretrained=True, num_classes=0).eval()
    assert torch.equal(features.forward_features(x), model.forward_features(x))
    assert features(x).shape == (2, features.num_features)
    other = timm.create_model(source, pretrained=True, num_classes=5).eval()
    assert torch.equal(other.forward_features(x), model.forward_features(x)) and other(x).shape == (2, 5)
    grey = timm.create_model(source, pretrained=True, in_chans=1).eval()
    same = x[:, :1]  # timm sums the kernel over the colours
    expected = model(same.expand(-1, 3, -1, -1))
    assert (grey(same) - expected).abs().max() <= 1e-4 * expected.abs().max()
