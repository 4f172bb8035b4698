"""Optimizer and learning-rate schedule of a run, from timm and torch."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.poly_lr import PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from zoo.heads import RowwiseAdamW, RowwiseSGD
from zoo.train.config import TrainConfig


def build_optimizer(config: TrainConfig, model: nn.Module, head: nn.Module | None = None) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over the backbone's parameters, with weight decay on each of them.

    The head's own parameters, such as UniFace's b, are trained at the same rate without weight decay.

    Both are fused: where the scalar tensor `found_inf` is 1, a step changes nothing, and the host does not wait. The
    state that the first step would create is created here, for a first step that is withheld and for a resumed run.
    """
    learned = list(head.parameters()) if head else []
    trainable = [parameter for parameter in [*model.parameters(), *learned] if parameter.requires_grad]
    groups = parameter_groups(config, model)
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0})
    if config.optimizer == "adamw":
        adamw = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        for parameter in trainable:
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            step = torch.zeros((), dtype=torch.float32, device=parameter.device)
            adamw.state[parameter] = {"step": step, **moments}
        return adamw
    sgd = torch.optim.SGD(groups, fused=True, **sgd_options(config))
    if config.momentum > 0:
        for parameter in trainable:  # from zero the first step is the same as from torch's missing buffer
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def parameter_groups(config: TrainConfig, model: nn.Module) -> list[dict[str, Any]]:
    """The trainable parameters, in a group for each learning rate and weight decay.

    With a layer decay d, a layer n below the neck learns at d^n of the rate, as timm's group_matcher counts layers.
    """
    if config.layer_decay == 1 and config.decay_norms:
        return [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]
    groups: list[dict[str, Any]] = param_groups_weight_decay(model, config.weight_decay)
    if config.layer_decay != 1:
        options: dict[str, Any] = {"layer_decay": config.layer_decay, "weight_decay_exclude_1d": not config.decay_norms}
        groups = param_groups_layer_decay(model, config.weight_decay, **options)
    return [group for group in groups if group["params"]]


def build_centre_optimizer(config: TrainConfig, weight: nn.Parameter) -> RowwiseSGD | RowwiseAdamW:
    """The same step for the class centres, which moves only the rows that took part."""
    optimizer: RowwiseSGD | RowwiseAdamW
    if config.optimizer == "adamw":
        optimizer = RowwiseAdamW([weight], lr=centre_lr(config), weight_decay=config.weight_decay)
    else:
        optimizer = RowwiseSGD([weight], **{**sgd_options(config), "lr": centre_lr(config)})
    optimizer.state[weight].update(optimizer.first_state(weight.detach()))
    return optimizer


def centre_lr(config: TrainConfig) -> float:
    """The peak learning rate of the class centres."""
    return config.lr if config.centre_lr is None else config.centre_lr


def sgd_options(config: TrainConfig) -> dict[str, Any]:
    """SGD's arguments, for the backbone and for the centres alike."""
    momentum, decay = config.momentum, config.weight_decay
    return {"lr": config.lr, "momentum": momentum, "nesterov": momentum > 0, "weight_decay": decay}


def head_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """The steps at the start in which the class centres learn alone."""
    return round(config.head_epochs * steps_per_epoch)


def build_schedule(
    config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int, centres: bool = False
) -> Callable[[int], None]:
    """Sets the learning rate, a function of the step, counted from 0, so that a resumed run needs no state of it.

    The steps of `head_epochs`, in which the `centres` learn at their peak and the backbone does not learn, come before
    the warm-up, which is then the backbone's alone.
    """
    start = head_steps(config, steps_per_epoch)
    warmup: dict[str, Any] = {"warmup_prefix": False, "t_in_epochs": False}
    warmup["warmup_t"] = 0 if centres and start else round(config.warmup_epochs * steps_per_epoch)
    warmup["warmup_lr_init"] = optimizer.defaults["lr"] / 100
    scheduler: Scheduler
    steps = config.epochs * steps_per_epoch - start
    if config.schedule == "cosine":
        scheduler = CosineLRScheduler(optimizer, t_initial=steps, lr_min=0.0, **warmup)
    elif config.schedule == "polynomial":  # its part done is counted from the warm-up's end, as arcface_torch does
        steps, warmup["warmup_prefix"] = steps - warmup["warmup_t"], True
        scheduler = PolyLRScheduler(optimizer, t_initial=steps, power=config.power, lr_min=0.0, **warmup)
    else:  # timm applies a milestone m at t = m − 1; the paper's "at epoch 20" is that epoch's first step
        falls = [max(epoch * steps_per_epoch + 1 - start, 0) for epoch in config.decay_epochs()]
        falls = falls if config.schedule == "multistep" else []
        scheduler = MultiStepLRScheduler(optimizer, decay_t=falls, decay_rate=config.decay, **warmup)
    return lambda step: scheduler.step_update(max(step - start, 0))
