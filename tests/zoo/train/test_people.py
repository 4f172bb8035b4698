"""Who is in a training set, who is held out of it, and that it stays the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.benchmarks import ijb, write_pairs
from tests.support.toy_faces import crop, write_people
from tests.support.training import start, tiny
from zoo.backbones import load_timm
from zoo.backbones.timm_folder import TorchEmbedder
from zoo.cli import main
from zoo.data.base import EncodedFaces
from zoo.data.open import open_dataset
from zoo.data.synthetic import synthetic_pairs
from zoo.errors import InputError
from zoo.evaluate.protocols import IJBProtocol
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_png
from zoo.inference.embed import embed
from zoo.messages import no_progress
from zoo.modelinfo import InputSpec
from zoo.resolve import load_embedder
from zoo.train.checkpoint import CRITERION, newest_whole, read
from zoo.train.distributed import Rank
from zoo.train.loop import train
from zoo.train.people import clean, hold_out, measured, open_training, open_validation, pairs_of, same_data


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Five people with three to seven pictures, and one with a single one."""
    several = {f"p{who}": [(who, image) for image in range(3 + who)] for who in range(5)}
    return write_people(tmp_path / "people", {**several, "single": [(9, 0)]})


def test_people_who_are_held_out_are_not_trained_on_and_are_always_the_same(people: Path) -> None:
    dataset = open_dataset(str(people))
    left, held = hold_out(dataset, 2)
    assert isinstance(dataset, EncodedFaces) and left.identities and held.identities and dataset.identities
    assert set(left.identities) | set(held.identities) == set(dataset.identities)
    assert len(held.identities) == 2 and not set(left.identities) & set(held.identities)
    assert len(left) + len(held) == len(dataset) and "single" in left.identities
    assert hold_out(open_dataset(str(people)), 2)[1].identities == held.identities


@pytest.mark.parametrize("count", [1, 5, 6])
def test_too_few_people_on_either_side_are_refused(people: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"expected --held-out of 2 people or more .* found {count} for people"):
        hold_out(open_dataset(str(people)), count)
    with pytest.raises(InputError, match="a set in files"):
        hold_out(open_dataset("synthetic:5x7"), 2)


def test_pairs_of_people_who_are_held_out_say_who_is_the_same(people: Path) -> None:
    _, held = hold_out(open_dataset(str(people)), 4)
    pairs = pairs_of(held)
    assert len(pairs.same) == 2 * (len(held) - 4) and pairs.same.mean() == 0.5
    coarse = np.stack([np.asarray(image)[14::28, 14::28].astype(int) for image in pairs.images()])
    a, b = coarse[pairs._place[0::2]], coarse[pairs._place[1::2]]
    assert ((np.abs(a - b).max(axis=(1, 2, 3)) < 20) == pairs.same).all()  # tiles of one seed differ by 18 at most
    assert not (np.abs(crop(1).astype(int) - crop(2).astype(int)).max() < 20)


def test_a_damaged_picture_of_people_who_are_held_out_is_left_out_where_others_are(people: Path) -> None:
    _, held = hold_out(open_dataset(str(people)), 4)
    whole = len(pairs_of(held).same)
    Path(held.where(1)).write_bytes(b"no picture")
    assert len(pairs_of(held, skip_corrupt=True).same) == whole - 2
    with pytest.raises(InputError, match="found 10 bytes that begin with"):
        list(pairs_of(held).images())
    for i in np.flatnonzero(held.labels).tolist():
        Path(held.where(i)).write_bytes(b"no picture")
    with pytest.raises(InputError, match="of two people or more held out, found 1; hold out more"):
        pairs_of(held, skip_corrupt=True)


def test_a_run_is_validated_on_the_people_whom_it_holds_out(people: Path, tmp_path: Path) -> None:
    config = tiny(data=str(people), held_out=2, epochs=2, embedding_dim=9)
    run = start(config, tmp_path / "run")
    record = train(config, run)
    assert 0 <= record["validation"]["auc"] <= 1 and (run / "best/model.safetensors").is_file()
    left, _ = open_training(config, (112, 112))
    cleaned = clean(run, tmp_path / "cleaned", degrees=179.9)
    assert cleaned.images == len(left) < len(open_dataset(str(people)))


def test_a_run_that_goes_on_with_other_people_is_refused(tmp_path: Path) -> None:
    progress, found = {"images": 0}, {"images": 35, "identities": 5, "people": "af"}
    same_data(tmp_path, found, progress, Rank())
    same_data(tmp_path, found, progress, Rank())
    with pytest.raises(InputError, match=r"found people 07 in place of af; .* --data"):
        same_data(tmp_path, {**found, "people": "07"}, progress, Rank())
    (tmp_path / "data.json").unlink()  # an older run, which knows the number of images alone
    same_data(tmp_path, {**found, "people": "07"}, progress, Rank())
    with pytest.raises(InputError, match="found images 34 in place of 35"):
        same_data(tmp_path, {**found, "images": 34}, progress, Rank())


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


__all__ = ["ijb"]


def test_validation_is_synthetic_for_synthetic_data_and_nothing_for_others(tmp_path: Path) -> None:
    (found,) = open_validation(tiny(validation="auto"))
    assert found.data == "synthetic validation"
    assert open_validation(tiny(validation="auto", data="faces")) == open_validation(tiny(validation="none")) == []
    with pytest.raises(InputError, match=r"pairs\.bin"):
        open_validation(tiny(validation=str(tmp_path / "pairs.bin")))


def validations(run: Path) -> dict[int, dict[str, float]]:
    """The validations in a run's log, by step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["validation"] for line in lines if "validation" in line}


def test_a_run_is_validated_every_so_many_steps_and_at_its_end(tmp_path: Path) -> None:
    """7 steps an epoch; the checkpoint comes first, and a run that is resumed there repeats the validation."""
    pairs = write_pairs(tmp_path / "pairs.bin", pairs=20)
    config = tiny(epochs=2, validation=str(pairs), validate_every=4, keep=9)
    record = train(config, start(config, tmp_path / "run"))
    found = validations(tmp_path / "run")
    assert list(found) == [4, 8, 12, 14] and record["validation"] == found[14]
    kept = [int(step.name[-2:]) for step in (tmp_path / "run/checkpoint").glob("step-*")]
    assert sorted(kept) == [0, 4, 7, 8, 12, 14] and (tmp_path / "run/best/model.safetensors").is_file()
    for step in (12, 14):
        (tmp_path / f"run/checkpoint/step-{step:08d}").rename(tmp_path / f"moved-{step}")
    train(config, tmp_path / "run", resume=True)
    assert validations(tmp_path / "run") == found


def test_ijb_and_pairs_are_validated_together(ijb: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.bin", pairs=20)
    config = tiny(epochs=1, validation=f"{pairs}, {ijb}")
    found = train(config, start(config, tmp_path / "run"))["validation"]
    protocol = IJBProtocol(ijb)
    own = protocol.score(embed(TorchEmbedder(load_timm(tmp_path / "run"), InputSpec()), protocol.images()))
    assert found["auc IJB-C"] == own.auc and found["accuracy"] == found["accuracy pairs.bin"]
    assert found["auc"] == pytest.approx((found["auc IJB-C"] + found["auc pairs.bin"]) / 2)


def test_a_figure_that_cannot_be_measured_is_left_out(tmp_path: Path) -> None:
    """TAR at FAR 1e-4 needs 10,000 pairs of two people."""
    (few,) = open_validation(tiny(validation=str(write_pairs(tmp_path / "pairs.bin", pairs=20))))
    found = measured(torch.nn.Flatten(), InputSpec(), torch.device("cpu"), [few], no_progress)
    assert set(found) == {"accuracy", "auc"} and found["auc"] > 0.9


def test_a_protocol_without_pairs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.evaluate.protocols import Found

    found = [Found("tinyface", "tinyface", tmp_path)]
    monkeypatch.setattr("zoo.train.people.find_benchmarks", lambda place: found)
    with pytest.raises(InputError, match="expected pairs or IJB for --validation, found tinyface"):
        open_validation(tiny(validation="benchmarks"))


def test_pairs_that_cannot_be_measured_are_refused_before_the_training(tmp_path: Path) -> None:
    images, _ = synthetic_pairs(pairs=20, seed=3)
    path = tmp_path / "one.bin"
    write_bin(path, [encode_png(image) for image in images], [True] * 20)
    with pytest.raises(InputError, match="pairs of both kinds"):
        open_validation(tiny(validation=str(path)))
