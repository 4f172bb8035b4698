"""Learning from a teacher: its embeddings are targets, by cosine or over the class centres, with or without labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support.toy_faces import write_people
from tests.support.training import start, tiny, weights
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss
from zoo.resolve import load_embedder
from zoo.train import checkpoint
from zoo.train.build import build
from zoo.train.checkpoint import CRITERION, newest_whole, read
from zoo.train.distributed import Rank
from zoo.train.finetune import STORED, Teacher
from zoo.train.loop import train
from zoo.train.step import Stepper


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on five people, and beside it their pictures."""
    folder = tmp_path_factory.mktemp("teacher")
    write_people(folder / "people", {f"p{number}": [(number, image) for image in range(4)] for number in range(5)})
    config = tiny(data=str(folder / "people"), epochs=2, seed=7)
    train(config, start(config, folder / "run"))
    return folder / "run"


def agreement(run: Path, teacher: Path) -> float:
    """The mean cosine of the embeddings of a run and of its teacher."""
    dataset = open_dataset(str(teacher.parent / "people"))
    pictures = np.stack([dataset.image(i) for i in range(len(dataset))])
    ours, theirs = (torch.from_numpy(load_embedder(model, "torch")(pictures)) for model in (run, teacher))
    return float(F.cosine_similarity(ours, theirs).mean())


@pytest.mark.parametrize(("kind", "labels"), [("cosine", 0.0), ("cosine", 1.0), ("logits", 0.0)])
def test_a_student_comes_nearer_to_its_teacher(kind: str, labels: float, teacher: Path, tmp_path: Path) -> None:
    found = {}
    taught = {"teacher": str(teacher), "teacher_loss": kind, "label_weight": labels, "teacher_weight": 30.0}
    for name, options in (("alone", {}), ("taught", taught)):
        config = tiny(data=str(teacher.parent / "people"), epochs=4, lr=0.1, seed=1, **options)
        train(config, start(config, tmp_path / name))
        found[name] = agreement(tmp_path / name, teacher)
    assert found["taught"] > found["alone"] + 0.2, found


def test_the_targets_are_the_directions_of_pictures_and_mirror_images_and_the_centres_start_at_their_means(
    teacher: Path, tmp_path: Path
) -> None:
    config = tiny(data=str(teacher.parent / "people"), epochs=1, teacher=str(teacher), label_weight=0.0)
    run = start(config, tmp_path / "run")
    train(config, run)
    dataset, model = open_dataset(str(teacher.parent / "people")), load_embedder(teacher, "torch")
    pictures = np.stack([dataset.image(i) for i in range(len(dataset))])
    raw = model(pictures) + model(np.ascontiguousarray(pictures[:, :, ::-1]))
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    stored = np.load(run / STORED)
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    centres = read(newest_whole(run / "checkpoint"), CRITERION)["weight"]  # no gradient without labels
    for label in range(5):
        mean = torch.from_numpy(stored[dataset.labels == label].mean(0))
        assert F.cosine_similarity(centres[label], mean, dim=0) == pytest.approx(1, abs=1e-5)
    before = MarginSoftmaxLoss("arcface", 5, 9, seed=0).weight.norm(dim=1)
    torch.testing.assert_close(centres.norm(dim=1), before.detach())


def test_the_losses_are_what_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(6, 4, generator=generator))
    criterion = MarginSoftmaxLoss("arcface", 5, 4, seed=0)
    x = torch.randn(3, 4, generator=generator, requires_grad=True)
    indices = torch.tensor([5, 0, 3])
    cosine = Teacher(directions.numpy(), "cosine").loss(x, indices, criterion)
    angles = [F.cosine_similarity(x[k], directions[i], dim=0) for k, i in enumerate(indices.tolist())]
    torch.testing.assert_close(cosine, 1 - torch.stack(angles).mean())
    logits = Teacher(directions.numpy(), "logits").loss(x, indices, criterion)
    ours, theirs = (criterion.logits(e).detach().softmax(1) for e in (x, directions[indices]))
    torch.testing.assert_close(logits.detach(), (theirs * (theirs / ours).log()).sum(1).mean(), rtol=1e-4, atol=1e-5)
    logits.backward()
    assert x.grad.abs().sum() > 0 and criterion.weight.grad is None
    zero = Teacher(np.zeros((6, 4), np.float32), "cosine").loss(x.detach().requires_grad_(), indices, criterion)
    assert zero.item() == 1  # a picture that could not be read pulls nowhere


@pytest.mark.parametrize(
    ("kind", "weight", "factor"), [("cosine", None, 24.0), ("logits", None, 1.0), ("cosine", 3.0, 3.0)]
)
def test_without_a_weight_the_teacher_pulls_as_strongly_as_a_label(
    kind: Literal["cosine", "logits"], weight: float | None, factor: float
) -> None:
    options = {"head": "arcface", "head_options": {"scale": 24.0}, "teacher": "x", "label_weight": 0.0}
    config = tiny(**options, teacher_loss=kind, teacher_weight=weight)
    parts, device = build(config, 5, torch.device("cpu")), torch.device("cpu")
    teacher = Teacher(F.normalize(torch.randn(6, config.embedding_dim)).numpy(), kind)
    stepper = Stepper(config, parts, Rank(), device, teacher=teacher)
    x, indices = torch.randn(3, config.embedding_dim), torch.tensor([5, 0, 3])
    found = stepper.loss(x, torch.tensor([0, 1, 2]), indices)
    torch.testing.assert_close(found, factor * teacher.loss(x, indices, parts.criterion))


def test_a_run_with_a_teacher_resumes_bit_equal_without_asking_it_again(teacher: Path, tmp_path: Path) -> None:
    config = tiny(data=str(teacher.parent / "people"), epochs=2, teacher=str(teacher), margin_epochs=1.5)
    whole, parts = start(config, tmp_path / "whole"), start(config, tmp_path / "parts")
    train(config, whole)
    train(config, parts)
    (parts / "checkpoint/latest").write_text(checkpoint.steps(parts / "checkpoint")[0].name)
    for folder in checkpoint.steps(parts / "checkpoint")[1:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    written = (parts / STORED).stat().st_mtime_ns
    train(config, parts, resume=True)
    assert (parts / STORED).stat().st_mtime_ns == written
    ours, theirs = weights(whole), weights(parts)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_what_cannot_be_learned_is_refused(teacher: Path, tmp_path: Path) -> None:
    config = tiny(data=str(teacher.parent / "people"), teacher=str(teacher), embedding_dim=8)
    with pytest.raises(InputError, match="train with --embedding-dim 9"):
        train(config, start(config, tmp_path / "run"))
    with pytest.raises(InputError, match="0 with a --teacher"):
        tiny(label_weight=0.0)
    with pytest.raises(InputError, match="teacher-weight"):
        tiny(**{**asdict(config), "teacher_weight": 0.0})
