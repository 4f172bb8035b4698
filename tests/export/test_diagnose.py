"""A wrong export is traced to the layer that it first gets wrong."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.exporting import Tiny, trained_a_little
from zoo.export import parity
from zoo.export.diagnose import diagnose, graph_tensors, layer_outputs, rounding
from zoo.export.onnx import save, to_proto
from zoo.modelinfo import InputSpec

INPUTS = InputSpec().to_input(parity.crops_for_parity((112, 112), 3))


def plain(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 16, 16), *layers, nn.Flatten(), nn.Linear(245, 7)).eval()


def file_of(model: nn.Module, folder: Path, wrong: str = "") -> Path:
    """The export of `model` with the weights of the layer `wrong` negated."""
    other = copy.deepcopy(model)
    if wrong:
        with torch.no_grad():
            other.get_submodule(wrong).weight.neg_()
    save(to_proto(other, (112, 112)), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        ("0", "they differ from the first layer on, 0"),
        ("1", "they agree up to the layer 0 and differ from 1 on"),
        ("3", "they agree up to the layer 2 and differ from 3 on"),
    ],
)
def test_the_first_wrong_layer_is_named(wrong: str, clause: str, tmp_path: Path) -> None:
    model = plain(nn.Conv2d(5, 5, 1))
    assert diagnose(model, file_of(model, tmp_path, wrong), INPUTS) == clause
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


class Doubled(nn.Module):
    """Arithmetic after its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.layers(x) * 2
        return embedding


def test_what_follows_the_last_layer_is_told_apart(tmp_path: Path) -> None:
    model = Doubled().eval()
    assert diagnose(model, file_of(model, tmp_path), INPUTS) == (
        "they agree up to the last layer, layers, and differ after it"
    )


def test_layers_that_the_export_folds_away_are_passed_over(tmp_path: Path) -> None:
    model = trained_a_little(Tiny())
    with torch.no_grad():
        path = file_of(model, tmp_path, "neck.3")
    assert diagnose(model, path, INPUTS) == "they agree up to the layer norm and differ from neck.0 on"


def test_values_are_those_of_the_last_two_inputs() -> None:
    model = plain(nn.ReLU())
    with torch.inference_mode():
        expected = model[0](torch.from_numpy(INPUTS[-2:])).numpy()
    (name, values), *_ = layer_outputs(model, INPUTS)
    assert name == "0" and values.shape == (2, 5, 7, 7)
    assert parity.agree(values, expected)


def test_every_tensor_of_the_graph_is_found_whatever_fits_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(plain(nn.ReLU(), nn.Conv2d(5, 5, 1)), tmp_path)
    whole = graph_tensors(path, INPUTS)
    monkeypatch.setattr("zoo.export.diagnose.HELD", 1)
    assert [tensor.shape for tensor in graph_tensors(path, INPUTS)] == [tensor.shape for tensor in whole]
    assert len(whole) >= 3


class Cancelling(nn.Module):
    """Loses most of its digits in float32: (x + large) − large."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.large = large
        self.layers = plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.layers(x) + self.large - self.large
        return embedding


class InFloat32(nn.Module):
    """Has a tensor that does not become float64 with the rest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ torch.ones(3 * 112 * 112, 2)


def test_torchs_own_rounding_tells_an_ill_conditioned_model() -> None:
    bad, good = rounding(Cancelling(1e6).eval(), INPUTS), rounding(Cancelling(0.0).eval(), INPUTS)
    assert bad is not None and not bad.within and good is not None and good.within
    assert rounding(InFloat32(), INPUTS) is None
