"""The kernels by themselves: what the compiler for a GPU says of them, and small sums to the last digit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_centres_are_normalised_and_their_gradient_loses_its_part_along_them() -> None:
    from zoo.heads.loss import kernels

    weight = torch.randn(5, 3, device=DEVICE).requires_grad_()
    unit, inverse, result = torch.empty(5, 3), torch.empty(5), torch.empty(5, 3)
    unit, inverse, result = unit.to(DEVICE), inverse.to(DEVICE), result.to(DEVICE)
    kernels.normalise[(2,)](weight.detach(), unit, inverse, 5, 3, 1e-12, ROWS=4, DIM=4)
    torch.testing.assert_close(unit, F.normalize(weight.detach()))
    torch.testing.assert_close(inverse, 1 / weight.detach().norm(dim=1))
    upstream = torch.randn(5, 3, device=DEVICE)
    kernels.project[(2,)](upstream, weight.detach(), inverse, result, 5, 3, ROWS=4, DIM=4)
    (expected,) = torch.autograd.grad(F.normalize(weight), weight, upstream)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("logit", [-60.0, -18.0, -4.0, -3.0, 0.0, 2.0, 30.0])
def test_a_sum_of_softplus_keeps_its_digits_where_each_is_small(logit: float) -> None:
    from zoo.heads.loss import kernels

    cosines = torch.full((1, 9), 0.5, device=DEVICE)
    row = {name: torch.zeros(1, device=DEVICE) for name in ("boundary", "top", "total", "pull", "hard")}
    column = torch.tensor([8], device=DEVICE)
    bias = torch.tensor(20.0 - logit, device=DEVICE)
    kernels.sum_of_a_row[(1,)](
        *(cosines, cosines, (column, row["boundary"], bias)),
        *((row["top"], row["total"], row["pull"], row["top"], row["hard"]), 0, 9, 40.0, 0.0),
        (0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        SHAPE=kernels.Shape(True, False, False, False, False, binary=True, filters=False),
        SUB_CENTRES=1,
        KEEPS=False,
        BLOCK=4,
    )
    exact = F.softplus(torch.tensor(logit, dtype=torch.float64), threshold=700)
    # e^x has a relative error of the rounded x·log₂e, 2⁻²⁴·|x|, where the GPU computes it as a power of 2
    torch.testing.assert_close(row["total"].cpu().double(), 8 * exact[None], rtol=2e-6 + 6e-8 * abs(logit), atol=0)
    assert row["hard"].item() == 8


def test_the_compiler_for_a_gpu_accepts_the_kernels_of_every_head() -> None:
    """The interpreter accepts what the compiler rejects; it needs no GPU, only a process without the interpreter."""
    source = """
        import torch, triton
        from triton.backends.compiler import GPUTarget
        from zoo.heads import HEADS, MarginSoftmaxLoss, RowwiseAdamW, RowwiseSGD, gpu

        class Card:
            get_current_target = lambda self: GPUTarget("cuda", 90, 32)
            get_current_device = lambda self: 0
            get_current_stream = lambda self, device: 0
            get_active_torch_device = lambda self: torch.device("cpu")

        triton.runtime.driver.set_active(Card())
        run = triton.JITFunction.run
        compiled = set()

        def compile_only(self, *args, warmup, **options):
            compiled.add(run(self, *args, warmup=True, **options).hash)

        triton.JITFunction.run = compile_only
        gpu.ON_ANY_DEVICE = True
        for number, name in enumerate(HEADS):
            options = {"sub_centres": 2, "filter_above": 0.5} if number % 4 == 0 else {}
            loss = MarginSoftmaxLoss(name, 600, 32, chunk_size=256, memory_budget=0, precision="bf16", **options)
            loss(torch.randn(70, 32).requires_grad_(), torch.randint(600, (70,))).backward()
        for sample_rate in (1.0, 0.2):
            loss = MarginSoftmaxLoss("softmax", 600, 32, sample_rate=sample_rate, precision="tf32")
            loss(torch.randn(70, 32).requires_grad_(), torch.randint(600, (70,))).backward()
            sgd = RowwiseSGD([loss.weight], lr=0.1, momentum=0.9, nesterov=True)
            for optimizer in (sgd, RowwiseAdamW([loss.weight])):
                optimizer.step()
                optimizer.step(finite=torch.tensor(True))
        print(len(compiled))
    """
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 20
