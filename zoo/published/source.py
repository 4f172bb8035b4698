"""A checkpoint's tensors as a layout takes them: each once, by the name that it has there, or a module at a time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from zoo.errors import InputError
from zoo.published.read import Described, Tensors

EPS = 1e-5
"""The epsilon of every batch norm of ours; another one is added to the variance, which is the same."""


@dataclass
class Source:
    """The tensors of a checkpoint, each taken once under the name that it has below `prefix`."""

    tensors: Tensors
    prefix: str = ""
    eps: float = EPS
    taken: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def names(self) -> list[str]:
        """The names below the prefix."""
        return [name.removeprefix(self.prefix) for name in self.tensors if name.startswith(self.prefix)]

    def count(self, pattern: str) -> int:
        """One more than the largest number where `pattern` has its group; 0 where no name begins so."""
        found = [int(match[1]) for name in self.names() if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; InputError where it is not there."""
        return tuple(self._found(name).shape)

    def take(self, name: str) -> torch.Tensor:
        """The tensor in float32, without the denormal numbers that slow every CPU; InputError where it is not there."""
        found = self._found(name)
        self.taken.add(self.prefix + name)
        tensor = found.read() if isinstance(found, Described) else found
        if not tensor.is_floating_point():
            return tensor
        if not bool(tensor.isfinite().all()):
            raise InputError(f"expected finite weights, found others in {name}; fetch the file again")
        tensor = tensor.float()
        return torch.where(tensor.abs() < torch.finfo(torch.float32).tiny, 0.0, tensor)

    def pair(self, theirs: str, ours: str, names: Iterable[str] = ("weight",)) -> dict[str, torch.Tensor]:
        """The tensors of one module under our name."""
        return {f"{ours}.{name}": self.take(f"{theirs}.{name}") for name in names}

    def linear(self, theirs: str, ours: str) -> dict[str, torch.Tensor]:
        return self.pair(theirs, ours, ("weight", "bias"))

    def norm(self, theirs: str, ours: str) -> dict[str, torch.Tensor]:
        """A batch norm, with or without scale and shift of its own."""
        mean, var = self.take(f"{theirs}.running_mean"), self.take(f"{theirs}.running_var")
        if f"{theirs}.num_batches_tracked" in self:
            self.take(f"{theirs}.num_batches_tracked")
        affine = f"{theirs}.weight" in self
        weight, bias = (self.take(f"{theirs}.{n}") for n in ("weight", "bias")) if affine else (None, None)
        return _norm(ours, mean, var + (self.eps - EPS), weight, bias)

    def _found(self, name: str) -> torch.Tensor | Described:
        try:
            return self.tensors[self.prefix + name]
        except KeyError:
            raise InputError(f"expected the tensor {self.prefix}{name} in the checkpoint, found none") from None


def _norm(
    ours: str,
    mean: torch.Tensor,
    var: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    return {
        f"{ours}.weight": torch.ones_like(var) if weight is None else weight,
        f"{ours}.bias": torch.zeros_like(var) if bias is None else bias,
        f"{ours}.running_mean": mean,
        f"{ours}.running_var": var,
        f"{ours}.num_batches_tracked": torch.tensor(0),
    }


def identity_norm(ours: str, channels: int) -> dict[str, torch.Tensor]:
    """A batch norm that changes nothing: √(variance + ε) is one."""
    return _norm(ours, torch.zeros(channels), torch.full((channels,), 1 - EPS))
