"""Every registered head: its equation, its gradient, its extremes, its state, its refusals."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from tests.support.heads import data, loss_with
from tests.support.heads_literal import LITERAL, PENALTY, literal_loss_of_head, literal_losses, loss_of
from zoo.errors import InputError
from zoo.heads import HEADS, build_head, head_options

every_head = pytest.mark.parametrize("name", list(HEADS))


@every_head
def test_a_head_equals_its_paper_written_out_sample_by_sample(name: str) -> None:
    if name not in LITERAL:
        pytest.skip("its margins are random, or it is not a head of this project")
    for seed in range(5):
        embeddings, labels, centres = data(seed=seed)
        head = build_head(name)
        loss = loss_with(head, centres)
        expected = sum(literal_losses(LITERAL[name], loss_of(head), centres, embeddings, labels)) / len(labels)
        expected += PENALTY.get(name, lambda norms: 0.0)(embeddings.norm(dim=1).tolist())
        assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@every_head
def test_the_loss_is_equation_one_of_the_heads_own_target_and_negatives(name: str) -> None:
    embeddings, labels, centres = data(batch=5, classes=7, seed=3)
    loss = loss_with(build_head(name), centres).eval()
    norms = embeddings.norm(dim=1)
    expected = literal_loss_of_head(loss, loss.head, embeddings, labels) + loss.head.penalty(norms).mean().item()
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
        T = loss._target(loss.head, target, embeddings.norm(dim=1))
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
    ("uniface", {}, 0.8, 20.0, 0.4),
    ("sphereface2", {}, 0.8, 20.0, 0.058),  # 2·0.9³ − 1 − 0.4
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
