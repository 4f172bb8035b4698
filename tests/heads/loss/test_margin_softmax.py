"""The loss over class centres: accuracy where fp32 is short, what it reports, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.errors import InputError
from zoo.heads import MarginSoftmaxLoss, build_head


@pytest.mark.parametrize("gap", [5.0, 15.0, 20.0, 40.0])
def test_a_small_loss_keeps_its_digits_in_fp32(gap: float) -> None:
    scale = 64.0
    loss = MarginSoftmaxLoss(build_head("softmax", scale=scale), 2, 2)
    loss.weight.data.copy_(torch.tensor([[1.0, 0.0], [1 - gap / scale, math.sqrt(1 - (1 - gap / scale) ** 2)]]))
    value = loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0])).item()
    # the gap itself is exact to a few units of the last place of fp32's logits
    assert value == pytest.approx(math.log1p(math.exp(-gap)), rel=64 * 4 * 6e-8)
    logits = torch.tensor([[scale, scale - gap]])
    naive = torch.nn.functional.cross_entropy(logits, torch.tensor([0])).item()
    if gap >= 20:
        assert naive == 0.0


@pytest.mark.parametrize("gap", [-40.0, -19.0, 0.0, 19.0, 21.0, 30.0])
def test_softplus_is_exact_on_both_sides_of_torchs_threshold(gap: float) -> None:
    from zoo.heads.loss.margin_softmax import softplus

    x = torch.tensor(gap, dtype=torch.float64, requires_grad=True)
    value = softplus(x)
    value.backward()
    assert value.item() == pytest.approx(math.log1p(math.exp(gap)), rel=1e-14)
    assert x.grad.item() == pytest.approx(1 / (1 + math.exp(-gap)), rel=1e-14)


def test_the_statistics_are_what_they_say() -> None:
    torch.manual_seed(0)
    loss = MarginSoftmaxLoss(build_head("curricularface"), 13, 5)
    embeddings, labels = 3 * torch.randn(9, 5), torch.randint(13, (9,))
    loss(embeddings, labels).backward()
    cos = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(loss.weight.detach()).T
    cos_y = cos.gather(1, labels[:, None]).squeeze(1)
    hard = cos > (cos_y.acos() + 0.5).cos()[:, None]
    hard.scatter_(1, labels[:, None], False)
    stats = loss.stats()
    assert not any(value.requires_grad or value.ndim for value in stats.values())
    assert stats["mean_target_cosine"].item() == pytest.approx(cos_y.mean().item(), rel=1e-5)
    assert stats["embedding_norm"].item() == pytest.approx(embeddings.norm(dim=1).mean().item(), rel=1e-5)
    assert stats["hard_negative_share"].item() == pytest.approx(hard.sum().item() / (9 * 12))
    assert stats["t"].item() == pytest.approx(0.01 * cos_y.mean().item(), rel=1e-5)


def test_the_state_holds_the_centres_and_the_heads_buffers_only() -> None:
    assert set(MarginSoftmaxLoss(build_head("recurricularface"), 5, 3).state_dict()) == {"weight", "head.t"}


def test_centres_do_not_feel_their_length_nor_embeddings_theirs() -> None:
    torch.manual_seed(0)
    loss = MarginSoftmaxLoss(build_head("arcface"), 7, 4).double()
    embeddings, labels = torch.randn(5, 4, dtype=torch.float64), torch.arange(5)
    value = loss(embeddings, labels)
    loss.weight.data.mul_(torch.rand(7, 1) + 0.5)
    torch.testing.assert_close(loss(17 * embeddings, labels), value)


def test_a_zero_embedding_gives_a_finite_loss_and_gradient() -> None:
    loss = MarginSoftmaxLoss(build_head("recurricularface"), 5, 4)
    embeddings = torch.zeros(2, 4, requires_grad=True)
    value = loss(embeddings, torch.tensor([0, 4]))
    value.backward()
    assert value.isfinite() and embeddings.grad.isfinite().all()


@pytest.mark.parametrize("label", [-1, 5, 10**6])
def test_a_label_out_of_range_is_named_with_the_range(label: int) -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 5, 4)
    with pytest.raises(InputError, match=rf"from 0 to 4, found {label}"):
        loss(torch.ones(2, 4), torch.tensor([0, label]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_labels_of_another_dtype_are_refused(dtype: torch.dtype) -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 5, 4)
    with pytest.raises(InputError, match="int64"):
        loss(torch.ones(2, 4), torch.ones(2).to(dtype))


@pytest.mark.parametrize(("embeddings", "labels"), [((2, 3), (2,)), ((2, 4), (3,)), ((4,), (1,)), ((0, 4), (0,))])
def test_shapes_that_do_not_fit_are_refused(embeddings: tuple[int, ...], labels: tuple[int, ...]) -> None:
    loss = MarginSoftmaxLoss(build_head("arcface"), 5, 4)
    with pytest.raises(InputError, match="expected"):
        loss(torch.ones(embeddings), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize(("classes", "dim"), [(1, 4), (0, 4), (5, 1)])
def test_too_few_classes_or_dimensions_are_refused(classes: int, dim: int) -> None:
    with pytest.raises(InputError, match="at least 2"):
        MarginSoftmaxLoss(build_head("arcface"), classes, dim)
