"""Every registered head: its equation, its gradient, its extremes, its state, its refusals."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from tests.support.heads_literal import LITERAL, PENALTY, literal_loss_of_head, literal_losses
from zoo.errors import InputError
from zoo.heads import HEADS, MarginHead, MarginSoftmaxLoss, build_head, head_options

every_head = pytest.mark.parametrize("name", list(HEADS))


def data(batch: int = 7, classes: int = 11, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """fp64 embeddings (batch, dim), labels (batch,), centres (classes, dim); few dimensions spread cosines wide."""
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
        pytest.skip("its margins are random, or it is not a head of this project")
    for seed in range(5):
        embeddings, labels, centres = data(seed=seed)
        head = build_head(name)
        loss = loss_with(head, centres)
        expected = sum(literal_losses(LITERAL[name], head.scale, centres, embeddings, labels)) / len(labels)
        expected += PENALTY.get(name, lambda norms: 0.0)(embeddings.norm(dim=1).tolist())
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
def test_gradients_equal_finite_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels, centres = data(batch=4, classes=6, seed=2)
    loss = loss_with(build_head(name, scale=4.0), centres, chunk_size=None).eval()
    detached: list[Tensor] = []

    def call(x: Tensor, w: Tensor) -> Tensor:
        """The loss in which each thing that the definition detaches keeps the value of the first call."""
        seen = iter(range(10**6))
        detach = Tensor.detach

        def held_fixed(tensor: Tensor) -> Tensor:
            k = next(seen)
            if k == len(detached):
                detached.append(detach(tensor).clone())
            return detached[k]

        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "detach", held_fixed)
            return torch.func.functional_call(loss, {"weight": w}, (x, labels))

    assert torch.autograd.gradcheck(call, (embeddings.requires_grad_(), centres.requires_grad_()), atol=1e-7)


@every_head
def test_straight_through_keeps_the_value_and_takes_the_plain_gradient(name: str) -> None:
    embeddings, _, centres = data(batch=1)
    values, through = [], []
    for straight in (False, True):
        loss = loss_with(build_head(name), centres, straight_through=straight).eval()
        target = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
        T = loss._target(target, embeddings.norm(dim=1))
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


def test_adafaces_clip_is_that_of_the_angle_without_an_acos() -> None:
    head = build_head("adaface", margin=1.2)
    head.norm_mean.fill_(20), head.norm_std.fill_(1)
    theta = torch.linspace(0.002, math.pi - 0.002, 101, dtype=torch.float64)
    for norm, z in ((0.001, -1.0), (20.0, 0.0), (22.0, 0.333 * 2 / 1.001), (100.0, 1.0)):
        target = head.target(theta.cos(), torch.full_like(theta, norm))
        expected = (theta - 1.2 * z).clamp(1e-3, math.pi - 1e-3).cos() - (1.2 + 1.2 * z)
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-6)


def test_adaface_keeps_its_deviation_through_a_batch_of_one() -> None:
    head = build_head("adaface")
    head.update(torch.tensor([0.5]), torch.tensor([30.0]))
    assert head.norm_std.item() == 100 and head.norm_mean.item() == pytest.approx(20.1)


def test_adaface_gives_the_norm_no_gradient_and_magface_does() -> None:
    for name, has in (("adaface", False), ("magface", True)):
        norm = torch.tensor([30.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(
            build_head(name).target(torch.tensor([0.5], requires_grad=True), norm).sum(), norm, allow_unused=True
        )
        assert (gradient is not None and gradient.item() != 0) is has


def test_magface_refuses_a_lambda_without_an_optimum() -> None:
    with pytest.raises(InputError, match=r"lam of at least 22\.59, found 20"):
        build_head("magface", lam=20.0)
    build_head("magface", lam=22.6)


def test_at_magfaces_least_lambda_the_shortest_embedding_still_wants_to_grow() -> None:
    """The bound is where the penalty's slope at l_a balances the steepest cost of a wider margin, s·|dT/da| = s·k."""
    head = build_head("magface", lam=22.586667)
    a = torch.tensor([10.0001], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(head.penalty(a), a)
    assert slope.item() == pytest.approx(-head.scale * head.slope, rel=1e-3)


def test_sphereface_falls_all_the_way_and_allows_four() -> None:
    for margin in (1.0, 1.5, 4.0):
        cos = torch.linspace(0.999, -0.999, 301, dtype=torch.float64)
        target = build_head("sphereface", margin=margin).target(cos, torch.ones(301))
        assert (target.diff() < 0).all()


def test_combined_counts_all_three_margins_and_contains_arcface_and_cosface() -> None:
    cos, norm = torch.tensor([0.7, -0.2], dtype=torch.float64), torch.ones(2)
    arc = build_head("combined", m1=1.0, m2=0.5, m3=0.0).target(cos, norm)
    torch.testing.assert_close(arc, build_head("arcface", fallback="none").target(cos, norm))
    cosface = build_head("combined", m1=1.0, m2=0.0, m3=0.35).target(cos, norm)
    torch.testing.assert_close(cosface, build_head("cosface").target(cos, norm))
    both = build_head("combined", m1=1.2, m2=0.3, m3=0.2).target(cos, norm)
    torch.testing.assert_close(both, (1.2 * cos.acos() + 0.3).cos() - 0.2)


@pytest.mark.parametrize(("elastic", "plain"), [("elasticface-arc", "arcface"), ("elasticface-cos", "cosface")])
def test_elasticface_without_deviation_is_the_plain_head(elastic: str, plain: str) -> None:
    embeddings, labels, centres = data()
    value = loss_with(build_head(elastic, std=0.0), centres)(embeddings, labels)
    torch.testing.assert_close(value, loss_with(build_head(plain), centres)(embeddings, labels))


def test_elasticfaces_margins_are_normal_and_new_in_every_step() -> None:
    head = build_head("elasticface-arc", std=0.05)
    draws = []
    for _ in range(2):
        head.update(torch.zeros(20_001, dtype=torch.float64), torch.ones(20_001))
        draws.append(head.drawn)
    assert not torch.equal(*draws)
    for drawn in draws:
        assert abs(drawn.mean() - 0.5) < 5 * 0.05 / math.sqrt(20_001)
        assert abs(drawn.std() / 0.05 - 1) < 5 / math.sqrt(2 * 20_001)
        assert torch.corrcoef(torch.stack([drawn[:-1], drawn[1:]]))[0, 1].abs() < 5 / math.sqrt(20_001)


@pytest.mark.parametrize("name", ["elasticface-arc", "elasticface-cos"])
def test_elasticface_plus_ranks_margins_or_repeats_the_official_assignment(name: str) -> None:
    cos, norm = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3]), torch.ones(5)
    ranked, official = build_head(name, plus="ranked"), build_head(name, plus="official")
    ranked.update(cos, norm), official.update(cos, norm)
    ascending = ranked.drawn.sort().values
    assert torch.equal(ranked.drawn, ascending[torch.tensor([4, 0, 2, 1, 3])])  # nearest sample: smallest margin
    permutation = torch.sort(cos, descending=True).indices  # the official code's `margin[idicate_cosie]`
    assert torch.equal(official.drawn, ascending[permutation])
    assert ranked.std == {"elasticface-arc": 0.0175, "elasticface-cos": 0.02}[name]


def test_circles_forces_carry_no_gradient() -> None:
    head = build_head("circle")
    cos = torch.tensor([0.6], requires_grad=True)
    (pull,) = torch.autograd.grad(head.target(cos, torch.ones(1)).sum(), cos)
    (push,) = torch.autograd.grad(head.negative(cos, cos).sum(), cos)
    assert (pull.item(), push.item()) == pytest.approx((1.25 - 0.6, 0.6 + 0.25))


HAND_CHECKED = [
    # head, options, cos θ_y, ‖x‖, T: by a pocket calculator, to 4 decimals, from each paper's equation
    ("softmax", {}, 0.8, 20.0, 0.8),
    ("sphereface", {}, 0.8, 20.0, 0.5692),  # θ 0.6435, 1.5θ 0.96525
    ("sphereface", {"margin": 4.0}, 0.5, 20.0, -1.5),  # θ 1.0472, 4θ 4.18879, k 1, −cos = 0.5, −2
    ("cosface", {}, 0.8, 20.0, 0.45),
    ("arcface", {}, 0.8, 20.0, 0.4144),  # 0.8·0.87758 − 0.6·0.47943
    ("arcface", {}, -0.95, 20.0, -1.1897),  # −0.95 − 0.5·0.47943
    ("combined", {}, 0.8, 20.0, 0.3870),  # 0.8·0.95534 − 0.6·0.29552 − 0.2
    ("mv-am", {}, 0.8, 20.0, 0.45),
    ("mv-arc", {}, 0.8, 20.0, 0.5458),  # 0.8·0.93937 − 0.6·0.34290
    ("curricularface", {}, 0.8, 20.0, 0.4144),
    ("recurricularface", {}, 0.8, 20.0, 0.4144),
    ("adaface", {}, 0.8, 20.0, 0.4),  # ẑ = 0: cos θ − m
    ("magface", {}, 0.8, 60.0, 0.2977),  # m = 0.625: 0.8·0.81096 − 0.6·0.58510 = 0.29771
    ("elasticface-arc", {"std": 0.0}, 0.8, 20.0, 0.4144),
    ("elasticface-cos", {"std": 0.0}, 0.8, 20.0, 0.45),
    ("circle", {}, 0.8, 20.0, 0.0225),  # 0.45·0.05
]


@pytest.mark.parametrize(("name", "options", "cos", "norm", "expected"), HAND_CHECKED)
def test_targets_equal_numbers_checked_by_hand(
    name: str, options: dict[str, float], cos: float, norm: float, expected: float
) -> None:
    target = build_head(name, **options).target(torch.tensor([cos], dtype=torch.float64), torch.tensor([norm]))
    assert target.item() == pytest.approx(expected, abs=5.1e-5)


def test_every_head_is_checked_by_hand_and_written_out() -> None:
    ours = {name for name in HEADS if HEADS[name].__module__.startswith("zoo.")}
    assert ours == {row[0] for row in HAND_CHECKED}
    assert ours - set(LITERAL) == {"elasticface-arc", "elasticface-cos"}
