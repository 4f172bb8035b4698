"""Products with the centres in fewer bits: what is rounded, what stays exact, and what "auto" means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss
from zoo.heads.loss import precision as module
from zoo.heads.loss.precision import choose, product, rounded

BITS = {"fp32": 24, "tf32": 11, "bf16": 8}
"""Of a number's significand, the hidden one included."""


@pytest.mark.parametrize("precision", BITS)
def test_a_number_is_rounded_to_the_nearest_of_so_many_bits(precision: str) -> None:
    exact = torch.cat([torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, -1.0, 3e38])])
    found = rounded(exact, precision)
    step = 2.0 ** (exact.double().abs().clamp_min(1e-30).log2().floor() + 1 - BITS[precision])
    assert ((found.double() - exact.double()).abs() <= step / 2).all()
    assert ((found.double() / step).frac() == 0).all()


@pytest.mark.parametrize("precision", BITS)
def test_a_product_and_its_derivatives_are_those_of_rounded_factors(precision: str) -> None:
    a, b = (torch.randn(3, 3).requires_grad_() for _ in range(2))
    result = product(a, b, precision)
    torch.testing.assert_close(result, rounded(a, precision) @ rounded(b, precision))
    (d_a,) = torch.autograd.grad(result.square().sum(), a, create_graph=True)
    torch.testing.assert_close(d_a, rounded(2 * result, precision) @ rounded(b.T, precision))
    assert torch.autograd.grad(d_a.sum(), b)[0].isfinite().all()
    doubles = a.double(), b.double()
    torch.testing.assert_close(product(*doubles, precision), doubles[0] @ doubles[1], rtol=0, atol=0)


@pytest.mark.parametrize("form", ["dense", "chunked", "checkpointed"])
@pytest.mark.parametrize(("precision", "value", "gradient"), [("tf32", 2e-4, 1e-3), ("bf16", 1e-3, 2e-2)])
def test_every_form_takes_it_and_the_target_cosine_stays_exact(
    form: str, precision: str, value: float, gradient: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = 20 * torch.randn(6, 512, generator=generator), torch.randint(200, (6,), generator=generator)
    options = {"chunk_size": None if form == "dense" else 64, "seed": 0}
    head = "uniface" if form == "checkpointed" else "recurricularface"

    def run(dtype: torch.dtype, precision: str) -> tuple[Tensor, list[Tensor]]:
        loss = MarginSoftmaxLoss(head, 200, 512, precision=precision, **options).to(dtype)
        inputs = x.to(dtype).requires_grad_()
        worth = loss(inputs, labels)
        return loss.mean_target_cosine, [worth, *torch.autograd.grad(worth, (inputs, loss.weight))]

    cosine, exact = run(torch.float64, precision)
    found_cosine, found = run(torch.float32, precision)
    _, plain = run(torch.float32, "fp32")
    assert abs(found_cosine - cosine) < 1e-6
    for bound, ours, truth in zip((value, gradient, gradient), found, exact, strict=True):
        assert torch.linalg.norm(ours - truth) <= bound * torch.linalg.norm(truth)
    assert not torch.equal(found[1], plain[1])


def test_auto_is_fp32_on_a_cpu_and_what_the_run_has_on_cuda() -> None:
    cpu, card = torch.device("cpu"), torch.device("cuda")
    with torch.autocast("cpu", torch.bfloat16):
        assert choose("auto", cpu) == "fp32"
    assert choose("auto", card) == "tf32"
    assert choose("bf16", cpu) == "bf16"
    torch.set_autocast_enabled("cuda", True)
    try:
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        assert choose("auto", card) == "bf16"
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)
    with pytest.raises(InputError, match="'fp32'"):
        MarginSoftmaxLoss("softmax", 3, 2, precision="fp16")  # type: ignore[arg-type]


def test_the_setting_of_torch_is_put_back() -> None:
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    with pytest.raises(RuntimeError), module._fp32_products("tf32"):
        assert settings.fp32_precision == "tf32"
        raise RuntimeError
    assert settings.fp32_precision == before
