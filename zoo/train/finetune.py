"""Learning from models that are trained already: from their weights, their class centres, or as a teacher's pupil."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from zoo.data.base import FaceDataset
from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.heads import MarginSoftmaxLoss
from zoo.inference.embed import embed
from zoo.messages import log
from zoo.resolve import load_embedder
from zoo.train.checkpoint import CRITERION, newest_whole, read
from zoo.train.config import TrainConfig, load_config
from zoo.train.distributed import Rank, everywhere
from zoo.train.people import Intact, open_training


class LowRank(nn.Module):
    """W → W + U·D with U (outputs, rank) and D (rank, inputs): LoRA, Hu et al. 2021, equation 3, with α equal to r."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.empty(rank, inputs))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
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
    old, _ = open_training(load_config(run / "config.yaml"), (112, 112))
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


STORED = "teacher.npy"
"""In the run's folder: what the teacher makes of each training picture, so that a resumed run need not ask again."""


@dataclass(frozen=True)
class Teacher:
    """The directions that a model gives the pictures of a training set."""

    directions: npt.NDArray[np.float32]  #: (images, dim), unit vectors; zeros for a picture that could not be read
    kind: Literal["cosine", "logits"]

    def loss(self, embeddings: Tensor, indices: Tensor, criterion: MarginSoftmaxLoss) -> Tensor:
        """How far a batch is from the teacher, a scalar: embeddings (batch, dim), indices (batch,) of the pictures.

        "cosine": the mean of 1 − cos. "logits": KL(teacher ‖ student) of the softmax over the class centres, at the
        head's scale, with the dense matrix of both; the centres get no gradient from it.
        """
        pictures = indices.numpy() % len(self.directions)
        target = torch.from_numpy(self.directions[pictures]).to(embeddings.device, embeddings.dtype)
        if self.kind == "cosine":
            return (1 - F.cosine_similarity(embeddings, target)).mean()
        centres = F.normalize(criterion.weight.detach().flatten(0, -2)).to(embeddings.dtype)
        scale = criterion.head.scale
        ours, theirs = (F.log_softmax(scale * F.normalize(x) @ centres.T, 1) for x in (embeddings, target))
        return F.kl_div(ours, theirs, log_target=True, reduction="batchmean")

    @torch.no_grad()
    def start_centres(self, criterion: MarginSoftmaxLoss, labels: npt.NDArray[np.int64]) -> None:
        """Turns each class centre to the mean direction of its pictures; its norm stays."""
        sums = np.zeros((criterion.num_classes, self.directions.shape[1]), np.float32)
        np.add.at(sums, labels, self.directions)
        own = F.normalize(torch.from_numpy(sums[criterion.classes.start : criterion.classes.stop])).to(criterion.weight)
        criterion.weight.copy_(own * criterion.weight.norm(dim=1, keepdim=True))


def open_teacher(
    config: TrainConfig, run: Path, dataset: FaceDataset, criterion: MarginSoftmaxLoss, rank: Rank
) -> Teacher | None:
    """The teacher of a run, after it has embedded every picture once, mirrored too, and given the centres their start.

    InputError where its embeddings have another dimension than the run's, and for logits over sharded centres.
    """
    if not config.teacher:
        return None
    if config.teacher_loss == "logits" and criterion.ranks:
        raise InputError("expected one process for --teacher-loss logits, found several; use --teacher-loss cosine")
    stored = run / STORED
    if rank.first and not stored.is_file():
        write_directions(config, stored, dataset)
    directions = np.load(everywhere(stored, rank), mmap_mode="r")
    if directions.shape != (len(dataset), config.embedding_dim):
        wanted = f"{len(dataset)} pictures and {config.embedding_dim} dimensions"
        raise InputError(f"expected {STORED} of {wanted} in {run}, found {directions.shape}; remove it")
    teacher = Teacher(directions, config.teacher_loss)
    if criterion.sub_centres == 1 and not config.init_centres:
        teacher.start_centres(criterion, dataset.labels)
    return teacher


def write_directions(config: TrainConfig, path: Path, dataset: FaceDataset) -> None:
    """Embeds the pictures of `dataset` by the teacher of `config`: unit vectors (images, dim), as float32."""
    options = {"device": config.device, "threads": config.threads}
    try:
        model = load_embedder(config.teacher, "onnx", **options)
    except InputError:
        model = load_embedder(config.teacher, "torch", **options)
    if model.embedding_dim != config.embedding_dim:
        other = f"found {model.embedding_dim} in {config.teacher}; train with --embedding-dim {model.embedding_dim}"
        raise InputError(f"expected a teacher of {config.embedding_dim} dimensions, {other}")
    log.info("%s embeds %d pictures, each once", config.teacher, len(dataset))
    found = embed(model, Intact(dataset) if config.on_corrupt == "skip" else dataset, dim=model.embedding_dim)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny))
