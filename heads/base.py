"""What a margin head is, the registry of heads, and how one is built from its name and options."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from zoo.errors import InputError, unknown_name
from zoo.registry import Registry


class MarginHead(nn.Module):
    """A margin head: how the target cosine and the other cosines of a sample become logits.

    With T = `target`, N = `negative` and s = `scale`, the loss of a sample of class y is equation (1),

        L = −log  e^{s·T} / ( e^{s·T} + Σ_{j≠y} e^{s·N_j} )

    A head sees only cosines (of angles in radians) and embedding norms. `MarginSoftmaxLoss` owns the class
    centres and calls, in this order: `bind` once; then in each forward `update` (in training), `target`,
    `boundary`, `negative` and `penalty`. Every method must accept any floating dtype. `negative` must accept
    any subset of the classes, because chunked and sharded centres call it piece by piece.

    A head keeps its running state in buffers; the loss restores them when a batch is not finite.
    """

    paper: ClassVar[str] = ""
    """The publication that defines the head: authors, title, venue and year."""
    summary: ClassVar[str] = ""
    """T and N in one line."""

    name: str = ""
    """The registered name; set by `build_head`."""
    options: dict[str, Any]
    """Every option that the head was built with, defaults included; set by `build_head`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not (scale > 0 and math.isfinite(scale)):
            raise InputError(f"expected a positive scale, found {scale}; 64 is usual, 32 for few classes")
        self.scale = float(scale)
        self.options = {}

    def bind(self, num_classes: int, dim: int) -> None:
        """Computes the constants that depend on the number of classes and the embedding's dimension."""

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """T, the target cosine after the margin: (batch,), (batch,) → (batch,)."""
        return cos_y

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """B, above which a non-target cosine is hard: (batch,), (batch,) → (batch,). No gradient."""
        return self.target(cos_y, norm)

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        """N, a non-target cosine after modulation: (batch, classes), (batch, 1) → (batch, classes)."""
        return cos_j

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        """Updates the running state, once per training forward, before it is used.

        Takes the global batch: (batch,), (batch,). Runs without gradient. Must leave buffers unchanged or
        change them in place.
        """

    def penalty(self, norm: Tensor) -> Tensor:
        """A scalar added to the mean loss: (batch,) → ()."""
        return norm.new_zeros(())

    def stats(self) -> dict[str, Tensor]:
        """The running state for the log: {name: scalar}, detached, on the device."""
        return {}

    def describe(self) -> str:
        """The head's name with its options, e.g. "cosface(scale=64.0, margin=0.35)"."""
        return f"{self.name or type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


HEADS: Registry[type[MarginHead]] = Registry("head")
"""Every head by name. A head's options are the parameters of its `__init__`."""


@dataclass(frozen=True)
class HeadOption:
    """One option of a head, as its `__init__` declares it."""

    name: str
    """As in `build_head(head, NAME=…)`."""
    type: Any
    """The annotation: float, int, bool, str, or a Literal of the allowed values."""
    default: Any
    """The value where none is given."""


def head_options(head: type[MarginHead]) -> list[HeadOption]:
    """The options of a head class in the order of its `__init__`."""
    types = get_type_hints(head.__init__)
    parameters = list(inspect.signature(head.__init__).parameters.values())[1:]
    return [HeadOption(p.name, types.get(p.name, Any), p.default) for p in parameters]


def build_head(name: str, **options: Any) -> MarginHead:
    """The head registered as `name` with the given options, the others at their defaults.

    Raises InputError for an unknown name or option (the closest names first), for a value of the wrong type, and
    for a value that the head rejects: a margin out of range, a scale that is not positive.

    >>> build_head("cosface", margin=0.4).describe()
    'cosface(scale=64.0, margin=0.4)'
    """
    kind = HEADS[name]
    known = {option.name: option for option in head_options(kind)}
    for given in options:
        if given not in known:
            raise unknown_name(f"option of the head {name}", given, known)
    values = {option.name: _typed(name, option, options.get(option.name, option.default)) for option in known.values()}
    head = kind(**values)
    head.name, head.options = name, values
    return head


def type_name(annotation: Any) -> str:
    """An option's type as help and listings show it: "float", "paper | none | easy"."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return str(getattr(annotation, "__name__", annotation))


def _typed(head: str, option: HeadOption, value: Any) -> Any:
    """`value` converted to the option's annotation; InputError where it has another type."""
    if get_origin(option.type) is Literal:
        allowed = get_args(option.type)
        for choice in allowed:
            if value == choice and isinstance(value, type(choice)):
                return value
        choices = ", ".join(map(repr, allowed))
        raise InputError(f"expected {option.name} of the head {head} to be one of {choices}, found {value!r}")
    if option.type is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if option.type in (int, bool, str) and type(value) is option.type:
        return value
    if option.type == float | None and (value is None or type(value) in (int, float)):
        return None if value is None else float(value)
    raise InputError(
        f"expected {option.name} of the head {head} to be {type_name(option.type)}, found {value!r}; "
        f"its default is {option.default!r}"
    )


def check_range(option: str, value: float, low: float, high: float) -> float:
    """`value` where low ≤ value ≤ high; otherwise (also for NaN) InputError naming the option."""
    if not low <= value <= high:
        raise InputError(f"expected {option} between {low:.6g} and {high:.6g}, found {value}; choose one in that range")
    return float(value)


def moving_average(state: Tensor, value: Tensor, momentum: float) -> None:
    """state ← (1 − momentum)·state + momentum·value, in place."""
    state.lerp_(value.to(state.dtype), momentum)


@torch.no_grad()
def guarded_update(head: MarginHead, cos_y: Tensor, norm: Tensor, finite: Tensor) -> None:
    """`head.update`, undone on the device where the scalar bool `finite` is false, without a host sync.

    A NaN in a running mean would never leave it.
    """
    before = [buffer.clone() for buffer in head.buffers()]
    head.update(cos_y.detach(), norm.detach())
    for buffer, old in zip(head.buffers(), before, strict=True):
        buffer.copy_(torch.where(finite, buffer, old))
