"""The catalogue is whole and consistent, and is filtered by facts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
import timm

import zoo.backbones  # noqa: F401  registers the architectures
from zoo.errors import InputError
from zoo.hub.pull import FOREIGN, ID
from zoo.published.catalogue import PERMISSIVE, catalogue, select
from zoo.published.layouts import LAYOUTS

MODELS = catalogue().models


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_says_where_from_by_whom_and_under_which_terms(name: str) -> None:
    model = MODELS[name]
    assert model.authors and model.where and urlsplit(model.paper).scheme == "https"
    assert bool(model.hub) != bool(model.by_hand)
    assert not model.hub or (ID.fullmatch(model.hub) and FOREIGN.fullmatch(model.file))
    assert re.fullmatch(r"([0-9a-f]{64})?", model.sha256)
    assert not model.sha256 or model.sha256_from
    assert all(0 < value < 1 for value in model.stated.values())
    assert not model.stated or urlsplit(model.stated_from).scheme == "https"
    assert str(model.weights_license) and model.data.license and model.data.consent
    assert catalogue().convention(model.convention, model.layout).source.startswith("https://")
    assert not model.backbone or timm.is_model(model.backbone)


def test_every_layout_has_a_convention_and_every_convention_a_layout_and_known_sizes() -> None:
    assert {layout for _, layout in catalogue().conventions} == {*LAYOUTS, "onnx"}
    for convention in catalogue().conventions.values():
        assert convention.channel_order in ("RGB", "BGR") and convention.std > 0 and convention.eps > 0
        assert all(timm.is_model(size) for size in convention.sizes)
        assert bool(convention.sizes) == (convention.layout == "vit")


def test_the_filter_goes_by_the_weights_license_alone_and_the_data_stands_beside_it() -> None:
    permissive = select(catalogue(), "permissive")
    assert permissive and all(model.weights_license.id in PERMISSIVE for model in permissive)
    assert [model.name for model in permissive] == ["sface"] and permissive[0].data.consent == "not stated"
    assert len(select(catalogue())) == len(MODELS)
    assert {m.authors for m in select(catalogue(), "cc-by-nc-sa-4.0")} >= {"Idiap Research Institute"}
    with pytest.raises(InputError, match="did you mean permissive"):
        select(catalogue(), "permisive")


def test_a_model_is_found_by_its_name_its_repository_or_its_file_there() -> None:
    for text in (
        "sface",
        "opencv/face_recognition_sface",
        "opencv/face_recognition_sface:face_recognition_sface_2021dec.onnx",
    ):
        assert catalogue().named(text) is MODELS["sface"]
    assert catalogue().named("ByteDance/LVFace") is None  # four models lie there
    assert catalogue().named("") is None
    assert catalogue().by_hash(MODELS["sface"].sha256) is MODELS["sface"] and catalogue().by_hash("0" * 64) is None
