"""What a loss rejects, and what it warns of, once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.heads import data, loss_with
from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"filter_above": 1.5}, "filter_above to be a cosine, found 1.5"),
        ({"label_smoothing": 1.0}, "label_smoothing of at least 0 and below 1"),
        ({"label_smoothing": 0.1, "filter_above": 0.4}, "found both"),
        ({"reduction": "average"}, "reduction 'mean', 'sum' or 'none', found 'average'"),
        ({"init": "zeros"}, "init 'normal' or 'unit', found 'zeros'"),
        ({"class_counts": [3, 2, 5]}, "each of the 5 classes"),
        ({"class_counts": [3, 2, 5, 0, 1]}, "class_counts of at least 1"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        MarginSoftmaxLoss("arcface", 5, 4, **options)


def test_weights_that_do_not_fit_and_a_loss_on_meta_are_refused() -> None:
    loss = MarginSoftmaxLoss("arcface", 5, 4)
    for wrong in (torch.ones(3), torch.ones(2, dtype=torch.int64)):
        with pytest.raises(InputError, match="one floating-point weight for each sample"):
            loss(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64), wrong)
    with torch.device("meta"):
        unmade = MarginSoftmaxLoss("arcface", 5, 4)
    with pytest.raises(InputError, match="to_empty"):
        unmade(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))


def unit_length(embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embeddings)


def zeros(embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    return embeddings * (torch.arange(len(embeddings)) > 1)[:, None]


def opposite(embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    return -20 * centres[labels]


DOUBTS = [
    *((name, {}, unit_length, "norm 1 throughout") for name in ("adaface", "magface")),
    *((name, {}, zeros, "zero vectors") for name in HEADS),
    *(
        (name, {"fallback": "none"}, opposite, "rewards an even larger angle")
        for name in ("arcface", "curricularface", "recurricularface", "magface", "elasticface-arc", "mv-arc")
    ),
]


@pytest.mark.parametrize(("name", "options", "spoil", "told"), DOUBTS)
def test_what_trains_badly_without_failing_is_told_once(
    name: str,
    options: dict[str, str],
    spoil: Callable[[Tensor, Tensor, Tensor], Tensor],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name, **options), centres)
    with caplog.at_level(logging.WARNING, "zoo"):
        loss(embeddings, labels)
        loss.check(0)
        assert told not in caplog.text
        for step in (1, 2):
            loss(spoil(embeddings, labels, centres), labels)
            assert loss.finite
            loss.check(step)
    assert caplog.text.count(told) == 1


def test_the_first_training_forward_warns_without_a_check(caplog: pytest.LogCaptureFixture) -> None:
    embeddings, labels, centres = data()
    with caplog.at_level(logging.WARNING, "zoo"):
        loss_with("adaface", centres).eval()(unit_length(embeddings, labels, centres), labels)
        assert not caplog.records
        loss_with("adaface", centres)(unit_length(embeddings, labels, centres), labels)
    assert len(caplog.records) == 1
