"""The class centres and the loss: from embeddings and labels to a scalar, for any head."""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.heads.base import MarginHead, build_head, frozen
from zoo.heads.loss import sharded
from zoo.heads.loss.captured import Captured, suits
from zoo.heads.loss.checks import Watch, require_fit, require_in_range, require_sensible
from zoo.heads.loss.dense import FORMS, Block, directions, nearest_cosines, target_cosines
from zoo.heads.loss.precision import Precision, choose
from zoo.heads.loss.sampling import Start, columns_of, initial_centres, sample_classes, take_rows
from zoo.heads.loss.sharded import Ranks, keep_shards_local, scale_gradient, shard_range
from zoo.heads.loss.way import negatives, plan_of


class MarginSoftmaxLoss(nn.Module):
    """The loss of a margin head over class centres that it owns.

    With unit vectors u of an embedding and ŵ_j of the centres, cos θ_j = ⟨u, ŵ_j⟩, and T, N, s of the head,

        L = softplus( LSE_{j≠y}(s·N_j) − s·T ) + penalty(‖x‖)

    which is equation (1) without the cancellation that makes `cross_entropy` return 0 at a gap of 20 in float32; heads
    of the binary form have a sum of softplus instead (`MarginHead`). Cosines are computed in float32 (float64 for
    float64 centres), also under autocast. `head` is a head or the name of one. `loss.head = …` exchanges it later and
    keeps the centres; one head may serve two losses only where they are to share its running state.

    All options compose, with every head:

    `chunk_size`: the number of classes computed at a time, so that the (batch, classes) matrix is never stored;
    "auto" chooses it for the device, None computes the whole matrix (the reference). Values that the backward pass
    needs are kept in the memory of the centres' gradient (all of them where batch ≤ dim) and in `memory_budget`
    further bytes, 96 MiB by default; the rest is computed twice. `compiled` fuses the elementwise part of a chunk with
    torch.compile, which needs a C++ compiler on a CPU and takes some seconds in the first step. Heads with learnable
    parameters, the binary form and `label_smoothing` go through autograd chunk by chunk (`checkpointed_negatives`).

    On a GPU of compute capability 8.0 or later the chunked form runs Triton kernels (`fused_sum`), also in the binary
    form. All that they need beside the centres and their gradient is in `memory_budget`, by default 480 MiB, or 300 KiB
    per sample where that is more; "auto" measures in the first step which chunk size is the fastest. A head without
    `pieces`, learnable parameters other than a bias, `label_smoothing` and centres in float64 run as on a CPU, and the
    loss logs that they do.
    With `cuda_graph` the fourth of equal training steps is captured, and those that follow replay it, which spares the
    host some two hundred launches. `stats()` and the gradients, until they are set to None, then lie in memory that
    the next step overwrites. Steps of another shape, with `weight`, `ignore_index`, gradients to add to, several
    processes or deterministic algorithms run without.

    * `precision`: that of the factors in the products with the centres, "fp32", "tf32" or "bf16". cos θ_y, the sums and
      the centres stay in float32, and the products' results are float32. "auto" is fp32 but on CUDA, where it is bf16
      under an autocast of 16 bits and tf32 otherwise; docs/gpu.md has what each costs. A CPU gains no time from them.
    * `process_group`: the classes are split over its ranks, and `weight` holds those of this rank. The loss and its
      gradients are those of the global batch, on every rank; all ranks must have batches of the same size. DDP averages
      gradients over the ranks, so the gradient of the embeddings is multiplied by their number here, and nowhere else.
      `Ranks` lists the collectives. Where the loss is inside a module that DDP wraps, call `keep_shards_local` on that
      module first.
    * `sync_stats`: for a loss that DDP replicates, with all centres on every rank: the head's running state is that of
      the global batch, by one more all_gather of (batch, 2).
    * `sample_rate`: the fraction of classes in a training step (Partial FC): all positives, and negatives sampled in
      each step. `weight.grad` is then sparse; `RowwiseSGD` and `RowwiseAdamW` update only its rows.
    * `sub_centres`: K centres per class, of which the nearest counts.
    * `filter_above`: leaves out the non-target cosines above it, which in a set with wrong labels are often the same
      person under another label (Partial FC's interclass filtering).
    * `straight_through` replaces T by cos_y + (T − cos_y).detach(): the value includes the margin, the gradient is that
      of the plain cosine. insightface's loss is `straight_through=True` with `fallback="none"`.
    * `reduction`, `ignore_index` and `label_smoothing` are those of torch.nn.CrossEntropyLoss; smoothing is over the
      logits s·T and s·N. `class_counts`, the training images of each class, is for heads with per-class margins.
    * `init`: the centres start as normal numbers of deviation 0.01, or at "unit" norm, as AdaFace, MagFace and
      MV-Softmax do; a step of the optimizer turns a longer centre by a smaller angle.

    A forward sets, without a host sync, `finite`, a scalar bool tensor (where it is false, skip the optimizer step;
    the head's running state is unchanged), and `mean_target_cosine`, a detached scalar. `stats()` has all values
    for the log. `check(step)` raises for a bad batch, with a sync.

    `state_dict()` holds `weight` (classes, dim), or (classes, K, dim), and the head's buffers (`head.t`, …);
    `distributed_state()` has the same for torch.distributed.checkpoint. The initial centres depend on `seed` only
    (drawn from torch's generator where it is None), not on the number of ranks. On the meta device they are not
    made; `to_empty(device=…)` and `reset_parameters()` make them.
    """

    sample_step: Tensor
    class_counts: Tensor | None

    def __init__(
        self,
        head: MarginHead | str,
        num_classes: int,
        embedding_dim: int,
        *,
        chunk_size: int | Literal["auto"] | None = "auto",
        memory_budget: int | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
        cuda_graph: bool = True,
        process_group: dist.ProcessGroup | None = None,
        sync_stats: bool = False,
        sample_rate: float = 1.0,
        sub_centres: int = 1,
        filter_above: float | None = None,
        straight_through: bool = False,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        class_counts: Sequence[int] | Tensor | None = None,
        init: Start = "normal",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.num_classes, self.embedding_dim = num_classes, embedding_dim
        self.chunk_size, self.memory_budget = chunk_size, memory_budget
        self.precision, self.compiled, self.cuda_graph = precision, compiled, cuda_graph
        self.sync_stats, self.sample_rate = sync_stats, sample_rate
        self.sub_centres, self.filter_above = sub_centres, filter_above
        self.straight_through, self.init = straight_through, init
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        counts = None if class_counts is None else torch.as_tensor(class_counts, dtype=torch.float32, device="cpu")
        require_sensible(self, counts)
        self.ranks = Ranks(process_group) if process_group is not None else None
        self.classes = shard_range(num_classes, self.ranks.rank, self.ranks.count) if self.ranks else range(num_classes)
        """The classes whose centres are rows of `weight`."""
        self.seed = int(torch.randint(2**31, (), device="cpu")) if seed is None else seed
        if self.ranks:
            self.seed = self.ranks.agree(self.seed)
        shape = (embedding_dim,) if sub_centres == 1 else (sub_centres, embedding_dim)
        self.weight = nn.Parameter(torch.empty(len(self.classes), *shape))
        if sample_rate < 1:
            self.register_buffer("sample_step", torch.zeros((), dtype=torch.int64))
        self._given_counts = counts
        self.register_buffer("class_counts", counts, persistent=False)
        self.head: MarginHead = cast(MarginHead, head)
        self.finite: Tensor = torch.tensor(True, device="cpu")
        self.mean_target_cosine: Tensor = torch.tensor(math.nan, device="cpu")
        self._last: dict[str, Tensor] = {}
        self._watch, self._captured, self._sharded_as_it_should_be = Watch(), Captured(), False
        if not self.weight.is_meta:
            self._start_centres()
        keep_shards_local(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "head":
            value = build_head(value) if isinstance(value, str) else value
            if not isinstance(value, MarginHead):
                raise InputError(f"expected a head or the name of one, found {value!r}; see `zoo list heads`")
            value.attach(self.num_classes, self.embedding_dim, class_counts=self._given_counts is not None)
            if not self.weight.is_meta:
                value.to(self.weight.device, torch.promote_types(self.weight.dtype, torch.float32))
            value.train(self.training)
        super().__setattr__(name, value)

    def reset_parameters(self) -> None:
        """Makes, e.g. after `to_empty(device=…)`, the first centres and the head's first state."""
        self._start_centres()
        fresh = type(self.head)(**self.head.options)
        fresh.attach(self.num_classes, self.embedding_dim, class_counts=self._given_counts is not None)
        self.head.load_state_dict(fresh.state_dict())
        if self._given_counts is not None:
            self.class_counts = self._given_counts.to(self.weight.device)
        if self.sample_rate < 1:
            self.sample_step.zero_()

    def _start_centres(self) -> None:
        with torch.no_grad():
            self.weight.copy_(initial_centres(self.classes, tuple(self.weight.shape[1:]), self.seed, self.init))

    def forward(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, a scalar: embeddings (batch, dim) as the backbone gives them, labels (batch,) int64.

        `weight` (batch,) multiplies the loss of each sample; their mean is divided by the sum of the weights. With
        `reduction="none"` the result is (batch,), of sharded centres (ranks·batch,), the global batch in rank order.

        InputError for embeddings of another dimension, labels of another dtype or shape and, on the CPU, a label
        out of range; on an accelerator such a label makes the loss NaN, and `check` names it.
        """
        require_fit(self, embeddings, labels, weight)
        self._watch.labels = labels.detach()
        precision = choose(self.precision, embeddings.device)
        with torch.autocast(embeddings.device.type, enabled=False):
            captured = suits(self, embeddings, weight)
            loss = self._captured.step(self, embeddings, labels, precision) if captured else None
            return self.uncaptured(embeddings, labels, weight, precision) if loss is None else loss

    def uncaptured(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None, precision: str) -> Tensor:
        """`forward` without CUDA graphs, after its checks and outside of an autocast."""
        x = embeddings.to(torch.promote_types(self.weight.dtype, torch.float32))
        if self.ranks:
            self.ranks.require_equal_batches(len(x))
            if self.training and not self._sharded_as_it_should_be:
                self.ranks.require_shards_of_their_own(self.weight)
                self._sharded_as_it_should_be = True
            x = scale_gradient(x, self.ranks.count)
        unit, norm = directions(x)
        learned: list[Tensor] = list(self.head.parameters())
        if self.ranks:
            unit, norm, labels, learned = self.ranks.gather_batch(unit, norm, labels, learned)
            weight = None if weight is None else self.ranks.gather(weight)
        if self.ignore_index is None:
            return self._loss(unit, norm, labels, weight, learned, precision)
        kept = (labels != self.ignore_index).nonzero().squeeze(1)  # the one host sync of a forward
        if len(kept) == 0:
            nothing = 0 * (unit.sum(1) + self.weight.sum())
            self.finite = nothing.detach().isfinite().all()
            return nothing if self.reduction == "none" else nothing.sum()
        weight = None if weight is None else weight[kept]
        loss = self._loss(unit[kept], norm[kept], labels[kept], weight, learned, precision)
        return loss.new_zeros(len(labels)).index_put((kept,), loss) if self.reduction == "none" else loss

    def _loss(
        self, unit: Tensor, norm: Tensor, labels: Tensor, weight: Tensor | None, learned: list[Tensor], precision: str
    ) -> Tensor:
        """The reduced loss of the samples that count; `learned`: the head's parameters for the centres of this rank."""
        in_range = (labels >= 0) & (labels < self.num_classes)
        centres, column = self._participants(labels.clamp(0, self.num_classes - 1))
        plan = plan_of(self, unit, precision)
        with torch.set_grad_enabled(self.chunk_size is None and torch.is_grad_enabled()):
            cos_y = target_cosines(unit, centres, column, self.sub_centres)  # exact in any precision
        if self.ranks:
            cos_y = self.ranks.sum(cos_y)
        head, boundary = self._prepare(cos_y, norm, labels)
        given = {id(parameter): copy for parameter, copy in zip(head.parameters(), learned, strict=True)}
        local = frozen(head, lambda parameter: given[id(parameter)]) if given else head
        cos_y, found = negatives(self, Block(unit, centres, column, cos_y, boundary), local, plan)
        others, total = found.others, found.total
        counts = torch.stack([found.hard, torch.full_like(found.hard, len(centres) // self.sub_centres)])
        form = FORMS[head.form]
        if self.ranks:
            others, counts = form.over_ranks(others, counts, self.ranks)
            total = None if total is None else self.ranks.sum(total)
        target = head.scale * self._target(head, cos_y, norm)
        losses = form.loss(target, others, head)
        if total is not None:
            losses = losses + self.label_smoothing * (target - (total + target) / counts[1])
        loss = self._reduced(torch.where(in_range, losses, math.nan), head.penalty(norm), weight)
        self.finite = self.finite & in_range.all() & loss.detach().isfinite().all()
        rows = len(range(len(labels))[plan.counted])
        self._last["hard_negative_share"] = counts[0] / (rows * (counts[1] - 1).clamp_min(1))
        self._watch.seen = head, cos_y.detach(), norm.detach()
        if self.training and not self._watch.started:
            self._watch.warn()
        return loss

    def _reduced(self, losses: Tensor, penalty: Tensor, weight: Tensor | None) -> Tensor:
        if self.reduction == "mean" and weight is None:
            return losses.mean() + penalty.mean()
        losses = losses + penalty
        if weight is not None:
            losses = losses * weight
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.sum() / weight.sum()  # type: ignore[union-attr]

    def _participants(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The centres of this step, (classes·K, dim), and each sample's class among them, −1 where it is not there."""
        weight: Tensor = self.weight
        offset = labels - self.classes.start
        if self.sample_rate < 1 and self.training:
            rows = sample_classes(labels, self.classes, self.sample_rate, self.seed, self.sample_step)
            self.sample_step.add_(1)
            weight, column = take_rows(weight, rows), columns_of(offset, rows)
        else:
            column = torch.where((offset >= 0) & (offset < len(self.classes)), offset, -1)
        return weight if weight.ndim == 2 else weight.flatten(0, 1), column

    def _prepare(self, cos_y: Tensor, norm: Tensor, labels: Tensor) -> tuple[MarginHead, Tensor]:
        """The head of this forward, after updating the running state, and B of the batch, (batch,); values to log."""
        cos_y, norm = cos_y.detach(), norm.detach()
        self.finite = norm.isfinite().all() & cos_y.isfinite().all()
        if self.training:
            is_global = self.ranks is not None
            self.finite = sharded.update_state(self.head, cos_y, norm, self.finite, is_global, self.sync_stats)
        self.mean_target_cosine = cos_y.mean()
        self._last = {"embedding_norm": norm.mean()}
        head = frozen(self.head)
        if self.class_counts is not None:
            head.least_count = float(self._given_counts.min())  # type: ignore[union-attr]  # given together
            head.counts = self.class_counts[labels.clamp(0, self.num_classes - 1)].to(cos_y.dtype)
        with torch.no_grad():
            return head, head.boundary(cos_y, norm).detach()

    def _target(self, head: MarginHead, cos_y: Tensor, norm: Tensor) -> Tensor:
        """T of the global batch, with the gradient that `straight_through` selects: (batch,)."""
        target = head.target(cos_y, norm)
        return cos_y + (target - cos_y).detach() if self.straight_through else target

    def logits(self, embeddings: Tensor, labels: Tensor | None = None) -> Tensor:
        """The whole matrix of logits without margin, s·cos θ_j (less b in the binary form): (batch, classes).

        With `labels` they are the logits of the loss, s·T of each sample's own class and s·N of the others, so that
        in the softmax form `cross_entropy(loss.logits(x, y), y)` is the loss without penalty. No running state moves.
        Sharded centres give the columns of `loss.classes` for this rank's batch, and none with labels (InputError).
        """
        require_fit(self, embeddings, labels)
        if labels is not None and self.ranks:
            raise InputError("expected no labels for logits of sharded centres, found some; call logits(embeddings)")
        with torch.autocast(embeddings.device.type, enabled=False):
            unit, norm = directions(embeddings.to(torch.promote_types(self.weight.dtype, torch.float32)))
            weight = self.weight if self.weight.ndim == 2 else self.weight.flatten(0, 1)
            cosines, head = nearest_cosines(unit, weight, self.sub_centres), frozen(self.head).eval()
            if labels is not None:
                own = labels[:, None]
                cos_y = cosines.gather(1, own).squeeze(1)
                if self.class_counts is not None:
                    head.least_count, head.counts = float(self.class_counts.min()), self.class_counts[labels]
                negatives = head.negative(cosines, head.boundary(cos_y, norm).detach()[:, None])
                cosines = negatives.scatter(1, own, self._target(head, cos_y, norm)[:, None])
            return head.scale * cosines - head.bias

    def stats(self) -> dict[str, Tensor]:
        """The last forward's values for the log: {name: detached scalar on the device}.

        Always `mean_target_cosine`, `embedding_norm` (mean) and `hard_negative_share` (the fraction of non-target
        cosines above the head's boundary, on about 32 evenly spaced samples), then the head's own, such as `t`.
        """
        return {"mean_target_cosine": self.mean_target_cosine, **self._last, **self.head.stats()}

    def check(self, step: int) -> None:
        """Raises InputError where the last forward, that of `step`, was not finite; waits for the device.

        Warns through `zoo.messages.log`, once each, of what trains badly without failing: embeddings without a
        direction, normalised ones for a head that needs their norms, a fallback at its degenerate optimum.
        Call it where the loss is read anyway, e.g. when logging.
        """
        if bool(self.finite):
            self._watch.warn()
            return
        if self._watch.labels is not None:
            require_in_range(self._watch.labels, self.num_classes, self.ignore_index)
        mend = "the update must be skipped: lower the learning rate, or look for broken images in that batch"
        raise InputError(f"expected finite embeddings and a finite loss, found NaN or infinity in step {step}; {mend}")

    def distributed_state(self) -> dict[str, Any]:
        """`state_dict()` with the sharded centres as a DTensor, for torch.distributed.checkpoint's save and load.

        Loading fills the tensors of this module in place, from a checkpoint of any number of ranks.
        """
        state = self.state_dict()
        if self.ranks:
            state["weight"] = self.ranks.distributed(self.weight, self.num_classes)
        return state
