"""Training options: read by their types from every source, refused in one sentence, kept by a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.training import tiny
from zoo.errors import InputError
from zoo.train.config import (
    DESCRIPTIONS,
    OPTIONS,
    TrainConfig,
    build,
    changes,
    load_config,
    option_names,
    plain,
    save_config,
    set_option,
)
from zoo.train.typed import load_recipe


def said(*assignments: str) -> dict[str, Any]:
    """What a command line gives by --set."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        set_option(values, assignment)
    return values


def test_every_option_survives_the_yaml_of_a_run(tmp_path: Path) -> None:
    config = tiny(milestones=(1, 2), ema=0.5)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_only_harmless_options_may_change_on_resume_and_those_that_mend_it() -> None:
    firm = {"resumable": False, "mendable": False}
    assert list(changes(tiny(), tiny(log_every=1, workers=2, threads=2), **firm)) == []
    assert list(changes(tiny(), tiny(lr=0.2, head="arcface", seed=3), **firm)) == ["head", "seed"]
    assert set(option_names(mendable=True)) == {
        *("data", "on_corrupt", "lr", "centre_lr", "clip_norm", "precision", "deterministic", "skip_nonfinite")
    }


def test_an_option_must_be_known_and_of_two_values_the_last_counts_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert said("lr=0.5", "lr=0.5") == {"lr": "0.5"} and not caplog.text
    assert said("lr=0.5", "lr=0.001") == {"lr": "0.001"}
    assert "--lr is given as 0.5 and as 0.001: the last one counts" in caplog.text
    with pytest.raises(InputError, match="no training option is called 'name'"):
        said("name=x")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decay": -3}, r"expected --decay to be a fraction in \(0, 1\], found -3"),
        ({"skip_nonfinite": -1}, "expected --skip-nonfinite to be 0 or more, found -1"),
        ({"seed": -1}, "expected --seed to be 0 or more, found -1"),
        ({"epochs": 0}, "expected --epochs to be at least 1, found 0"),
        ({"milestones": [99]}, r"expected --milestones to be epochs between 1 and 33, found \[99\]"),
        ({"lerning_rate": 1}, "no training option is called 'lerning_rate'"),
        ({"batch_sise": 1}, "did you mean batch_size"),
        ({"lr": "fast"}, "expected --lr to be a number, found 'fast'"),
        ({"batch_size": 6, "accumulate": 4}, "expected --accumulate to be a divisor of the batch size 6, found 4"),
        ({"freeze": "body"}, "expected --freeze"),
        ({"stem": "fase"}, "expected --stem to be face or stock, found 'fase'"),
        ({"checkpoint_minutes": 0}, "expected --checkpoint-minutes to be a positive number of minutes, found 0"),
        ({"checkpoint_every": 0}, "expected --checkpoint-every to be at least 1, found 0"),
        ({"min_images": 3, "max_images": 2}, "expected --max-images to be at least --min-images 3, found 2"),
        ({"on_corrupt": "ignore"}, "expected --on-corrupt to be error or skip, found 'ignore'"),
        (
            {"fsdp": True},
            "expected --fsdp to be false without --optimizer adamw",
        ),
        ({"log": "aim"}, "expected --log to be none or tensorboard or wandb or mlflow, found 'aim'"),
    ],
)
def test_wrong_options_get_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build(options)


@pytest.mark.parametrize(
    ("assignment", "option", "value"),
    [
        ("data=2024", "data", "2024"),
        ("data=on", "data", "on"),
        ("data=~", "data", "~"),
        ("data=1.50", "data", "1.50"),
        ("validation=none", "validation", "none"),
        ("log=none", "log", "none"),
        ("lr=1e-2", "lr", 0.01),
        ("epochs=1e1", "epochs", 10),
        ("max-images=none", "max_images", None),
        ("max_images=~", "max_images", None),
        ("workers=0", "workers", 0),
        ("clip_norm=5", "clip_norm", 5.0),
        ("compile=yes", "compile", True),
        ("compile=0", "compile", False),
        ("milestones=[2, 3]", "milestones", (2, 3)),
        ("milestones=none", "milestones", None),
        ("freeze=[no, 1e3, on]", "freeze", ("no", "1e3", "on")),
        ("centres.sample_rate=5e-1", "centres", {"sample_rate": 0.5}),
        ("centres.memory_budget=1e8", "centres", {"memory_budget": 100_000_000}),
        ("centres.chunk_size=none", "centres", {"chunk_size": None}),
        ("centres.chunk_size=auto", "centres", {"chunk_size": "auto"}),
        ("centres.chunk_size=128", "centres", {"chunk_size": 128}),
        ("centres.compiled=on", "centres", {"compiled": True}),
        ("centres={sample_rate: 1e-1, sub_centres: 3}", "centres", {"sample_rate": 0.1, "sub_centres": 3}),
        ("head_options.alpha=1e-2", "head_options", {"alpha": 0.01}),
        ("head_options.constants=derived", "head_options", {"constants": "derived"}),
    ],
)
def test_a_text_is_read_by_the_options_type_from_the_command_line_and_from_a_recipe(
    tmp_path: Path, assignment: str, option: str, value: object
) -> None:
    found = getattr(build(said(assignment)), option)
    assert found == value and type(found) is type(value)
    if isinstance(value, dict):
        assert [type(part) for part in found.values()] == [type(part) for part in value.values()]
    name, _, text = assignment.partition("=")
    first, *parts = name.replace("-", "_").split(".")
    recipe = f"{first}: {{{parts[0]}: {text}}}" if parts else f"{first}: {text}"
    (tmp_path / "mine.yaml").write_text(recipe)
    assert getattr(build(load_recipe(str(tmp_path / "mine.yaml"))), option) == value


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (["centres.chunk_size=foo"], "expected centres.chunk_size to be a whole number or auto or none, found 'foo'"),
        (["centres.compiled=maybe"], "expected centres.compiled to be true or false, found 'maybe'"),
        (["centres.sub_centres=1.5"], "expected centres.sub_centres to be a whole number, found '1.5'"),
        (["centres.memory_budget=1e400"], "expected centres.memory_budget to be a whole number or none, found '1e400'"),
        (["centres.sample_rat=1"], "no option of the class centres is called 'sample_rat'; did you mean sample_rate?"),
        (["centres.seed=1"], "no option of the class centres is called 'seed'"),
        (["centres=fast"], "expected --centres to be options such as {margin: 0.3}, found 'fast'"),
        (["centres={a: {b: 1}}"], "expected --centres to be options such as"),
        (["head_options.alpha=foo"], "expected head_options.alpha to be a number, found 'foo'"),
        (["head_options.constants=parer"], "expected head_options.constants to be paper or derived, found 'parer'"),
        (["head_options.m=1"], "no option of the head recurricularface is called 'm'"),
        (["lr=0.1", "lr.x=1"], "expected --lr to be a number, found --set lr.x=1"),
        (["lr.x=1", "lr=0.1"], "expected --lr to be a number, found --set lr.x=1"),
        (["lr="], "expected --lr to be a number, found ''"),
        (["lr=none"], "expected --lr to be a number, found 'none'"),
        (["epochs=yes"], "expected --epochs to be a whole number, found 'yes'"),
        (["epochs=3.5"], "expected --epochs to be a whole number, found '3.5'"),
        (["milestones=[1, x]"], r"expected --milestones to be a list such as [1, 2] or none, found '[1, x]'"),
        (["milestones=[1"], r"expected --milestones to be a list such as [1, 2] or none, found '[1'"),
        (["curves=2"], "expected --curves to be true or false, found '2'"),
        (["=3"], "no training option is called ''"),
    ],
)
def test_a_text_that_is_of_another_type_is_one_sentence(assignments: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        build(said(*assignments))
    assert str(refusal.value).startswith(sentence) and "\n" not in str(refusal.value)


def test_one_part_of_an_option_leaves_the_others_of_a_recipe_as_they_are() -> None:
    values = {"head_options": {"scale": "32", "margin": "0.4"}, **said("head_options.margin=0.3")}
    assert build(values).head_options == {"scale": 32.0, "margin": 0.3}
    assert build({**values, **said("head_options={alpha: 0.5}")}).head_options == {"alpha": 0.5, "margin": 0.3}


def test_a_saved_run_loads_without_the_package_that_brought_its_head(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"head": "of a plugin", "head_options": {"gain": 2.5}}))
    assert load_config(tmp_path / "config.yaml").head_options == {"gain": 2.5}
    with pytest.raises(InputError, match="no head is called 'of a plugin'"):
        build(plain(load_config(tmp_path / "config.yaml")))


def test_every_option_is_described_and_knows_what_else_is_true_of_it() -> None:
    assert list(OPTIONS) == list(plain(TrainConfig())) == list(DESCRIPTIONS)
    assert all(text and "\n" not in text for text in DESCRIPTIONS.values())
    assert option_names() == tuple(OPTIONS)
    assert option_names(varied=True) == ("head", "seed")
    assert {name: OPTIONS[name].grid_flag for name in ("head", "seed", "data", "lr")} == {
        "head": "--heads",
        "seed": "--seeds",
        "data": "--data",
        "lr": "",
    }
    assert {"data", "init", "device"} < set(option_names(told=False)) and "head" in option_names(told=True)
    assert set(option_names(resumable=True)).isdisjoint({"lr", "seed", "batch_size", "on_corrupt", "precision"})
