"""`zoo data clean`: the training set of a run without what its class centres call wrongly labelled."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.toy_faces import write_people
from tests.support.training import start, tiny
from zoo.cli import main
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.resolve import load_embedder
from zoo.train.checkpoint import CRITERION, newest_whole, read
from zoo.train.clean import clean
from zoo.train.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    people = {name: [(number, image) for image in range(4)] for number, name in enumerate(("ann", "bob", "cid"))}
    people["ann"].append((7, 1))
    data = write_people(folder / "people", people)
    trained = start(tiny(data=str(data), epochs=2, centres={"sub_centres": 2}), folder / "run")
    train(tiny(data=str(data), epochs=2, centres={"sub_centres": 2}), trained)
    return trained


def angles(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(degrees to each sub-centre of the own class (images, K), labels, the dominant sub-centre of each class)."""
    dataset = open_dataset(str(run.parent / "people"))
    model = load_embedder(run, "torch")
    pictures = np.stack([dataset.image(i) for i in range(len(dataset))])
    raw = model(pictures) + model(pictures[:, :, ::-1])
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    centres = torch.nn.functional.normalize(read(newest_whole(run / "checkpoint"), CRITERION)["weight"], dim=2).numpy()
    cosines = np.einsum("id,ikd->ik", unit, centres[dataset.labels])
    nearest = cosines.argmax(1)
    dominant = np.array([np.bincount(nearest[dataset.labels == label], minlength=2).argmax() for label in range(3)])
    return np.degrees(np.arccos(cosines)), dataset.labels, dominant


def test_images_beyond_the_angle_are_left_out_and_listed(run: Path, tmp_path: Path) -> None:
    degrees, labels, dominant = angles(run)
    own = degrees[np.arange(len(labels)), dominant[labels]]
    limit = float(np.sort(own)[-4:-2].mean())
    done = clean(run, tmp_path / "out", degrees=limit, device="cpu")
    kept = own <= limit
    assert (done.images, done.removed, done.sub_centres) == (kept.sum(), 3, 2)
    rows = list(csv.DictReader((tmp_path / "out" / "removed.csv").open(encoding="utf-8")))
    assert [int(row["image"]) for row in rows] == np.flatnonzero(~kept).tolist()
    assert all(abs(float(row["degrees"]) - own[int(row["image"])]) < 0.2 for row in rows)
    assert all(Path(row["place"]).is_file() for row in rows)
    left = open_dataset(str(tmp_path / "out"))
    assert np.bincount(left.labels).tolist() == [n for n in np.bincount(labels[kept], minlength=3).tolist() if n]
    people = np.unique(labels[kept])
    centres = read(newest_whole(run / "checkpoint"), CRITERION)["weight"]
    weight = load_file(tmp_path / "out" / "centres.safetensors")["weight"]
    assert torch.equal(weight, centres[people, dominant[people]]) and done.lost == 3 - len(people)


def test_the_command_says_what_it_left_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "clean", str(run), str(tmp_path / "out"), "--angle", "179", "--device", "cpu"]) == 0
    assert "13 images of 3 identities; 0 images beyond 179°" in capsys.readouterr().out
    assert main(["data", "clean", str(run), str(tmp_path / "out"), "--device", "cpu"]) == 2


def test_a_run_on_synthetic_faces_has_nothing_to_clean(tmp_path: Path) -> None:
    config = tiny(epochs=1)
    made = start(config, tmp_path / "run")
    train(config, made)
    with pytest.raises(InputError, match="its labels are right"):
        clean(made, tmp_path / "out", device="cpu")
