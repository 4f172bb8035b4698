"""SphereFace2: where its bias starts."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from zoo.heads import MarginSoftmaxLoss, build_head


def test_sphereface2s_bias_starts_where_embeddings_at_right_angles_to_every_centre_give_it_no_gradient() -> None:
    loss = MarginSoftmaxLoss(build_head("sphereface2"), 7, 8, init="unit").double()
    loss.weight.data.copy_(torch.eye(7, 8))
    loss(torch.eye(8, dtype=torch.float64)[7:], torch.tensor([2])).backward()
    assert loss.head.bias.grad.abs() < 1e-5
    torch.nn.init.constant_(loss.head.bias, float(loss.head.bias.detach()) + 0.1)
    loss.head.bias.grad = None
    loss(torch.eye(8, dtype=torch.float64)[7:], torch.tensor([2])).backward()
    assert loss.head.bias.grad.abs() > 1e-3


def test_sphereface2_is_the_weighted_binary_cross_entropy_of_its_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(5, 6, generator=generator, dtype=torch.float64), torch.arange(5)
    loss = MarginSoftmaxLoss(build_head("sphereface2"), 9, 6, seed=0).double()
    cos = F.normalize(x) @ F.normalize(loss.weight.detach()).T
    own = F.one_hot(labels, 9).double()
    logits = 40 * (2 * ((cos + 1) / 2) ** 3 - 1 - 0.4 * (2 * own - 1)) - loss.head.bias.detach()
    weight = 50 / 40 * (0.7 * own + 0.3 * (1 - own))
    expected = F.binary_cross_entropy_with_logits(logits, own, weight=weight, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss(x, labels).detach(), expected)
