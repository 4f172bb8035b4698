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

    A head sees cosines (of angles in radians) and embedding norms only; `MarginSoftmaxLoss` owns the class
    centres and calls, in this order: `bind` once; then in each forward `update` (in training), `target`,
    `boundary`, `negative` and `penalty`. Every method must work on any floating dtype, and `negative` on any
    part of the classes: it is called piece by piece where the centres are chunked or sharded.

    What a head learns while running is its buffers; the loss puts them back when a batch was not finite.
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
        """B, what a non-target cosine must exceed to be hard: (batch,), (batch,) → (batch,). No gradient."""
        return self.target(cos_y, norm)

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        """N, a non-target cosine after mining: (batch, classes), (batch, 1) → (batch, classes)."""
        return cos_j

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        """Moves the running state, once a training forward, before its use.

        Takes the global batch: (batch,), (batch,). Runs without gradient. Must leave buffers alone or change
        them in place.
        """

    def penalty(self, norm: Tensor) -> Tensor:
        """A scalar added to the mean loss: (batch,) → ()."""
        return norm.new_zeros(())

    def stats(self) -> dict[str, Tensor]:
        """The running state for the log: {name: scalar}, detached, on the device."""
        return {}

    def describe(self) -> str:
        """The head's name with its options, e.g. "cosface(scale=64.0, margin=0.35)"."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name or type(self).__name__}({options})"

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


HEADS: Registry[type[MarginHead]] = Registry("head")
"""Every head by name. A head's options are the parameters of its `__init__`."""

BROKEN: dict[str, InputError] = {}
"""Heads that an installed package promised and could not bring: the name, and what to say when it is asked for."""


@dataclass(frozen=True)
class HeadOption:
    """One option of a head, as its `__init__` declares it."""

    name: str
    """As in `build_head(head, NAME=…)`."""
    type: Any
    """The annotation: float, int, bool, str, or a Literal of the values allowed."""
    default: Any
    """The value it has when it is not named."""


def head_options(head: type[MarginHead]) -> list[HeadOption]:
    """The options of a head class in the order of its `__init__`."""
    types = get_type_hints(head.__init__)
    parameters = list(inspect.signature(head.__init__).parameters.values())[1:]
    return [HeadOption(p.name, types.get(p.name, Any), p.default) for p in parameters]


def build_head(name: str, **options: Any) -> MarginHead:
    """The head registered as `name` with the given options, the others at their defaults.

    InputError for a name or an option that is unknown (the closest ones first), for a value of another type,
    and for a value that the head refuses: a margin out of range, a scale that is not positive.

    >>> build_head("cosface", margin=0.4).describe()
    'cosface(scale=64.0, margin=0.4)'
    """
    if name in BROKEN and name not in HEADS:
        raise BROKEN[name]
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
    """An option's type for people: "float", "paper | none | easy"."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    return str(getattr(annotation, "__name__", annotation))


def _typed(head: str, option: HeadOption, value: Any) -> Any:
    """`value` as the option's annotation wants it; InputError where it is something else."""
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
    """`value` where low ≤ value ≤ high; InputError that names the option otherwise (NaN included)."""
    if not low <= value <= high:
        raise InputError(f"expected {option} between {low:.6g} and {high:.6g}, found {value}; choose one in that range")
    return float(value)


def moving_average(state: Tensor, value: Tensor, momentum: float) -> None:
    """state ← (1 − momentum)·state + momentum·value, in place."""
    state.lerp_(value.to(state.dtype), momentum)


@torch.no_grad()
def guarded_update(head: MarginHead, cos_y: Tensor, norm: Tensor, finite: Tensor) -> None:
    """`head.update`, undone on the device where the scalar bool `finite` is false: no host sync.

    One NaN in a running mean would stay in it for ever.
    """
    before = [buffer.clone() for buffer in head.buffers()]
    head.update(cos_y.detach(), norm.detach())
    for buffer, old in zip(head.buffers(), before, strict=True):
        buffer.copy_(torch.where(finite, buffer, old))
