"""zoo verify: thresholds and exit codes on made-up models, real photos where they are, and wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.support.toy_faces import crop, write_model
from zoo.cli import main
from zoo.errors import InputError
from zoo.formats.images import encode_png, read_image
from zoo.formats.pairs import read_pairs_csv
from zoo.inference.session import write_model_info
from zoo.modelinfo import ModelInfo, Threshold
from zoo.recognition.verifier import FaceVerifier, decide

Image = npt.NDArray[np.uint8]

LOOSE = Threshold(
    far=0.1,
    threshold=0.2,
    protocol="pairs",
    data="made up",
    data_sha256="0" * 64,
    negatives=1000,
    false_accepts=100,
    far_interval=(0.08, 0.12),
    flip=True,
)
STRICT = replace(LOOSE, far=0.01, threshold=0.9, false_accepts=10)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model and three crops, two of them of one "person"; no detector around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.recognition.verifier.detector_at_hand", lambda: False)
    write_model(tmp_path / "model.onnx")
    for name, seed in (("a1", 1), ("a2", 1), ("b", 2)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(crop(seed)))
    return tmp_path


def verify(*words: str) -> int:
    return main(["verify", *words])


def test_the_exit_code_tells_same_different_and_unknown(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "model.onnx")
    assert verify("a1.png", "a2.png", *model, "--threshold", "0.9") == 0
    assert "the same person" in capsys.readouterr().out
    assert verify("a1.png", "b.png", *model, "--threshold", "0.9") == 1
    assert "different people" in capsys.readouterr().out
    assert verify("a1.png", "a2.png", *model) == 3
    out = capsys.readouterr().out
    assert "similarity  1.0000" in out and "--threshold" in out
    assert verify("a1.png", "gone.png", *model) == 2


def test_a_pair_exactly_at_the_threshold_is_different(room: Path) -> None:
    verifier = FaceVerifier("model.onnx")
    similarity = verifier.verify("a1.png", "b.png").similarity
    assert FaceVerifier("model.onnx", threshold=similarity).verify("a1.png", "b.png").same is False
    assert FaceVerifier("model.onnx", threshold=np.nextafter(similarity, -1)).verify("a1.png", "b.png").same


def test_the_similarity_is_the_cosine_of_the_flip_sums(room: Path) -> None:
    def by_hand(image: Image) -> npt.NDArray[np.float64]:
        x = (image.astype(np.float64) - 127.5) / 127.5
        grid = (x + x[:, ::-1]).reshape(4, 28, 4, 28, 3).mean((1, 3)).transpose(2, 0, 1).ravel()
        return np.asarray(grid / np.linalg.norm(grid))

    expected = by_hand(crop(1)) @ by_hand(crop(2))
    similarity = FaceVerifier("model.onnx").verify(crop(1), crop(2)).similarity
    assert similarity == pytest.approx(expected, abs=28 * 28 * 2**-24)  # sums of 28 × 28 float32 pixels


def test_the_default_is_the_smallest_stored_far_and_another_can_be_asked_for(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(LOOSE, STRICT)))
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["threshold"], answer["far"], answer["same"]) == (0.9, 0.01, True)
    assert "made up" in answer["origin"] and "10 of 1,000" in answer["origin"]
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--json", "--far", "0.1") == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == 0.2


def test_a_far_that_was_not_measured_is_refused_with_the_known_ones(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(LOOSE, STRICT)))
    assert verify("a1.png", "a2.png", "--model", "known.onnx", "--far", "0.001") == 2
    assert "(0.01, 0.1), found 0.001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("far", "threshold", "reason"),
    [(0.1, 0.5, "both"), (None, 1.5, "between -1 and 1"), (None, float("nan"), "between"), (0.0, None, "above 0")],
)
def test_contradictory_or_senseless_thresholds_are_refused(
    far: float | None, threshold: float | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        decide(ModelInfo(48, thresholds=(LOOSE,)), far, threshold)


def test_conditions_that_differ_from_the_stored_ones_are_said(room: Path) -> None:
    stored = replace(LOOSE, flip=False, model_sha256="0" * 64)
    write_model(room / "known.onnx", ModelInfo(48, thresholds=(stored,)))
    notes = " ".join(FaceVerifier("known.onnx", flip=True).verify("a1.png", "a2.png").notes)
    assert "mirror image" in notes and "other weights" in notes
    same_conditions = FaceVerifier("known.onnx")
    assert same_conditions.flip is False
    assert "mirror image" not in " ".join(same_conditions.verify("a1.png", "a2.png").notes)


def test_writing_thresholds_into_a_model_does_not_make_them_strange_to_it(room: Path) -> None:
    from zoo.inference.session import model_sha256

    own = replace(LOOSE, model_sha256=model_sha256("model.onnx"))
    write_model_info("model.onnx", ModelInfo(48, thresholds=(own,)))
    assert not [n for n in FaceVerifier("model.onnx").verify("a1.png", "a2.png").notes if "weights" in n]


def test_without_a_model_the_newest_exported_run_is_taken_and_else_one_sentence_helps(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("a1.png", "a2.png", "--threshold", "0.9") == 2
    assert "pass --model" in capsys.readouterr().err
    for number, name in enumerate(("first", "second", "unfinished")):
        (room / "runs" / name).mkdir(parents=True)
        (room / "runs" / name / "config.yaml").write_text("{}")
        if name != "unfinished":
            write_model(room / "runs" / name / "model.onnx")
        os.utime(room / "runs" / name / "config.yaml", (1000 + number, 1000 + number))
    assert verify("a1.png", "a2.png", "--threshold", "0.9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/second/model.onnx"
    assert verify("a1.png", "a2.png", "--threshold", "0.9", "--json", "--model", "first") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/first/model.onnx"
    assert verify("a1.png", "a2.png", "--model", "unfinished") == 2
    assert "zoo export" in capsys.readouterr().err


def test_wrong_input_is_one_sentence_that_names_the_file(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (room / "text.jpg").write_text("this is no picture")
    (room / "folder.jpg").mkdir()
    (room / "text.onnx").write_text("this is no model")
    cases = {
        ("a1.png", "gone.jpg"): "gone.jpg",
        ("a1.png", "text.jpg"): "text.jpg",
        ("a1.png", "folder.jpg"): "folder.jpg",
        ("a1.png", "a2.png", "--model", "gone.onnx"): "gone.onnx",
        ("a1.png", "a2.png", "--model", "text.onnx"): "text.onnx",
        ("a1.png", "a2.png", "--detector", "gone.onnx"): "gone.onnx",
        ("a1.png", "a2.png", "--detector", "text.jpg"): "text.jpg",
    }
    for words, named in cases.items():
        model = () if "--model" in words else ("--model", "model.onnx")
        assert verify(*words, *model) == 2, words
        error = capsys.readouterr().err
        assert named in error and len(error.splitlines()) == 1, error


def test_aligned_crops_of_another_size_are_resized_and_it_is_said(room: Path) -> None:
    answer = FaceVerifier("model.onnx", aligned=True).verify(crop(1, (224, 224)), crop(1))
    assert answer.similarity > 0.999 and any("224×224" in note for note in answer.notes)


def test_arrays_that_are_no_pictures_are_refused() -> None:
    grey, floats = np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3))
    verifier = FaceVerifier.__new__(FaceVerifier)
    for wrong in (grey, floats, np.zeros((0, 0, 3), np.uint8)):
        with pytest.raises(InputError, match="RGB uint8"):
            verifier.crop(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("gain", [0.0, float("nan")])
def test_a_model_that_returns_no_direction_is_called_broken(room: Path, gain: float) -> None:
    write_model(room / "broken.onnx", gain=gain)
    with pytest.raises(InputError, match=r"a1\.png; the model broken\.onnx is broken"):
        FaceVerifier("broken.onnx").verify("a1.png", "b.png")


def test_verify_loads_no_training_library(room: Path) -> None:
    heavy = {"torch", "timm", "albumentations", "scipy", "matplotlib", "onnx"}
    program = (
        "import sys; from zoo.cli import main\n"
        "status = main(['verify', 'a1.png', 'a2.png', '--model', 'model.onnx', '--threshold', '0.9'])\n"
        f"print(status, sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=room, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


@pytest.fixture(scope="module")
def real(shared: Path) -> FaceVerifier:
    models = shared / "models"
    return FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx")


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


def test_a_photo_aligned_here_counts_as_aligned_and_a_small_photo_does_not(real: FaceVerifier, shared: Path) -> None:
    photo = shared / "photos" / "person_e_1.jpg"
    found = real.crop(photo)
    assert found.face is not None
    again = real.crop(found.crop)
    assert again.face is None and np.array_equal(again.crop, found.crop)
    thumbnail = np.asarray(cv2.resize(read_image(photo), (112, 112), interpolation=cv2.INTER_AREA), np.uint8)
    assert real.crop(thumbnail).face is not None


def test_a_photo_without_a_face_is_refused_by_name(real: FaceVerifier, tmp_path: Path) -> None:
    for name, size in (("empty.png", (300, 400)), ("dot.png", (1, 1))):
        (tmp_path / name).write_bytes(encode_png(np.full((*size, 3), 200, np.uint8)))
        with pytest.raises(InputError, match=rf"expected a face in .*{name}, found none"):
            real.crop(tmp_path / name)
