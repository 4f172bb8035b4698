"""A head's options: their types, NumPy's numbers, and what a change after the head is bound does."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.support.heads import data, loss_with
from zoo.errors import InputError
from zoo.heads import HEADS, MarginHead, MarginSoftmaxLoss, build_head, check_range, head_options, type_name

every_head = pytest.mark.parametrize("name", list(HEADS))


@every_head
def test_numpys_numbers_are_numbers_and_others_are_not(name: str) -> None:
    head = build_head(name, scale=np.float32(48))
    assert head.scale == 48 and type(head.options["scale"]) is float
    for wrong in ("48", True, None, [48]):
        with pytest.raises(InputError, match=f"expected scale of the head {name} to be float | auto, found"):
            build_head(name, scale=wrong)
    assert build_head("elasticface-arc", seed=np.int64(3)).seed == 3


@every_head
def test_a_head_that_is_built_by_its_class_is_checked_named_and_described_alike(name: str) -> None:
    by_name, by_class = build_head(name), HEADS[name]()
    assert by_class.describe() == by_name.describe() and by_class.options == by_name.options
    with pytest.raises(InputError, match=f"scale of the head {name}"):
        HEADS[name](scale="64")


@every_head
def test_every_option_is_an_attribute_and_changing_it_equals_building_anew(name: str) -> None:
    """Also after the head is bound: what derives from the option follows, the running state stays."""
    embeddings, labels, centres = data()
    for option in head_options(HEADS[name]):
        loss = loss_with(build_head(name), centres, seed=1)
        changed = other(option.default, option.type)
        if option.name == "count_power":
            continue  # it needs counts: test_class_counts
        if option.default is not None and not isinstance(getattr(loss.head, option.name), torch.Tensor):
            assert getattr(loss.head, option.name) == option.default
        buffers = {key: value.clone() for key, value in loss.head.state_dict().items()}
        setattr(loss.head, option.name, changed)
        fresh = loss_with(build_head(name, **{option.name: changed}), centres, seed=1)
        assert loss.head.describe() == fresh.head.describe() and f"{option.name}={changed!r}" in loss.head.describe()
        assert all(torch.equal(value, buffers[key]) for key, value in loss.head.state_dict().items())
        fresh.head.load_state_dict(loss.head.state_dict())  # b starts where the options of its beginning put it
        assert torch.equal(loss(embeddings, labels), fresh(embeddings, labels))


def other(default: Any, annotation: Any) -> Any:
    """A value of the option other than its default."""
    choices = [c for c in getattr(annotation, "__args__", ()) if isinstance(c, str) and c != default]
    if choices:
        return choices[0]
    if default is None:
        return 0.11
    return default + 1 if isinstance(default, int) else default * 0.9375


@every_head
def test_a_wrong_value_for_a_built_head_changes_nothing(name: str) -> None:
    head = build_head(name)
    head.attach(11, 5)
    before = head.describe()
    for wrong in (-1.0, math.nan, "much"):
        with pytest.raises(InputError, match="scale"):
            head.scale = wrong
    with pytest.raises(InputError, match="no option of the head"):
        head.configure(scales=3.0)
    assert head.describe() == before


def test_derived_constants_follow_a_margin_that_changes() -> None:
    head = build_head("recurricularface", constants="derived")
    head.attach(10_572, 512)
    head.margin = 0.3
    expected = build_head("recurricularface", constants="derived", margin=0.3)
    expected.attach(10_572, 512)
    assert (head.a, head.b) == (expected.a, expected.b) != (1.1, 0.4)


def test_one_head_serves_two_losses_unless_its_constants_would_differ() -> None:
    plain = build_head("arcface")
    MarginSoftmaxLoss(plain, 5, 4), MarginSoftmaxLoss(plain, 9, 6)
    for options in ({"constants": "derived"}, {"scale": "auto"}):
        shared = build_head("recurricularface", **options)
        MarginSoftmaxLoss(shared, 50, 8), MarginSoftmaxLoss(shared, 50, 8)
        with pytest.raises(InputError, match=r"one that a loss over \(50, 8\) uses"):
            MarginSoftmaxLoss(shared, 90, 8)
        assert shared.bound == (50, 8)


@every_head
def test_the_fixed_scale_of_adacos_comes_with_the_number_of_classes(name: str) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name, scale="auto"), centres)
    assert loss.head.scale == pytest.approx(math.sqrt(2) * math.log(10)) and loss.head.options["scale"] == "auto"
    if name != "sphereface2":  # whose b starts in dependence of the scale
        expected = loss_with(build_head(name, scale=loss.head.scale), centres)
        assert torch.equal(loss(embeddings, labels), expected(embeddings, labels))
    with pytest.raises(InputError, match="at least 3 classes"):
        MarginSoftmaxLoss(build_head(name, scale="auto"), 2, 4)


def test_settings_that_their_authors_publish_are_allowed() -> None:
    cos, norm = torch.tensor([0.6], dtype=torch.float64), torch.tensor([30.0], dtype=torch.float64)
    combined = build_head("combined", m1=0.9, m2=0.4, m3=0.15).target(cos, norm)
    assert combined.item() == pytest.approx(math.cos(0.9 * math.acos(0.6) + 0.4) - 0.15)
    adaface = build_head("adaface", h=-0.333).target(cos, norm)
    z = -0.333 * 10 / (100 + 1e-3)
    assert adaface.item() == pytest.approx(math.cos(math.acos(0.6) - 0.4 * z) - (0.4 + 0.4 * z))
    for name in ("mv-am", "mv-arc"):
        official = build_head(name, fallback="none")
        assert official.target(-cos, norm) == official.boundary(-cos, norm) != build_head(name).target(-cos, norm)


def test_types_are_told_as_a_reader_writes_them() -> None:
    assert type_name(float | Literal["auto"]) == "float | auto" and type_name(float | None) == "float | None"
    assert type_name(Literal["paper", "none"]) == "paper | none" and type_name(int) == "int"


def test_a_third_party_head_keeps_options_of_types_of_its_own() -> None:
    class Listed(MarginHead):
        def __init__(self, scale: float = 8.0, steps: list[int] | None = None) -> None:
            super().__init__(scale)
            self.steps = steps

    head = Listed(steps=[1, 2])
    head.steps = [3]
    assert head.options["steps"] == [3] and head.describe() == "Listed(scale=8.0, steps=[3])"


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_range_is_told_with_its_ends(value: float) -> None:
    with pytest.raises(InputError, match="expected h between 0 and 1, found"):
        check_range("h", value, 0, 1)
