"""Verification: similarities by hand, thresholds and their conditions, which face answers, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import zoo
from tests.support.places import ROOT
from tests.support.toy_faces import LOOSE, crop, write_model
from zoo.errors import InputError
from zoo.faces.detect import load_detector
from zoo.faces.finder import FaceCrop, Picture
from zoo.formats.images import Image, encode_png, read_image
from zoo.formats.pairs import read_pairs_csv
from zoo.inference.metadata import write_model_info
from zoo.machine import cores
from zoo.modelinfo import ModelInfo
from zoo.recognition.verifier import FaceVerifier


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model and three crops, two of them of one "person"."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    for name, seed in (("a1", 1), ("a2", 1), ("b", 2)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(crop(seed)))
    return tmp_path


def test_a_pair_exactly_at_the_threshold_is_different(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    similarity = verifier.verify("a1.png", "b.png").similarity
    assert FaceVerifier("model.onnx", aligned=True, threshold=similarity).verify("a1.png", "b.png").same is False
    assert (
        FaceVerifier("model.onnx", aligned=True, threshold=np.nextafter(similarity, -1)).verify("a1.png", "b.png").same
    )


def test_the_similarity_is_the_cosine_of_the_flip_sums(room: Path) -> None:
    def by_hand(image: Image) -> npt.NDArray[np.float64]:
        x = (image.astype(np.float64) - 127.5) / 127.5
        grid = (x + x[:, ::-1]).reshape(4, 28, 4, 28, 3).mean((1, 3)).transpose(2, 0, 1).ravel()
        return np.asarray(grid / np.linalg.norm(grid))

    expected = by_hand(crop(1)) @ by_hand(crop(2))
    similarity = FaceVerifier("model.onnx", aligned=True).verify(crop(1), crop(2)).similarity
    assert similarity == pytest.approx(expected, abs=28 * 28 * 2**-24)  # sums of 28 × 28 float32 pixels


def test_one_call_verifies_and_its_json_says_all(room: Path) -> None:
    answer = zoo.verify("a1.png", "a2.png", "model.onnx", aligned=True, threshold=0.9)
    assert answer.same is True and answer.model == Path("model.onnx")
    told = json.loads(answer.to_json())
    assert told["same"] is True and told["origin"] == "given with --threshold" and told["model"] == "model.onnx"
    assert told["a"]["path"] == "a1.png" and told["a"]["aligned"] and told["a"]["quality"]["blur"] > 0
    assert zoo.verify("a1.png", "b.png", "model.onnx", aligned=True, threshold=0.9).same is False
    assert zoo.verify("a1.png", "b.png", "model.onnx", aligned=True).same is None


def test_many_pictures_are_embedded_in_one_call_as_alone(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    pictures = [crop(seed) for seed in range(40)]
    rows = verifier.embed_many([*pictures, "a1.png"])
    np.testing.assert_allclose(rows, np.stack([*map(verifier.embed, pictures), verifier.embed("a1.png")]), atol=1e-6)
    assert verifier.embed_many([]).shape == (0, 48)


def test_answers_compare_hash_and_print(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True, threshold=0.5)
    one, same, other = (verifier.verify("a1.png", b) for b in ("a2.png", "a2.png", "b.png"))
    assert one == same and hash(one) == hash(same) and one != other
    assert "similarity=" in repr(one) and "array" not in repr(one)


def test_a_verifier_survives_pickling_and_keeps_its_options(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True, threshold=0.5, threads=1)
    again = pickle.loads(pickle.dumps(verifier))
    assert again.verify("a1.png", "b.png") == verifier.verify("a1.png", "b.png")
    assert again.embedder.session.get_session_options().intra_op_num_threads == 1


def test_a_model_takes_no_more_cores_than_the_process_may_use(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(**options: int) -> int:
        session = FaceVerifier("model.onnx", aligned=True, **options).embedder.session  # type: ignore[arg-type]
        return int(session.get_session_options().intra_op_num_threads)

    monkeypatch.setattr("zoo.inference.session.os.cpu_count", lambda: 64)
    monkeypatch.setattr("zoo.inference.session.cores", lambda: 3)
    assert threads() == 3 and threads(threads=2) == 2
    monkeypatch.setattr("zoo.inference.session.cores", lambda: 64)
    assert threads() == 0  # ONNX Runtime's own choice


def test_every_spelling_of_a_model_opens_the_verifier(room: Path) -> None:
    run = room / "runs" / "demo"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    write_model(run / "model.onnx")
    for model in ("demo", "runs/demo", run, run / "model.onnx", "runs/demo/model.onnx", "local-dir:runs/demo", None):
        assert FaceVerifier(model, aligned=True).model.resolve() == run / "model.onnx", model
        assert zoo.verify("a1.png", "a2.png", model, aligned=True).similarity == pytest.approx(1)
    with pytest.raises(InputError, match="did you mean demo"):
        FaceVerifier("dmo", aligned=True)
    os.rename(run / "model.onnx", run / "weights")
    with pytest.raises(InputError, match="zoo export"):
        FaceVerifier("demo", aligned=True)
    with pytest.raises(InputError, match="pass --model"):
        FaceVerifier()


def test_conditions_that_differ_from_the_stored_ones_are_said(room: Path) -> None:
    stored = replace(LOOSE, flip=False, model_sha256="0" * 64)
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(stored,)))
    notes = " ".join(FaceVerifier("known.onnx", aligned=True, flip=True).verify("a1.png", "a2.png").notes)
    assert "mirror image" in notes and "other weights" in notes
    same_conditions = FaceVerifier("known.onnx", aligned=True)
    assert same_conditions.flip is False
    assert "mirror image" not in " ".join(same_conditions.verify("a1.png", "a2.png").notes)


def test_writing_thresholds_into_a_model_does_not_make_them_strange_to_it(room: Path) -> None:
    from zoo.inference.metadata import model_sha256

    own = replace(LOOSE, model_sha256=model_sha256("model.onnx"))
    write_model_info("model.onnx", ModelInfo(48, thresholds=(own,)))
    assert not [n for n in FaceVerifier("model.onnx", aligned=True).verify("a1.png", "a2.png").notes if "weights" in n]


@pytest.mark.parametrize("gain", [0.0, float("nan")])
def test_a_model_that_returns_no_direction_is_called_broken(room: Path, gain: float) -> None:
    write_model(room / "broken.onnx", gain=gain)
    with pytest.raises(InputError, match=r"a1\.png; the model broken\.onnx is broken"):
        FaceVerifier("broken.onnx", aligned=True).verify("a1.png", "b.png")


@pytest.fixture(scope="module")
def real(shared: Path) -> FaceVerifier:
    models = shared / "models"
    return FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx")


def test_a_verifier_with_a_detector_survives_pickling(real: FaceVerifier, shared: Path) -> None:
    photo = shared / "photos" / "person_a_1.jpg"
    again = pickle.loads(pickle.dumps(real))
    np.testing.assert_array_equal(again.embed(photo), real.embed(photo))


def test_one_threshold_separates_every_pair_of_the_photos(real: FaceVerifier, shared: Path) -> None:
    pairs = read_pairs_csv(shared / "photos" / "pairs.csv")
    names = sorted({path for a, b, _ in pairs for path in (a, b)})
    embeddings = dict(zip(names, real.embed_crops([real.crop(name) for name in names]), strict=True))
    scores: dict[bool, list[float]] = {True: [], False: []}
    for a, b, same in pairs:
        assert same is not None
        scores[same].append(float(embeddings[a] @ embeddings[b]))
    least, most = min(scores[True]), max(scores[False])
    print(f"{len(pairs)} pairs: least similar same {least:.4f}, most similar different {most:.4f}")
    assert least > most


def test_a_group_photo_says_which_face_was_taken(real: FaceVerifier, shared: Path) -> None:
    answer = real.verify(shared / "photos" / "group_couple.jpg", shared / "photos" / "person_a_1.jpg")
    assert len(answer.a.faces) == 2 and any("2 faces: the largest was taken" in note for note in answer.notes)


class Watched(FaceVerifier):
    """Notes the threads that look for faces."""

    threads: ClassVar[set[threading.Thread]] = set()

    def crops(self, picture: Picture, name: str | None = None) -> list[FaceCrop]:
        self.threads.add(threading.current_thread())
        return super().crops(picture, name)


def test_many_comparisons_start_no_new_threads(room: Path) -> None:
    """OpenCV never frees what it keeps for a thread: with two threads for each pair, a server grew by 1.7 kB each."""
    verifier = Watched("model.onnx", aligned=True)
    for _ in range(3 * cores() + 9):
        verifier.verify("a1.png", "b.png")
    assert 2 <= len(verifier.threads) <= cores() + 1


def test_a_comparison_that_fails_leaves_nothing_running(room: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Slow(FaceVerifier):
        def crops(self, picture: Picture, name: str | None = None) -> list[FaceCrop]:
            if picture == "b.png":
                begun.set()
                time.sleep(0.2)
                ended.set()
            else:
                begun.wait(60)
            return super().crops(picture, name)

    with pytest.raises(InputError, match=r"missing\.png"):
        Slow("model.onnx", aligned=True).verify("missing.png", "b.png")
    assert ended.is_set()


def test_a_forked_process_verifies_as_its_parent_did(room: Path) -> None:
    program = (
        "import os, cv2, zoo\n"
        "cv2.setNumThreads(1)\n"
        "verifier = zoo.FaceVerifier('model.onnx', aligned=True, threads=1)\n"
        "first = verifier.verify('a1.png', 'b.png').similarity\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(verifier.verify('a1.png', 'b.png').similarity != first)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_one_verifier_serves_threads(real: FaceVerifier, shared: Path) -> None:
    photos = shared / "photos"
    pairs = [(photos / f"person_{p}_1.jpg", photos / f"person_{q}_2.jpg") for p, q in ("ab", "cc", "dd", "de", "ee")]
    alone = [real.verify(*pair).similarity for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: real.verify(*pair).similarity, pairs * 2))
    np.testing.assert_allclose(together, alone * 2, atol=1e-5)


def test_the_python_interface_is_light(room: Path) -> None:
    program = (
        "import sys, zoo\n"
        "verifier = zoo.FaceVerifier('model.onnx', threshold=0.9, aligned=True)\n"
        "answer = verifier.verify('a1.png', 'a2.png')\n"
        "embedding = verifier.embed('a1.png')\n"
        "print(answer.same, embedding.shape, sorted({'torch', 'timm', 'albumentations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=room)
    assert done.stdout == "True (48,) []\n", done.stdout + done.stderr


def test_the_documented_python_code_runs(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, models = shared / "photos", shared / "models"
    detector = load_detector(models / "face_detection_yunet_2026may.onnx")
    monkeypatch.setattr("zoo.faces.finder.load_detector", lambda: detector)
    monkeypatch.chdir(tmp_path)
    for name, photo in (("a", "a_1"), ("b", "a_2"), ("party", "b_1"), ("people/Ada/1", "a_1"), ("people/Bob/1", "b_2")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{name}.jpg").symlink_to(photos / f"person_{photo}.jpg")
    Path("photos").symlink_to("people")
    Path("model.onnx").symlink_to(models / "mobilefacenet.onnx")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "verify.md").read_text(), flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(code.replace("done.gallery.identify(", "answered = done.gallery.identify("), scope)
    assert scope["answered"] == "Bob" and scope["done"].added == 2  # type: ignore[attr-defined]
    assert zoo.Gallery.open("people.gallery").names() == ["Bob"]
    assert Path("crops/Ada/1.jpg.png").is_file()


@pytest.mark.parametrize("rule", ["largest", "central", "all"])
def test_which_face_answers_depends_on_the_rule(rule: str, shared: Path) -> None:
    models, photos = shared / "models", shared / "photos"
    left, right = read_image(photos / "person_a_1.jpg"), read_image(photos / "person_b_1.jpg")
    both = np.full((900, 2400, 3), 128, np.uint8)
    both[:450, 1033:1366] = cv2.resize(right[:900, :666], (333, 450), interpolation=cv2.INTER_AREA)  # central, small
    both[:, :666] = left  # large, at the side
    verifier = FaceVerifier(
        models / "mobilefacenet.onnx",
        models / "face_detection_yunet_2026may.onnx",
        threshold=0.35,
        face=rule,  # type: ignore[arg-type]
    )
    is_a, is_b = (verifier.verify(both, photos / f"person_{p}_2.jpg") for p in "ab")
    assert (is_a.same, is_b.same) == {"largest": (True, False), "central": (False, True), "all": (True, True)}[rule]
    assert any("faces" in note for note in is_a.notes)
