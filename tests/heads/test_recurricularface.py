"""ReCurricularFace: its hard negatives, its constants and its running t, beside CurricularFace."""

from __future__ import annotations

import pytest
import torch

from tests.support.heads import data, loss_with
from zoo.heads import build_head


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
