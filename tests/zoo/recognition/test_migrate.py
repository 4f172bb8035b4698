"""A gallery reaches another model by its photos, or by a map whose loss is measured and limited; nobody is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.toy_faces import DIM, write_model, write_people
from zoo.errors import InputError
from zoo.evaluate.similarity import unit_rows as unit
from zoo.recognition import FaceVerifier, Gallery
from zoo.recognition import migrate as module
from zoo.recognition.migrate import learn_map, map_templates, orthogonal, re_embed

PEOPLE = 30


def turned(path: Path, matrix: np.ndarray, squash: float = 0.0) -> Path:
    """The toy model with its embedding multiplied by a matrix (48, dim); `squash` bends it first, beyond any map."""
    model = onnx.load(write_model(path))
    graph = model.graph
    graph.node[-1].output[0] = "plain"
    source = "plain"
    if squash:
        graph.node.extend(
            [helper.make_node("Mul", ["plain", "squash"], ["steep"]), helper.make_node("Sin", ["steep"], ["bent"])]
        )
        graph.initializer.append(numpy_helper.from_array(np.full(1, squash, np.float32), "squash"))
        source = "bent"
    graph.node.append(helper.make_node("MatMul", [source, "matrix"], ["embedding"]))
    graph.initializer.append(numpy_helper.from_array(matrix.astype(np.float32), "matrix"))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = matrix.shape[1]
    onnx.save(model, path)
    return path


def rotation(dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    write_people(folder / "people", {f"p{n}": [(n, 1), (n, 2)] for n in range(5)})
    write_people(folder / "others", {f"o{n}": [(100 + n, k) for k in range(4)] for n in range(PEOPLE)})
    write_model(folder / "old.onnx")
    turned(folder / "new.onnx", rotation())
    turned(folder / "small.onnx", rotation()[:, :40])
    turned(folder / "alien.onnx", rotation(), squash=900.0)
    Gallery.index(folder / "people", folder / "old.gallery", verifier(folder / "old.onnx"))
    return folder


def verifier(model: Path) -> FaceVerifier:
    return FaceVerifier(model, aligned=True, flip=False)


def test_photos_at_hand_are_embedded_again_and_nothing_else_changes(town: Path, tmp_path: Path) -> None:
    old, new = Gallery.open(town / "old.gallery"), verifier(town / "new.onnx")
    migrated = re_embed(old, new, town / "people", tmp_path / "new.gallery")
    afresh = Gallery.index(town / "people", tmp_path / "afresh.gallery", new).gallery
    read = Gallery.open(tmp_path / "new.gallery")
    np.testing.assert_allclose(read.templates, afresh.templates, atol=1e-6)
    assert read.photo_counts() == old.photo_counts() == migrated.photo_counts() and read.owned() == old.owned()
    assert str(read.facts["migrated"]).startswith("photos embedded again, from model ")
    answer = read.identify(town / "people/p3/0.png", new, threshold=0.5)
    assert answer.faces[0].name == "p3" and "the gallery was migrated: photos" in answer.notes[-1]
    assert not (tmp_path / "new.gallery.partial").exists()


def test_photos_are_known_by_their_content_and_a_person_without_any_is_not_lost_in_silence(
    town: Path, tmp_path: Path
) -> None:
    old, new = Gallery.open(town / "old.gallery"), verifier(town / "new.onnx")
    mixed = tmp_path / "mixed/somebody"
    mixed.mkdir(parents=True)
    for n in range(5):
        (mixed / f"renamed{n}.png").write_bytes((town / f"people/p{n}/1.png").read_bytes())
    (mixed / "stranger.png").write_bytes((town / "others/o1/0.png").read_bytes())
    migrated = re_embed(old, new, tmp_path / "mixed", tmp_path / "new.gallery")
    assert migrated.photo_counts() == {f"p{n}": 1 for n in range(5)}
    assert any("5 of the gallery's photos are not below" in note for note in migrated.notes)
    (mixed / "renamed2.png").unlink()
    with pytest.raises(InputError, match=r"expected photos of everybody .* found no photo of p2"):
        re_embed(old, new, tmp_path / "mixed", tmp_path / "other.gallery")
    with pytest.raises(InputError, match="expected a new file for the migrated gallery"):
        re_embed(old, new, town / "people", tmp_path / "new.gallery")
    assert not (tmp_path / "other.gallery").exists()


def test_an_interrupted_migration_goes_on_from_its_journal(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Gallery.open(town / "old.gallery"), verifier(town / "new.onnx")
    save = Gallery.save
    monkeypatch.setattr(Gallery, "save", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        re_embed(old, new, town / "people", tmp_path / "new.gallery")
    monkeypatch.setattr(Gallery, "save", save)
    assert (tmp_path / "new.gallery.partial").exists()
    embed, again = FaceVerifier.embed_with_norms, []
    monkeypatch.setattr(
        FaceVerifier, "embed_with_norms", lambda self, crops: (again.extend(crops), embed(self, crops))[1]
    )
    assert len(re_embed(old, new, town / "people", tmp_path / "new.gallery")) == 5
    assert again == []


@pytest.mark.parametrize("model", ["new.onnx", "small.onnx"])
def test_without_photos_the_map_between_two_turned_models_is_found_and_costs_little(
    town: Path, tmp_path: Path, model: str
) -> None:
    old, new = Gallery.open(town / "old.gallery"), verifier(town / model)
    migrated, found = map_templates(
        old, verifier(town / "old.onnx"), new, town / "others", tmp_path / "new.gallery", far=0.01, max_loss=0.07
    )  # which 30 people can prove: their interval reaches 0.06 where nobody is lost
    assert found.photos == 4 * PEOPLE and found.people == PEOPLE
    assert found.before - 0.02 <= found.after and found.change.interval[0] <= found.after - found.before
    afresh = Gallery.index(town / "people", tmp_path / "afresh.gallery", new).gallery
    assert (migrated.templates * afresh.templates).sum(1).min() > (0.99 if model == "new.onnx" else 0.85)
    read = Gallery.open(tmp_path / "new.gallery")
    assert read.photo_counts() == old.photo_counts() and "orthogonal map learnt from 120 photos" in str(read.facts)
    assert read.identify(town / "people/p3/0.png", new, threshold=0.5).faces[0].name == "p3"


def test_a_model_that_no_map_reaches_is_refused_with_its_loss(town: Path, tmp_path: Path) -> None:
    old, new = Gallery.open(town / "old.gallery"), verifier(town / "alien.onnx")
    with pytest.raises(InputError, match=r"expected a loss of at most 0\.05 of TAR at FAR 0\.01, found up to 1\.0"):
        map_templates(old, verifier(town / "old.onnx"), new, town / "others", tmp_path / "new.gallery", far=0.01)
    assert not (tmp_path / "new.gallery").exists()


def test_a_set_too_small_another_model_and_another_flip_are_refused(town: Path, tmp_path: Path) -> None:
    old, one, two = Gallery.open(town / "old.gallery"), verifier(town / "old.onnx"), verifier(town / "new.onnx")
    with pytest.raises(InputError, match=r"expected usable photos of at least 20 people .* found 5"):
        map_templates(old, one, two, town / "people", tmp_path / "new.gallery")
    with pytest.raises(InputError, match=r"not measurable.*; learn from more photos or give a larger --far"):
        map_templates(old, one, two, town / "others", tmp_path / "new.gallery", far=1e-6)
    with pytest.raises(InputError, match="expected a gallery of this model"):
        map_templates(old, two, two, town / "others", tmp_path / "new.gallery")
    with pytest.raises(InputError, match="expected a verifier with flip False"):
        map_templates(old, one, FaceVerifier(town / "new.onnx", aligned=True), town / "others", tmp_path / "x")


def test_the_map_is_the_one_that_fits_best_and_is_never_measured_on_its_own_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(25), 3)
    ours, theirs = (unit(random.normal(size=(75, 16)).astype(np.float32)) for _ in range(2))
    best = orthogonal(ours, theirs)
    np.testing.assert_allclose(best @ best.T, np.eye(16), atol=1e-5)
    error = np.linalg.norm(ours @ best - theirs)
    assert all(error <= np.linalg.norm(ours @ rotation(16, seed) - theirs) for seed in range(20))
    seen = []
    monkeypatch.setattr(module, "orthogonal", lambda a, b: (seen.append(len(a)), orthogonal(a, b))[1])
    found = learn_map(ours, theirs, people, 0.1)
    assert seen == [60] * 5 + [75]
    assert found.after < found.before + 0.3  # noise has nothing to map: an honest measure shows no gain


def test_a_new_model_that_recognises_nobody_is_judged_by_the_old_one() -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(25), 3)
    good = unit((random.normal(size=(25, 16))[people] + 0.2 * random.normal(size=(75, 16))).astype(np.float32))
    useless = unit(random.normal(size=(75, 16)).astype(np.float32))
    found = learn_map(good, useless, people, 0.1)
    assert found.before > 0.9 and found.after < 0.5 and found.change.interval[1] < -0.4
    assert learn_map(useless, good, people, 0.1).before == found.before
