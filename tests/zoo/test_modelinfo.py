"""The facts that travel with a model, and how crops become input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zoo.commands.inspect import fact_lines
from zoo.errors import InputError
from zoo.modelinfo import InputSpec, ModelInfo, Origin, Threshold
from zoo.publish.card import render_card

THRESHOLD = Threshold(1e-3, 0.25, "pairs", "LFW", "0" * 64, 3000, 30, (0.005, 0.015), True)
INFO = ModelInfo(8, InputSpec((96, 112), 0.0, 255.0, "BGR"), license="apache-2.0", thresholds=(THRESHOLD,))


def test_facts_come_back_as_they_were_written() -> None:
    assert ModelInfo.from_json(INFO.to_json()) == INFO
    assert INFO.to_json() == ModelInfo.from_json(INFO.to_json()).to_json()


def test_facts_of_an_older_version_keep_their_license_and_those_of_a_later_one_load() -> None:
    facts = json.loads(INFO.to_json())
    facts["licence"] = facts.pop("license")
    facts["something_new"] = 1
    assert ModelInfo.from_json(json.dumps(facts)) == INFO


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"embedding_dim": 8, "input": 3}', '{"embedding_dim": 8, "thresholds": [1]}']
)
def test_other_text_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="expected the model facts that zoo writes"):
        ModelInfo.from_json(text)


@pytest.mark.parametrize(
    "options",
    [
        *({"channel_order": "GBR"}, {"size": (0, 112)}, {"size": (112,)}, {"std": 0.0}, {"std": -1.0}),
        *({"std": (1.0, 0.0, 1.0)}, {"std": float("inf")}, {"mean": (1.0, 2.0)}, {"mean": float("nan")}),
    ],
)
def test_an_impossible_input_is_refused(options: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        InputSpec(**options)


@pytest.mark.parametrize("forged", ["head", "training_set", "parity", "quantisation", "thresholds", "far", "threshold"])
def test_facts_of_another_type_are_one_sentence(forged: str) -> None:
    threshold = Threshold(0.1, 0.3, "pairs", "lfw.bin", "ab", 100, 10, (0.05, 0.2), True)
    facts = json.loads(ModelInfo(5, thresholds=(threshold,)).to_json())
    where = facts["thresholds"][0] if forged.startswith(("far", "threshold")) and forged != "thresholds" else facts
    where[forged] = {"a": 1} if where is not facts or isinstance(where[forged], str) else 7
    with pytest.raises(InputError, match="expected the model facts that zoo writes"):
        ModelInfo.from_json(json.dumps(facts))


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside JSON."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*above, key)
        yield from places(value[key], (*above, key))


WHOLE = ModelInfo(
    5,
    InputSpec(mean=(1.0, 2.0, 3.0)),
    "iresnet18",
    head="arcface",
    parity={"1": {"cosine": 1.0, "max_abs": 1e-7, "max_relative": 1e-7}},
    quantisation={"precision": "int8", "method": "minmax", "kept_in_float32": ["stem"]},
    thresholds=(THRESHOLD,),
    origin=Origin("n", "owner/name:FILE", "0" * 64, "c", stated={"lfw": 0.99}, leftovers=("fc",)),
)


@pytest.mark.parametrize("place", [*places(json.loads(WHOLE.to_json()))], ids=str)
def test_whatever_the_facts_of_a_file_hold_gives_lines_and_a_card_or_one_sentence(place: tuple[Any, ...]) -> None:
    refused = 0
    values = (7, -0.5, True, None, "x", "\ud800", [], [1, "a"], {}, {"a": 1}, {"1": {"cosine": "x"}}, float("nan"))
    for value in (*values, 10**400, float("inf"), {"1": {"cosine": None, "max_abs": None}}, {"method": 1}, [{}], [[]]):
        facts = json.loads(WHOLE.to_json())
        inside = facts
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        try:
            info = ModelInfo.from_json(json.dumps(facts))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            told = [*map("".join, fact_lines(info)), render_card(info, None, {}, "owner/name")]
            "".join(told).encode()
            assert ModelInfo.from_json(info.to_json()) == info
    assert refused


@pytest.mark.parametrize("depth", [900, 100_000])
def test_facts_nested_without_end_are_one_sentence(depth: int) -> None:
    text = '{"embedding_dim": 5, "quantisation": {"precision": "int8", "why": ' + "[" * depth + "]" * depth + "}}"
    with pytest.raises(InputError, match="expected the model facts that zoo writes"):
        ModelInfo.from_json(text)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_input_is_scaled_ordered_and_contiguous(order: str) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    planes = InputSpec((5, 7), 10.0, 3.0, order).to_input(crops)
    expected = (crops[..., :: -1 if order == "BGR" else 1].astype(np.float64).transpose(0, 3, 1, 2) - 10) / 3
    np.testing.assert_allclose(planes, expected, rtol=1e-6)
    assert planes.dtype == np.float32 and planes.flags.c_contiguous


def test_each_channel_may_have_a_scale_of_its_own() -> None:
    spec = InputSpec((5, 7), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    crops = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    expected = ((crops - np.array(spec.mean)) / np.array(spec.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(spec.to_input(crops), expected, rtol=1e-5, atol=1e-6)
    info = ModelInfo(8, spec, origin=Origin("n", "f", "0" * 64, "c", leftovers=("weight",)))
    assert ModelInfo.from_json(info.to_json()) == info
    assert spec.scaling == "(x − (123.7, 116.3, 103.5)) / (58.4, 57.12, 57.38)"
    assert InputSpec().scaling == "(x − 127.5) / 127.5"


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 5, 8, 3), (1, 5, 7, 4)])
def test_crops_of_another_shape_or_type_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected RGB uint8 crops"):
        InputSpec((5, 7)).to_input(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="expected RGB uint8 crops"):
        InputSpec((5, 7)).to_input(np.zeros((1, 5, 7, 3), np.float32))  # type: ignore[arg-type]
