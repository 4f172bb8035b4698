"""Which form computes a sum, and what is said where a GPU could do it faster."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.heads import Learned, batch
from zoo.heads import MarginHead, MarginSoftmaxLoss, build_head, gpu
from zoo.heads.loss import way


class Cubed(MarginHead):
    """A head whose N is no `Pieces`."""

    def negative(self, cos_j: Tensor, boundary: Tensor) -> Tensor:
        return cos_j**3


@pytest.mark.parametrize(
    ("head", "options", "reason"),
    [
        (Cubed(8.0), {}, "the head Cubed states its negatives as a function alone, not as pieces"),
        (Learned(), {}, "the head Learned states its negatives as a function alone, not as pieces"),
        (build_head("arcface"), {"label_smoothing": 0.1}, "label smoothing needs the sum of all logits"),
        (build_head("arcface"), {"double": True}, "the centres are in float64"),
    ],
)
def test_what_the_kernels_cannot_do_runs_without_them_and_is_logged_once(
    head: MarginHead,
    options: dict[str, object],
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "ON_ANY_DEVICE", True)
    monkeypatch.setattr(way, "fused_sum", lambda *_: pytest.fail("the kernels ran"))
    number = torch.float64 if options.pop("double", False) else torch.float32
    dense, chunked = (MarginSoftmaxLoss(head, 9, 6, seed=5, chunk_size=size, **options) for size in (None, 4))
    x, labels = batch(3, 9, 6)
    with caplog.at_level("WARNING", "zoo"):
        expected = dense.to(number)(x.to(number), labels)
        for _ in range(2):
            torch.testing.assert_close(chunked.to(number)(x.to(number), labels), expected)
    said = [record.message for record in caplog.records if "on a GPU" in record.message]
    assert [sentence.split(": ")[1] for sentence in said] == [reason]


def test_on_a_cpu_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "zoo"):
        MarginSoftmaxLoss(Cubed(8.0), 9, 6, seed=5)(*batch(3, 9, 6))
    assert not [record for record in caplog.records if "on a GPU" in record.message]
