"""Optimizer and learning-rate schedule of a run, from timm and torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from zoo.train.config import TrainConfig


def build_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over all parameters, weight decay on each of them.

    Both are the fused kind, whose step heeds `found_inf`: a scalar tensor on the device; where it is 1 the step
    changes nothing, and the host need not know.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if config.optimizer == "adamw":
        adamw = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        for parameter in trainable:  # what its first step would make, so that a resumed run has somewhere to load to
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return adamw
    optimizer = torch.optim.SGD(
        trainable,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if config.momentum > 0:
        # Zero momentum gives the first step that torch's absent momentum gives. Its lazily made buffer would be
        # left uninitialised if that step were withheld.
        for parameter in trainable:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Scheduler:
    """The schedule by optimizer steps; `step_update(step)` sets the rate of step `step`, counted from 0.

    A pure function of the step, so a resumed run needs no state of it.
    """
    warmup: dict[str, Any] = {
        "warmup_t": round(config.warmup_epochs * steps_per_epoch),
        "warmup_lr_init": config.lr / 100,
        "warmup_prefix": False,
        "t_in_epochs": False,
    }
    if config.schedule == "cosine":
        return CosineLRScheduler(optimizer, t_initial=config.epochs * steps_per_epoch, lr_min=0.0, **warmup)
    # timm applies a milestone m at t = m − 1; the paper's "at epoch 20" is that epoch's first step
    falls = [epoch * steps_per_epoch + 1 for epoch in config.decay_epochs()] if config.schedule == "multistep" else []
    return MultiStepLRScheduler(optimizer, decay_t=falls, decay_rate=config.decay, **warmup)
