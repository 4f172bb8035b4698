"""Small benchmarks in the layouts that are handed out, a model for them, and `zoo` called as from a shell."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.onnx_models import write_model
from zoo import cli
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_jpeg, encode_png
from zoo.inference.session import OnnxEmbedder

Array = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]


def colour_pairs(pairs: int, seed: int = 0) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Flat pictures whose colour is the person; the two of a pair differ by a little noise."""
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    colours = rng.integers(30, 226, (2 * pairs, 3))
    colours[1::2][same] = colours[0::2][same]
    noisy = np.clip(colours + rng.integers(-25, 26, colours.shape), 0, 255).astype(np.uint8)
    return np.broadcast_to(noisy[:, None, None, :], (2 * pairs, 112, 112, 3)).copy(), same


def write_pairs(path: Path, pairs: int = 40, seed: int = 0, size: int = 16) -> Path:
    """A .bin of `colour_pairs`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images, same = colour_pairs(pairs, seed)
    write_bin(path, [encode_png(image[:size, :size]) for image in images], same)
    return path


def person(number: int, picture: int, size: int = 112) -> Array:
    """A flat picture: the colour is the person's, its shade the picture's."""
    rng = np.random.default_rng(number)
    colour = np.sort(rng.integers(40, 200, 3))[::-1] + 3 * picture  # red above blue, as skin has it
    return np.broadcast_to(colour.astype(np.uint8), (size, size, 3)).copy()


def write_people(folder: Path, people: int, pictures: int = 3, size: int = 112) -> list[str]:
    """A folder for each person, NAME/NAME_0001.jpg and so on; their names."""
    names = [f"Person_{number:02d}" for number in range(people)]
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for picture in range(1, pictures + 1):
            (folder / name / f"{name}_{picture:04d}.jpg").write_bytes(encode_jpeg(person(number, picture, size)))
    return names


def pair_lines(names: list[str], pairs: int, seed: int = 0) -> list[str]:
    """Lines of LFW's pairs.txt, of one person and of two in turn."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(pairs // 2):
        a, b = rng.choice(len(names), 2, replace=False)
        lines += [f"{names[a]}\t1\t2", f"{names[a]}\t{rng.integers(1, 4)}\t{names[b]}\t{rng.integers(1, 4)}"]
    return lines


def write_rfw(folder: Path) -> Path:
    """RFW as handed out: four groups, loose pictures with landmarks, lists without a first line of numbers."""
    for seed, group in enumerate(("African", "Asian", "Caucasian", "Indian")):
        names = write_people(folder / "data" / group, 6, size=160)
        lists = folder / "txts" / group
        lists.mkdir(parents=True)
        (lists / f"{group}_pairs.txt").write_text("\n".join(pair_lines(names, 60, seed)) + "\n")
        (lists / f"{group}_lmk.txt").write_text(
            "".join(
                f"/test/data/{group}/{name}/{name}_{picture:04d}.jpg\t{number}\t60\t60\t95\t60\t78\t80\t62\t100\t92\t100\n"
                for number, name in enumerate(names)
                for picture in (1, 2, 3)
            )
        )
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or leaves embeddings in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A .bin of 60 pairs of crops."""
    return write_pairs(tmp_path / "colours.bin", 60, size=112)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A linear embedder."""
    return write_model(tmp_path / "m.onnx")


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    """pairs.txt beside a folder of twelve people with three pictures each: 80 pairs."""
    names = write_people(tmp_path / "lfw" / "aligned", 12)
    (tmp_path / "lfw" / "pairs.txt").write_text("\n".join(["10\t4", *pair_lines(names, 80)]) + "\n")
    return tmp_path / "lfw"


@pytest.fixture
def rfw(tmp_path: Path) -> Path:
    """RFW in its folder test/."""
    return write_rfw(tmp_path / "RFW" / "test")


@pytest.fixture
def ijb(tmp_path: Path) -> Path:
    """Eleven pictures, five templates of three subjects, both galleries and a list of probes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "IJBC"
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    names = [f"{i}.jpg" for i in range(11)]
    for name in names:
        (folder / "loose_crop" / name).write_bytes(encode_jpeg(rng.integers(0, 256, (120, 130, 3), dtype=np.uint8)))
    meta = folder / "meta"
    confidence = rng.uniform(0.2, 1, 11)
    meta.joinpath("ijbc_name_5pts_score.txt").write_text(
        "".join(f"{name} {LANDMARKS} {score:.6f}\n" for name, score in zip(names, confidence, strict=True))
    )
    template, medium = [3, 3, 3, 5, 5, 8, 8, 9, 9, 9, 12], [1, 1, 2, 4, 4, 5, 6, 7, 7, 7, 8]
    meta.joinpath("ijbc_face_tid_mid.txt").write_text(
        "".join(f"{n} {t} {m}\n" for n, t, m in zip(names, template, medium, strict=True))
    )
    meta.joinpath("ijbc_template_pair_label.txt").write_text("3 5 1\n3 8 0\n5 9 0\n9 8 0\n3 12 0\n12 9 1\n")
    for name, rows in (
        ("gallery_G1", [(3, 0), (3, 0)]),
        ("gallery_G2", [(8, 1), (9, 2)]),
        ("probe_mixed", [(5, 0), (12, 2)]),
    ):
        with open(meta / f"ijbc_1N_{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("TEMPLATE_ID", "SUBJECT_ID", "FILENAME"), *[(*row, "x") for row in rows]])
    return folder


LANDMARKS = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """`zoo ARGV`: the exit code, stdout and stderr."""
    status = cli.main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return status, out, err


def pooled_by_loops(features: Numbers, template: Numbers, medium: Numbers, weight: Numbers, templates: int) -> Numbers:
    """Unit template vectors (templates, dim): the mean over a medium, summed over media, one frame at a time."""
    out = np.zeros((templates, features.shape[1]))
    for t in range(templates):
        for m in set(medium[template == t].tolist()):
            frames = np.flatnonzero((template == t) & (medium == m))
            out[t] += np.mean([features[i].astype(np.float64) * weight[i] for i in frames], axis=0)
        out[t] /= np.linalg.norm(out[t])
    return out


@pytest.fixture(scope="session")
def mobilefacenet(shared: Path) -> OnnxEmbedder:
    """The real model."""
    return OnnxEmbedder(shared / "models/mobilefacenet.onnx", device="cpu", threads=1)


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of two models on one benchmark, the fixtures' own, with thumbnails."""
    folder = tmp_path_factory.mktemp("two")
    data = write_pairs(folder / "colours.bin", 60, size=112)
    models = [write_model(folder / "m.onnx"), write_model(folder / "other.onnx", seed=3)]
    arguments = ["--data", data, "--device", "cpu", "--no-cache", "--thumbnails", "--report", folder / "r"]
    assert cli.main([str(word) for word in ["evaluate", *models, *arguments]]) == 0
    return folder / "r"
