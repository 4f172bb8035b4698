"""ElasticFace: the distribution of its margins, and which sample gets which."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.heads import data, loss_with
from zoo.heads import build_head


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
