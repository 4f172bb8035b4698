"""Builds the parts of a run from its options: the model, the class centres, optimizers, schedules and batches."""

import copy
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.poly_lr import PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.distributed.tensor import DTensor

from zoo.backbones import blueprint_of, create_backbone, load_timm
from zoo.data.augment import build_augmentation
from zoo.data.base import FaceDataset
from zoo.data.loader import TrainLoader
from zoo.data.rendered import RenderedFaces
from zoo.errors import InputError, unknown_name
from zoo.heads import MarginSoftmaxLoss, RowwiseAdamW, RowwiseSGD, build_head
from zoo.machine import commit, cores
from zoo.modelinfo import ModelInfo
from zoo.train import checkpoint, distributed
from zoo.train.config import TrainConfig
from zoo.train.finetune import add_low_rank, start_centres


@dataclass
class Training:
    model: nn.Module
    criterion: MarginSoftmaxLoss
    optimizer: torch.optim.Optimizer
    centre_optimizer: RowwiseSGD | RowwiseAdamW
    scaler: torch.amp.GradScaler
    average: ModelEmaV3 | None
    plain: nn.Module | None = None  #: Where `model` is sharded: the whole one, without memory but in the first process
    progress: dict[str, int] = field(default_factory=lambda: {"step": 0, "bad_steps": 0, "images": 0})
    """`step`: optimizer steps done; `bad_steps`: those among them whose update was withheld; `images`: in the set."""
    best: dict[str, Any] = field(default_factory=lambda: {"step": 0, "accuracy": 0.0, "auc": 0.0, "pairs": ""})
    """`step`, `accuracy` and `auc` of the best validation so far, and the `pairs` that it was on."""

    def state(self, whole: bool = True) -> checkpoint.State:
        """All that must survive a restart, as live tensors; without `whole`, only this process's shard of the centres.

        Order, augmentation and dropout are functions of (seed, epoch, sample) and (seed, step, rank): they need none.
        """
        criterion = self.criterion.distributed_state()
        centres = dict(self.centre_optimizer.state[self.criterion.weight])
        if self.criterion.ranks:
            classes = self.criterion.num_classes
            centres = {name: self.criterion.ranks.distributed(rows, classes) for name, rows in centres.items()}
        backbone = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if not whole:
            own: checkpoint.State = {"criterion": {"weight": criterion["weight"]}, "centre_optimizer": centres}
            return own if self.plain is None else {**own, **backbone}
        average = self.average.state_dict() if self.average else {}
        rest = {"scaler": self.scaler.state_dict(), "progress": dict(self.progress), "best": dict(self.best)}
        return {**backbone, "criterion": criterion, "centre_optimizer": centres, "average": average, **rest}

    def restore(self, folder: Path) -> list[str]:
        """Takes the state of the newest whole checkpoint in `folder`; returns a sentence on each damaged one.

        Tensors are filled in place, however many processes wrote them.
        """
        state = self.state()
        _, passed_over = checkpoint.load(state, folder)
        self.optimizer.load_state_dict(state["optimizer"])
        if fp16 := state["scaler"]:
            self.scaler.load_state_dict(fp16)
        self.progress.update(state["progress"])
        self.best.update(state["best"])
        return passed_over

    @property
    def trained(self) -> nn.Module:
        """The model to validate and save: the moving average of the weights, where there is one."""
        return self.average.module if self.average else self.model if self.plain is None else self.plain

    def collect(self) -> None:
        """Fills `plain` from the shards of all processes, in all of them at once; nothing where the model is whole."""
        sharded = self.model.state_dict()
        for name, whole in self.plain.state_dict().items() if self.plain is not None else ():
            whole.copy_(sharded[name].full_tensor() if isinstance(sharded[name], DTensor) else sharded[name])

    def is_best(self, scores: Mapping[str, float], pairs: str) -> bool:
        """Whether `scores` after this step, on the named `pairs`, beat all before: by AUC, then by accuracy.

        The accuracy over folds depends on the order of the pairs; the AUC does not.
        """
        before, step = self.best, self.progress["step"]
        found = {"step": step, "accuracy": scores.get("accuracy", 0.0), "auc": scores["auc"], "pairs": pairs}
        if before["pairs"] == pairs and (before["auc"], before["accuracy"]) >= (found["auc"], found["accuracy"]):
            return False
        before.update(found)
        return True


def build(config: TrainConfig, num_classes: int, device: torch.device, dataset: FaceDataset | None = None) -> Training:
    """Model, class centres, optimizers, scaler and moving average at the start of a run, on `device`.

    `dataset`: --init-centres compares it with that of the run of --init; `count_power` counts its images.
    """
    neck = None if config.neck == "auto" else config.neck
    shape = config.embedding_dim, neck, config.stem, config.input.size, config.dropout
    model = create_backbone(config.backbone, *shape, config.init == "timm", config.backbone_options)
    if config.init not in ("none", "timm"):
        start_from(model, config.init)
    if config.grad_checkpointing:
        try:
            model.set_grad_checkpointing()  # type: ignore[operator]
        except (AttributeError, AssertionError, NotImplementedError):
            raise InputError(f"expected a backbone that can recompute its blocks, found {config.backbone}") from None
    if config.low_rank:
        add_low_rank(model, config.low_rank)
    freeze(model, config.freeze)
    if config.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    number = torch.float64 if config.precision == "fp64" else torch.float32
    model = model.to(device, number)
    plain = None
    if config.fsdp and distributed.group():
        plain = copy.deepcopy(model) if dist.get_rank() == 0 else copy.deepcopy(model).to("meta")
        distributed.shard(model, device)
    elif config.channels_last and number == torch.float32:
        model = model.to(memory_format=torch.channels_last)
    criterion = build_centres(config, num_classes, dataset).to(device, number)
    if device.type == "cuda" and config.precision in ("bf16", "fp16") and criterion.precision == "auto":
        criterion.precision = "bf16"
    if config.init_centres and dataset is not None:
        start_centres(criterion, Path(config.init), dataset)
    optimizer = build_optimizer(config, model, criterion.head)
    centre_optimizer = build_centre_optimizer(config, criterion.weight)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    average = ModelEmaV3(model, decay=config.ema) if config.ema else None
    return Training(model, criterion, optimizer, centre_optimizer, scaler, average, plain)


def build_centres(config: TrainConfig, num_classes: int, dataset: FaceDataset | None) -> MarginSoftmaxLoss:
    head = build_head(config.head, **config.head_options)
    if config.margin_epochs:
        if "margin" not in head.options:
            raise InputError(f"expected a head with a margin for --margin-epochs, found {head.name}; leave it out")
        copy.deepcopy(head).configure(margin=head.no_margin)  # refused here rather than in the first step
    counts = None
    if dataset is not None and head.options.get("count_power"):
        counts = np.bincount(dataset.labels, minlength=num_classes).tolist()
    given: dict[str, Any] = {"class_counts": counts, "straight_through": config.straight_through, **config.centres}
    size, group = (num_classes, config.embedding_dim), distributed.group()
    return MarginSoftmaxLoss(head, *size, process_group=group, seed=config.seed, **given)


def start_from(model: nn.Module, source: str) -> None:
    """Gives `model` the weights of a run or pulled folder; InputError, naming what differs, where they do not fit."""
    given = load_timm(source).state_dict()
    wanted = model.state_dict()
    misfits = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    if misfits or given.keys() - wanted.keys():
        names = ", ".join([*misfits, *sorted(given.keys() - wanted.keys())][:3])
        found = f"found others in {source} ({names}, …); give the options of that run"
        raise InputError(f"expected --init weights of this backbone, stem, neck and embedding dimension, {found}")
    model.load_state_dict(given)


def freeze(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Leaves the parameters whose names begin so as they are; InputError for a prefix of none, or of all."""
    for prefix in prefixes:
        frozen = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        if not frozen:
            names = [name.split(".") for name, _ in model.named_parameters()]
            groups = {".".join(name[:levels]) for name in names for levels in (1, 2)}
            raise unknown_name("group of parameters", prefix, groups)
        for parameter in frozen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        found = f"found {', '.join(prefixes)}, all of them"
        raise InputError(f"expected --freeze to leave some parameters to train, {found}")


def choose_device(config: TrainConfig, local_rank: int = 0) -> torch.device:
    """The device of a run's process; InputError where a GPU was asked for and none is there."""
    name = config.device
    if name == "auto":
        name = f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"expected --device auto, cpu, cuda or cuda:N, found {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"expected a GPU for --device {name}, found none that torch can use; use --device cpu")
    if name == "cpu" and config.cuda_graphs:
        raise InputError("expected a GPU for --cuda-graphs, found the CPU; leave the option out")
    if name == "cpu" and config.precision == "fp16":
        raise InputError("expected --precision fp32 or bf16 on the CPU, found fp16, which needs a GPU; use bf16")
    return torch.device(name)


def open_loader(config: TrainConfig, dataset: FaceDataset, rank: distributed.Rank, device: torch.device) -> TrainLoader:
    """The batches of this process; InputError where the training set is smaller than one step."""
    if isinstance(dataset, RenderedFaces) and device.type == "cuda":
        dataset.render_all(device)
    augmentation = build_augmentation("none" if flips_on_device(config, device) else config.augment)
    images = distributed.share(config.batch_size, config.accumulate, rank.world)
    given: dict[str, Any] = {"pin_memory": device.type == "cuda", "on_corrupt": config.on_corrupt}
    given |= {"seed": config.seed, "workers": loader_workers(config, device)}
    loader = TrainLoader(dataset, augmentation, images, rank=rank.number, world=rank.world, **given)
    if len(loader) < config.accumulate:
        advice = "give a smaller --batch-size"
        raise InputError(f"expected at least one batch of {config.batch_size} images, found {len(dataset)}; {advice}")
    return loader


def flips_on_device(config: TrainConfig, device: torch.device) -> bool:
    """Whether the device mirrors the pictures of a batch (the same ones), and not the loader's processes."""
    return config.augment == "flip" and device.type == "cuda"


def loader_workers(config: TrainConfig, device: torch.device) -> int:
    """The number of loader processes: the option, else none beside a training on the CPU, and a few for a GPU."""
    here = cores(threads=False)
    if config.workers is not None:
        if config.workers > 8 * here:
            raise InputError(f"expected --workers of at most {8 * here} on {here} cores, found {config.workers}")
        return config.workers
    here //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, here - 1)) if device.type == "cuda" else 0


def info_of(config: TrainConfig, training: Training, dataset: FaceDataset) -> ModelInfo:
    built = config.backbone, blueprint_of(training.model).neck, config.stem
    trained = training.criterion.head.describe(), f"{dataset.name}: {dataset.describe()}"
    return ModelInfo(config.embedding_dim, config.input, *built, *trained, commit=commit())


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
        for one in trainable:
            moments = {name: torch.zeros_like(one) for name in ("exp_avg", "exp_avg_sq")}
            adamw.state[one] = {"step": torch.zeros((), dtype=torch.float32, device=one.device), **moments}
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
    rate = config.lr if config.centre_lr is None else config.centre_lr
    if config.optimizer == "adamw":
        optimizer = RowwiseAdamW([weight], lr=rate, weight_decay=config.weight_decay)
    else:
        optimizer = RowwiseSGD([weight], **{**sgd_options(config), "lr": rate})
    optimizer.state[weight].update(optimizer.first_state(weight.detach()))
    return optimizer


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
