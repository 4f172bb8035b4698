"""The parts of a run, and where its weights start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.toy_faces import write_people
from tests.support.training import TINY, start, tiny, weights
from zoo.backbones import blueprint_of
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.machine import cores
from zoo.train.build import build as parts_of
from zoo.train.build import choose_device, loader_workers
from zoo.train.config import TrainConfig, build
from zoo.train.loop import train


def test_unknown_centre_options_and_frozen_names_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean sample_rate"):
        parts_of(tiny(centres={"sample_rat": 0.1}), 5, torch.device("cpu"))
    with pytest.raises(InputError, match="no group of parameters is called 'bdoy'; did you mean body"):
        parts_of(tiny(freeze=["bdoy"]), 5, torch.device("cpu"))


def test_a_head_with_margins_by_class_sees_how_many_images_each_has(tmp_path: Path) -> None:
    write_people(tmp_path / "people", {"a": [(0, 0)], "b": [(1, image) for image in range(4)]})
    dataset = open_dataset(str(tmp_path / "people"))
    config = tiny(data=str(tmp_path / "people"), head="arcface", head_options={"count_power": 0.5}, batch_size=5)
    counts = parts_of(config, 2, torch.device("cpu"), dataset).criterion.class_counts
    assert counts is not None and counts.tolist() == [1, 4]
    assert parts_of(tiny(head="arcface"), 2, torch.device("cpu"), dataset).criterion.class_counts is None
    train(config, start(config, tmp_path / "run"))


def test_init_takes_the_weights_of_a_run_and_freeze_keeps_them(whole: tuple[Path, float], tmp_path: Path) -> None:
    config = tiny(init=str(whole[0]), freeze=["body.layer1", "body.conv1"], epochs=1, seed=3)
    run = start(config, tmp_path / "run")
    train(config, run)
    before, after = weights(whole[0]), weights(run)
    kept = [name for name in before if name.endswith("weight") and before[name].tobytes() == after[name].tobytes()]
    assert len(kept) > 5
    others = {name for name in kept if not name.startswith(("body.layer1", "body.conv1"))}
    assert others == {"neck.4.weight"}, "the scale of the last batch norm is 1 and never trained"
    with pytest.raises(InputError, match="expected --init weights of this backbone"):
        train(tiny(init=str(whole[0]), embedding_dim=11), start(config, tmp_path / "misfit"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "cuda:0"}, "expected a GPU for --device cuda:0, found none that torch can use"),
        ({"device": "cpu:1"}, "expected --device auto, cpu, cuda or cuda:N, found 'cpu:1'"),
        ({"device": "tpu"}, "expected --device auto, cpu, cuda or cuda:N, found 'tpu'"),
        ({"precision": "fp16"}, "expected --precision fp32 or bf16 on the CPU, found fp16"),
        ({"compile": True, "cuda_graphs": True}, "expected a GPU for --cuda-graphs, found the CPU"),
    ],
)
def test_a_device_that_cannot_be_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert choose_device(tiny(), 3) == torch.device("cpu")
    with pytest.raises(InputError, match=sentence):
        choose_device(tiny(**options))


def test_options_of_the_backbone_reach_timm_and_stay_in_the_model(tmp_path: Path) -> None:
    config = build({**TINY, "backbone": "test_vit", "neck": "gap", "backbone_options.drop_path_rate": "0.25"})
    model = parts_of(config, 5, torch.device("cpu")).model
    drops = [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]
    assert drops[-1] == pytest.approx(0.25)
    assert blueprint_of(model).args["options"] == {"drop_path_rate": 0.25}
    with pytest.raises(InputError, match=r"timm cannot build test_vit with .*no_such"):
        parts_of(tiny(backbone="test_vit", backbone_options={"no_such": 1}), 5, torch.device("cpu"))


def test_blocks_that_are_computed_again_give_the_same_gradients() -> None:
    config = tiny(backbone="test_vit", neck="gap")
    plain, again = (
        parts_of(c, 5, torch.device("cpu"))
        for c in (config, tiny(backbone="test_vit", neck="gap", grad_checkpointing=True))
    )
    again.model.load_state_dict(plain.model.state_dict())
    x = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    for parts in (plain, again):
        parts.model.eval()(x).square().sum().backward()
    gradients = [[p.grad for p in parts.model.parameters() if p.grad is not None] for parts in (plain, again)]
    assert len(gradients[0]) > 10 and all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    with pytest.raises(InputError, match="recompute its blocks, found mobilefacenet"):
        parts_of(tiny(backbone="mobilefacenet", neck="native", grad_checkpointing=True), 5, torch.device("cpu"))


def test_the_best_is_that_of_the_greatest_area_then_the_most_accurate() -> None:
    training = parts_of(tiny(), 5, torch.device("cpu"))
    asked = [(0.5, 0.6), (0.5, 0.6), (0.5, 0.7), (0.9, 0.4), (0.6, 0.7)]
    verdicts = [training.is_best({"accuracy": accuracy, "auc": auc}, "pairs") for accuracy, auc in asked]
    assert verdicts == [True, False, True, False, True]
    assert training.is_best({"accuracy": 0.1, "auc": 0.1}, "other pairs")


def test_the_average_is_what_is_saved_where_there_is_one() -> None:
    plain, averaged = (parts_of(tiny(**more), 5, torch.device("cpu")) for more in ({}, {"ema": 0.5}))
    assert plain.trained is plain.model and averaged.trained is averaged.average.module


def test_more_loader_processes_than_the_machine_can_take_are_refused() -> None:
    most = 8 * cores(threads=False)
    assert loader_workers(TrainConfig(workers=most), torch.device("cpu")) == most
    with pytest.raises(InputError, match=f"expected --workers of at most {most} on"):
        loader_workers(TrainConfig(workers=most + 1), torch.device("cpu"))
