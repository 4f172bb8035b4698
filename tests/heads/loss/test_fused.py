"""The GPU's path, with its kernels run by Triton's interpreter: it equals the dense form, whatever the head."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.far_device import FAR, forbid_copies
from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head, gpu
from zoo.heads.loss import fused, margin_softmax
from zoo.heads.loss.dense import Block, Plan

pytest.importorskip("triton")
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # where masked
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
every_head = pytest.mark.parametrize("name", list(HEADS))


@pytest.fixture(autouse=True, scope="module")
def kernels_everywhere() -> Iterator[None]:
    """Without a GPU the kernels run on the CPU, by Triton's interpreter."""
    gpu.ON_ANY_DEVICE = True
    yield
    gpu.ON_ANY_DEVICE = False


def run(loss: MarginSoftmaxLoss, embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss and the gradients of the embeddings, the centres and the head's parameters, in float64."""
    x = embeddings.to(loss.weight).requires_grad_()
    value = loss(x, labels.to(x.device))
    wanted = [x, *loss.parameters()]
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    return [t.detach().to_dense().double().cpu() for t in (value, *found) if t is not None]


def pair(name: str, classes: int, dim: int, **options: object) -> tuple[MarginSoftmaxLoss, MarginSoftmaxLoss]:
    """The dense loss in float64 and the fused one in float32, with equal centres."""
    shared = {k: v for k, v in options.items() if k in ("sub_centres", "straight_through", "filter_above", "scale")}
    heads = [build_head(name, **({"scale": shared["scale"]} if "scale" in shared else {})) for _ in range(2)]
    shared.pop("scale", None), options.pop("scale", None)
    exact = MarginSoftmaxLoss(heads[0], classes, dim, seed=5, chunk_size=None, **shared).double()
    quick = MarginSoftmaxLoss(heads[1], classes, dim, seed=5, precision=options.pop("precision", "fp32"), **options)
    return exact, quick.to(DEVICE)


def batch(size: int, classes: int, dim: int, seed: int = 0, norm: float = 20.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = norm * torch.randn(size, dim, generator=generator)
    return embeddings, torch.randint(classes, (size,), generator=generator)


def assert_near(found: list[Tensor], expected: list[Tensor], loss: float, gradient: float) -> None:
    """Relative to the size of the loss, and to the largest element of each gradient."""
    for k, (ours, truth) in enumerate(zip(found, expected, strict=True)):
        error = (ours - truth).abs().max() / truth.abs().max().clamp_min(1e-6)
        assert error <= (gradient if k else loss), f"{k}: {float(error)} of {float(truth.abs().max())}"


@every_head
def test_the_kernels_equal_the_dense_form_for_every_head(name: str) -> None:
    """Of four chunks two are kept for the backward pass, in the memory of the centres' gradient."""
    exact, quick = pair(name, 11, 4, chunk_size=3, memory_budget=0)
    inputs = batch(5, 11, 4)
    assert_near(run(quick, *inputs), run(exact, *inputs), 1e-5, 1e-4)
    for key, value in exact.stats().items():
        torch.testing.assert_close(quick.stats()[key].cpu().double(), value.double(), rtol=1e-4, atol=1e-5)


@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    name=st.sampled_from(list(HEADS)),
    size=st.integers(1, 4),
    classes=st.integers(2, 12),
    dim=st.integers(2, 5),
    chunk=st.integers(1, 14),
    keep=st.sampled_from([0, 200, 10_000]),
    sub_centres=st.integers(1, 3),
    straight_through=st.booleans(),
    filtered=st.booleans(),
    norm=st.sampled_from([1e-3, 20.0, 1e3]),
    scale=st.sampled_from([40.0, 256.0]),
    seed=st.integers(0, 99),
)
def test_the_kernels_equal_the_dense_form_whatever_the_shape(
    name: str,
    size: int,
    classes: int,
    dim: int,
    chunk: int,
    keep: int,
    sub_centres: int,
    straight_through: bool,
    filtered: bool,
    norm: float,
    scale: float,
    seed: int,
) -> None:
    scale = 40.0 if name == "magface" else scale  # at 256 its penalty would be below what it accepts
    exact, quick = pair(
        name,
        classes,
        dim,
        chunk_size=chunk,
        memory_budget=keep,
        sub_centres=sub_centres,
        straight_through=straight_through,
        filter_above=0.6 if filtered else None,
        scale=scale,
    )
    inputs = batch(size, classes, dim, seed, norm)
    found, expected = run(quick, *inputs), run(exact, *inputs)
    # a loss of 1e-30 has no gradient in float32, and a cosine at the boundary may fall on either side of it
    assert_near([found[0]], [expected[0].clamp_min(1e-3)], 1e-3, 1e-3)
    assert_near(found[1:], expected[1:], 2e-2, 2e-2)


@pytest.mark.parametrize("cos", [1.0, -1.0])
@pytest.mark.parametrize("name", ["recurricularface", "circle", "sphereface2"])
def test_at_the_poles_every_negative_is_hard_or_none(name: str, cos: float) -> None:
    exact, quick = pair(name, 5, 4, chunk_size=2)
    centres = torch.randn(1, 4).expand(5, 4).contiguous()
    for loss in (exact, quick):
        loss.weight.data.copy_(centres)
    inputs = cos * centres[:2] * 7, torch.tensor([0, 4])
    found, expected = run(quick, *inputs), run(exact, *inputs)
    assert_near(found[:1], expected[:1], 1e-4, 0)
    for ours, truth in zip(found[1:], expected[1:], strict=True):  # the true gradients are 0: they have no direction
        assert (ours - truth).abs().max() <= 1e-4 * quick.head.scale


@pytest.mark.parametrize(("precision", "loss", "gradient"), [("tf32", 2e-4, 1e-3), ("bf16", 1e-3, 2e-2)])
@pytest.mark.parametrize("budget", [0, 2**20])
def test_lower_precision_stays_near_float64(precision: str, loss: float, gradient: float, budget: int) -> None:
    exact, quick = pair("recurricularface", 200, 512, chunk_size=128, precision=precision, memory_budget=budget)
    inputs = batch(6, 200, 512)
    found, expected = run(quick, *inputs), run(exact, *inputs)
    assert_near(found[:1], expected[:1], loss, 0)
    for ours, truth in zip(found[1:], expected[1:], strict=True):
        assert torch.linalg.norm(ours - truth) <= gradient * torch.linalg.norm(truth)
    twin = run(pair("recurricularface", 200, 512, chunk_size=128, precision="fp32")[1], *inputs)
    assert (found[1] - twin[1]).abs().max() > 1e-6 * twin[1].abs().max(), "the option changed nothing"


def test_sampled_centres_take_the_kernels_too() -> None:
    losses = [
        MarginSoftmaxLoss("arcface", 20, 4, seed=5, sample_rate=0.5, chunk_size=size, precision="fp32").to(DEVICE)
        for size in (None, 4)
    ]
    inputs = batch(3, 20, 4)
    assert_near(run(losses[1], *inputs), run(losses[0], *inputs), 1e-5, 1e-4)


def test_the_parts_of_split_centres_add_up() -> None:
    """What every rank computes of its classes, where a sample's own class is of another rank."""
    _, quick = pair("curricularface", 10, 4, chunk_size=3)
    x, labels = batch(4, 10, 4)
    unit, weight = torch.nn.functional.normalize(x).to(DEVICE), quick.weight.detach()
    head, zero, boundary = quick.head, torch.zeros(4, device=DEVICE), torch.full((4,), 0.1, device=DEVICE)
    parts = []
    for first in (0, 5):
        column = torch.where((labels >= first) & (labels < first + 5), labels - first, -1).to(DEVICE)
        part = weight[first : first + 5]
        parts.append(fused.fused_sum(Block(unit, part, column, zero, boundary), head, Plan(3, 0)))
    whole = fused.fused_sum(Block(unit, weight, labels.to(DEVICE), zero, boundary), head, Plan(3, 0))
    torch.testing.assert_close(torch.logaddexp(parts[0][1], parts[1][1]), whole[1])


def test_a_second_backward_pass_gives_the_same_gradients_and_no_second_derivative() -> None:
    _, quick = pair("recurricularface", 9, 4, chunk_size=5)
    x, labels = batch(3, 9, 4)
    x = x.to(DEVICE).requires_grad_()
    value = quick(x, labels.to(DEVICE))
    first, second = (torch.autograd.grad(value, (x, quick.weight), retain_graph=True) for _ in range(2))
    for expected, found in zip(first, second, strict=True):
        torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="no second derivative"):
        torch.autograd.grad(value, x, create_graph=True)


class Noted(TorchDispatchMode):
    """Notes the names of the operations and the most bytes of a tensor that one made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(func.overloadpacket.__name__)
        if isinstance(result, Tensor) and "view" not in func.overloadpacket.__name__:
            self.largest = max(self.largest, result.nbytes)
        return result


def test_a_step_waits_for_nothing_and_makes_no_matrix_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin_softmax, "require_fit", lambda *_: None)  # on a GPU it does not look at labels
    quick = pair("recurricularface", 64, 2, chunk_size=16, memory_budget=0)[1]
    quick._watch.started = True
    x, labels = batch(8, 64, 2)
    x, labels = x.to(DEVICE).requires_grad_(), labels.to(DEVICE)
    waits = {"_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero"}
    with Noted() as noted:
        quick(x, labels).backward()
    assert not noted.names & waits
    assert noted.largest < 8 * 64 * 4
    with Noted() as twin:
        MarginSoftmaxLoss("softmax", 64, 2, chunk_size=None, ignore_index=-1).to(DEVICE)(x, labels).backward()
    assert noted.names & twin.names and twin.names & waits and twin.largest >= 8 * 64 * 4


@every_head
@pytest.mark.parametrize(
    "options",
    [{}, {"sub_centres": 2, "filter_above": 0.5, "chunk_size": 4}, {"sample_rate": 0.5}, {"chunk_size": None}],
)
@pytest.mark.parametrize("with_kernels", [False, True])
def test_the_host_neither_reads_from_the_device_nor_copies_to_it(
    name: str, options: dict[str, Any], with_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: what made a step wait before, a number that becomes a tensor there, is found."""
    from zoo.heads.loss import kernels

    loss = MarginSoftmaxLoss(name, 30, 8, seed=1, **options).to(FAR)
    loss._watch.started = True
    x, labels = torch.randn(5, 8, device=FAR, requires_grad=True), torch.zeros(5, dtype=torch.int64, device=FAR)
    monkeypatch.setattr(gpu, "ON_ANY_DEVICE", with_kernels)
    for kernel in ("normalise", "sum_of_a_row", "pull_of_a_row", "project"):
        monkeypatch.setattr(kernels, kernel, defaultdict(lambda: lambda *_, **__: None))
    with forbid_copies(monkeypatch):
        loss(x, labels).backward()
        for twin in (lambda: x.new_tensor(3), lambda: torch.tensor(3.0, device=FAR), lambda: torch.ones(1).to(FAR)):
            with pytest.raises(AssertionError, match="copies from the host"):
                twin()
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            bool(x.sum() > 0)


def test_the_fastest_chunk_that_fits_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_MEASURED", {})
    monkeypatch.setattr(fused, "CHUNKS", (2, 4, 8, 512))
    monkeypatch.setattr(fused, "_trial", lambda unit, weight, column, head, plan: seen.append(plan.chunk_size))
    seen: list[int] = []

    def seconds(call: Any) -> float:
        call()
        return abs(seen[-1] - 4.1)

    given = torch.zeros(3, 2), torch.zeros(100, 2), build_head("softmax"), Plan(0, 0)
    each = fused.class_bytes(3, 2, Plan(0, 0))
    for _ in range(2):
        plan = fused.plan_chunks(*given, 100 * each, "auto", seconds)
        assert (plan.chunk_size, plan.keep_bytes) == (4, 96 * each)
    assert seen == [2, 4, 8, 64]  # 512 classes would take more than the budget
    assert fused.plan_chunks(*given, 100 * each, 7, seconds).chunk_size == 7
    torch.use_deterministic_algorithms(True)
    try:
        assert fused.plan_chunks(*given, 10**9, "auto", seconds).chunk_size == fused.FIXED_CHUNK
    finally:
        torch.use_deterministic_algorithms(False)
    with torch.inference_mode():
        plan = fused.plan_chunks(torch.zeros(4, 2), *given[1:], 10**9, "auto", seconds)
    assert plan.chunk_size == fused.FIXED_CHUNK and seen == [2, 4, 8, 64]
