"""A captured step gives what the same step gives without a graph, and is not taken where it would not."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.heads import HEADS, MarginSoftmaxLoss
from zoo.heads.loss import captured

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CLASSES, DIM, BATCH = 70, 8, 6


class Pretended(captured.Graphs):
    """As replayed graphs: everything lies in memory that the next pass overwrites."""

    def __init__(self, loss: Any, embeddings: Tensor, labels: Tensor, precision: str) -> None:
        self.inputs = embeddings.detach().clone().requires_grad_(embeddings.requires_grad), labels.clone()
        self.wanted = [one for one in (self.inputs[0], *loss.parameters()) if one.requires_grad]
        self.gradients = [torch.empty_like(one) for one in self.wanted]
        self.value = torch.zeros(())
        self.loss, self.precision = loss, precision
        torch.autograd.grad(self.step(), self.wanted)  # moves the running state, as the real ones' first steps do
        self.left = captured.left_behind(loss)

    def step(self) -> Tensor:
        result: Tensor = self.loss.uncaptured(*self.inputs, None, self.precision)
        return result

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        for static, given in zip(self.inputs, (embeddings, labels), strict=True):
            static.data.copy_(given)
        before = captured.left_behind(self.loss)
        with torch.enable_grad():
            self.output = self.step()
        (found, _), (static, _) = captured.left_behind(self.loss), self.left
        for name in ("finite", "mean_target_cosine"):
            static[name].copy_(found[name])
        for name, value in found["_last"].items():
            static["_last"][name].copy_(value)
        attributes, self.loss._watch.seen = before  # a replay runs no Python
        vars(self.loss).update(attributes)
        self.value.copy_(self.output.detach())
        return self.value

    def backward(self, gradient: Tensor) -> list[Tensor]:
        for place, one in enumerate(torch.autograd.grad(self.output, self.wanted, gradient)):
            if one.is_sparse:
                self.gradients[place] = one
            else:
                self.gradients[place].copy_(one)
        return self.gradients


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, pretended ones around what runs on a CPU."""
    if not CUDA:
        monkeypatch.setattr(captured, "runs_kernels", lambda device: True)
        monkeypatch.setattr(captured, "CARD", "cpu")
        monkeypatch.setattr(captured, "Graphs", Pretended)


def losses(head: str, **options: Any) -> list[MarginSoftmaxLoss]:
    """One that captures and one that does not."""
    given = {"seed": 5, "chunk_size": 32, "precision": "fp32", **options}
    return [MarginSoftmaxLoss(head, CLASSES, DIM, cuda_graph=on, **given).to(DEVICE) for on in (True, False)]


def batch(seed: int, size: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    return (20 * torch.randn(size, DIM, generator=generator)).to(DEVICE).requires_grad_(), labels.to(DEVICE)


def step(loss: MarginSoftmaxLoss, seed: int, size: int = BATCH) -> list[Tensor]:
    """The loss, what it logs, and every gradient."""
    loss.zero_grad()
    x, labels = batch(seed, size)
    value = loss(x, labels)
    value.backward()
    found = [value, x.grad, *(p.grad for p in loss.parameters()), *loss.stats().values(), *loss.buffers(), loss.finite]
    return [one.detach().to_dense().clone() for one in found if one is not None]


def replays(loss: MarginSoftmaxLoss) -> bool:
    return loss._captured.graphs is not None


def warm(*given: MarginSoftmaxLoss) -> None:
    for seed in range(captured.REPEATS + 1):
        for loss in given:
            step(loss, seed)


@pytest.mark.parametrize("sample_rate", [1.0, 0.6])
@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_s_steps_are_equal_with_and_without_a_graph(name: str, sample_rate: float) -> None:
    quick, plain = losses(name, sample_rate=sample_rate)
    for seed in range(captured.REPEATS + 4):
        for found, expected in zip(step(quick, seed), step(plain, seed), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert replays(quick) == (seed >= captured.REPEATS) and not replays(plain)


def test_a_step_of_another_kind_runs_without_the_graph_and_leaves_it() -> None:
    quick, plain = losses("recurricularface")
    warm(quick, plain)
    graphs = quick._captured.graphs
    for number, size in enumerate((BATCH - 1, BATCH, BATCH - 2, BATCH)):
        for found, expected in zip(step(quick, number, size), step(plain, number, size), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert quick._captured.graphs is graphs


def test_a_bad_step_is_seen_whichever_way_it_and_the_one_before_ran() -> None:
    quick, _ = losses("curricularface")
    warm(quick)
    for size, bad in ((BATCH - 1, False), (BATCH, True), (BATCH - 1, False), (BATCH, False), (BATCH - 1, True)):
        quick.zero_grad()
        x, labels = batch(size, size)
        t = quick.head.t.clone()
        quick(x.detach() * math.nan if bad else x, labels).backward()
        assert bool(quick.finite) != bad and torch.equal(quick.head.t, t) == bad


@pytest.mark.parametrize("change", ["margin", "filter_above", "head"])
def test_a_changed_option_counts_from_the_next_step_on(change: str) -> None:
    quick, plain = losses("cosface")
    warm(quick, plain)
    for loss in (quick, plain):
        if change == "margin":
            loss.head.margin = 0.2
        elif change == "head":
            loss.head = "arcface"
        else:
            loss.filter_above = 0.1
    for seed in range(6):
        for found, expected in zip(step(quick, seed), step(plain, seed), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert replays(quick)


def test_gradients_that_are_added_up_and_losses_before_a_common_backward_pass() -> None:
    quick, plain = losses("arcface")
    warm(quick, plain)
    sums = []
    for loss in (quick, plain):
        loss.zero_grad()
        loss(*batch(1)).backward()
        loss(*batch(2)).backward()  # added to the first
        added = loss.weight.grad.clone()
        loss.zero_grad()
        values = [loss(*batch(seed)) for seed in (3, 4)]
        sum(values).backward()
        sums.append([added, loss.weight.grad.clone(), *values])
    for found, expected in zip(*sums, strict=True):
        torch.testing.assert_close(found, expected)
    quick.zero_grad()
    kept = quick(*batch(5))
    worth = kept.item()
    del kept  # a loss that nobody takes back does not hold the graph
    assert step(quick, 5)[0].item() == pytest.approx(worth, rel=1e-5) and quick._captured.pending() is None


def test_a_second_backward_pass_of_a_replay_is_refused() -> None:
    quick, _ = losses("arcface")
    warm(quick)
    quick.zero_grad()
    value = quick(*batch(0))
    value.backward(retain_graph=True)
    with pytest.raises(InputError, match=r"expected one backward pass per forward.*cuda_graph=False"):
        value.backward()


def test_a_copy_captures_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, _ = losses("arcface")
    warm(quick)
    assert replays(quick)
    quick.zero_grad()
    for copied in (copy.deepcopy(quick), pickle.loads(pickle.dumps(quick))):
        assert not replays(copied) and torch.equal(copied.weight, quick.weight)


@pytest.mark.parametrize(
    "options",
    [{"chunk_size": None}, {"ignore_index": -1}, {"label_smoothing": 0.1}, {"head": "circle", "deterministic": True}],
)
def test_steps_that_cannot_be_captured_are_not(options: dict[str, Any]) -> None:
    given = dict(options)
    deterministic = given.pop("deterministic", False)
    quick, _ = losses(given.pop("head", "arcface"), **given)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        warm(quick)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not replays(quick)


def test_a_capture_that_fails_is_told_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(captured, "Graphs", fails)
    quick, plain = losses("curricularface")
    for seed in range(6):
        for found, expected in zip(step(quick, seed), step(plain, seed), strict=True):
            torch.testing.assert_close(found, expected)
    assert caplog.messages == ["the class centres' step runs without a CUDA graph: CUDA error: out of memory"]
