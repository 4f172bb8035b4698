"""Optimizers that update only the rows with a gradient: neither momentum nor decay changes the other class centres."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from zoo.errors import InputError
from zoo.heads.gpu import runs_kernels

ROWS_AT_ONCE = 16384  #: Rows that a step handles at a time, so that it needs no second copy of a million centres
Rows = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""A parameter, a gradient, the rows of the parameter that the gradient's are for (None: the same ones), `finite`."""


def _launch(kernel: Any, over: Rows, buffers: Sequence[Tensor], numbers: Sequence[float], **flags: Any) -> None:
    parameter, gradient, *given = over
    count, width = len(gradient), gradient[0].numel()
    block = min(1024, 1 << (width - 1).bit_length())
    rows = max(1, 4096 // block)
    flags |= {"PLACED": given[0] is not None, "GUARDED": given[1] is not None, "ROWS": rows, "BLOCK": block}
    operands = parameter, gradient, tuple(buffers), *(parameter if one is None else one for one in given)
    kernel[math.ceil(count / rows), math.ceil(width / block)](*operands, count, width, tuple(numbers), **flags)


class _Rowwise(Optimizer):
    """Updates the rows that have a gradient, ROWS_AT_ONCE at a time, or on a GPU by one kernel."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, finite: Tensor | None = None) -> Any:
        """One step, which changes nothing where `finite`, a scalar bool tensor, is false: without a host sync."""
        with torch.enable_grad():
            value = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group, finite)
        return value

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], finite: Tensor | None) -> None:
        state = self.state[parameter]
        if not state:
            state.update(self.first_state(parameter))
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            places, values = gradient.indices()[0], gradient.values()
        else:
            places, values = None, gradient
        if len(values) and parameter.dtype == torch.float32 and runs_kernels(parameter.device):
            self.launch((parameter, values.contiguous(), places, finite), state, group)
            return
        for start in range(0, len(values), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            rows = part if places is None else places[part]
            old = {"": parameter[rows], **{name: buffer[rows] for name, buffer in state.items()}}
            new = self.new_rows(old, values[part], group)
            for name, buffer in {"": parameter, **state}.items():
                buffer[rows] = new[name] if finite is None else torch.where(finite, new[name], old[name])

    def first_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The initial state by name; each tensor's first axis is the parameter's rows."""
        raise NotImplementedError

    def new_rows(self, old: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """The rows after the step, as new tensors; "" is the parameter itself, other names are its state."""
        raise NotImplementedError

    def launch(self, over: Rows, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """`new_rows` of every row at once, in place, by a kernel."""
        raise NotImplementedError


class RowwiseSGD(_Rowwise):
    """torch.optim.SGD's step (decay, momentum, Nesterov) on rows with a gradient alone; the same for a dense one."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0, weight_decay: float = 0, nesterov: bool = False
    ) -> None:
        if lr < 0 or momentum < 0 or weight_decay < 0:
            raise InputError(f"expected lr, momentum, weight_decay of at least 0, found {(lr, momentum, weight_decay)}")
        if nesterov and momentum == 0:
            raise InputError("expected a momentum above 0 with nesterov, found 0")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def first_state(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": torch.zeros_like(parameter)}

    def new_rows(self, old: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        step = gradient.add(old[""], alpha=group["weight_decay"])
        buffer = old["momentum_buffer"].mul(group["momentum"]).add_(step)
        direction = step.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
        return {"": old[""].add(direction, alpha=-group["lr"]), "momentum_buffer": buffer}

    def launch(self, over: Rows, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        from zoo.heads.row_kernels import sgd  # needs Triton

        numbers = group["lr"], group["momentum"], group["weight_decay"]
        _launch(sgd, over, [state["momentum_buffer"]], numbers, NESTEROV=group["nesterov"])


class RowwiseAdamW(_Rowwise):
    """torch.optim.AdamW's step on the rows with a gradient, steps counted by row; the same where each one is dense."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            found = f"found {(lr, eps, weight_decay, betas)}"
            raise InputError(f"expected lr, eps, weight_decay of at least 0 and betas in [0, 1), {found}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def first_state(self, parameter: Tensor) -> dict[str, Tensor]:
        steps = torch.zeros(len(parameter), *[1] * (parameter.ndim - 1), device=parameter.device)
        return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter), "step": steps}

    def new_rows(self, old: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        first, second = group["betas"]
        step = old["step"] + 1
        average = old["exp_avg"].lerp(gradient, 1 - first)
        square = old["exp_avg_sq"].mul(second).addcmul_(gradient, gradient, value=1 - second)
        deviation = (square / _one_minus_power(second, step, square)).sqrt_().add_(group["eps"])
        decayed = old[""].mul(1 - group["lr"] * group["weight_decay"])
        moved = decayed.sub_(group["lr"] / _one_minus_power(first, step, average) * average / deviation)
        return {"": moved, "exp_avg": average, "exp_avg_sq": square, "step": step}

    def launch(self, over: Rows, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        from zoo.heads.row_kernels import adamw  # needs Triton

        steps = state["step"].view(-1)
        _, _, places, finite = over
        one = steps.new_ones(()) if finite is None else finite.to(steps.dtype)
        if places is None:
            steps.add_(one)
        else:
            steps.index_add_(0, places, one.expand(len(places)))
        (first, second), lr = group["betas"], group["lr"]
        logs = (math.log(beta) if beta else -1e4 for beta in (first, second))
        numbers = lr, 1 - lr * group["weight_decay"], first, second, 1 - first, 1 - second, *logs, group["eps"]
        _launch(adamw, over, [state["exp_avg"], state["exp_avg_sq"], steps], numbers)


def _one_minus_power(beta: float, step: Tensor, like: Tensor) -> Tensor:
    """1 − beta^step without the cancellation that costs float32 four digits at beta = 0.999."""
    return -torch.expm1(step.to(like.dtype) * math.log(beta)) if beta else torch.ones_like(step, dtype=like.dtype)


@torch.no_grad()
def clip_grad_norm(
    replicated: Iterable[Tensor],
    sharded: Iterable[Tensor],
    max_norm: float,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Scales all gradients so that their total norm is at most `max_norm`; returns the previous norm, a scalar.

    `replicated` parameters (the backbone) are equal on all ranks and count once; `sharded` ones (the class
    centres) are summed over the group by one all_reduce. Gradients may be sparse.
    """
    copies = [p.grad for p in replicated if p.grad is not None]
    shards = [p.grad for p in sharded if p.grad is not None]
    device = (copies + shards)[0].device if copies or shards else torch.device("cpu")
    ours = _square_sum(shards) if shards else torch.zeros((), device=device)
    if process_group is not None:
        dist.all_reduce(ours, group=process_group)
    norm = (ours + (_square_sum(copies) if copies else 0)).sqrt()
    if max_norm < math.inf:
        torch._foreach_mul_(_values(copies + shards), (max_norm / (norm + 1e-6)).clamp_max(1))
    return norm


def _values(gradients: Sequence[Tensor]) -> list[Tensor]:
    own = (gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients)
    return [gradient._values() if gradient.is_sparse else gradient for gradient in own]


def _square_sum(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of the squares of all elements, a scalar, in float32 at least."""
    values = _values(gradients)
    number = torch.promote_types(values[0].dtype, torch.float32)
    return torch.stack(torch._foreach_norm(values, 2, dtype=number)).square().sum()
