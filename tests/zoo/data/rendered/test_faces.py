"""Rendered people as a training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.training import tiny
from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.person import Draws, draw_people
from zoo.errors import InputError
from zoo.train.loop import train


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures are the same but for a level or two where sums were rounded otherwise."""
    apart = np.abs(one.astype(int) - other.astype(int))
    return bool((apart > 2).mean() < 0.002)


def test_a_picture_is_the_same_in_any_batch_and_set(faces: RenderedFaces, shared: Path) -> None:
    image = faces.image(5)
    assert image.shape == (112, 112, 3) and image.dtype == np.uint8
    assert close(image, faces.render(faces.rig, 3, 8)[2].numpy())
    other = RenderedFaces(shared / "data/ict_face", 9, 4)
    other.rig = faces.rig
    assert close(image, other.image(5))


def test_another_seed_has_other_people_and_pictures(faces: RenderedFaces, shared: Path) -> None:
    other = RenderedFaces(shared / "data/ict_face", 3, 4, seed=1)
    other.rig = faces.rig
    assert not close(faces.image(0), other.image(0))


def test_a_persons_images_share_shape_skin_and_hair_colour_and_two_people_do_not(faces: RenderedFaces) -> None:
    who = draw_people(faces.rig, Draws(0, torch.tensor([1, 1, 2])))
    for of in (who.shape, who.skin, who.brow, who.hair):
        assert torch.equal(of[0], of[1]) and not torch.equal(of[0], of[2])
    assert not close(faces.image(4), faces.image(5))


@pytest.mark.parametrize("size", [64, 113])
def test_other_sizes_are_rendered(faces: RenderedFaces, shared: Path, size: int) -> None:
    other = RenderedFaces(shared / "data/ict_face", 2, 1, size=(size, size))
    other.rig = faces.rig
    image = other.image(1)
    assert image.shape == (size, size, 3) and image.std() > 5


def test_all_pictures_rendered_at_once_are_those_rendered_one_by_one(faces: RenderedFaces, shared: Path) -> None:
    kept = RenderedFaces(shared / "data/ict_face", 2, 2)
    kept.rig = faces.rig
    single = [kept.image(i) for i in range(4)]
    kept.render_all(torch.device("cpu"))
    assert kept.kept is not None and all(close(kept.image(i), single[i]) for i in range(4))


def test_there_is_no_picture_behind_the_last(faces: RenderedFaces) -> None:
    assert len(faces) == 12 and faces.num_classes == 3 and faces.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(IndexError):
        faces.image(12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"people": 1}, "at least 2 rendered people"),
        ({"images": 0}, "an image of each"),
        ({"seed": 2**32}, "a seed of 32 bits"),
        ({"size": (112, 96)}, "square crops"),
        ({"size": (8, 8)}, "48 to 336"),
    ],
)
def test_numbers_outside_their_range_are_one_sentence(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RenderedFaces("nowhere", **{"people": 2, "images": 1, **arguments})  # type: ignore[arg-type]


def test_a_model_trains_on_rendered_people(shared: Path, tmp_path: Path) -> None:
    record = train(tiny(data=f"rendered:{shared}/data/ict_face:2x4", epochs=1, batch_size=8), tmp_path)
    assert record["step"] == 1 and np.isfinite(record["loss"]) and (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("rendered:nowhere:2x3", "expected a clone of ICT-FaceKit in nowhere"),
        ("rendered:nowhere", "expected rendered:FOLDER:PEOPLExIMAGES"),
        ("rendered:nowhere:2x", "expected rendered:FOLDER:PEOPLExIMAGES"),
        ("rendered::2x3", "expected rendered:FOLDER:PEOPLExIMAGES"),
        ("rendered:nowhere:1x3", "at least 2 rendered people"),
    ],
)
def test_wrong_addresses_exit_2_with_one_sentence(
    address: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["train", "--data", address, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*"))
