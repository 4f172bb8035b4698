"""The meta device in place of a GPU: the host cannot read its memory, which on a GPU it can, but has to wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FAR = torch.device("meta")


class HostCopies(TorchDispatchMode):
    """Fails at a tensor that is copied from the host while it is on; a GPU would make the host wait for the copy."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        near = [value for value in args if isinstance(value, Tensor) and not value.is_meta]
        assert not (near and isinstance(result, Tensor) and result.is_meta), f"{func} copies from the host"
        return result


def _checked(make: Callable[..., Tensor], of_values: bool) -> Callable[..., Tensor]:
    def make_near(*args: Any, **kwargs: Any) -> Tensor:
        result = make(*args, **kwargs)
        given = isinstance(args[0], Tensor) and not of_values
        assert given or not result.is_meta, f"{make.__name__} copies from the host"
        return result

    return make_near


def forbid_copies(monkeypatch: pytest.MonkeyPatch) -> HostCopies:
    """As `HostCopies`, also of numbers that become tensors; and what the meta device lacks is left out."""
    for place, name, of_values in ((torch, "tensor", False), (torch, "as_tensor", False), (Tensor, "new_tensor", True)):
        monkeypatch.setattr(place, name, _checked(getattr(place, name), of_values))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr("zoo.heads.loss.margin_softmax.require_fit", lambda *_: None)
    return HostCopies()
