"""Every registered head: its equation, its gradient, its extremes, its state, its refusals."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from tests.heads_literal import LITERAL, literal_loss_of_head, literal_losses
from zoo.errors import InputError
from zoo.heads import HEADS, MarginHead, MarginSoftmaxLoss, build_head, head_options

every_head = pytest.mark.parametrize("name", list(HEADS))


def data(batch: int = 7, classes: int = 11, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (batch, dim), labels (batch,) and centres (classes, dim) in fp64; so few dimensions spread cosines wide."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = 20 * torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch,), generator=generator)
    return embeddings, labels, torch.randn(classes, dim, generator=generator, dtype=torch.float64)


def loss_with(head: MarginHead, centres: Tensor, **options: object) -> MarginSoftmaxLoss:
    loss = MarginSoftmaxLoss(head, *centres.shape, **options).to(centres.dtype)
    loss.weight.data.copy_(centres)
    return loss


@every_head
def test_a_head_equals_its_paper_written_out_sample_by_sample(name: str) -> None:
    if name not in LITERAL:
        pytest.skip("only heads of this project are written out in tests/heads_literal.py")
    for seed in range(5):
        embeddings, labels, centres = data(seed=seed)
        head = build_head(name)
        loss = loss_with(head, centres)
        expected = sum(literal_losses(LITERAL[name], head.scale, centres, embeddings, labels)) / len(labels)
        assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@every_head
def test_the_loss_is_equation_one_of_the_heads_own_target_and_negatives(name: str) -> None:
    embeddings, labels, centres = data(batch=5, classes=7, seed=3)
    loss = loss_with(build_head(name), centres).eval()
    norms = embeddings.norm(dim=1)
    expected = literal_loss_of_head(loss, loss.head, embeddings, labels) + loss.head.penalty(norms).item()
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@every_head
@pytest.mark.parametrize("cos", [1.0, -1.0])
def test_value_and_gradient_are_finite_at_the_poles(name: str, cos: float) -> None:
    centres = torch.eye(3, 4)
    embeddings = (cos * 20 * torch.eye(3, 4)).requires_grad_()
    loss = loss_with(build_head(name), centres)
    value = loss(embeddings, torch.arange(3))
    value.backward()
    assert value.isfinite() and embeddings.grad.isfinite().all() and loss.weight.grad.isfinite().all()
    assert embeddings.grad.norm() < 1e6


@every_head
def test_a_batch_of_one_leaves_a_finite_state(name: str) -> None:
    embeddings, labels, centres = data(batch=1)
    loss = loss_with(build_head(name), centres)
    for _ in range(3):
        assert loss(embeddings, labels).isfinite()
    assert all(buffer.isfinite().all() for buffer in loss.buffers() if buffer.is_floating_point())


@every_head
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_does_not_move_the_running_state(name: str, poison: float) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name), centres)
    loss(embeddings, labels)
    before = {key: value.clone() for key, value in loss.head.state_dict().items()}
    embeddings[3, 2] = poison
    loss(embeddings, labels)
    assert not loss.finite
    assert all(torch.equal(value, before[key]) for key, value in loss.head.state_dict().items())
    with pytest.raises(InputError, match="in step 12"):
        loss.check(12)
    loss(data()[0], labels)
    assert loss.finite


@every_head
def test_training_continues_bit_equal_from_a_saved_state(name: str) -> None:
    embeddings, labels, centres = data()
    first = loss_with(build_head(name), centres)
    first(embeddings, labels)
    second = loss_with(build_head(name), torch.randn_like(centres))
    second.load_state_dict(first.state_dict())
    for seed in (1, 2):
        later, labels, _ = data(seed=seed)
        assert torch.equal(first(later, labels), second(later, labels))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


@every_head
def test_evaluation_does_not_move_the_running_state(name: str) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name), centres).eval()
    before = [buffer.clone() for buffer in loss.buffers()]
    loss(embeddings, labels)
    assert all(torch.equal(a, b) for a, b in zip(before, loss.buffers(), strict=True))


@every_head
def test_cosines_stay_in_fp32_under_autocast(name: str) -> None:
    embeddings, labels, centres = (x.float() if x.is_floating_point() else x for x in data())
    plain = loss_with(build_head(name), centres)(embeddings, labels)
    loss = loss_with(build_head(name), centres)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(embeddings, labels), plain)
    assert loss(embeddings.bfloat16(), labels).dtype == torch.float32


@every_head
def test_gradients_equal_finite_differences(name: str) -> None:
    embeddings, labels, centres = data(batch=4, classes=6, seed=2)
    loss = loss_with(build_head(name, scale=4.0), centres).eval()
    loss.head = held_fixed(loss, embeddings, labels)
    function = lambda x, w: torch.func.functional_call(loss, {"weight": w}, (x, labels))  # noqa: E731
    assert torch.autograd.gradcheck(function, (embeddings.requires_grad_(), centres.requires_grad_()), atol=1e-6)


def held_fixed(loss: MarginSoftmaxLoss, embeddings: Tensor, labels: Tensor) -> MarginHead:
    """The loss's head with its boundary B held at its value for this batch: its definition gives it no gradient."""
    head = loss.head
    units, centres = torch.nn.functional.normalize(embeddings), torch.nn.functional.normalize(loss.weight)
    cos_y = (units @ centres.T).gather(1, labels[:, None]).squeeze(1).detach()
    boundary = head.boundary(cos_y, embeddings.norm(dim=1).detach()).detach()
    head.boundary = lambda cos_y, norm: boundary  # type: ignore[method-assign]
    return head


@every_head
def test_straight_through_keeps_the_value_and_takes_the_plain_gradient(name: str) -> None:
    embeddings, _, centres = data(batch=1)
    values, through = [], []
    for straight in (False, True):
        loss = loss_with(build_head(name), centres, straight_through=straight).eval()
        target = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
        T, _ = loss._margins(target, embeddings.norm(dim=1))
        values.append(T.item())
        through.append(torch.autograd.grad(T.sum(), target)[0].item())
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert through[1] == pytest.approx(1.0, rel=1e-12)


@every_head
def test_no_option_of_a_head_is_ignored(name: str) -> None:
    for option in head_options(HEADS[name]):
        with pytest.raises(InputError, match=option.name):
            build_head(name, **{option.name: object()})
    assert build_head(name).describe().startswith(f"{name}(scale=")


@every_head
def test_a_scale_that_is_not_positive_is_refused(name: str) -> None:
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="positive scale"):
            build_head(name, scale=scale)


@every_head
def test_a_margin_out_of_range_is_refused(name: str) -> None:
    margins = [option.name for option in head_options(HEADS[name]) if re.fullmatch(r"m\d?|margin\w*", option.name)]
    for margin in margins:
        for value in (-0.1, 1e3, math.nan):
            with pytest.raises(InputError, match=f"expected {margin}"):
                build_head(name, **{margin: value})


def test_an_unknown_head_names_the_closest_first() -> None:
    with pytest.raises(InputError, match="did you mean arcface"):
        build_head("arcfase")


def test_an_unknown_option_names_the_closest_first() -> None:
    with pytest.raises(InputError, match="no option of the head arcface is called 'margn'; did you mean margin"):
        build_head("arcface", margn=0.5)


def test_a_literal_option_lists_its_values() -> None:
    with pytest.raises(InputError, match="one of 'paper', 'derived', found 'printed'"):
        build_head("recurricularface", constants="printed")


@pytest.mark.parametrize("name", ["arcface", "curricularface", "recurricularface"])
def test_the_fallbacks_differ_only_where_they_say(name: str) -> None:
    m = 0.5
    cos = torch.tensor([0.9, 0.1, -0.1, -0.8, -0.95], dtype=torch.float64)
    theta, norm = cos.acos(), torch.ones(5)
    shifted = (theta + m).cos()
    beyond = theta > math.pi - m
    expected = {
        "none": shifted,
        "paper": torch.where(beyond, cos - m * math.sin(m), shifted),
        "easy": torch.where(cos > 0, shifted, cos),
    }
    assert beyond.tolist() == [False, False, False, False, True]
    for fallback, value in expected.items():
        torch.testing.assert_close(build_head(name, fallback=fallback).target(cos, norm), value)


def test_hard_negatives_are_those_above_the_raw_shifted_cosine_even_where_the_target_fell_back() -> None:
    cos_y = torch.tensor([-0.95], dtype=torch.float64)
    head = build_head("recurricularface")
    boundary = head.boundary(cos_y, torch.ones(1))
    torch.testing.assert_close(boundary, (cos_y.acos() + 0.5).cos())
    assert boundary > head.target(cos_y, torch.ones(1))


def test_modulate_all_turns_an_opposite_centre_into_a_pull_at_the_start() -> None:
    head = build_head("recurricularface", modulate="all")
    opposite = torch.tensor([[-1.0]])
    assert head.negative(opposite, torch.tensor([[0.5]])).item() == pytest.approx(1.1)
    assert build_head("recurricularface").negative(opposite, torch.tensor([[0.5]])).item() == -1.0


def test_derived_constants_come_with_the_number_of_classes() -> None:
    head = build_head("recurricularface", constants="derived")
    head.bind(10_572, 512)
    assert (round(head.a, 6), round(head.b, 6)) == (1.110599, 0.354050)
    paper = build_head("recurricularface")
    paper.bind(10_572, 512)
    assert (paper.a, paper.b) == (1.1, 0.4)


def test_t_is_the_moving_average_of_the_mean_target_cosine() -> None:
    embeddings, labels, centres = data()
    for name in ("curricularface", "recurricularface"):
        loss = loss_with(build_head(name), centres)
        t = 0.0
        for _ in range(3):
            loss(embeddings, labels)
            t = 0.99 * t + 0.01 * loss.mean_target_cosine.item()
            assert loss.stats()["t"].item() == pytest.approx(t, rel=1e-12)


def test_only_recurricularface_clamps_t_in_use() -> None:
    cos, boundary = torch.tensor([[0.8]]), torch.tensor([[0.0]])
    for name, expected in (("curricularface", 0.8 * (0.8 - 0.5)), ("recurricularface", 0.8 * 1.1 * 0.8)):
        head = build_head(name)
        head.t.fill_(-0.5)
        assert head.negative(cos, boundary).item() == pytest.approx(expected)
