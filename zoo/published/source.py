"""A checkpoint's tensors as a layout takes them: each once, by the name that it has there, or a module at a time."""

import re
from collections.abc import Sequence
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

    def renamed(self, rules: Sequence[tuple[str, str]]) -> dict[str, torch.Tensor]:
        """The tensors of the modules that a rule names, by our names: a pattern of a module's whole name, and ours.

        A batch norm gets the scale and shift that it may lack, and our epsilon.
        """
        patterns = [(re.compile(theirs), ours) for theirs, ours in rules]
        found: dict[str, torch.Tensor] = {}
        for name in self.names():
            module, _, leaf = name.rpartition(".")
            match = next(((m, ours) for pattern, ours in patterns if (m := pattern.fullmatch(module))), None)
            if match is not None:
                found[f"{match[0].expand(match[1])}.{leaf}"] = self.take(name)
        for name in [name for name in found if name.endswith(".running_var")]:
            ours, var = name.removesuffix(".running_var"), found[name]
            found[name] = var + (self.eps - EPS)
            found = {**identity_norm(ours, len(var)), **found}
        return found

    def _found(self, name: str) -> torch.Tensor | Described:
        try:
            return self.tensors[self.prefix + name]
        except KeyError:
            raise InputError(f"expected the tensor {self.prefix}{name} in the checkpoint, found none") from None


def identity_norm(ours: str, channels: int) -> dict[str, torch.Tensor]:
    """A batch norm that changes nothing: √(variance + ε) is one."""
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1 - EPS}
    tensors = {f"{ours}.{name}": torch.full((channels,), value) for name, value in values.items()}
    return {**tensors, f"{ours}.num_batches_tracked": torch.tensor(0)}
