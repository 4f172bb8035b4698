"""The class centres and the loss: from embeddings and labels to a scalar, for whichever head it is given."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.heads.base import MarginHead, guarded_update

NORM_FLOOR = 1e-12
"""An embedding or a centre is divided by at least this, so that a vector of zeros gives zeros and not NaN."""

HARD_SHARE_ROWS = 32
"""The share of hard negatives is counted on about this many evenly spaced samples: it is for the log only."""


class MarginSoftmaxLoss(nn.Module):
    """The mean loss of a margin head over class centres that it owns.

    With unit vectors u of an embedding and ŵ_j of the centres, cos θ_j = ⟨u, ŵ_j⟩, and T, N, s of the head,

        L = softplus( LSE_{j≠y}(s·N_j) − s·T ) + penalty(‖x‖)

    which is equation (1) without the cancellation that makes `cross_entropy` return 0 at a gap of 20 in fp32.
    Cosines are computed in fp32 (fp64 for fp64 centres) whatever autocast says.

    `straight_through` replaces T by cos_y + (T − cos_y).detach(): the value has the margin, the gradient is
    that of the plain cosine. insightface's loss is `straight_through=True` with `fallback="none"`.

    After a forward, without a host sync: `finite` is a scalar bool tensor (where it is false the optimizer
    step must be withheld, and the head's running state has not moved), `mean_target_cosine` a detached
    scalar, and `stats()` all that is worth logging. `check(step)` turns a bad batch into a sentence, with a
    sync.

    `state_dict()` holds `weight` (classes, dim) and the head's buffers (`head.t`, …).
    """

    def __init__(
        self, head: MarginHead, num_classes: int, embedding_dim: int, *, straight_through: bool = False
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"expected at least 2 classes, found {num_classes}; a margin needs somebody to tell apart")
        if embedding_dim < 2:
            raise InputError(f"expected an embedding of at least 2 dimensions, found {embedding_dim}")
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.straight_through = straight_through
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.normal_(self.weight, std=0.01)
        self.head = head
        head.bind(num_classes, embedding_dim)
        self.finite: Tensor = torch.tensor(True)
        self.mean_target_cosine: Tensor = torch.tensor(math.nan)
        self._last: dict[str, Tensor] = {}
        self._labels: Tensor | None = None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The mean loss, a scalar: embeddings (batch, dim) as the backbone gives them, labels (batch,) int64.

        InputError for an embedding of another dimension, labels of another dtype or shape and, on the CPU, a
        label out of range; on an accelerator such a label makes the loss NaN and `check` names it.
        """
        self._refuse_misfits(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(self.weight.dtype, torch.float32)
            x = embeddings.to(dtype)
            norm = torch.linalg.vector_norm(x, dim=1)
            unit = x / norm.clamp_min(NORM_FLOOR)[:, None]
            in_range = (labels >= 0) & (labels < self.num_classes)
            labels = labels.clamp(0, self.num_classes - 1)
            losses = self._dense(unit, norm, labels)
            loss = torch.where(in_range, losses, math.nan).mean() + self.head.penalty(norm)
        self.finite = self.finite & in_range.all() & loss.detach().isfinite()
        return loss

    def _dense(self, unit: Tensor, norm: Tensor, labels: Tensor) -> Tensor:
        """Each sample's loss from the whole matrix of cosines: (batch, dim), 2 × (batch,) → (batch,)."""
        cosines = unit @ F.normalize(self.weight.to(unit.dtype), eps=NORM_FLOOR).T
        column = labels[:, None]
        target, boundary = self._margins(cosines.gather(1, column).squeeze(1), norm)
        logits = self.head.scale * self.head.negative(cosines, boundary[:, None])
        others = torch.logsumexp(logits.scatter(1, column, -math.inf), dim=1)
        self._count_hard(cosines.detach(), boundary, column)
        return softplus(others - self.head.scale * target)

    def _margins(self, cos_y: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """T and B of the global batch, after the head's running state has moved: (batch,), (batch,)."""
        self.finite = norm.detach().isfinite().all() & cos_y.detach().isfinite().all()
        if self.training:
            guarded_update(self.head, cos_y, norm, self.finite)
        target = self.head.target(cos_y, norm)
        boundary = self.head.boundary(cos_y, norm).detach()
        if self.straight_through:
            target = cos_y + (target - cos_y).detach()
        self.mean_target_cosine = cos_y.detach().mean()
        self._last = {"embedding_norm": norm.detach().mean()}
        return target, boundary

    def _count_hard(self, cosines: Tensor, boundary: Tensor, column: Tensor) -> None:
        """Keeps the share of non-target cosines that exceed the boundary, on some evenly spaced samples."""
        rows = slice(None, None, max(1, len(cosines) // HARD_SHARE_ROWS))
        hard = (cosines[rows] > boundary[rows, None]).scatter(1, column[rows], False)
        self._last["hard_negative_share"] = hard.sum() / (hard.shape[0] * (self.num_classes - 1))

    def stats(self) -> dict[str, Tensor]:
        """What is worth logging of the last forward: {name: detached scalar on the device}.

        Always `mean_target_cosine`, `embedding_norm` (mean) and `hard_negative_share` (the fraction of
        non-target cosines above the head's boundary), then the head's own, such as `t`.
        """
        return {"mean_target_cosine": self.mean_target_cosine, **self._last, **self.head.stats()}

    def check(self, step: int) -> None:
        """InputError that says what was wrong with the last forward, that of `step`; waits for the device.

        Call it where the loss is read anyway: when logging, or before an update that must not be lost.
        """
        if bool(self.finite):
            return
        if self._labels is not None:
            self._refuse_out_of_range(self._labels)
        raise InputError(
            f"expected finite embeddings and a finite loss, found NaN or infinity in step {step}; the update "
            "must be withheld: lower the learning rate, or look for broken images in that batch"
        )

    def _refuse_misfits(self, embeddings: Tensor, labels: Tensor) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise InputError(
                f"expected embeddings of shape (batch, {self.embedding_dim}), found "
                f"{tuple(embeddings.shape)}; give the loss the backbone's embedding_dim"
            )
        if labels.dtype != torch.int64:
            raise InputError(f"expected labels of dtype int64, found {labels.dtype}; pass labels.long()")
        if labels.shape != embeddings.shape[:1] or len(labels) == 0:
            raise InputError(
                f"expected one label for each of at least one embedding, found labels of shape "
                f"{tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
            )
        self._labels = labels.detach()
        if labels.device.type == "cpu":
            self._refuse_out_of_range(labels)

    def _refuse_out_of_range(self, labels: Tensor) -> None:
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise InputError(
                f"expected labels from 0 to {self.num_classes - 1}, found {int(wrong[0])}; "
                "build the loss with the dataset's num_classes"
            )


def softplus(gap: Tensor) -> Tensor:
    """log(1 + e^gap), right to the last digit in value and gradient; torch's own turns linear at 20."""
    return F.softplus(gap, threshold=50)
