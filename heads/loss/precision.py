"""Matrix products with the class centres: float32 results of factors in float32, TF32 or bfloat16."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "tf32", "bf16"]  #: Of the factors of a product with the centres


def choose(precision: str, device: torch.device) -> str:
    """What "auto" means here: fp32 but on CUDA, there bf16 under an autocast of 16 bits and tf32 elsewhere."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    low = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") in (torch.bfloat16, torch.float16)
    return "bf16" if low else "tf32"


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """a @ b, differentiable any number of times, with every product of its gradients in the same precision."""
    return a @ b if precision == "fp32" and not a.is_cuda else cast(Tensor, _Product.apply(a, b, precision))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, precision: str) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.precision = precision
        return multiply(a, b, precision)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b = ctx.saved_tensors
        d_a = product(grads[0], b.T, ctx.precision) if ctx.needs_input_grad[0] else None
        return d_a, product(a.T, grads[0], ctx.precision) if ctx.needs_input_grad[1] else None, None


def multiply(a: Tensor, b: Tensor, precision: str, out: Tensor | None = None) -> Tensor:
    """a @ b without gradient, in float32; factors that are in float64 stay so.

    On CUDA the tensor cores do it. Elsewhere the factors are rounded and multiplied in float32: the same accuracy, to
    measure it anywhere, and no gain in speed.
    """
    if a.dtype == torch.float64:
        return torch.mm(a, b, out=out)
    if not a.is_cuda:
        return torch.mm(rounded(a, precision), rounded(b, precision), out=out)
    if precision == "bf16":
        a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
        if out is None:
            return torch.mm(a, b, out_dtype=torch.float32)
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    with _fp32_products("tf32" if precision == "tf32" else "ieee"):
        return torch.mm(a, b, out=out)


def rounded(value: Tensor, precision: str) -> Tensor:
    """`value` in float32, rounded to the nearest number that `precision` has."""
    if precision == "bf16":
        return value.to(torch.bfloat16).float()
    value = value.float()
    if precision == "tf32":  # 10 bits of mantissa; half of the last one is added before the other 13 are cut off
        return (value.contiguous().view(torch.int32) + 0x1000).bitwise_and_(~0x1FFF).view(torch.float32)
    return value


@contextlib.contextmanager
def _fp32_products(how: str) -> Iterator[None]:
    settings = torch.backends.cuda.matmul
    before, settings.fp32_precision = settings.fp32_precision, how
    try:
        yield
    finally:
        settings.fp32_precision = before
