"""On which devices the kernels run."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from zoo.heads import gpu


def test_kernels_run_on_a_gpu_that_multiplies_bfloat16_and_where_triton_is(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda")
    assert not gpu.runs_kernels(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not gpu.runs_kernels(card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert gpu.runs_kernels(card)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not gpu.runs_kernels(card)
