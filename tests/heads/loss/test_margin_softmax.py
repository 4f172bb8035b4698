"""The loss over class centres: accuracy where fp32 is short, what it reports, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.heads import data, loss_with
from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss, build_head


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


def options_of(reduction: str, ignored: bool, weighted: bool) -> tuple[dict[str, object], Tensor | None]:
    weight = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0, 1.0, 0.25], dtype=torch.float64) if weighted else None
    return {"reduction": reduction, "ignore_index": -100 if ignored else None}, weight


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_reduction_weights_ignored_labels_and_smoothing_are_those_of_torchs_cross_entropy(
    chunk_size: int | None, smoothing: float, reduction: str, ignored: bool, weighted: bool
) -> None:
    embeddings, labels, centres = data()
    options, weight = options_of(reduction, ignored, weighted)
    loss = loss_with(build_head("arcface"), centres, chunk_size=chunk_size, label_smoothing=smoothing, **options)
    kept = torch.tensor([True, False, True, True, False, True, True]) if ignored else torch.ones(7, dtype=torch.bool)
    one = F.cross_entropy(
        loss.logits(embeddings[kept], labels[kept]), labels[kept], reduction="none", label_smoothing=smoothing
    ).detach()
    w = torch.ones(7, dtype=torch.float64) if weight is None else weight
    expected = torch.zeros(7, dtype=torch.float64)
    expected[kept] = one * w[kept]
    if reduction != "none":
        expected = expected.sum() / (w[kept].sum() if reduction == "mean" else 1)
    x = embeddings.requires_grad_()
    value = loss(x, labels.masked_fill(~kept, -100), weight)
    torch.testing.assert_close(value.detach(), expected)
    value.sum().backward()
    assert (x.grad[~kept] == 0).all() and (x.grad[kept].abs().sum(1) > 0).sum() == int((w[kept] > 0).sum())


@pytest.mark.parametrize("name", list(HEADS))
def test_the_losses_of_samples_average_to_the_mean_whatever_the_head(name: str) -> None:
    embeddings, labels, centres = data()
    mean = loss_with(build_head(name), centres, chunk_size=4)(embeddings, labels)
    each = loss_with(build_head(name), centres, chunk_size=4, reduction="none")(embeddings, labels)
    total = loss_with(build_head(name), centres, reduction="sum")(embeddings, labels)
    assert each.shape == (7,)
    torch.testing.assert_close(each.mean(), mean)
    torch.testing.assert_close(total, 7 * mean)


@pytest.mark.parametrize("name", list(HEADS))
def test_ignored_samples_do_not_move_the_running_state(name: str) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name), centres, ignore_index=-100, reduction="none")
    few = loss_with(build_head(name), centres)
    value = few(embeddings[:4], labels[:4])
    embeddings[4:] = math.inf
    found = loss(embeddings, torch.where(torch.arange(7) < 4, labels, -100))
    torch.testing.assert_close(found[:4].mean(), value)
    assert (found[4:] == 0).all() and bool(loss.finite)
    before = {key: b.clone() for key, b in loss.state_dict().items()}
    nothing = loss_with(build_head(name), centres, ignore_index=-100)
    assert nothing(data()[0], torch.full_like(labels, -100)).item() == 0
    assert loss(data()[0], torch.full_like(labels, -100)).tolist() == [0] * 7
    for key, b in loss.state_dict().items():
        assert torch.equal(b, before[key]) and torch.equal(few.state_dict()[key], before[key])


@pytest.mark.parametrize("name", list(HEADS))
def test_the_dense_look_is_the_matrix_that_the_loss_is_made_of(name: str) -> None:
    embeddings, labels, centres = data()
    loss = loss_with(build_head(name), centres, sub_centres=1).eval()
    head, norm = loss.head, embeddings.norm(dim=1)
    cos = F.normalize(embeddings) @ F.normalize(centres).T
    torch.testing.assert_close(loss.logits(embeddings).detach(), (head.scale * cos - head.bias).detach())
    logits = loss.logits(embeddings, labels).detach()
    if head.form == "softmax":
        expected = F.cross_entropy(logits, labels)
    else:
        own = F.one_hot(labels, len(centres)).bool()
        each = torch.where(own, head.positive_weight * F.softplus(-logits), head.negative_weight * F.softplus(logits))
        expected = each.sum(1).mean()
    torch.testing.assert_close(loss(embeddings, labels).detach(), expected + head.penalty(norm).mean())


def test_a_head_may_be_named_and_exchanged_and_the_centres_stay() -> None:
    embeddings, labels, centres = data()
    loss = loss_with("softmax", centres).eval()
    loss.head = "arcface"
    expected = loss_with(build_head("arcface"), centres)(embeddings, labels)
    torch.testing.assert_close(loss(embeddings, labels), expected)
    assert not loss.head.training and next(iter(loss.children())) is loss.head
    loss.head = build_head("recurricularface", constants="derived")
    assert loss.head.a != 1.1 and loss.head.t.dtype == torch.float64 and torch.equal(loss.weight, centres)
    for wrong in (3, "arcfase", torch.nn.Linear(2, 2)):
        with pytest.raises(InputError, match="head"):
            loss.head = wrong
    assert loss.head.name == "recurricularface"


@pytest.mark.parametrize("name", ["arcface", "cosface"])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_rare_classes_get_a_wider_margin_where_the_head_sees_their_counts(name: str, chunk_size: int | None) -> None:
    embeddings, labels, centres = data()
    counts = torch.arange(11) ** 2 + 3
    options = {"class_counts": counts, "chunk_size": chunk_size, "reduction": "none"}
    loss = loss_with(build_head(name, count_power=0.25), centres, **options)
    found = loss(embeddings, labels)
    for i, label in enumerate(labels.tolist()):
        margin = loss.head.margin * (3 / int(counts[label])) ** 0.25
        plain = loss_with(build_head(name, margin=margin), centres)
        torch.testing.assert_close(found[i], plain(embeddings[i : i + 1], labels[i : i + 1]), rtol=1e-6, atol=0)
    torch.testing.assert_close(F.cross_entropy(loss.logits(embeddings, labels), labels, reduction="none"), found)
    with pytest.raises(InputError, match="class_counts for count_power"):
        MarginSoftmaxLoss(build_head(name, count_power=0.25), 5, 4)
    plain = loss_with(build_head(name), centres)
    with pytest.raises(InputError, match="class_counts for count_power"):
        plain.head.count_power = 0.25
