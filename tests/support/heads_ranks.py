"""What each rank of a gloo group does for test_sharded.py: `python -m tests.support.heads_ranks` with its rank.

The same cases run in one process there; every rank saves what it saw and the test compares.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tests.support.heads import Learned
from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss, RowwiseSGD, build_head, clip_grad_norm, keep_shards_local

BATCH, DIM, STEPS = 6, 5, 2


@dataclass(frozen=True)
class Case:
    """One loss to be computed by one process and by several."""

    head: str
    classes: int
    chunk_size: int | None
    sub_centres: int = 1
    sample_rate: float = 1.0
    label_smoothing: float = 0.0
    filter_above: float | None = None
    reduction: str = "mean"

    def __str__(self) -> str:
        return "-".join(map(str, dataclasses.astuple(self)))

    def loss(self, group: dist.ProcessGroup | None) -> MarginSoftmaxLoss:
        return MarginSoftmaxLoss(
            Learned() if self.head == "learned" else build_head(self.head),
            self.classes,
            DIM,
            chunk_size=self.chunk_size,
            memory_budget=BATCH * 4 * 8,
            sub_centres=self.sub_centres,
            sample_rate=self.sample_rate,
            label_smoothing=self.label_smoothing,
            filter_above=self.filter_above,
            reduction=self.reduction,
            process_group=group,
            seed=3,
        ).double()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The global batch; its labels touch both ends of every shard of 2 and of 3 ranks where there are enough."""
        generator = torch.Generator().manual_seed(step)
        ends = torch.tensor([0, self.classes // 2 - 1, self.classes // 2, self.classes - 1, self.classes // 3, 0])
        embeddings = 20 * torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64)
        return embeddings, (ends + step).clamp_min(0) % self.classes


CASES = [
    *(Case(head, 23, chunk_size) for head in HEADS for chunk_size in (None, 4)),
    *(Case(head, classes, 1) for head in ("recurricularface", "adaface") for classes in (2, 3)),
    Case("softmax", 2, None),
    Case("curricularface", 23, 4, sub_centres=3),
    Case("magface", 23, None, sub_centres=2),
    *(Case(head, classes, 1) for head in ("uniface", "learned") for classes in (2, 3)),
    *(Case("learned", 23, chunk_size) for chunk_size in (None, 4)),
    *(Case("arcface", 23, chunk_size, label_smoothing=0.2) for chunk_size in (None, 4)),
    Case("recurricularface", 23, 4, filter_above=0.3),
    Case("magface", 23, 4, reduction="none"),
]
SAMPLED = [Case("recurricularface", 23, 4, sample_rate=0.4), Case("adaface", 23, None, 2, sample_rate=0.4)]
CHECKPOINT = Case("recurricularface", 23, 4)


def observe(case: Case, group: dist.ProcessGroup | None) -> list[dict[str, Any]]:
    """Two training steps of the loss alone: values, gradients and running state of each."""
    rank, ranks = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    loss = case.loss(group)
    seen = []
    for step in range(STEPS):
        embeddings, labels = (part.chunk(ranks)[rank] for part in case.batch(step))
        embeddings = embeddings.clone().requires_grad_()
        loss.weight.grad = None
        loss.head.zero_grad()
        value = loss(embeddings, labels)
        value.mean().backward()
        gradient = loss.weight.grad
        seen.append(
            {
                "loss": value.detach(),
                "embeddings": embeddings.grad / ranks,  # DDP's average is undone here
                "weight": gradient.to_dense(),
                "rows": gradient.coalesce().indices()[0] + loss.classes.start if gradient.is_sparse else None,
                "stats": loss.stats(),
                "finite": loss.finite,
                "state": {k: v.clone() for k, v in loss.state_dict().items() if k != "weight"},
                "head": [parameter.grad for parameter in loss.head.parameters()],
            }
        )
    return seen


def train(group: dist.ProcessGroup | None) -> dict[str, Any]:
    """A backbone under DDP with sharded centres and one clip norm: its parameters after two steps."""
    rank, ranks = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    torch.manual_seed(0)
    backbone: torch.nn.Module = torch.nn.Linear(DIM, DIM).double()
    if group:
        backbone = torch.nn.parallel.DistributedDataParallel(backbone, process_group=group)
    loss = CHECKPOINT.loss(group)
    steps = [torch.optim.SGD(backbone.parameters(), lr=0.1), RowwiseSGD([loss.weight], lr=0.1, momentum=0.9)]
    norms = []
    for step in range(STEPS):
        embeddings, labels = (part.chunk(ranks)[rank] for part in CHECKPOINT.batch(step))
        for optimizer in steps:
            optimizer.zero_grad()
        loss(backbone(embeddings), labels).backward()
        norms.append(clip_grad_norm(backbone.parameters(), [loss.weight], 0.5, group))
        for optimizer in steps:
            optimizer.step()
    return {"norms": norms, "backbone": [p.detach() for p in backbone.parameters()], "weight": loss.weight.detach()}


class Recogniser(torch.nn.Module):
    """A backbone with its loss inside, as it stands in Lightning or under Accelerate."""

    def __init__(self, group: dist.ProcessGroup | None, chunk_size: int | None = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Linear(DIM, DIM).double()
        self.loss = Case("uniface", 24, chunk_size).loss(group)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.backbone(embeddings), labels)


def wrapped(group: dist.ProcessGroup | None, told: bool = True) -> dict[str, Any]:
    """Two steps of a model that holds sharded centres and that DDP wraps as a whole."""
    rank, ranks = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    model = Recogniser(group)
    if told:
        keep_shards_local(model)
    whole = torch.nn.parallel.DistributedDataParallel(model, process_group=group) if group else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        embeddings, labels = (part.chunk(ranks)[rank] for part in Case("uniface", 24, 4).batch(step))
        optimizer.zero_grad()
        losses.append(whole(embeddings, labels))
        losses[-1].backward()
        optimizer.step()
    others = [p.detach() for p in [*model.backbone.parameters(), model.loss.head.bias]]
    return {"losses": [loss.detach() for loss in losses], "others": others, "weight": model.loss.weight.detach()}


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def replicated(group: dist.ProcessGroup | None, sync: bool) -> dict[str, dict[str, Any]]:
    """Two steps of a loss that every rank holds whole: its running state, and ElasticFace's margins."""
    rank, ranks = (dist.get_rank(group), dist.get_world_size(group)) if group else (0, 1)
    seen = {}
    for name in ("recurricularface", "adaface", "elasticface-arc", "elasticface-cos"):
        head = build_head(name, plus="ranked") if name == "elasticface-cos" else build_head(name)
        loss = MarginSoftmaxLoss(head, 23, DIM, seed=3, sync_stats=sync).double()
        for step in range(STEPS):
            embeddings, labels = (part.chunk(ranks)[rank] for part in Case(name, 23, 4).batch(step))
            loss(embeddings, labels).backward()
        state = {key: value.clone() for key, value in head.state_dict().items()}
        seen[name] = {"state": state, "margins": getattr(head, "drawn", None)}
    return seen


def checkpoint_state(loss: MarginSoftmaxLoss, optimizer: RowwiseSGD) -> dict[str, Any]:
    buffer = optimizer.state[loss.weight]["momentum_buffer"]
    if loss.ranks:
        buffer = loss.ranks.distributed(buffer, loss.num_classes)
    return {"centres": loss.distributed_state(), "momentum": buffer}


def save_checkpoint(group: dist.ProcessGroup, folder: Path) -> None:
    import torch.distributed.checkpoint as dcp

    loss = CHECKPOINT.loss(group)
    optimizer = RowwiseSGD([loss.weight], lr=0.1, momentum=0.9)
    embeddings, labels = (part.chunk(dist.get_world_size(group))[dist.get_rank(group)] for part in CHECKPOINT.batch(0))
    loss(embeddings, labels).backward()
    optimizer.step()
    dcp.save(checkpoint_state(loss, optimizer), checkpoint_id=folder)


def load_checkpoint(group: dist.ProcessGroup | None, folder: Path) -> dict[str, Tensor]:
    import torch.distributed.checkpoint as dcp

    loss = CHECKPOINT.loss(group)
    with torch.no_grad():
        loss.weight.zero_()
    optimizer = RowwiseSGD([loss.weight], lr=0.1, momentum=0.9)
    optimizer.state[loss.weight].update(optimizer.first_state(loss.weight))
    dcp.load(checkpoint_state(loss, optimizer), checkpoint_id=folder, no_dist=group is None)
    return {
        "weight": loss.weight.detach(),
        "t": loss.head.t,
        "momentum": optimizer.state[loss.weight]["momentum_buffer"],
    }


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / f"store-{ranks}"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    group = dist.group.WORLD
    assert group is not None
    result: dict[str, Any] = {str(case): observe(case, group) for case in CASES + SAMPLED}
    result["train"] = train(group)
    result["replicated"] = {sync: replicated(group, sync) for sync in (True, False)}
    if 24 % ranks == 0:  # shards of one size: of others DDP itself finds that they differ
        result["wrapped"] = wrapped(group)
        result["overwritten"] = refusal(lambda: wrapped(group, told=False))
    ragged = CHECKPOINT.loss(group)
    result["ragged"] = refusal(lambda: ragged(torch.ones(2 + rank, DIM), torch.zeros(2 + rank, dtype=torch.int64)))
    if ranks == 3:
        save_checkpoint(group, folder / "checkpoint")
    else:
        result["loaded"] = load_checkpoint(group, folder / "checkpoint")
    torch.save(result, folder / f"{ranks}-{rank}.pt")
    dist.barrier(group)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
