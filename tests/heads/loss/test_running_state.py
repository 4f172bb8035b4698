"""The running state moves with a finite batch, and only then; what ranks share is tested in test_sharded.py."""

from __future__ import annotations

import math

import pytest
import torch

from zoo.heads import build_head
from zoo.heads.loss.running_state import update_state


@pytest.mark.parametrize("sync", [False, True])
def test_one_process_updates_with_its_batch_and_keeps_its_state_where_that_is_not_finite(sync: bool) -> None:
    head = build_head("recurricularface")
    cos_y, norm = torch.tensor([0.2, 0.6]), torch.ones(2)
    assert update_state(head, cos_y, norm, torch.tensor(True), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004) and head.first_sample == 0
    assert not update_state(head, cos_y * math.nan, norm, torch.tensor(False), is_global=False, sync=sync)
    assert head.t.item() == pytest.approx(0.004)
