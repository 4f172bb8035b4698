"""Starting from trained weights: what they bring is inherited, early layers change less, known people keep centres."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.support.toy_faces import write_people
from tests.support.training import start, tiny, weights
from zoo.backbones import create_backbone, load_timm, model_info, save_timm
from zoo.errors import InputError
from zoo.modelinfo import InputSpec, ModelInfo, Origin
from zoo.train import checkpoint
from zoo.train.build import build as build_training
from zoo.train.build import build_schedule, parameter_groups
from zoo.train.checkpoint import CRITERION, newest_whole, read, write_centres
from zoo.train.config import build as build_config
from zoo.train.config import load_config
from zoo.train.finetune import LowRank, add_low_rank, merged
from zoo.train.loop import train
from zoo.train.start import inherited, train_in
from zoo.train.typed import load_recipe

CPU = torch.device("cpu")


ORIGIN = Origin("face-r18", "somebody/face:r18.ckpt", "ab" * 32, "magface (https://x)", leftovers=("fc.weight",))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose input is x / 255 in BGR."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(1)
    model = create_backbone("test_resnet", 9, neck="gap", stem="stock")
    spec = InputSpec(mean=0.0, std=255.0, channel_order="BGR")
    info = ModelInfo(9, spec, backbone="test_resnet", neck="gap", stem="stock", origin=ORIGIN)
    save_timm(model, folder, asdict(info))
    return folder


def test_the_input_and_the_architecture_of_the_weights_are_inherited_and_saved(published: Path, tmp_path: Path) -> None:
    given = {"init": str(published), "epochs": 1}
    config = tiny(**given, **inherited(tiny(**given), given))
    assert config.input == InputSpec(mean=0.0, std=255.0, channel_order="BGR")
    assert (config.backbone, config.stem, config.neck, config.embedding_dim) == ("test_resnet", "stock", "gap", 9)
    run = start(config, tmp_path / "run")
    train(config, run)
    assert model_info(run).input == config.input == load_config(run / "config.yaml").input
    assert json.loads((run / "config.json").read_text())["pretrained_cfg"]["std"] == [1.0] * 3


def test_a_run_tells_whose_weights_it_began_with_also_when_it_goes_on(published: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_in(run, tiny(init=str(published), epochs=1, backbone="test_resnet", neck="gap", stem="stock"))
    assert model_info(run).origin == ORIGIN
    train_in(run, replace(load_config(run / "config.yaml"), epochs=2), resume=True)
    assert model_info(run).origin == ORIGIN
    train_in(tmp_path / "fresh", tiny(epochs=1))
    assert model_info(tmp_path / "fresh").origin is None


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mean", 127.5, r"expected --mean 0\.0, as the weights of --init .* were trained with, found 127\.5"),
        ("channel_order", "RGB", "expected --channel-order BGR"),
    ],
)
def test_an_option_that_contradicts_the_input_of_the_weights_is_refused(
    published: Path, option: str, value: object, message: str
) -> None:
    given = {"init": str(published), option: value}
    with pytest.raises(InputError, match=message):
        inherited(tiny(**given), given)


def test_timms_weights_bring_their_own_mean_and_std() -> None:
    given = {"init": "timm", "backbone": "resnet18"}
    found = inherited(tiny(**given), given)
    np.testing.assert_allclose(found["mean"], [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(found["std"], [58.395, 57.12, 57.375], rtol=1e-6)
    assert inherited(tiny(**given), {**given, "mean": 127.5, "std": 127.5}) == {}


def test_while_the_centres_learn_alone_the_backbone_stays_as_it_is_with_its_statistics(
    published: Path, tmp_path: Path
) -> None:
    config = tiny(init=str(published), epochs=2, head_epochs=1, checkpoint_every=7, keep=9)
    run = start(config, tmp_path / "run")
    train(config, run)
    before = load_timm(published).state_dict()
    alone, after = (read(folder, "model.") for folder in checkpoint.steps(run / "checkpoint")[1:])
    assert all(torch.equal(alone[name], before[name]) for name in before)
    changed = [name for name in before if name in after and not torch.equal(after[name], before[name])]
    assert any(name.startswith("body.") for name in changed) and any(name.endswith("running_mean") for name in changed)
    first, second = (read(folder, CRITERION)["weight"] for folder in checkpoint.steps(run / "checkpoint")[1:])
    assert not torch.equal(first, second)


def test_the_rate_warms_up_after_the_centres_and_their_own_peak_is_theirs() -> None:
    config = tiny(
        **{"epochs": 5, "head_epochs": 1, "warmup_epochs": 1, "schedule": "cosine", "lr": 0.1, "centre_lr": 0.4}
    )
    training = build_training(config, 5, CPU)
    rates = []
    for optimizer in (training.optimizer, training.centre_optimizer):
        schedule = build_schedule(config, optimizer, 10, centres=optimizer is training.centre_optimizer)
        found = []
        for step in range(50):
            schedule(step)
            found.append(optimizer.param_groups[0]["lr"])
        rates.append(found)
    backbone, centres = np.array(rates)
    assert np.allclose(backbone[:11], 0.001) and np.isclose(backbone.max(), 0.1, rtol=0.1) and backbone[-1] < 0.001
    assert np.allclose(centres[:11], 0.4) and np.allclose(centres[20:], 4 * backbone[20:])


LAYERED = ["resnet18", "iresnet18", "mobilefacenet", "vit_tiny_patch16_224", "facevit_tiny_patch9"]


@pytest.mark.parametrize("name", LAYERED)
def test_each_layer_learns_slower_than_the_next_and_the_neck_at_the_full_rate(name: str) -> None:
    model = create_backbone(name, 7)
    groups = parameter_groups(tiny(backbone=name, layer_decay=0.5, decay_norms=False), model)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert scale.keys() == {id(p) for _, p in named}
    first, last = named[0][1] if not name.startswith("vit") else model.body.patch_embed.proj.weight, named[-1][1]
    assert scale[id(first)] == min(scale.values()) <= 0.5**6 and scale[id(last)] == 1
    assert all((decay[id(p)] == 0) == (p.ndim <= 1) for n, p in named if "pos_embed" not in n and "token" not in n)
    assert sorted(set(scale.values())) == [0.5**n for n in range(len(set(scale.values())) - 1, -1, -1)]


IMAGENET = (123.675, 116.28, 103.53)
FOUNDATION = {
    "vit_small_patch14_dinov2.lvd142m": IMAGENET,
    "vit_small_patch16_dinov3.lvd1689m": IMAGENET,
    "convnext_tiny.dinov3_lvd1689m": IMAGENET,
    "vit_base_patch16_clip_224.openai": (122.770938, 116.746013, 104.093737),
}
"""The mean pixel of each one's training."""


@pytest.mark.parametrize("name", FOUNDATION)
def test_a_foundation_model_of_timm_takes_crops_its_own_scale_and_the_recipe(name: str) -> None:
    given = {"init": "timm", "backbone": name}
    values = {**load_recipe("finetune-small"), **given, "data": "synthetic"}
    config = build_config({**values, **inherited(build_config(values), given)})
    np.testing.assert_allclose(config.input.mean, FOUNDATION[name], rtol=1e-6)
    model = create_backbone(name, 7)
    assert model.map_shape[1:] in ((196, 1), (7, 7)) and isinstance(
        model.eval()(torch.zeros(1, 3, 112, 112)), torch.Tensor
    )
    groups = parameter_groups(config, model)
    assert min(group["lr_scale"] for group in groups) < 0.01 and max(group["lr_scale"] for group in groups) == 1
    if "vit" in name:
        add_low_rank(model, 2)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) < 0.05 * sum(
            p.numel() for p in model.parameters()
        )


def test_without_the_options_of_fine_tuning_there_is_one_group_as_before() -> None:
    model = create_backbone("test_resnet", 7, stem="stock")
    (group,) = parameter_groups(tiny(), model)
    assert list(group) == ["params"] and len(group["params"]) == sum(p.requires_grad for p in model.parameters())


def small_vit() -> nn.Module:
    return create_backbone("facevit_tiny_patch9", 7, image_size=(27, 27))


def test_an_adapter_starts_as_nothing_and_merges_into_the_plain_architecture() -> None:
    torch.manual_seed(0)
    plain = small_vit().eval()
    adapted = small_vit().eval()
    adapted.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 27, 27)
    add_low_rank(adapted, 3)
    assert torch.equal(adapted(x), plain(x))
    learning = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(name.startswith("neck.") or name.endswith((".up", ".down")) for name in learning)
    assert any(name.startswith("neck.") for name in learning)
    with torch.no_grad():
        for module in adapted.modules():
            if isinstance(module, LowRank):
                module.up.normal_(std=0.1)
    single = small_vit().eval()
    single.load_state_dict(merged(adapted))
    assert not torch.allclose(adapted(x), plain(x)) and torch.allclose(single(x), adapted(x), atol=1e-5)
    weight = single.blocks[0].mlp.fc1.weight - plain.blocks[0].mlp.fc1.weight
    assert int(torch.linalg.matrix_rank(weight, atol=1e-4)) == 3
    assert merged(plain).keys() == plain.state_dict().keys()


def test_a_network_without_linear_layers_takes_no_adapters() -> None:
    with pytest.raises(InputError, match="expected a transformer for --low-rank"):
        add_low_rank(create_backbone("iresnet18", 7), 2)


def test_a_run_with_adapters_saves_a_plain_model_and_resumes(tmp_path: Path) -> None:
    config = tiny(backbone="test_vit", neck="native", low_rank=2, epochs=2, ema=0.5)
    whole, parts = start(config, tmp_path / "whole"), start(config, tmp_path / "parts")
    train(config, whole)
    first = tiny(**{**asdict(config), "epochs": 2})
    names = set(safetensors.torch.load_file(whole / "model.safetensors"))
    assert names == set(create_backbone("test_vit", 9, neck="native", stem="stock").state_dict())
    assert write_centres(whole, tmp_path / "centres.safetensors")[1:] == (9,), "the weights are of the same step"
    train(first, parts)
    (parts / "checkpoint/latest").write_text(checkpoint.steps(parts / "checkpoint")[0].name)
    for folder in checkpoint.steps(parts / "checkpoint")[1:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    train(config, parts, resume=True)
    ours, theirs = weights(whole), weights(parts)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_known_people_keep_their_centres_by_name_and_new_ones_start_afresh(tmp_path: Path) -> None:
    old = write_people(tmp_path / "old", {name: [(7, 1), (7, 2)] for name in ("ann", "bob", "cid")})
    new = write_people(tmp_path / "new", {name: [(9, 1), (9, 2)] for name in ("bea", "bob", "cid", "dan")})
    first = tiny(data=str(old), epochs=1, batch_size=3)
    run = start(first, tmp_path / "run")
    train(first, run)
    config = tiny(data=str(new), epochs=1, batch_size=3, init=str(run), init_centres=True)
    from zoo.data.open import open_dataset

    dataset = open_dataset(str(new))
    ours = build_training(config, 4, CPU, dataset).criterion.weight
    theirs = read(newest_whole(run / "checkpoint"), CRITERION)["weight"]
    fresh = build_training(tiny(**{**asdict(config), "init_centres": False}), 4, CPU, dataset).criterion.weight
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2], theirs[2])
    assert torch.equal(ours[0], fresh[0]) and torch.equal(ours[3], fresh[3])
    assert not torch.equal(ours[1], fresh[1])


def test_centres_without_a_run_to_take_them_from_are_refused() -> None:
    with pytest.raises(InputError, match="expected --init-centres to be false without an --init that is a run"):
        tiny(init_centres=True)
