"""Sub-centres against label noise: the dominant one, the images far from it, one centre per class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss, find_sub_centres


def noisy() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(centres (5, 3, 12), embeddings, labels, which are wrong): each class's images lie at its second sub-centre,
    the wrong ones anywhere."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 3, 12, generator=generator)
    labels = torch.arange(5).repeat(9)
    wrong = torch.arange(45) >= 35
    near = centres[labels, 1] * (1 + torch.rand(45, 1, generator=generator))
    embeddings = near + 0.2 * torch.randn(45, 12, generator=generator)
    embeddings[wrong] = -near[wrong]
    return centres, embeddings, labels, wrong


def test_the_dominant_sub_centre_is_that_of_most_images_and_wrong_labels_are_far_from_it() -> None:
    centres, embeddings, labels, wrong = noisy()
    found = find_sub_centres(centres, embeddings, labels)
    assert found.dominant.tolist() == [1] * 5 and torch.equal(found.centres, centres[:, 1])
    assert torch.equal(found.outliers(75), wrong.nonzero().squeeze(1))
    for i in range(45):  # brute force
        cosines = [torch.cosine_similarity(embeddings[i], c, dim=0).item() for c in centres[labels[i]]]
        assert found.nearest[i] == max(range(3), key=cosines.__getitem__)
        assert found.angle[i].item() == pytest.approx(math.acos(max(-1, min(1, cosines[1]))), abs=1e-3)
    for label in range(5):
        assert found.share[label] == (found.nearest[labels == label] == 1).float().mean()


def test_training_goes_on_with_one_centre_per_class() -> None:
    centres, embeddings, labels, wrong = noisy()
    several = MarginSoftmaxLoss("arcface", 5, 12, sub_centres=3)
    several.weight.data.copy_(centres)
    found = find_sub_centres(several.weight, embeddings, labels)
    single = MarginSoftmaxLoss("arcface", 5, 12)
    single.weight.data.copy_(found.centres)
    kept = (~wrong).nonzero().squeeze(1)
    assert single(embeddings[kept], labels[kept]) < 0.1
    again = find_sub_centres(single.weight, embeddings, labels)
    assert torch.equal(again.outliers(75), found.outliers(75)) and again.share.tolist() == [1] * 5


def test_a_class_without_images_keeps_its_first_centre() -> None:
    centres, embeddings, labels, _ = noisy()
    found = find_sub_centres(centres, embeddings[labels != 2], labels[labels != 2])
    assert found.dominant[2] == 0 and found.share[2] == 0
    assert find_sub_centres(centres, embeddings[:0], labels[:0]).angle.shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    centres, embeddings, labels, _ = noisy()
    for wrong in (
        (centres, embeddings[:, :5], labels),
        (centres, embeddings, labels[:3]),
        (centres, embeddings, labels + 1),
    ):
        with pytest.raises(InputError, match="expected"):
            find_sub_centres(*wrong)
    with pytest.raises(InputError, match="between 0 and 180 degrees"):
        find_sub_centres(centres, embeddings, labels).outliers(0)
