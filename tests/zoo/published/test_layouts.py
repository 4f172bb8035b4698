"""A layout is recognised by its keys below any prefix, and only the named leftovers may be left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.official import SMALL, prefixed
from zoo.errors import InputError
from zoo.published.catalogue import catalogue
from zoo.published.layouts import LAYOUTS, Source, identity_norm, map_tensors, recognise


def test_names_are_those_below_the_prefix_and_what_is_taken_is_noted() -> None:
    source = Source({"net.a.weight": torch.ones(2, dtype=torch.float16), "other": torch.ones(1)}, "net.")
    assert "a.weight" in source and "other" not in source and source.names() == ["a.weight"]
    assert source.shape("a.weight") == (2,) and source.taken == set()
    assert source.take("a.weight").dtype == torch.float32 and source.taken == {"net.a.weight"}
    with pytest.raises(InputError, match=r"expected the tensor net\.b\.weight in the checkpoint"):
        source.take("b.weight")


def test_counts_go_to_the_largest_number() -> None:
    source = Source({f"body.{i}.x": torch.ones(1) for i in (0, 2, 10)})
    assert source.count(r"body\.(\d+)\.") == 11 and source.count(r"layer\.(\d+)") == 0


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_of_another_epsilon_computes_the_same(affine: bool) -> None:
    theirs, ours = nn.BatchNorm1d(5, eps=2e-5, affine=affine), nn.BatchNorm1d(5)
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.ndim:
                tensor.copy_(torch.rand(5) + 1e-5)
    state = {"other.weight": torch.ones(2)} | {f"bn.{name}": tensor for name, tensor in theirs.state_dict().items()}
    source = Source(state, eps=2e-5)
    ours.load_state_dict({name.removeprefix("x."): t for name, t in source.renamed([("bn", "x")]).items()})
    x = torch.randn(7, 5)
    assert torch.allclose(theirs.eval()(x), ours.eval()(x), rtol=1e-5) and source.taken == {*state} - {"other.weight"}
    wrong = Source(state).renamed([("bn", "x")])
    ours.load_state_dict({name.removeprefix("x."): t for name, t in wrong.items()})
    theirs.running_var.fill_(1e-5)  # where the epsilon matters
    state["bn.running_var"] = theirs.running_var
    ours.running_var.copy_(Source(state).renamed([("bn", "x")])["x.running_var"])
    assert not torch.allclose(theirs(x), ours(x), rtol=1e-2)


def test_the_identity_norm_changes_nothing() -> None:
    norm = nn.BatchNorm1d(3).eval()
    norm.load_state_dict({name.removeprefix("x."): tensor for name, tensor in identity_norm("x", 3).items()})
    x = torch.randn(50, 3) * 100
    assert torch.allclose(norm(x), x, rtol=1e-6)


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
