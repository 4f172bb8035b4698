"""A layout is recognised by its keys below any prefix, and only the named leftovers may be left."""

from __future__ import annotations

import pytest
import torch

from tests.support.official import SMALL, prefixed
from zoo.errors import InputError
from zoo.published.catalogue import catalogue
from zoo.published.layouts import LAYOUTS, map_tensors, recognise

LAYOUT_OF = {"arcface_torch": "arcface_torch", "adaface": "ir", "mbf": "mbf", "vit": "vit", "edgeface": "edgeface"}


def keys(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return SMALL[name].network().state_dict()


@pytest.mark.parametrize("name", LAYOUT_OF)
def test_every_layout_is_recognised_below_any_prefix(name: str) -> None:
    plain, own = keys(name), "model." if name == "edgeface" else ""
    assert recognise(plain) == (LAYOUT_OF[name], own)
    assert recognise(prefixed("module.net.", plain)) == (LAYOUT_OF[name], f"module.net.{own}")


def test_every_layout_is_tried() -> None:
    assert set(LAYOUT_OF.values()) == set(LAYOUTS)


def test_a_resnet_of_torchvisions_keys_is_none_of_them() -> None:
    with pytest.raises(InputError, match="found others"):
        recognise({"layer1.0.bn3.weight": torch.ones(1), "conv1.weight": torch.ones(1)})


@pytest.mark.parametrize("leftover", ["weight", "module.fc.weight", "head.kernel", "mask_token"])
def test_known_leftovers_are_left_and_told(leftover: str) -> None:
    state = {name: torch.ones(tensor.shape) for name, tensor in keys("mbf").items()}
    convention = catalogue().convention("arcface_torch", "mbf")
    mapped, left = map_tensors({**state, leftover: torch.ones(1)}, convention)
    assert left == (leftover,) and mapped.architecture == "mbf"
    with pytest.raises(InputError, match="found fc2"):
        map_tensors({**state, "fc2": torch.ones(1)}, convention)


def test_a_convention_of_another_layout_is_refused() -> None:
    with pytest.raises(InputError, match="expected the keys of the layout ir for adaface, found those of mbf"):
        map_tensors(keys("mbf"), catalogue().convention("adaface", "ir"))


def test_two_models_in_one_file_are_not_mixed() -> None:
    state = {name: torch.ones(tensor.shape) for name, tensor in keys("mbf").items()}
    both = {**prefixed("student.", state), **prefixed("teacher.", state)}
    with pytest.raises(InputError, match=r"found (student|teacher)\..* and \d+ more"):
        map_tensors(both, catalogue().convention("arcface_torch", "mbf"))
