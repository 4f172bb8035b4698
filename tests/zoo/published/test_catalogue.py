"""The catalogue is whole and consistent, and is filtered by facts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import timm

import zoo.backbones  # noqa: F401  registers the architectures
from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import HubServer, Repo
from zoo.errors import InputError
from zoo.hub.pull import FOREIGN, ID
from zoo.published.catalogue import PERMISSIVE, catalogue, find, select
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


def test_a_file_here_is_known_by_its_hash_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "face.pt").write_bytes(b"weights")
    found = find(tmp_path / "face.pt")
    assert (found.name, found.known, len(found.sha256)) == ("face.pt", None, 64)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("adaface-r50-ms1mv2", r"adaface-r50-ms1mv2 must be fetched by hand from https://drive\.google\.com/"),
        ("adaface-r50-ms1mv", r"expected a checkpoint file, a name of .*did you mean adaface-r50-ms1mv2\?"),
        ("nothing.pth", r"expected a checkpoint file, .* found 'nothing\.pth'$"),
        ("owner/name", r"expected a checkpoint file"),
    ],
)
def test_what_is_neither_here_nor_on_the_hub_is_told_in_a_sentence(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find(source)


FETCH = """
import logging
from zoo.errors import InputError
from zoo.published.catalogue import find
logging.basicConfig(format="%(message)s")
for source in ("owner/face:nested/weights.pt", "owner/face:missing.pt", "sface", "edgeface-xxs"):
    try:
        found = find(source)
        print(found.name, found.path.read_bytes(), found.known and found.known.name)
    except InputError as error:
        print(error)
import sys
assert "torch" not in sys.modules
"""


def test_a_file_on_the_hub_is_fetched_by_its_name_there_and_must_have_the_known_hash(tmp_path: Path) -> None:
    sface = catalogue().models["sface"]
    with HubServer() as hub:
        for repo in ("owner/face", sface.hub, "Idiap/EdgeFace-XXS"):
            hub.repos[repo] = Repo()
        hub.repos["owner/face"].commit({"nested/weights.pt": b"one", "README.md": b"a card"})
        hub.repos[sface.hub].commit({sface.file: tiny_onnx()})
        hub.repos["Idiap/EdgeFace-XXS"].commit({"edgeface_xxs.pt": b"two"})
        done = hub_client.python(hub, tmp_path, FETCH)
    assert done.returncode == 0, done.stderr
    foreign, missing, forged, unpinned = done.stdout.splitlines()
    assert foreign == "owner/face:nested/weights.pt b'one' None"
    assert missing == "expected missing.pt in owner/face on the Hub, found none; it has nested/weights.pt"
    assert f"{sface.hub}:{sface.file} with the hash {sface.sha256[:12]}…" in forged and "it was not opened" in forged
    assert unpinned == "Idiap/EdgeFace-XXS:edgeface_xxs.pt b'two' edgeface-xxs"
    assert "no hash of Idiap/EdgeFace-XXS:edgeface_xxs.pt is known" in done.stderr
