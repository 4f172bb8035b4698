"""Dense, chunked, sampled and sub-centred class centres: the same value and gradients, whatever the head."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.heads import Largest
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


def test_a_first_chunk_of_the_target_alone_adds_nothing_at_a_large_scale() -> None:
    """The other class has a logit of −256, and e^256 is no float32."""
    loss = MarginSoftmaxLoss(build_head("softmax", scale=256.0), 2, 2, chunk_size=1)
    loss.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 1e-3]]))
    value, d_x, d_weight = run(loss, torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
    assert value.isfinite() and d_x.isfinite().all() and d_weight.isfinite().all()


@every_head
def test_the_chunk_functions_compile_without_a_graph_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.heads.loss import chunked as module

    compiled = {
        step: torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
        for step in (module._forward_step, module._backward_step)
    }
    monkeypatch.setattr(module, "_compiled", compiled.__getitem__)
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
    while function is not None and type(function).__name__ != "_ChunkedSumBackward":
        function = next((f for f, _ in function.next_functions if f is not None), None)
    assert function is not None
    like = loss.weight.shape
    function.register_hook(
        lambda given, _: made.extend(g.data_ptr() for g in given if g is not None and g.shape == like)
    )
    value.backward()
    assert [loss.weight.grad.data_ptr()] == made


@every_head
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_two_training_forwards_may_precede_one_backward(name: str, chunk_size: int | None) -> None:
    """Mixup, two views, gradient caching; the option that changes between them is that of its own forward."""
    losses = [MarginSoftmaxLoss(build_head(name), 23, 6, seed=5, chunk_size=chunk_size, memory_budget=0)]
    losses.append(copy.deepcopy(losses[0]))
    for loss in losses:
        loss.double()
    first, second = batch(7, 23, 6, torch.float64, 0), batch(9, 23, 6, torch.float64, 1)
    alone = [run(losses[0], *first)]
    losses[0].head.scale = 30.0
    alone.append(run(losses[0], *second))
    inputs = [first[0].clone().requires_grad_(), second[0].clone().requires_grad_()]
    one = losses[1](inputs[0], first[1])
    losses[1].head.scale = 30.0
    (one + losses[1](inputs[1], second[1])).backward()
    for x, (_, gradient, _) in zip(inputs, alone, strict=True):
        torch.testing.assert_close(x.grad, gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(losses[1].weight.grad, alone[0][2] + alone[1][2], rtol=1e-12, atol=1e-14)


@every_head
@pytest.mark.parametrize("training", [True, False])
def test_without_gradients_the_loss_is_the_same(name: str, training: bool) -> None:
    embeddings, labels = batch(7, 23, 6, torch.float64)
    values = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        loss = MarginSoftmaxLoss(build_head(name), 23, 6, seed=5, chunk_size=5).double().train(training)
        with mode():
            for _ in range(2):
                value = loss(embeddings.clone(), labels)
        assert value.requires_grad is (mode is torch.enable_grad)
        loss.check(0)
        run(loss, embeddings, labels)  # a training step after a validation
        values.append(value.detach().clone())
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


@every_head
def test_without_gradients_no_backward_is_prepared(name: str) -> None:
    loss = MarginSoftmaxLoss(build_head(name), 3000, 8, seed=0, chunk_size=100).eval()
    embeddings, labels = batch(16, 3000, 8, torch.float32)
    with Largest() as quiet, torch.no_grad():
        loss(embeddings, labels)
    with Largest() as twin:
        loss(embeddings.requires_grad_(), labels).backward()
    assert quiet.size <= 3000 and twin.size == 3000 * 8  # the norms of the centres; their gradient


def test_a_second_derivative_is_refused_with_the_form_that_has_one() -> None:
    embeddings, labels = batch(4, 9, 6, torch.float64)
    embeddings.requires_grad_()
    _, chunked = pair("recurricularface", 9, 6, torch.float64, chunk_size=4)
    with pytest.raises(InputError, match="chunk_size=None"):
        torch.autograd.grad(chunked(embeddings, labels), embeddings, create_graph=True)
    dense, _ = pair("recurricularface", 9, 6, torch.float64)
    (first,) = torch.autograd.grad(dense(embeddings, labels), embeddings, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), embeddings)
    assert second.isfinite().all() and second.abs().sum() > 0


@every_head
@pytest.mark.parametrize("sub_centres", [1, 2])
def test_filtered_negatives_are_left_out_of_the_loss(name: str, sub_centres: int) -> None:
    options = {"filter_above": 0.3, "sub_centres": sub_centres}
    dense = MarginSoftmaxLoss(build_head(name), 23, 6, seed=5, chunk_size=None, **options).double()
    chunked = MarginSoftmaxLoss(build_head(name), 23, 6, seed=5, chunk_size=5, **options).double()
    embeddings, labels = batch(7, 23, 6, torch.float64)
    found, expected = run(chunked, embeddings, labels), run(dense, embeddings, labels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    plain = MarginSoftmaxLoss(build_head(name), 23, 6, seed=5, sub_centres=sub_centres).double()
    assert run(plain, embeddings, labels)[0] > found[0]
    unit = torch.nn.functional.normalize(embeddings)
    centres = torch.nn.functional.normalize(plain.weight.detach().view(23, sub_centres, 6), dim=2)
    cos = torch.einsum("bd,jkd->bjk", unit, centres).amax(2)
    losses = []
    for i, label in enumerate(labels.tolist()):
        kept = [j for j in range(23) if j == label or cos[i, j] <= 0.3]
        small = copy.deepcopy(dense)
        small.num_classes, small.classes, small.filter_above = len(kept), range(len(kept)), None
        small.weight = torch.nn.Parameter(dense.weight.detach()[kept])
        small.head.load_state_dict(dense.head.state_dict())
        small.head.drawn = None if getattr(dense.head, "drawn", None) is None else dense.head.drawn[i : i + 1]
        small.head.update = lambda cos_y, norm: None
        losses.append(small(embeddings[i : i + 1], torch.tensor([kept.index(label)])).detach())
    torch.testing.assert_close(found[0], torch.stack(losses).mean())


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
