"""What a loss over class centres rejects, and what it warns of."""

from typing import Any, get_args

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads.base import MarginHead
from zoo.heads.loss.dense import NORM_FLOOR
from zoo.heads.loss.initial import Start
from zoo.heads.loss.precision import Precision
from zoo.messages import log


def require_sensible(loss: Any, class_counts: Tensor | None) -> None:
    """InputError for options of a MarginSoftmaxLoss that make no sense, alone or together."""
    if loss.num_classes < 2:
        raise InputError(f"expected at least 2 classes, found {loss.num_classes}; a margin separates classes")
    if loss.embedding_dim < 2:
        raise InputError(f"expected an embedding of at least 2 dimensions, found {loss.embedding_dim}")
    if isinstance(loss.chunk_size, int) and loss.chunk_size <= 0:
        raise InputError(f"expected a positive chunk_size, found {loss.chunk_size}; 'auto' chooses one")
    if loss.memory_budget is not None and loss.memory_budget < 0:
        raise InputError(f"expected a memory_budget of at least 0 bytes, found {loss.memory_budget}")
    if not 0 < loss.sample_rate <= 1:
        raise InputError(f"expected a sample_rate above 0 and at most 1, found {loss.sample_rate}; 1 keeps every class")
    if loss.sub_centres < 1:
        raise InputError(f"expected at least 1 sub-centre per class, found {loss.sub_centres}")
    if loss.filter_above is not None and not -1 <= loss.filter_above <= 1:
        raise InputError(f"expected filter_above to be a cosine, found {loss.filter_above}; Partial FC has 0.4")
    if not 0 <= loss.label_smoothing < 1:
        raise InputError(f"expected a label_smoothing of at least 0 and below 1, found {loss.label_smoothing}")
    if loss.label_smoothing and loss.filter_above is not None:
        found = "found both: one spreads the target over every class, the other leaves classes out; give one of them"
        raise InputError(f"expected label_smoothing or filter_above, {found}")
    if loss.reduction not in ("mean", "sum", "none"):
        raise InputError(f"expected reduction 'mean', 'sum' or 'none', found {loss.reduction!r}")
    if loss.precision not in get_args(Precision):
        raise InputError(f"expected precision 'auto', 'fp32', 'tf32' or 'bf16', found {loss.precision!r}")
    if loss.init not in get_args(Start):
        raise InputError(f"expected init 'normal' or 'unit', found {loss.init!r}")
    if class_counts is not None and (class_counts.shape != (loss.num_classes,) or not bool((class_counts >= 1).all())):
        raise InputError(
            f"expected class_counts of at least 1 for each of the {loss.num_classes} classes, found "
            f"{tuple(class_counts.shape)} with the smallest {float(class_counts.min()) if len(class_counts) else None}"
        )


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
        self.seen: tuple[MarginHead, Tensor, Tensor] | None = None
        """The head, the target cosines and the norms, (batch,) each, without gradient."""
        self._told: set[str] = set()

    def warn(self) -> None:
        """Logs what trains badly without failing, each sentence once; waits for the device."""
        self.started = True
        if self.seen is None:
            return
        head, cos_y, norm = self.seen
        sentence = (
            "some embeddings are zero vectors, which have no direction and get no gradient; look at the last layers of"
            " the backbone (a dead ReLU, dropout of everything) or at blank images"
        )
        with torch.no_grad():
            doubts = {sentence: (norm <= NORM_FLOOR).any(), **head.doubts(cos_y, norm)}
        for told, holds in doubts.items():
            if told not in self._told and bool(holds):
                self.tell_once(told)

    def tell_once(self, sentence: str) -> None:
        """Logs a warning, unless it was logged before."""
        if sentence not in self._told:
            self._told.add(sentence)
            log.warning(sentence)
