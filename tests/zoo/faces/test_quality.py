"""Quality measures, drawn answers, lists of pairs and threads."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.support.toy_faces import crop, write_model, write_people
from zoo.cli import main
from zoo.evaluate.metrics import auc
from zoo.faces.align import ARCFACE_TEMPLATE
from zoo.faces.quality import blur_effect, measure
from zoo.formats.images import encode_png, read_image
from zoo.recognition.pairs import summarise, verify_pairs
from zoo.recognition.verifier import FaceVerifier

Image = npt.NDArray[np.uint8]


def literal_blur(grey: Image) -> float:
    """Crété et al., equations 1 to 6, pixel by pixel, away from the border."""
    x = grey.astype(np.float64)
    worst = 0.0
    for picture in (x, x.T):
        wide = np.pad(picture, ((0, 0), (4, 4)), mode="reflect")
        blurred = np.array([[row[i : i + 9].mean() for i in range(picture.shape[1])] for row in wide])
        total = lost = 0.0
        for row, blurred_row in zip(picture, blurred, strict=True):
            for i in range(1, len(row)):
                before, after = abs(row[i] - row[i - 1]), abs(blurred_row[i] - blurred_row[i - 1])
                total += before
                lost += max(0.0, before - after)
        worst = max(worst, (total - lost) / total)
    return worst


def test_the_blur_measure_is_the_papers_loop() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (21, 27), dtype=np.uint8)
    grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.3), np.uint8)
    assert blur_effect(grey) == pytest.approx(literal_blur(grey), abs=1e-5)


def edges(seed: int) -> Image:
    """Tiles of 7 pixels: 112 × 112 with sharp edges, whose blur is known."""
    tiles = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return np.kron(tiles, np.ones((7, 7, 1), np.uint8))


def test_blur_grows_with_the_blurring_whatever_the_contrast() -> None:
    sharp = edges(1)[..., 0]
    values = [blur_effect(np.asarray(cv2.GaussianBlur(sharp, (0, 0), s), np.uint8)) for s in (0.5, 1, 2, 3)]
    assert values == sorted(values) and values[-1] > 0.65
    assert blur_effect(sharp // 2) == pytest.approx(blur_effect(sharp), abs=0.01)
    assert blur_effect(np.full((80, 80), 7, np.uint8)) == 1.0


def warned(crop: Image, landmarks: npt.NDArray[np.float64]) -> str:
    return " ".join(measure(crop, landmarks).warnings())


def test_each_warning_answers_its_own_fault_and_no_other() -> None:
    sharp = edges(2)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 3), np.uint8)
    frontal = ARCFACE_TEMPLATE * 4 + 7
    assert warned(sharp, frontal) == ""
    assert warned(blurred, frontal).startswith("blurred (")
    assert warned(sharp, ARCFACE_TEMPLATE * 0.4).startswith("tiny (14 pixels")
    turned, nodding = frontal.copy(), frontal.copy()
    turned[2, 0] += 4 * 20
    nodding[2, 1] += 4 * 15
    assert warned(sharp, turned).startswith("turned aside (")
    assert warned(sharp, nodding).startswith("nodding")


def test_tilting_the_head_alone_is_no_fault() -> None:
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sharp = np.random.default_rng(2).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    tilted, upright = measure(sharp, 3 * ARCFACE_TEMPLATE @ rotation.T), measure(sharp, 3 * ARCFACE_TEMPLATE)
    assert tilted.turn == pytest.approx(upright.turn, abs=1e-9)
    assert tilted.nod == pytest.approx(upright.nod, abs=1e-9)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.onnx")
    write_people(tmp_path / "people", {"a": [(1, 1), (1, 2)], "b": [(2, 1), (2, 2)]})
    rows = ["a,b,same"]
    rows += [f"people/{p}/{i}.png,people/{q}/{j}.png,{int(p == q)}" for p, i, q, j in ALL]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


ALL = [("a", 0, "a", 1), ("b", 0, "b", 1), ("a", 0, "b", 0), ("a", 1, "b", 1), ("a", 0, "b", 1)]
WORDS = ("verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--aligned")


def test_a_list_of_pairs_gives_each_pairs_own_similarity_and_the_rocs_figures(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--threshold", "0.9", "--json", "--draw", "roc.png"]) == 0
    told = json.loads(capsys.readouterr().out)
    verifier = FaceVerifier("model.onnx", aligned=True)
    for row in told["pairs"]:
        assert row["similarity"] == pytest.approx(verifier.verify(row["a"], row["b"]).similarity, abs=1e-6)
    assert told["failed"] == 0 and told["summary"]["auc"] == 1.0
    assert (told["summary"]["right"], told["summary"]["judged"]) == (5, 5)
    assert read_image("roc.png").shape[2] == 3
    assert main(list(WORDS)) == 0
    assert "every threshold from" in capsys.readouterr().out


def test_pairs_that_fail_are_counted_and_kept_in_their_rows(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (room / "people" / "a" / "1.png").write_bytes(b"damaged")
    assert main([*WORDS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == 2
    assert [row["similarity"] is None for row in told["pairs"]] == [True, False, False, True, False]
    assert all("1.png" in row["reason"] for row in told["pairs"] if row["reason"])
    assert main(list(WORDS)) == 0
    out = capsys.readouterr().out
    assert "of which 2 failed" in out and "failed" in out.splitlines()[1]


def test_the_summary_is_that_of_the_known_pairs_alone(room: Path) -> None:
    verifier = FaceVerifier("model.onnx", aligned=True)
    paths = {(p, i): room / "people" / p / f"{i}.png" for p in "ab" for i in (0, 1)}
    pairs = [(paths[p, i], paths[q, j], p == q) for p, i, q, j in ALL]
    answers = verify_pairs(verifier, [*pairs, (paths["a", 0], paths["b", 0], None)])
    summary, alone = summarise(answers), summarise(answers[:-1])
    assert summary is not None and alone is not None
    assert summary.auc == alone.auc == auc(alone.scores)
    assert summarise(answers[:2]) is None and summarise([]) is None


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "x.png", "y.png", "--pairs", "pairs.csv"],
        ["verify", "x.png"],
        ["verify"],
        ["verify", "--pairs", "gone.csv", "--model", "model.onnx"],
        ["verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--face", "all"],
        ["verify", "--pairs", "pairs.csv", "--model", "model.onnx", "--draw", "roc.svg"],
    ],
)
def test_wrong_lists_are_one_sentence(words: list[str], room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_drawn_answer_shows_both_crops_in_their_own_colours(room: Path) -> None:
    red, blue = crop(1), crop(2)
    red[...], blue[...] = (200, 30, 20), (20, 30, 200)
    red[:56], blue[:56] = 90, 90
    for name, image in (("r.png", red), ("b.png", blue)):
        (room / name).write_bytes(encode_png(image))
    words = ["verify", "r.png", "b.png", "--model", "model.onnx", "--aligned", "--threshold", "0.5", "--draw", "o.png"]
    assert main(words) in (0, 1)
    drawn = read_image(room / "o.png").reshape(-1, 3).astype(int)
    for colour in ((200, 30, 20), (20, 30, 200)):
        assert (np.abs(drawn - colour).max(1) <= 2).sum() > 10_000


def test_a_drawing_needs_no_truetype_of_ones_own_and_takes_any_name(room: Path) -> None:
    name = "李 Žofie.png"
    (room / name).write_bytes(encode_png(crop(1)))
    assert main(["verify", name, name, "--model", "model.onnx", "--aligned", "--draw", "o.jpg"]) == 3
    assert (room / "o.jpg").is_file()


def test_one_verifier_serves_threads(shared: Path) -> None:
    models, photos = shared / "models", shared / "photos"
    verifier = FaceVerifier(models / "mobilefacenet.onnx", models / "face_detection_yunet_2026may.onnx", threshold=0.35)
    pairs = [(photos / f"person_{p}_1.jpg", photos / f"person_{q}_2.jpg") for p, q in ("ab", "cc", "dd", "de", "ee")]
    alone = [verifier.verify(*pair).similarity for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: verifier.verify(*pair).similarity, pairs * 2))
    np.testing.assert_allclose(together, alone * 2, atol=1e-5)


def test_the_python_interface_is_light(room: Path) -> None:
    program = (
        "import sys, zoo\n"
        "verifier = zoo.FaceVerifier('model.onnx', threshold=0.9, aligned=True)\n"
        "answer = verifier.verify('people/a/0.png', 'people/a/1.png')\n"
        "embedding = verifier.embed('people/a/0.png')\n"
        "print(answer.same, embedding.shape, sorted({'torch', 'timm', 'albumentations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=room)
    assert done.stdout == "True (48,) []\n", done.stdout + done.stderr


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
