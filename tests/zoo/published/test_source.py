"""A source gives each tensor once, in float32, and whole norms whatever their epsilon."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.published.source import Source, identity_norm


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
