"""Optimizers and the learning rate over a run."""

from __future__ import annotations

import pytest
import torch

from zoo.train.build import build_optimizer, build_schedule, sgd_options
from zoo.train.config import build


def test_the_learning_rate_falls_at_the_papers_epochs() -> None:
    config = build({"epochs": 34, "lr": 0.1})
    optimizer = build_optimizer(config, torch.nn.Linear(3, 5))
    schedule = build_schedule(config, optimizer, steps_per_epoch=11)
    rates = []
    for step in range(34 * 11):
        schedule(step)
        rates.append(round(optimizer.param_groups[0]["lr"], 9))
    expected = [0.1 * 0.1 ** sum(epoch >= fall for fall in (20, 28, 32)) for epoch in range(34)]
    assert rates == [round(rate, 9) for rate in expected for _ in range(11)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_is_torchs_own_and_a_withheld_one_changes_nothing(optimizer: str, momentum: float) -> None:
    config = build({"optimizer": optimizer, "lr": 0.01, "momentum": momentum, "weight_decay": 0.1})
    torch.manual_seed(0)
    mine, theirs = torch.nn.Linear(3, 5), torch.nn.Linear(3, 5)
    theirs.load_state_dict(mine.state_dict())
    made = build_optimizer(config, mine)
    if optimizer == "adamw":
        plain: torch.optim.Optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    else:
        plain = torch.optim.SGD(theirs.parameters(), **sgd_options(config))
    for step in range(4):
        x = torch.randn(7, 3, generator=torch.Generator().manual_seed(step))
        for model in (mine, theirs):
            model.zero_grad()
            model(x).square().sum().backward()
        made.found_inf = torch.tensor(1.0)
        before = [parameter.clone() for parameter in mine.parameters()]
        made.step()
        assert all(torch.equal(parameter, old) for parameter, old in zip(mine.parameters(), before, strict=True))
        made.found_inf = torch.tensor(0.0)
        made.step()
        plain.step()
        for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-7)


def test_the_rate_is_a_function_of_the_step_alone_and_warms_up() -> None:
    config = build({"epochs": 4, "lr": 0.1, "schedule": "cosine", "warmup_epochs": 1})
    optimizer = build_optimizer(config, torch.nn.Linear(3, 5))
    schedule = build_schedule(config, optimizer, steps_per_epoch=10)

    def rate(step: int) -> float:
        schedule(step)
        return float(optimizer.param_groups[0]["lr"])

    rates = [rate(step) for step in range(40)]
    assert rates[0] == pytest.approx(0.001) and rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.01
    assert [rate(step) for step in reversed(range(40))] == rates[::-1]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_polynomial_is_arcface_torchs_schedule(power: float) -> None:
    options = {"epochs": 5, "lr": 0.2, "schedule": "polynomial", "warmup_epochs": 2, "power": power}
    config = build(options)
    optimizer = build_optimizer(config, torch.nn.Linear(3, 5))
    schedule = build_schedule(config, optimizer, steps_per_epoch=7)
    for step in range(35):
        schedule(step)
        part = (step - 14) / (35 - 14)
        expected = 0.2 * (1 - part) ** power if step >= 14 else 0.002 + (0.2 - 0.002) * step / 14
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected), step
