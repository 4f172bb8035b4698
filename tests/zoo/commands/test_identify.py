"""Galleries against brute force, what may be compared with what, and identification end to end on toy faces."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import zoo.recognition.gallery
from tests.support.toy_faces import DIM, crop, write_model, write_people
from tests.zoo.recognition.test_verifier import LOOSE, STRICT
from zoo.cli import main
from zoo.errors import InputError
from zoo.formats.images import encode_png
from zoo.modelinfo import ModelInfo
from zoo.recognition.gallery import Gallery, decide_identification, far_for, fpir_of
from zoo.recognition.verifier import FaceVerifier

Floats = npt.NDArray[np.float32]
FACTS = {"model": "m", "flip": True, "alignment": "arcface-5-points"}


def unit(rows: int, dim: int, seed: int) -> Floats:
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)


def digest(number: int) -> str:
    return f"{number:064x}"


def gallery_of(people: int, dim: int = 7, seed: int = 0) -> Gallery:
    rows = unit(people, dim, seed)
    return Gallery.empty(dim, FACTS).extended((f"person {i}", digest(i), row) for i, row in enumerate(rows))


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_the_search_by_blocks_is_the_sorted_brute_force(block: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.recognition.gallery, "BLOCK", block)
    gallery, queries = gallery_of(131), unit(5, 7, 1)
    people, scores = gallery.search(queries, k)
    expected = queries @ gallery.templates.T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(people, order)
    # one product of another shape may sum in another order
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), atol=7 * 2**-23)


@pytest.mark.parametrize("block", [3, 4, 100])
def test_ties_go_to_the_lower_index_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.recognition.gallery, "BLOCK", block)
    axes = np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]]
    gallery = Gallery.empty(2, FACTS).extended((f"{i}", digest(i), row) for i, row in enumerate(axes))
    people, _ = gallery.search(np.eye(2, dtype=np.float32)[:1], 5)
    assert people.tolist() == [[1, 2, 4, 5, 7]]


@pytest.mark.parametrize("k", [1, 5, 200])
def test_beyond_a_million_faiss_finds_the_same_people(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra faiss is not installed")
    gallery, queries = gallery_of(131), unit(5, 7, 1)
    expected = gallery.search(queries, k)
    monkeypatch.setattr(zoo.recognition.gallery, "MANY", 100)
    used: list[int] = []
    original = Gallery._search_by_faiss

    def counted(self: Gallery, queries: Floats, k: int) -> tuple[npt.NDArray[np.int64], Floats]:
        used.append(k)
        return original(self, queries, k)

    monkeypatch.setattr(Gallery, "_search_by_faiss", counted)
    people, scores = gallery.search(queries, k)
    assert used
    np.testing.assert_array_equal(people, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=7 * 2**-23)


def test_a_template_is_the_normalised_mean_whether_photos_come_at_once_or_later() -> None:
    photos = unit(5, 7, 2)
    at_once = Gallery.empty(7, FACTS).extended(("ada", digest(i), row) for i, row in enumerate(photos))
    later = Gallery.empty(7, FACTS).extended([("ada", digest(0), photos[0])])
    later = later.extended([("bob", digest(9), photos[1]), ("ada", digest(1), photos[1])])
    later = later.extended(("ada", digest(i), photos[i]) for i in (2, 3, 4))
    mean = photos.astype(np.float64).mean(0)
    for gallery in (at_once, later):
        np.testing.assert_allclose(gallery.templates[0], mean / np.linalg.norm(mean), atol=1e-6)
        assert gallery.photos[0] == 5
    assert later.names() == ["ada", "bob"]


def test_a_photo_that_a_person_has_already_counts_once() -> None:
    row = unit(1, 7, 3)[0]
    gallery = Gallery.empty(7, FACTS).extended([("ada", digest(1), row)] * 3).extended([("ada", digest(1), row)])
    assert gallery.photos.tolist() == [1] and len(gallery.photo_hashes) == 1


def test_photos_that_cancel_out_are_refused() -> None:
    row = unit(1, 7, 3)[0]
    with pytest.raises(InputError, match="'ada', found ones that cancel"):
        Gallery.empty(7, FACTS).extended([("ada", digest(1), row), ("ada", digest(2), -row)])


def test_a_removed_person_leaves_nothing_behind(tmp_path: Path) -> None:
    gallery = gallery_of(5).extended([("person 3", digest(77), unit(1, 7, 9)[0])])
    rest = gallery.without(["person 3"])
    assert rest.names() == [f"person {i}" for i in (0, 1, 2, 4)]
    assert rest.hashes() == {digest(i) for i in (0, 1, 2, 4)}
    np.testing.assert_array_equal(rest.templates, gallery.templates[[0, 1, 2, 4]])
    rest.save(tmp_path / "rest")
    content = (tmp_path / "rest").read_bytes()
    assert b"person 3" not in content and bytes.fromhex(digest(77)) not in content
    assert gallery.templates[3].tobytes() not in content
    # what is left can still be added to
    again = rest.extended([("person 4", digest(4), gallery.templates[4]), ("new", digest(50), unit(1, 7, 8)[0])])
    assert again.photos.tolist() == [1, 1, 1, 1, 1] and again.names()[-1] == "new"


def test_removing_somebody_unknown_is_refused() -> None:
    with pytest.raises(InputError, match="no Person 3"):
        gallery_of(5).without(["Person 3"])


def test_a_saved_gallery_opens_as_memory_maps_with_every_name(tmp_path: Path) -> None:
    names = ["Ada", "Žofie", "李", "", "ada"]
    rows = unit(5, 7, 4)
    gallery = Gallery.empty(7, FACTS).extended(
        (n, digest(i), r) for i, (n, r) in enumerate(zip(names, rows, strict=True))
    )
    gallery.save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    assert isinstance(opened.templates, np.memmap)
    assert opened.names() == names == [opened.name(i) for i in range(5)]
    assert opened.facts == FACTS and opened.hashes() == gallery.hashes()
    for name in zoo.recognition.gallery._ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), getattr(gallery, name))


def test_a_gallery_is_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    gallery = gallery_of(5)
    gallery.save(tmp_path / "g")
    np.testing.assert_array_equal(load_file(tmp_path / "g")["templates"], gallery.templates)


def test_a_gallery_can_be_replaced_while_it_is_open(tmp_path: Path) -> None:
    gallery_of(5).save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    before = opened.templates.copy()
    opened.without(["person 0"]).save(tmp_path / "g")
    np.testing.assert_array_equal(opened.templates, before)
    assert len(Gallery.open(tmp_path / "g")) == 4


def test_every_truncation_and_any_other_file_is_refused(tmp_path: Path) -> None:
    gallery_of(5).save(tmp_path / "g")
    content = (tmp_path / "g").read_bytes()
    for length in [*range(0, 700, 13), len(content) - 1]:
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(InputError, match="cut"):
            Gallery.open(tmp_path / "cut")
    (tmp_path / "text").write_text("people: ada, bob")
    with pytest.raises(InputError, match="zoo index"):
        Gallery.open(tmp_path / "text")


@pytest.mark.parametrize("key", ["model", "flip", "alignment"])
def test_an_index_of_another_model_or_way_of_working_is_refused(key: str) -> None:
    gallery_of(2).require({**FACTS, "detector": "any"}, "g")
    with pytest.raises(InputError, match=f"another {key}"):
        gallery_of(2).require({**FACTS, key: "other"}, "g")


@pytest.mark.parametrize("people", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("fpir", [1e-6, 0.01, 0.5, 0.999])
def test_the_rates_of_one_and_of_many_are_each_others_inverse(people: int, fpir: float) -> None:
    assert fpir_of(far_for(fpir, people), people) == pytest.approx(fpir, rel=1e-9)


def test_the_rate_of_many_is_the_definitions_example() -> None:
    assert fpir_of(1e-4, 1000) == pytest.approx(0.095, abs=5e-4)


def test_the_threshold_for_an_fpir_is_the_largest_far_that_keeps_it_and_refused_where_none_does() -> None:
    info = ModelInfo(DIM, thresholds=(LOOSE, STRICT))  # FAR 0.1 and 0.01
    assert decide_identification(info, 1, fpir=0.1).threshold == LOOSE.threshold
    assert decide_identification(info, 2, fpir=0.1).threshold == STRICT.threshold
    with pytest.raises(InputError, match=r"FAR 0\.00501 or less.* the smallest measured is 0\.01"):
        decide_identification(info, 20, fpir=0.0956)
    with pytest.raises(InputError, match="none measured"):
        decide_identification(None, 20, fpir=0.1)
    unasked = decide_identification(info, 1000)
    assert unasked.threshold is None and "1 with 1,000 people" in unasked.origin
    for wrong in ({"fpir": 0.0}, {"fpir": math.nan}, {"fpir": 0.1, "threshold": 0.1}, {"threshold": 2.0}):
        with pytest.raises(InputError):
            decide_identification(info, 3, **wrong)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    people = {"Ada": [(1, 1), (1, 2)], "ada": [(2, 1)], "Bob": [(3, 1), (3, 1)], "Eve": [(1, 1)]}
    write_people(tmp_path / "people", people)
    (tmp_path / "people" / "Nobody").mkdir()
    (tmp_path / "people" / "Broken").mkdir()
    (tmp_path / "people" / "Broken" / "x.png").write_bytes(b"no picture")
    for name, seed in (("ada", 1), ("bob", 3), ("stranger", 9)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(crop(seed, noise=5)))
    return tmp_path


MODEL = ("--model", "model.onnx", "--aligned")


def test_a_folder_of_people_is_indexed_with_every_oddity_said(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["people"], told["photos"]) == (4, 5)
    notes = "\n".join(told["notes"])
    for said in (
        "Nobody holds no picture",
        "Ada and ada differ in upper and lower case alone",
        "counted once",
        "one photo under 2 names: Ada and Eve",
        "Broken",
        "no usable photo of Broken",
    ):
        assert said in notes, notes
    assert not (room / "g.partial").exists()


def test_who_is_who_is_told_with_exit_codes(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    for gallery in ("g", "people"):
        rest = ["--gallery", gallery, *MODEL, "--json"]
        capsys.readouterr()
        assert main(["identify", "bob.png", *rest, "--threshold", "0.9"]) == 0
        (face,) = json.loads(capsys.readouterr().out)["faces"]
        assert face["identified"] == "Bob" and face["candidates"][0]["similarity"] > 0.99
        assert main(["identify", "stranger.png", *rest, "--threshold", "0.9"]) == 1
        assert json.loads(capsys.readouterr().out)["faces"][0]["identified"] is None
        assert main(["identify", "bob.png", *rest, "--top", "2"]) == 3
        assert len(json.loads(capsys.readouterr().out)["faces"][0]["candidates"]) == 2
        assert main(["identify", "bob.png", *rest, "--fpir", "0.01"]) == 2
        assert main(["identify", "bob.png", *rest, "--top", "0"]) == 2


def test_a_gallery_grows_and_people_can_be_removed_again(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    write_people(room / "more", {"Bob": [(3, 7)], "Zoe": [(5, 0)]})
    assert main(["index", "more", "-o", "g", *MODEL]) == 0
    capsys.readouterr()
    assert main(["index", "-o", "g", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Ada": 2, "Bob": 2, "Eve": 1, "ada": 1, "Zoe": 1}
    assert main(["index", "-o", "g", "--remove", "Bob", "--remove", "Eve"]) == 0
    assert Gallery.open("g").names() == ["Ada", "ada", "Zoe"]
    assert main(["index", "-o", "g", "--remove", "Bob"]) == 2
    assert Gallery.open("g").names() == ["Ada", "ada", "Zoe"]


def test_photos_in_the_gallery_already_are_not_embedded_again(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    monkeypatch.setattr(FaceVerifier, "embed_with_norms", None)
    assert main(["index", "people", "-o", "g", *MODEL]) == 0


def test_another_models_gallery_is_refused_and_stays(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    before = (room / "g").read_bytes()
    write_model(room / "other.onnx", gain=2.0)
    for words in (["index", "people", "-o", "g"], ["identify", "ada.png", "--gallery", "g"]):
        assert main([*words, "--model", "other.onnx", "--aligned"]) == 2
        assert "another model" in capsys.readouterr().err
    assert (room / "g").read_bytes() == before


def test_writing_thresholds_into_the_model_keeps_its_galleries_valid(room: Path) -> None:
    from zoo.inference.session import write_model_info

    assert main(["index", "people", "-o", "g", *MODEL]) == 0
    write_model_info("model.onnx", ModelInfo(DIM, thresholds=(replace(LOOSE, far=0.001, threshold=0.95),)))
    assert main(["identify", "bob.png", "--gallery", "g", *MODEL, "--fpir", "0.01"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["index", "-o", "g"],
        ["index", "people", "-o", "g", "--list"],
        ["index", "gone", "-o", "g", *MODEL],
        ["index", "people/Nobody", "-o", "g", *MODEL],
        ["index", "people", "-o", "gone/g", *MODEL],
        ["index", "-o", "gone", "--list"],
        ["identify", "ada.png", "--gallery", "gone", *MODEL],
        ["identify", "ada.png", "--gallery", "people/Nobody", *MODEL],
        ["identify", "gone.png", "--gallery", "people", *MODEL],
        ["identify", "ada.png", "--gallery", "people", *MODEL, "--draw", "x.gif"],
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_no_file(
    words: list[str], room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(room.rglob("*"))
    assert main(words) == 2
    sentences = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note")]
    assert len(sentences) == 1 and sentences[0].startswith("zoo: "), sentences
    assert sorted(room.rglob("*")) == before


def test_everybody_known_on_a_group_photo_is_named_and_drawn(shared: Path, tmp_path: Path) -> None:
    models, photos = shared / "models", shared / "photos"
    for person in "abcde":
        (tmp_path / "people" / person).mkdir(parents=True)
        (tmp_path / "people" / person / "1.jpg").symlink_to(photos / f"person_{person}_1.jpg")
    words = ["--model", str(models / "mobilefacenet.onnx")]
    words += ["--detector", str(models / "face_detection_yunet_2026may.onnx"), "--threshold", "0.35"]
    out = tmp_path / "answer.png"
    selfie = str(photos / "group_selfie-many-people.jpg")
    assert main(["identify", selfie, "--gallery", str(tmp_path / "people"), *words, "--draw", str(out)]) == 0
    from zoo.formats.images import read_image

    drawn, photo = read_image(out), read_image(selfie)
    assert drawn.shape == photo.shape and (drawn != photo).any()
    for person in "abcde":
        other = photos / f"person_{person}_2.jpg"
        assert main(["identify", str(other), "--gallery", str(tmp_path / "people"), *words, "--top", "1"]) == 0
