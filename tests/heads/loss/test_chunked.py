"""Dense, chunked, sampled and sub-centred class centres: the same value and gradients, whatever the head."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head

every_head = pytest.mark.parametrize("name", list(HEADS))


def run(loss: MarginSoftmaxLoss, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, gradient of the embeddings, gradient of the centres), the last dense."""
    x = embeddings.clone().requires_grad_()
    loss.weight.grad = None
    value = loss(x, labels)
    value.backward()
    return value.detach(), x.grad, loss.weight.grad.to_dense()


def pair(name: str, classes: int, dim: int, dtype: torch.dtype, **options: object) -> list[MarginSoftmaxLoss]:
    """The dense loss and another one, with the same centres and the same running state."""
    common = {key: options[key] for key in ("sub_centres", "straight_through", "sample_rate") if key in options}
    losses = [
        MarginSoftmaxLoss(build_head(name), classes, dim, seed=5, chunk_size=None, **common),
        MarginSoftmaxLoss(build_head(name), classes, dim, seed=5, **options),
    ]
    return [loss.to(dtype) for loss in losses]


def batch(size: int, classes: int, dim: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = 20 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype), torch.randint(classes, (size,), generator=generator)


@every_head
@pytest.mark.parametrize("keep", [0, 7 * 5 * 8 * 2, 2**20])
def test_chunked_equals_dense_for_every_head(name: str, keep: int) -> None:
    dense, chunked = pair(name, 23, 6, torch.float64, chunk_size=5, memory_budget=keep)
    for seed in range(3):
        inputs = batch(7, 23, 6, torch.float64, seed)
        for expected, found in zip(run(dense, *inputs), run(chunked, *inputs), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        for key, value in dense.stats().items():
            torch.testing.assert_close(chunked.stats()[key], value, rtol=1e-10, atol=1e-12)


@every_head
@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
def test_chunked_errs_in_fp32_no_more_than_dense(name: str, input_dtype: torch.dtype) -> None:
    exact, _ = pair(name, 101, 17, torch.float64)
    dense, chunked = pair(name, 101, 17, torch.float32, chunk_size=13, memory_budget=9 * 13 * 4 * 3)
    exact.weight.data.copy_(dense.weight.data)
    embeddings, labels = batch(9, 101, 17, input_dtype)
    reference = run(exact, embeddings.double(), labels)
    for k, (truth, plain, found) in enumerate(
        zip(reference, run(dense, embeddings, labels), run(chunked, embeddings, labels), strict=True)
    ):
        scale = truth.abs().max()
        # a hard negative may fall on the other side of the boundary in fp32: neither form is righter then
        eps = 2e-5 if input_dtype == torch.float32 or k != 1 else 1e-2
        assert (found - truth).abs().max() <= (plain - truth).abs().max() + eps * scale


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(list(HEADS)),
    size=st.integers(1, 30),
    classes=st.integers(2, 40),
    dim=st.integers(2, 9),
    chunk=st.integers(1, 45),
    keep=st.integers(0, 4000),
    sub_centres=st.integers(1, 3),
    straight_through=st.booleans(),
    seed=st.integers(0, 99),
)
def test_chunked_equals_dense_whatever_the_shape(
    name: str,
    size: int,
    classes: int,
    dim: int,
    chunk: int,
    keep: int,
    sub_centres: int,
    straight_through: bool,
    seed: int,
) -> None:
    dense, chunked = pair(
        name,
        classes,
        dim,
        torch.float64,
        chunk_size=chunk,
        memory_budget=keep,
        sub_centres=sub_centres,
        straight_through=straight_through,
    )
    inputs = batch(size, classes, dim, torch.float64, seed)
    for expected, found in zip(run(dense, *inputs), run(chunked, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("size", "dim"), [(3, 8), (8, 8), (20, 8)])
def test_a_second_backward_pass_gives_the_same_gradients(size: int, dim: int) -> None:
    """The first one writes the weight's gradient over what was kept in its memory."""
    _, chunked = pair("recurricularface", 23, dim, torch.float64, chunk_size=5)
    embeddings, labels = batch(size, 23, dim, torch.float64)
    x = embeddings.requires_grad_()
    value = chunked(x, labels)
    first, second = (torch.autograd.grad(value, (x, chunked.weight), retain_graph=True) for _ in range(2))
    for expected, found in zip(first, second, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_centres_that_do_not_learn_leave_the_gradient_of_the_embeddings_as_it_is() -> None:
    _, chunked = pair("recurricularface", 23, 8, torch.float64, chunk_size=5)
    embeddings, labels = batch(6, 23, 8, torch.float64)
    _, expected, _ = run(chunked, embeddings, labels)
    _, again = pair("recurricularface", 23, 8, torch.float64, chunk_size=5)
    again.weight.requires_grad_(False)
    x = embeddings.clone().requires_grad_()
    again(x, labels).backward()
    torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-14)
    assert again.weight.grad is None


@every_head
@pytest.mark.parametrize("cos_y", [1.0, -1.0])
def test_chunked_equals_dense_where_all_negatives_are_hard_and_where_none_is(name: str, cos_y: float) -> None:
    dense, chunked = pair(name, 5, 6, torch.float64, chunk_size=2, memory_budget=0)
    centres = torch.eye(5, 6, dtype=torch.float64) + 0.01
    embeddings, labels = 20 * cos_y * centres[1:4], torch.arange(1, 4)
    for loss in (dense, chunked):
        loss.weight.data.copy_(centres)
    for expected, found in zip(run(dense, embeddings, labels), run(chunked, embeddings, labels), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_a_chunk_that_holds_the_target_alone_adds_nothing() -> None:
    dense, chunked = pair("circle", 2, 3, torch.float32, chunk_size=1)
    inputs = batch(4, 2, 3, torch.float32)
    for expected, found in zip(run(dense, *inputs), run(chunked, *inputs), strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_head
def test_the_chunk_functions_compile_without_a_graph_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.heads.loss import chunked as module

    compiled = {
        step: torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
        for step in (module._forward_step, module._backward_step)
    }
    monkeypatch.setattr(module, "_COMPILED", compiled)
    dense, chunked = pair(name, 15, 6, torch.float64, chunk_size=5, memory_budget=7 * 5 * 8, compiled=True)
    inputs = batch(7, 15, 6, torch.float64)
    for expected, found in zip(run(dense, *inputs), run(chunked, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.compiler.reset()


@pytest.mark.soak
@every_head
def test_the_chunk_functions_compile_to_the_same_numbers(name: str) -> None:
    torch.compiler.reset()  # each head is a recompilation, and torch allows eight
    dense, chunked = pair(name, 150, 16, torch.float32, chunk_size=64, memory_budget=9 * 64 * 4, compiled=True)
    inputs = batch(9, 150, 16, torch.float32)
    for expected, found in zip(run(dense, *inputs), run(chunked, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_centres_gradient_is_handed_over_without_a_copy() -> None:
    loss = MarginSoftmaxLoss(build_head("recurricularface"), 50, 8, chunk_size=7)
    made: list[int] = []
    value = loss(*batch(5, 50, 8, torch.float32))
    function = value.grad_fn
    while function is not None and type(function).__name__ != "_ChunkedLogSumExpBackward":
        function = next((f for f, _ in function.next_functions if f is not None), None)
    assert function is not None
    function.register_hook(lambda grad_inputs, _: made.append(grad_inputs[1].data_ptr()))
    value.backward()
    assert loss.weight.grad.data_ptr() == made[0]


def test_a_backward_after_the_running_state_moved_is_refused() -> None:
    loss = MarginSoftmaxLoss(build_head("recurricularface"), 50, 8, chunk_size=7)
    first = loss(*batch(5, 50, 8, torch.float32))
    loss(*batch(5, 50, 8, torch.float32, seed=1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.backward()


def test_the_nearest_sub_centre_counts_and_the_others_do_not_move() -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 2, 2, sub_centres=3, chunk_size=1).double()
    loss.weight.data.copy_(
        torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]], [[0.6, 0.8], [-0.9, 0.2], [0.1, -1.0]]])
    )
    _, _, gradient = run(loss, torch.tensor([[3.0, 0.5]], dtype=torch.float64), torch.tensor([0]))
    assert loss.mean_target_cosine.item() == pytest.approx(3 / math.hypot(3, 0.5))
    moved = gradient.abs().sum(2) > 1e-12
    assert moved.tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("chunk_size", 0),
        ("chunk_size", -5),
        ("memory_budget", -1),
        ("sample_rate", 0.0),
        ("sample_rate", 1.5),
        ("sample_rate", math.nan),
        ("sub_centres", 0),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=option.replace("sub_centres", "sub-centre")):
        MarginSoftmaxLoss(build_head("arcface"), 5, 4, **{option: value})


def test_first_centres_do_not_depend_on_how_classes_are_cut() -> None:
    from zoo.heads.loss.margin_softmax import initial_centres

    whole = initial_centres(range(9001), (3,), 11)
    parts = [initial_centres(range(a, b), (3,), 11) for a, b in ((0, 17), (17, 4096), (4096, 5000), (5000, 9001))]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.std() == pytest.approx(0.01, rel=0.05) and not torch.equal(whole[:4096], whole[4096:8192])
