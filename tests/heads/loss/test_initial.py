"""Where class centres start."""

from __future__ import annotations

import pytest
import torch

from zoo.heads import MarginSoftmaxLoss, build_head
from zoo.heads.loss.sampling import initial_centres


def test_first_centres_do_not_depend_on_how_classes_are_cut() -> None:
    whole = initial_centres(range(9001), (3,), 11)
    parts = [initial_centres(range(a, b), (3,), 11) for a, b in ((0, 17), (17, 4096), (4096, 5000), (5000, 9001))]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.std() == pytest.approx(0.01, rel=0.05) and not torch.equal(whole[:4096], whole[4096:8192])


def test_unit_centres_are_the_normal_ones_at_norm_one() -> None:
    normal, unit = (initial_centres(range(50), (2, 6), 3, start) for start in ("normal", "unit"))
    torch.testing.assert_close(unit, normal / normal.norm(dim=2, keepdim=True))
    assert torch.equal(MarginSoftmaxLoss("adaface", 50, 6, sub_centres=2, init="unit", seed=3).weight, unit)


def test_first_centres_do_not_depend_on_the_default_device() -> None:
    plain = initial_centres(range(9), (4,), 1)
    with torch.device("meta"):
        assert torch.equal(initial_centres(range(9), (4,), 1), plain)


def test_centres_on_the_meta_device_start_after_to_empty_as_those_made_at_once() -> None:
    options = {"seed": 3, "sample_rate": 0.5, "class_counts": [4, 2, 3]}
    expected = MarginSoftmaxLoss(build_head("uniface"), 3, 4, **options)
    for head in (build_head("uniface"), "uniface"):
        with torch.device("meta"):
            loss = MarginSoftmaxLoss(head, 3, 4, **options)
        assert loss.weight.is_meta
        loss.to_empty(device="cpu")
        loss.reset_parameters()
        for key, value in expected.state_dict().items():
            assert torch.equal(loss.state_dict()[key], value), key
        assert torch.equal(loss.class_counts, expected.class_counts)
