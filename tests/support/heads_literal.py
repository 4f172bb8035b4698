"""The papers' equations for one sample at a time in Python's own math: what the heads are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.heads import MarginHead, MarginSoftmaxLoss

HALF_RADIAN = 0.5


@dataclass
class Batch:
    """What a head may look at: the target angles and norms of the whole batch, for its running state."""

    thetas_y: list[float]
    norms: list[float]


Equation = Callable[[Batch, int, list[float]], tuple[float, list[float]]]
"""(batch, sample, angles to the other centres) → (T, N of each); defaults of the head, first training forward."""


def arc_target(theta: float, margin: float) -> float:
    if theta > math.pi - margin:
        return math.cos(theta) - margin * math.sin(margin)
    return math.cos(theta + margin)


def curriculum(batch: Batch) -> float:
    return 0.99 * 0.0 + 0.01 * sum(map(math.cos, batch.thetas_y)) / len(batch.thetas_y)


def softmax(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    return math.cos(batch.thetas_y[i]), [math.cos(theta) for theta in others]


def cosface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    return math.cos(batch.thetas_y[i]) - 0.35, [math.cos(theta) for theta in others]


def arcface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    return arc_target(batch.thetas_y[i], HALF_RADIAN), [math.cos(theta) for theta in others]


def curricularface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    theta, t = batch.thetas_y[i], curriculum(batch)
    negatives = []
    for cos in map(math.cos, others):
        negatives.append(cos * (t + cos) if cos > math.cos(theta + HALF_RADIAN) else cos)
    return arc_target(theta, HALF_RADIAN), negatives


def recurricularface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    theta, t = batch.thetas_y[i], min(max(curriculum(batch), 0.0), 1.0)
    negatives = []
    for cos in map(math.cos, others):
        negatives.append(cos * (1.1 * cos + 0.4 * t) if cos > math.cos(theta + HALF_RADIAN) else cos)
    return arc_target(theta, HALF_RADIAN), negatives


def sphereface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    stretched = 1.5 * batch.thetas_y[i]
    k = 0 if stretched <= math.pi else 1
    return (-1) ** k * math.cos(stretched) - 2 * k, [math.cos(theta) for theta in others]


def combined(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    return math.cos(1.0 * batch.thetas_y[i] + 0.3) - 0.2, [math.cos(theta) for theta in others]


def mv_am(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    cos_y = math.cos(batch.thetas_y[i])
    negatives = [1.2 * c + 0.2 if c > cos_y - 0.35 else c for c in map(math.cos, others)]
    return cos_y - 0.35 if cos_y > 0 else cos_y, negatives


def mv_arc(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    theta = batch.thetas_y[i]
    negatives = [1.2 * c + 0.2 if c > math.cos(theta + 0.35) else c for c in map(math.cos, others)]
    return math.cos(theta + 0.35) if math.cos(theta) > 0 else math.cos(theta), negatives


def adaface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    norms = [min(max(norm, 0.001), 100) for norm in batch.norms]
    mean = sum(norms) / len(norms)
    std = math.sqrt(sum((norm - mean) ** 2 for norm in norms) / (len(norms) - 1))
    mu, sigma = 0.99 * 20 + 0.01 * mean, 0.99 * 100 + 0.01 * std
    z = min(max(0.333 * (norms[i] - mu) / (sigma + 1e-3), -1), 1)
    shifted = min(max(batch.thetas_y[i] - 0.4 * z, 1e-3), math.pi - 1e-3)
    return math.cos(shifted) - (0.4 + 0.4 * z), [math.cos(theta) for theta in others]


def magface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    a = min(max(batch.norms[i], 10), 110)
    margin = (0.8 - 0.45) / (110 - 10) * (a - 10) + 0.45
    return arc_target(batch.thetas_y[i], margin), [math.cos(theta) for theta in others]


def circle(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    cos_y = math.cos(batch.thetas_y[i])
    negatives = [max(c + 0.25, 0) * (c - 0.25) for c in map(math.cos, others)]
    return max(1.25 - cos_y, 0) * (cos_y - 0.75), negatives


def uniface(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    return math.cos(batch.thetas_y[i]) - 0.4, [math.cos(theta) for theta in others]


def sphereface2(batch: Batch, i: int, others: list[float]) -> tuple[float, list[float]]:
    def g(theta: float) -> float:
        return 2 * ((math.cos(theta) + 1) / 2) ** 3 - 1

    return g(batch.thetas_y[i]) - 0.4, [g(theta) + 0.4 for theta in others]


def magface_penalty(norms: list[float]) -> float:
    clamped = [min(max(norm, 10), 110) for norm in norms]
    return 35 * sum(a / 110**2 + 1 / a for a in clamped) / len(clamped)


LITERAL: dict[str, Equation] = {
    "softmax": softmax,
    "sphereface": sphereface,
    "cosface": cosface,
    "arcface": arcface,
    "combined": combined,
    "mv-am": mv_am,
    "mv-arc": mv_arc,
    "curricularface": curricularface,
    "recurricularface": recurricularface,
    "adaface": adaface,
    "magface": magface,
    "circle": circle,
    "uniface": uniface,
    "sphereface2": sphereface2,
}
"""Every head but elasticface's two, whose margins are random: they are arcface and cosface where σ is 0."""

PENALTY: dict[str, Callable[[list[float]], float]] = {"magface": magface_penalty}


def sphereface2_bias(classes: int) -> float:
    """Where the derivative of the loss vanishes with every cosine 0, by bisection; the sign is ours."""
    target, negative = 40 * (2 * 0.125 - 1 - 0.4), 40 * (2 * 0.125 - 1 + 0.4)

    def slope(b: float) -> float:
        pull = 0.7 / (1 + math.exp(target - b))
        return pull - 0.3 * (classes - 1) / (1 + math.exp(b - negative))

    low, high = -200.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return middle


BINARY = {"uniface": (1.0, 1.0), "sphereface2": (50 / 40 * 0.7, 50 / 40 * 0.3)}
"""(w⁺, w⁻) of the heads of the binary form."""

Loss = Callable[[float, list[float]], float]
"""The loss of a sample from T and the N of the other classes."""


def loss_of(head: MarginHead) -> Loss:
    """Equation (1), or the binary form of the heads that have it, with the head's own b."""
    if head.name in BINARY:
        own, other = BINARY[head.name]
        return lambda target, negatives: binary(
            head.scale, float(torch.as_tensor(head.bias).detach()), own, other, target, negatives
        )
    return lambda target, negatives: equation_one(head.scale, target, negatives)


def binary(scale: float, bias: float, own: float, other: float, target: float, negatives: list[float]) -> float:
    """w⁺·log(1 + e^{b − s·T}) + w⁻·Σ log(1 + e^{s·N − b})."""
    return own * math.log1p(math.exp(bias - scale * target)) + other * sum(
        math.log1p(math.exp(scale * n - bias)) for n in negatives
    )


def angles(weight: Tensor, embeddings: Tensor) -> list[list[float]]:
    """θ of every sample to every centre, in radians, in fp64."""
    table = []
    for x in embeddings.double().tolist():
        row = []
        for w in weight.double().tolist():
            dot = sum(a * b for a, b in zip(x, w, strict=True))
            row.append(math.acos(max(-1.0, min(1.0, dot / (math.hypot(*x) * math.hypot(*w))))))
        table.append(row)
    return table


def equation_one(scale: float, target: float, negatives: list[float]) -> float:
    """−log e^{s·T} / (e^{s·T} + Σ e^{s·N}), with the largest exponent taken out of both."""
    top = max(target, *negatives)
    own = math.exp(scale * (target - top))
    return -(scale * (target - top) - math.log(own + sum(math.exp(scale * (n - top)) for n in negatives)))


def literal_losses(equation: Equation, loss: Loss, weight: Tensor, embeddings: Tensor, labels: Tensor) -> list[float]:
    """The loss of each sample by a loop over samples and classes."""
    table = angles(weight, embeddings)
    batch = Batch(
        [row[y] for row, y in zip(table, labels.tolist(), strict=True)],
        [math.hypot(*x) for x in embeddings.double().tolist()],
    )
    losses = []
    for i, (row, y) in enumerate(zip(table, labels.tolist(), strict=True)):
        target, negatives = equation(batch, i, [theta for j, theta in enumerate(row) if j != y])
        losses.append(loss(target, negatives))
    return losses


def literal_loss_of_head(loss: MarginSoftmaxLoss, head: MarginHead, embeddings: Tensor, labels: Tensor) -> float:
    """Equation (1) with the head's own T, B and N, one pair of sample and class at a time; no state moves."""
    table = angles(loss.weight.detach(), embeddings)
    loss_of_sample = loss_of(head)
    total = 0.0
    for i, (row, y) in enumerate(zip(table, labels.tolist(), strict=True)):
        norm = embeddings[i].double().norm().reshape(1)
        cos_y = torch.tensor([math.cos(row[y])], dtype=torch.float64)
        target, boundary = head.target(cos_y, norm), head.boundary(cos_y, norm)
        negatives = [
            head.negative(torch.tensor([[math.cos(theta)]], dtype=torch.float64), boundary[:, None]).item()
            for j, theta in enumerate(row)
            if j != y
        ]
        total += loss_of_sample(target.item(), negatives)
    return total / len(table)
