"""The kernels of the row-wise optimizers do what their steps in plain torch do."""

from __future__ import annotations

import pytest
import torch

from tests.support.heads import OPTIMIZERS

pytest.importorskip("triton")
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # where masked
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("shape", [(9, 5), (6, 3, 2)])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_kernels_take_the_same_steps(
    optimizer: str, shape: tuple[int, ...], sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone().to(DEVICE)) for _ in range(2))
    steps = [OPTIMIZERS[optimizer]([parameter]) for parameter in (ours, theirs)]
    for number, finite in enumerate([None, True, False, True]):
        rows = torch.randperm(len(start), generator=generator)[:4].sort().values if sparse else torch.arange(len(start))
        values = torch.randn(len(rows), *shape[1:], generator=generator)
        given = None if finite is None else torch.tensor(finite, device=DEVICE)
        before = ours.detach().clone()
        for parameter, step, kernels in zip((ours, theirs), steps, (True, False), strict=True):
            gradient = torch.sparse_coo_tensor(rows[None], values, shape, is_coalesced=True, check_invariants=False)
            parameter.grad = (gradient if sparse else gradient.to_dense()).to(DEVICE)
            monkeypatch.setattr("zoo.heads.optim.runs_kernels", lambda device, on=kernels: on)
            step.step(finite=given)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert torch.equal(ours, before) == (finite is False), number
        for name, buffer in steps[1].state[theirs].items():
            torch.testing.assert_close(steps[0].state[ours][name], buffer, rtol=1e-5, atol=1e-6)
