"""What a margin head is, the registry of heads, and how one is built from its name and options."""

import copy
import inspect
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import InputError, unknown_name
from zoo.heads.options import Scale, check_range, head_options, typed
from zoo.heads.pieces import UNCHANGED, Pieces
from zoo.registry import Registry

__all__ = ["HEADS", "MarginHead", "Pieces", "Scale", "build_head", "check_range", "moving_average"]  # all a head needs
M = TypeVar("M", bound=nn.Module)
UNIT_NORM_TOLERANCE = 1e-3  #: Norms this near to 1 throughout a batch are those of normalised embeddings


class HeadType(type):
    """The class of head classes: checks the types of the options and notes them in `options` once a head is built."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        name = next((known for known in HEADS if HEADS[known] is cls), cls.__name__)
        given = inspect.signature(cls.__init__).bind(None, *args, **options)  # type: ignore[misc]
        given.apply_defaults()
        known = [option for option in head_options(cls) if option.name in given.arguments]
        values = {option.name: typed(name, option, given.arguments[option.name]) for option in known}
        given.arguments.update(values)
        head = super().__call__(*given.args[1:], **given.kwargs)
        head.name, head.options = name, values
        return head


class MarginHead(nn.Module, metaclass=HeadType):
    """A margin head: how the target cosine and the other cosines of a sample become logits.

    With T = `target`, N = `negative` and s = `scale`, the loss of a sample of class y is equation (1),

        L = −log  e^{s·T} / ( e^{s·T} + Σ_{j≠y} e^{s·N_j} )

    or, where `form` is "binary", a sum over classes of its own, with the bias b and the weights w⁺ and w⁻ of the head:

        L = w⁺·softplus(b − s·T) + w⁻·Σ_{j≠y} softplus(s·N_j − b)

    A head sees only cosines (of angles in radians) and embedding norms. `MarginSoftmaxLoss` owns the class
    centres and calls, in this order: `attach` once, which calls `bind`; then in each forward `update` (in training),
    `target`, `boundary`, `negative` and `penalty`. Every method must accept any floating dtype.

    The contract of `negative`. N is elementwise: it depends on one cosine, on the boundary of its sample, and on
    scalars of the head. It must accept any subset of the classes, because chunked and sharded centres call it piece
    by piece, and it is called again in the backward pass. Where N is piecewise quadratic, as in every published head
    of equation (1), a head declares it as `pieces` and need not write `negative`: the plain path evaluates the pieces,
    and a GPU kernel reads their coefficients and computes N and its derivative in registers. A head that overrides
    `negative` alone has no pieces, and every form of centres calls `negative`.

    A head keeps its running state in buffers; the loss restores them when a batch is not finite. Each forward works
    on a copy of the state (`frozen`), so several forwards may precede a backward. Parameters are trained like any
    other; pass `loss.parameters()` to an optimizer. An option changed later, as in `head.margin = 0.3`, is checked
    as in the constructor, and what derives from it follows.
    """

    paper: ClassVar[str] = ""  #: The publication that defines the head: authors, title, venue and year
    summary: ClassVar[str] = ""  #: T and N in one line
    form: ClassVar[Literal["softmax", "binary"]] = "softmax"  #: Which of the two losses the head is for
    uses_norm: ClassVar[bool] = False  #: Whether norms decide anything, so that normalised embeddings are a mistake
    no_margin: ClassVar[float] = 0.0  #: The `margin` that leaves T = cos θ_y, where a schedule of it starts

    name: str = ""  #: The registered name, or the name of the class
    options: dict[str, Any]  #: Every option that the head has, defaults included
    bound: tuple[int, int] | None = None  #: The number of classes and the dimension that the head is bound to
    counted: bool = False  #: Whether the loss that the head is bound to has `class_counts`
    first_sample: int = 0  #: Where the batch given to `update` begins in the global batch; 0 where it is all of it
    counts: Tensor | None = None  #: Training images of each sample's class, (batch,), where the loss has `class_counts`
    least_count: float = 1.0  #: Training images of the rarest class
    bias: Tensor | float  #: b of the binary form, 0 in the other
    positive_weight: float = 1.0  #: w⁺ of the binary form
    negative_weight: float = 1.0  #: w⁻ of the binary form

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.options = {}
        self.bias = 0.0
        if scale != "auto" and not (scale > 0 and math.isfinite(scale)):
            raise InputError(f"expected a positive scale, found {scale}; 64 is usual, 32 for few classes")
        self.scale = math.nan if scale == "auto" else float(scale)  # NaN until `attach` knows the number of classes

    def bind(self, num_classes: int, dim: int) -> None:
        """Computes the constants that depend on the number of classes and the embedding's dimension."""

    def target(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """T, the target cosine after the margin: (batch,), (batch,) → (batch,)."""
        return cos_y

    def boundary(self, cos_y: Tensor, norm: Tensor) -> Tensor:
        """B, above which a non-target cosine is hard: (batch,), (batch,) → (batch,). No gradient."""
        return self.target(cos_y, norm)

    def pieces(self) -> Pieces | None:
        """N as data for a GPU kernel; None where only `negative` can tell."""
        return UNCHANGED if type(self).negative is MarginHead.negative else None

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        """N, a non-target cosine after modulation: (batch, classes), (batch, 1) → (batch, classes)."""
        pieces = self.pieces()
        assert pieces is not None, "a head without pieces has a negative of its own"
        return pieces.evaluate(cos_j, boundary)

    def update(self, cos_y: Tensor, norm: Tensor) -> None:
        """Updates the running state, once per training forward, before it is used.

        Takes the global batch: (batch,), (batch,). Runs without gradient. Must leave buffers unchanged or
        change them in place.
        """

    def narrow(self, part: slice) -> None:
        """Keeps of what `update` made for each sample of the global batch the part of this rank's samples."""

    def penalty(self, norm: Tensor) -> Tensor:
        """What is added to the loss of each sample: (batch,) → (batch,), or a scalar that is added to every one."""
        return norm.new_zeros(())

    def stats(self) -> dict[str, Tensor]:
        """The running state for the log, {name: scalar}, detached, on the device: parameters and buffers of floats."""
        state = [*self.named_parameters(), *self.named_buffers()]
        return {name: one.detach().clone() for name, one in state if one.ndim == 0 and one.is_floating_point()}

    def doubts(self, cos_y: Tensor, norm: Tensor) -> dict[str, Tensor]:
        """What `MarginSoftmaxLoss.check` warns of, after a batch of these cosines and norms: {sentence: whether}."""
        found = {}
        if self.uses_norm:
            why = f"the embeddings have norm 1 throughout, but {self.name} takes each sample's margin from its norm"
            advice = "give the loss the embeddings as the backbone makes them, not normalised"
            found[f"{why}; {advice}"] = ((norm - 1).abs() < UNIT_NORM_TOLERANCE).all()
        if self.options.get("fallback") == "none":
            why = f"most samples are nearly opposite to their own class centres, where {self.name} with fallback='none'"
            advice = "rewards an even larger angle; use fallback='paper', or a lower learning rate"
            found[f"{why} {advice}"] = (self.target(cos_y, norm) > cos_y).float().mean() > 0.5
        return found

    def class_margin(self, margin: float, power: float) -> float | Tensor:
        """margin·(n_min/n_y)^power for a class of n_y images, (batch,); the margin itself where `power` is 0."""
        return margin if power == 0 or self.counts is None else margin * (self.least_count / self.counts) ** power

    def attach(self, num_classes: int, dim: int, class_counts: bool = False) -> None:
        """Binds the head to centres; called by their loss.

        InputError where it is bound to other centres already and its constants would change under them, and for
        options that need more than these centres have.
        """
        if self.options.get("count_power") and not class_counts:
            advice = "give MarginSoftmaxLoss the number of training images of each class"
            raise InputError(f"expected class_counts for count_power of the head {self.name}, found none; {advice}")
        bound = copy.copy(self)
        if self.options.get("scale") == "auto":
            if num_classes < 3:
                raise InputError(f"expected at least 3 classes for scale='auto', found {num_classes}; give a number")
            bound.__dict__["scale"] = math.sqrt(2) * math.log(num_classes - 1)
        bound.__dict__["options"] = {}  # `bind` may set attributes that are named as options are
        bound.bind(num_classes, dim)
        constants = constants_of(bound)
        if self.bound not in (None, (num_classes, dim)) and not _same(constants, constants_of(self)):
            found = f"found one that a loss over {self.bound} uses and whose constants depend on both"
            wanted = f"a head of its own for a loss over {num_classes} classes in {dim} dimensions"
            raise InputError(f"expected {wanted}, {found}; build a second head")
        self.__dict__.update(constants, bound=(num_classes, dim), counted=class_counts)

    def configure(self, **changes: Any) -> None:
        """Changes options as if the head had been built with them; the running state and the parameters stay.

        InputError, before anything has changed, for what the constructor rejects.
        """
        _require_known(self.name, changes, self.options)
        fresh = type(self)(**{**self.options, **changes})
        if self.bound:
            fresh.attach(*self.bound, class_counts=self.counted)
        self.__dict__.update(constants_of(fresh), options=fresh.options)

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in self.__dict__.get("options", ()) and not isinstance(value, Tensor)
        if known and name not in self._parameters and name not in self._buffers:
            self.configure(**{name: value})
        else:
            super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, state in self._buffers.items():  # a moving average in 16 bits would stand still
            if state is not None and state.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = state.float()
        return self

    def describe(self) -> str:
        """The head's name with its options, e.g. "cosface(scale=64.0, margin=0.35)"."""
        return f"{self.name or type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        chosen = {name: getattr(self, name, value) for name, value in self.options.items() if value in (None, "auto")}
        return ", ".join(f"{name}={chosen.get(name, value)!r}" for name, value in self.options.items())


NOT_CONSTANTS = {"training", "options", "name", "bound", "counted", "first_sample", "counts", "least_count", "drawn"}
"""Plain attributes of a head that are not derived from its options."""


def constants_of(head: MarginHead) -> dict[str, Any]:
    """The attributes that a head derives from its options and from what it is bound to."""
    return {k: v for k, v in head.__dict__.items() if not k.startswith("_") and k not in NOT_CONSTANTS}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(v, other[k]) if isinstance(v, Tensor) else v == other[k] for k, v in one.items()
    )


HEADS: Registry[type[MarginHead]] = Registry("head")  #: By name; a head's options are the parameters of its `__init__`


def build_head(name: str, **options: Any) -> MarginHead:
    """The head registered as `name` with the given options, the others at their defaults.

    Raises InputError for an unknown name or option (the closest names first), for a value of the wrong type, and
    for a value that the head rejects: a margin out of range, a scale that is not positive.

    >>> build_head("cosface", margin=0.4).describe()
    'cosface(scale=64.0, margin=0.4, count_power=0.0)'
    """
    kind = HEADS[name]
    _require_known(name, options, [option.name for option in head_options(kind)])
    return kind(**options)


def _require_known(head: str, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown_name(f"option of the head {head}", name, known)


def moving_average(state: Tensor, value: Tensor, momentum: float) -> None:
    """state ← (1 − momentum)·state + momentum·value, in place."""
    state.lerp_(value.to(state.dtype), momentum)


def learned_by(head: MarginHead) -> list[Tensor]:
    """What a head learns: its parameters, or, of a frozen one, the plain tensors in their place."""
    state = (*head.parameters(), *head.__dict__.values())
    return [one for one in state if isinstance(one, Tensor) and one.requires_grad]


def frozen(head: M, parameter: Callable[[Tensor], Tensor] | None = None) -> M:
    """The head as it is now, for one forward and its backward: a later update or changed option does not reach it.

    Its parameters are those of `head`, or what `parameter` makes of each.
    """
    copied = copy.copy(head)
    state = copied.__dict__
    state["_buffers"] = {n: b if b is None else b.clone() for n, b in head._buffers.items()}
    state["_modules"] = {n: m if m is None else frozen(m, parameter) for n, m in head._modules.items()}
    if parameter is not None:  # as plain tensors
        state.update({n: p if p is None else parameter(p) for n, p in head._parameters.items()}, _parameters={})
    return copied
