"""Optimizer and learning-rate schedule of a run, from timm and torch."""

from __future__ import annotations

from typing import Any

import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from zoo.heads import RowwiseAdamW, RowwiseSGD
from zoo.train.config import TrainConfig


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over the backbone's parameters, weight decay on each of them.

    Both are the fused kind, whose step heeds `found_inf`: a scalar tensor on the device; where it is 1 the step
    changes nothing, and the host need not know. What the first step would make of its state is made here, so that a
    withheld first step leaves nothing uninitialised and a resumed run has somewhere to load to.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.optimizer == "adamw":
        adamw = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        for parameter in trainable:
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return adamw
    sgd = torch.optim.SGD(trainable, fused=True, **sgd_options(config))
    if config.momentum > 0:
        for parameter in trainable:  # zero momentum gives the first step that torch's absent momentum gives
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def build_centre_optimizer(config: TrainConfig, weight: nn.Parameter) -> RowwiseSGD | RowwiseAdamW:
    """The same step for the class centres, which moves only the rows that took part."""
    optimizer: RowwiseSGD | RowwiseAdamW
    if config.optimizer == "adamw":
        optimizer = RowwiseAdamW([weight], lr=config.lr, weight_decay=config.weight_decay)
    else:
        optimizer = RowwiseSGD([weight], **sgd_options(config))
    optimizer.state[weight].update(optimizer.first_state(weight.detach()))
    return optimizer


def sgd_options(config: TrainConfig) -> dict[str, Any]:
    """SGD's arguments, for the backbone and for the centres alike."""
    return {
        "lr": config.lr,
        "momentum": config.momentum,
        "nesterov": config.momentum > 0,
        "weight_decay": config.weight_decay,
    }


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
