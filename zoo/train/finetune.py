"""Starting from trained weights: adapters of low rank, and the class centres of people who were known before."""

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from zoo.data.base import FaceDataset
from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss
from zoo.messages import log
from zoo.train.checkpoint import CRITERION, newest_whole, read
from zoo.train.config import load_config
from zoo.train.people import open_training


class LowRank(nn.Module):
    """W → W + U·D with U (outputs, rank) and D (rank, inputs): LoRA, Hu et al. 2021, equation 3, with α equal to r."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.empty(rank, inputs))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(outputs, inputs) → (outputs, inputs)."""
        return weight + self.up @ self.down


def add_low_rank(model: nn.Module, rank: int) -> None:
    """Leaves `model` to learn an adapter of `rank` beside each linear layer of its body, and its neck, in place.

    InputError for a model without linear layers before its neck: adapters are for transformers.
    """
    neck: nn.Module = model.get_classifier()  # type: ignore[operator]
    last = {id(module) for module in neck.modules()}
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in last]
    if not linears:
        raise InputError("expected a transformer for --low-rank, found a model without linear layers; leave it out")
    learning = [parameter for parameter in neck.parameters() if parameter.requires_grad]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for linear in linears:
        parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, min(rank, *linear.weight.shape)))
    for parameter in learning:
        parameter.requires_grad_(True)


def merged(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of `model` as the plain architecture has them: each adapter is added to the matrix beside it."""
    state: dict[str, torch.Tensor] = {
        name: tensor for name, tensor in model.state_dict().items() if ".parametrizations." not in f".{name}"
    }
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            state[f"{name}.weight"] = module.weight.detach()
    return state


def start_centres(criterion: MarginSoftmaxLoss, run: Path, dataset: FaceDataset) -> int:
    """Gives people whom `run` was trained on the class centres that it has for them; returns how many there are.

    People are the same where their labels are: names, or the numbers of sets that have no names. InputError where the
    run has no checkpoint, its training set is not there any more, or its centres have another shape.
    """
    config = load_config(run / "config.yaml")
    old, _ = open_training(config, (112, 112))
    centres = read(newest_whole(run / "checkpoint"), CRITERION)["weight"]
    ours = criterion.weight
    if centres.shape[1:] != ours.shape[1:]:
        found = f"found {tuple(centres.shape[1:])}; leave out --init-centres"
        raise InputError(f"expected class centres of shape {tuple(ours.shape[1:])} each in {run}, {found}")
    before = {label: row for row, label in enumerate(labels_of(old))}
    labels, kept = labels_of(dataset), 0
    with torch.no_grad():
        for row, person in enumerate(criterion.classes):
            label = labels[person]
            if label in before:
                ours[row].copy_(centres[before[label]])
                kept += 1
    log.info("%d of %d class centres start as those of %s", kept, len(ours), run)
    return kept


def labels_of(dataset: FaceDataset) -> list[str]:
    """What a set calls its identities: their names, or else their numbers."""
    names = getattr(dataset, "identities", None)
    return list(names) if names is not None else [str(label) for label in range(dataset.num_classes)]
