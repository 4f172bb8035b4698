"""What a loss over class centres rejects, and what it warns of."""

from typing import Any, get_args

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads.base import MarginHead
from zoo.heads.loss.dense import NORM_FLOOR
from zoo.heads.loss.precision import Precision
from zoo.heads.loss.sampling import Start
from zoo.messages import log


def require_sensible(loss: Any, class_counts: Tensor | None) -> None:
    """InputError for options of a MarginSoftmaxLoss that make no sense, alone or together."""
    size, smoothing, filtering = loss.chunk_size, loss.label_smoothing, loss.filter_above
    both = "both: one spreads the target over every class, the other leaves classes out; give one of them"
    for holds, expected, found in (
        (loss.num_classes >= 2, "at least 2 classes", f"{loss.num_classes}; a margin separates classes"),
        (loss.embedding_dim >= 2, "an embedding of at least 2 dimensions", loss.embedding_dim),
        (not isinstance(size, int) or size > 0, "a positive chunk_size", f"{size}; 'auto' chooses one"),
        ((loss.memory_budget or 0) >= 0, "a memory_budget of at least 0 bytes", loss.memory_budget),
        (0 < loss.sample_rate <= 1, "a sample_rate above 0 and at most 1", f"{loss.sample_rate}; 1 keeps every class"),
        (loss.sub_centres >= 1, "at least 1 sub-centre per class", loss.sub_centres),
        (-1 <= (filtering or 0) <= 1, "filter_above to be a cosine", f"{filtering}; Partial FC has 0.4"),
        (0 <= smoothing < 1, "a label_smoothing of at least 0 and below 1", smoothing),
        (not smoothing or filtering is None, "label_smoothing or filter_above", both),
        (loss.reduction in ("mean", "sum", "none"), "reduction 'mean', 'sum' or 'none'", repr(loss.reduction)),
        (loss.precision in get_args(Precision), "precision 'auto', 'fp32', 'tf32' or 'bf16'", repr(loss.precision)),
        (loss.init in get_args(Start), "init 'normal' or 'unit'", repr(loss.init)),
    ):
        if not holds:
            raise InputError(f"expected {expected}, found {found}")
    if class_counts is not None and (class_counts.shape != (loss.num_classes,) or not bool((class_counts >= 1).all())):
        least = float(class_counts.min()) if len(class_counts) else None
        told = f"found {tuple(class_counts.shape)} with the smallest {least}"
        raise InputError(f"expected class_counts of at least 1 for each of the {loss.num_classes} classes, {told}")


def require_fit(loss: Any, embeddings: Tensor, labels: Tensor | None, weight: Tensor | None = None) -> None:
    """InputError for inputs of a forward that do not fit the loss and, on the CPU, for labels out of range."""
    if loss.weight.is_meta:
        advice = "call loss.to_empty(device=…) and loss.reset_parameters()"
        raise InputError(f"expected class centres on a device, found them on the meta device; {advice}")
    if embeddings.ndim != 2 or embeddings.shape[1] != loss.embedding_dim:
        found = f"found {tuple(embeddings.shape)}; give the loss the backbone's embedding_dim"
        raise InputError(f"expected embeddings of shape (batch, {loss.embedding_dim}), {found}")
    if labels is None:
        return
    if labels.dtype != torch.int64:
        raise InputError(f"expected labels of dtype int64, found {labels.dtype}; pass labels.long()")
    if labels.shape != embeddings.shape[:1] or len(labels) == 0:
        found = f"found labels of shape {tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
        raise InputError(f"expected one label for each of at least one embedding, {found}")
    if weight is not None and (weight.shape != labels.shape or not weight.is_floating_point()):
        found = f"found {weight.dtype} of shape {tuple(weight.shape)} for {len(labels)} samples"
        raise InputError(f"expected one floating-point weight for each sample, {found}")
    if labels.device.type == "cpu":
        require_in_range(labels, loss.num_classes, loss.ignore_index)


def require_in_range(labels: Tensor, num_classes: int, ignore_index: int | None) -> None:
    """InputError naming the first label that is out of range and not the one that is ignored."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if ignore_index is not None:
        wrong = wrong[wrong != ignore_index]
    if len(wrong):
        advice = "build the loss with the dataset's num_classes"
        raise InputError(f"expected labels from 0 to {num_classes - 1}, found {int(wrong[0])}; {advice}")


class Watch:
    """The last forward, as far as the checks need it, and what they have warned of already."""

    def __init__(self) -> None:
        self.labels: Tensor | None = None
        self.started = False
        self.seen: tuple[MarginHead, Tensor, Tensor] | None = None  #: Head, target cosines, norms, (batch,), detached
        self._told: set[str] = set()

    def warn(self) -> None:
        """Logs what trains badly without failing, each sentence once; waits for the device."""
        self.started = True
        if self.seen is None:
            return
        head, cos_y, norm = self.seen
        zeros = "some embeddings are zero vectors, which have no direction and get no gradient"
        advice = "look at the last layers of the backbone (a dead ReLU, dropout of everything) or at blank images"
        with torch.no_grad():
            doubts = {f"{zeros}; {advice}": (norm <= NORM_FLOOR).any(), **head.doubts(cos_y, norm)}
        for told, holds in doubts.items():
            if told not in self._told and bool(holds):
                self.tell_once(told)

    def tell_once(self, sentence: str) -> None:
        """Logs a warning, unless it was logged before."""
        if sentence not in self._told:
            self._told.add(sentence)
            log.warning(sentence)
