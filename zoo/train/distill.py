"""Learning from another model: its embeddings of the training pictures as targets, with or without the labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.data.base import FaceDataset
from zoo.errors import InputError
from zoo.files import atomic_path
from zoo.formats.images import Image
from zoo.heads import MarginSoftmaxLoss
from zoo.inference.embed import embed
from zoo.messages import log
from zoo.resolve import load_embedder
from zoo.train.config import TrainConfig
from zoo.train.distributed import Rank, everywhere

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


@dataclass(frozen=True)
class Intact:
    """The pictures of a set, None for one that is damaged."""

    dataset: FaceDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Image | None:
        try:
            return self.dataset.image(index)
        except InputError:
            return None


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
    pictures = Intact(dataset) if config.on_corrupt == "skip" else dataset
    found = embed(model, pictures, dim=model.embedding_dim)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, found / np.maximum(norms, np.finfo(np.float32).tiny))
