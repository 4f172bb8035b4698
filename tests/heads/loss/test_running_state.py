"""The running state moves with a finite batch, and only then; what ranks share is tested in test_sharded.py."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.heads import MarginSoftmaxLoss, build_head
from zoo.heads.loss.running_state import update_state


@pytest.mark.parametrize("sync", [False, True])
def test_one_process_updates_with_its_batch_and_keeps_its_state_where_that_is_not_finite(sync: bool) -> None:
    head = build_head("recurricularface")
    cos_y, norm = torch.tensor([0.2, 0.6]), torch.ones(2)
    assert update_state(head, cos_y, norm, torch.tensor(True), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004) and head.first_sample == 0
    assert not update_state(head, cos_y * math.nan, norm, torch.tensor(False), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_in_16_bits_keeps_its_running_state_in_32(dtype: torch.dtype) -> None:
    loss = MarginSoftmaxLoss("curricularface", 5, 8, seed=0).to(dtype)
    loss.head.t.fill_(0.5)
    x, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).to(dtype), torch.arange(6) % 5
    loss(x, labels).backward()
    moved = 0.99 * 0.5 + 0.01 * loss.mean_target_cosine.item()
    assert loss.weight.grad.dtype == dtype and loss.head.t.item() == pytest.approx(moved, abs=1e-6)
    assert abs(moved - torch.tensor(moved).bfloat16().item()) > 1e-6  # the twin: 16 bits cannot tell it
