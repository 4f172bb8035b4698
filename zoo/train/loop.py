"""The training loop: `train` from top to bottom is one run. What survives a restart is in `Training.state`."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from zoo.backbones import create_backbone, load_timm, save_timm
from zoo.data.augment import build_augmentation
from zoo.data.base import FaceDataset
from zoo.data.loader import TrainLoader
from zoo.data.open import open_dataset
from zoo.errors import InputError, unknown_name
from zoo.evaluate.embedder import embed
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.heads import MarginSoftmaxLoss, build_head
from zoo.spec import InputSpec, ModelInfo
from zoo.train import checkpoint, distributed
from zoo.train.config import TrainConfig
from zoo.train.embedder import TorchEmbedder, normalise
from zoo.train.log import MetricsFile, Watch, facts
from zoo.train.optim import build_optimizer, build_schedule


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved. `exit_code` is the shell's: 130 or 143."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.exit_code = 128 + number


@dataclass
class Training:
    """The parts of a run that the loop moves."""

    model: nn.Module
    criterion: MarginSoftmaxLoss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: ModelEmaV3 | None
    progress: dict[str, int]
    """`step`: optimizer steps done; `bad_steps`: those among them whose update was withheld."""

    def state(self) -> checkpoint.State:
        """All that must survive a restart; order and augmentation follow from (seed, epoch, sample)."""
        return {
            "model": self.model.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "rng": random_state(),
            "progress": dict(self.progress),
        }

    def restore(self, folder: Path) -> list[str]:
        """Takes the state of the newest whole checkpoint in `folder`; returns what was passed over, in sentences."""
        state = self.state()
        _, passed_over = checkpoint.load(state, folder)
        self.model.load_state_dict(state["model"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        set_random_state(state["rng"])
        self.progress.update(state["progress"])
        return passed_over


def train(config: TrainConfig, run: Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Trains by `config` in the folder `run`; returns the last log record and, where there is one, the validation.

    Writes metrics.jsonl, checkpoint/ and, after every epoch, config.json + model.safetensors in timm's layout.
    InputError for what the user can mend; Interrupted when a signal stopped the run after saving it.
    """
    with distributed.join(choose_device(config)) as place:
        return train_here(config, run, place, resume=resume, quiet=quiet or place.rank > 0)


def train_here(
    config: TrainConfig, run: Path, place: distributed.Place, *, resume: bool, quiet: bool
) -> dict[str, Any]:
    """`train` in this process, which is at `place` among those of the run."""
    device = choose_device(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    spec = InputSpec()
    dataset = open_dataset(config.data, image_size=spec.size)
    loader = TrainLoader(
        dataset,
        build_augmentation(config.augment),
        batch_size=distributed.share(config.batch_size, config.accumulate, place.world),
        seed=config.seed,
        workers=loader_workers(config, device),
        rank=place.rank,
        world=place.world,
        pin_memory=device.type == "cuda",
    )
    steps_per_epoch = len(loader) // config.accumulate
    if steps_per_epoch == 0:
        raise InputError(
            f"expected at least one batch of {config.batch_size} images, found {len(dataset)};"
            " give a smaller --batch-size"
        )
    total_steps = config.epochs * steps_per_epoch
    validation = open_validation(config)
    training = build(config, dataset.num_classes, device)
    model, criterion, optimizer, scaler = (
        training.model,
        training.criterion,
        training.optimizer,
        training.scaler,
    )
    schedule = build_schedule(config, optimizer, steps_per_epoch)
    replica = distributed.replicate(model, place, device)
    forward = torch.compile(replica) if config.compile else replica
    autocast = torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision))
    precision = contextlib.nullcontext() if config.precision == "fp32" else autocast
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    notes = training.restore(run / "checkpoint") if resume else []
    step = training.progress["step"]
    health = Health(config, device, training.progress["bad_steps"])
    metrics = MetricsFile(run / "metrics.jsonl", resume_at=step)
    result: dict[str, Any] = {}

    with Watch(total_steps, step, quiet) as watch, stop_signals() as stop, contextlib.closing(metrics):
        for note in [f"training on {dataset.describe()}; {device}, {steps_per_epoch} steps an epoch", *notes]:
            watch.say(note)
        model.train()
        criterion.train()
        meter = Meter(device)
        for epoch in range(step // steps_per_epoch, config.epochs):
            batches = loader.epoch(epoch, start_step=step % steps_per_epoch * config.accumulate)
            for _ in range(step % steps_per_epoch, steps_per_epoch):
                schedule.step_update(step)
                statistics = health.remember(model, criterion)

                seen = []
                for part in range(config.accumulate):
                    with meter.waiting():
                        crops, labels, indices = next(batches)
                    pixels = normalise(crops.to(device, non_blocking=True), spec)
                    if config.channels_last:
                        pixels = pixels.contiguous(memory_format=torch.channels_last)
                    with distributed.local_gradients(replica, last=part == config.accumulate - 1):
                        with precision:
                            embeddings = forward(pixels)
                        loss = criterion(embeddings.float(), labels.to(device, non_blocking=True))
                        scaler.scale(loss / config.accumulate).backward()
                    meter.add(loss, len(labels) * place.world)
                    seen.append(indices)

                norm = unscaled_norm(scaler, optimizer, trainable)
                withhold = health.check(loss, norm, step, seen, overflow_is_normal=scaler.is_enabled())
                if config.clip_norm:
                    torch.nn.utils.clip_grads_with_norm_(trainable, config.clip_norm, norm)
                optimizer.found_inf = withhold  # type: ignore[attr-defined]  # the fused step heeds it on the device
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                scaler.update()
                health.put_back(statistics, withhold)
                if training.average:
                    training.average.update(model)
                step += 1
                training.progress["step"] = step
                watch.step(step, f"{epoch + 1}/{config.epochs}")

                end_of_epoch = step % steps_per_epoch == 0
                save_now = step % config.checkpoint_every == 0 if config.checkpoint_every else end_of_epoch
                save_now = save_now or step == total_steps or bool(stop.received)
                if step % config.log_every == 0 or end_of_epoch or save_now:
                    training.progress["bad_steps"] = health.judge(dataset)
                    result = {
                        "step": step,
                        "epoch": epoch + 1,
                        "lr": optimizer.param_groups[0]["lr"],
                        **meter.read(criterion),
                    }
                    metrics.write(result)
                    watch.facts(result)
                if end_of_epoch:
                    best = training.average.module if training.average else model
                    save_timm(best, run, asdict(model_info(config, training, dataset, spec)))
                    summary = f"epoch {epoch + 1}/{config.epochs}  " + "  ".join(facts(result))
                    if validation is not None:
                        scores = validation.score(embed(TorchEmbedder(best, spec, device), validation.images()))
                        result["validation"] = {name: float(scores[name]) for name in ("accuracy", "auc")}
                        metrics.write({"step": step, "epoch": epoch + 1, "validation": result["validation"]})
                        summary += f"  {validation.data}: accuracy {scores['accuracy']:.4f}, AUC {scores['auc']:.4f}"
                    watch.say(summary)
                    meter.reset()
                if save_now:
                    checkpoint.save(training.state(), run / "checkpoint", step, config.keep)
                if stop.received:
                    raise Interrupted(stop.received, step)
    return result


def build(config: TrainConfig, num_classes: int, device: torch.device) -> Training:
    """Model, class centres, optimizer, scaler and moving average of a run at its start, on `device`."""
    model = create_backbone(
        config.backbone,
        embedding_dim=config.embedding_dim,
        neck=None if config.neck == "auto" else config.neck,
        stem=config.stem,
        dropout=config.dropout,
        pretrained=config.init == "timm",
    )
    if config.init not in ("none", "timm"):
        start_from(model, config.init)
    freeze(model, config.freeze)
    if config.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    criterion = build_centres(config, num_classes).to(device)
    return Training(
        model=model,
        criterion=criterion,
        optimizer=build_optimizer(config, [*model.parameters(), *criterion.parameters()]),
        scaler=torch.amp.GradScaler(device.type, enabled=config.precision == "fp16"),
        average=ModelEmaV3(model, decay=config.ema) if config.ema else None,
        progress={"step": 0, "bad_steps": 0},
    )


def unscaled_norm(
    scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, trainable: list[nn.Parameter]
) -> torch.Tensor:
    """The gradient norm over backbone and centres together, a scalar on the device, after undoing fp16's scale."""
    if scaler.is_enabled():
        scaler.unscale_(optimizer)
    return torch.nn.utils.get_total_norm([p.grad for p in trainable if p.grad is not None])


def build_centres(config: TrainConfig, num_classes: int) -> MarginSoftmaxLoss:
    """The class centres with the run's head; InputError for an option that they do not have, closest names first."""
    options = set(inspect.signature(MarginSoftmaxLoss).parameters) - {"head", "num_classes", "embedding_dim"}
    given = {"straight_through": config.straight_through, **config.centres}
    for name in given:
        if name not in options:
            raise unknown_name("option of the class centres", name, options)
    head = build_head(config.head, **config.head_options)
    return MarginSoftmaxLoss(head, num_classes, config.embedding_dim, **given)  # type: ignore[arg-type]


def start_from(model: nn.Module, source: str) -> None:
    """Gives `model` the weights of a run or pulled folder; InputError, naming what differs, where they do not fit."""
    given = load_timm(source).state_dict()
    wanted = model.state_dict()
    misfits = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    if misfits or given.keys() - wanted.keys():
        names = ", ".join([*misfits, *sorted(given.keys() - wanted.keys())][:3])
        raise InputError(
            f"expected --init weights of this backbone, stem, neck and embedding dimension, found others in {source}"
            f" ({names}, …); give the options of that run"
        )
    model.load_state_dict(given)


def freeze(model: nn.Module, beginnings: Sequence[str]) -> None:
    """Keeps the parameters whose names begin so as they are; InputError for a beginning that fits none."""
    for beginning in beginnings:
        frozen = [parameter for name, parameter in model.named_parameters() if name.startswith(beginning)]
        if not frozen:
            raise unknown_name("parameter", beginning, [name for name, _ in model.named_parameters()])
        for parameter in frozen:
            parameter.requires_grad_(False)


class Health:
    """Withholds the update of a step whose loss or gradient is not finite; the host need not wait for the device."""

    def __init__(self, config: TrainConfig, device: torch.device, bad_steps: int) -> None:
        self.tolerated = config.skip_nonfinite
        self.bad_steps = torch.tensor(float(bad_steps), device=device)
        self.first_bad = torch.full((), -1, device=device)
        self.suspects = torch.full((config.batch_size,), -1, device=device)

    def remember(self, *modules: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The running statistics (batch norm's, the head's) before the forward pass that will change them."""
        kept = [b for module in modules for b in module.buffers() if b.numel()]
        return list(zip(kept, [b.clone() for b in kept], strict=True))

    def check(
        self,
        loss: torch.Tensor,
        norm: torch.Tensor,
        step: int,
        seen: list[torch.Tensor],
        overflow_is_normal: bool,
    ) -> torch.Tensor:
        """1 where this step must be withheld, else 0, as a float scalar on the device.

        Under fp16's scaler a gradient that overflows is the search for the scale at work, and only a loss that is
        not finite counts as a bad step.
        """
        good_loss = torch.isfinite(loss.detach())
        good = good_loss & torch.isfinite(norm)
        bad = ~good_loss if overflow_is_normal else ~good
        new = bad & (self.first_bad < 0)
        self.first_bad = torch.where(new, step, self.first_bad)
        self.suspects = torch.where(new, torch.cat(seen).to(self.suspects.device), self.suspects)
        self.bad_steps += bad
        return (~good).float()

    def put_back(self, statistics: list[tuple[torch.Tensor, torch.Tensor]], withhold: torch.Tensor) -> None:
        """Puts the running statistics back where the step was withheld."""
        for now, before in statistics:
            now.copy_(torch.where(withhold > 0, before, now))

    def judge(self, dataset: FaceDataset) -> int:
        """How many steps were withheld so far; InputError naming the first where that is more than tolerated.

        This is the one place that waits for the device.
        """
        bad_steps = int(self.bad_steps)
        if bad_steps > self.tolerated:
            samples = ", ".join(map(str, self.suspects[:8].tolist()))
            raise InputError(
                f"expected finite losses and gradients, found {bad_steps} step(s) without, the first after step"
                f" {int(self.first_bad)} (samples {samples}, … of {dataset.name}); the update was withheld: lower --lr,"
                " set --clip-norm, use --precision bf16, or tolerate some with --skip-nonfinite"
            )
        return bad_steps


class Meter:
    """Sums on the device what the log shows; measures images a second and the share of time spent waiting for data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Starts a new interval."""
        self.loss = torch.zeros((), device=self.device)
        self.passes = self.images = 0
        self.waited_seconds = 0.0
        self.since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block's time as waiting for data."""
        before = time.perf_counter()
        yield
        self.waited_seconds += time.perf_counter() - before

    def add(self, loss: torch.Tensor, images: int) -> None:
        """One forward and backward pass."""
        self.loss += loss.detach()
        self.passes += 1
        self.images += images

    def read(self, criterion: MarginSoftmaxLoss) -> dict[str, float]:
        """The interval's figures; waits for the device and starts the next interval."""
        figures = {"loss": float(self.loss / self.passes)}
        figures |= {name: float(value) for name, value in criterion.stats().items()}
        seconds = time.perf_counter() - self.since
        figures |= {"images_per_second": self.images / seconds, "data_wait": self.waited_seconds / seconds}
        self.reset()
        return figures


class Stop:
    """Which signal asked the run to stop; 0 for none."""

    received = 0


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Lets the first SIGINT or SIGTERM finish the step and save; a second SIGINT stops at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.received = number

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread may listen to signals
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def choose_device(config: TrainConfig) -> torch.device:
    """The device of a run; InputError where a GPU was asked for and none is there."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"expected --device auto, cpu, cuda or cuda:N, found {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"expected a GPU for --device {name}, found none that torch can use; use --device cpu")
    if name == "cpu" and config.precision == "fp16":
        raise InputError("expected --precision fp32 or bf16 on the CPU, found fp16, which only GPUs compute; use bf16")
    return torch.device(name)


def loader_workers(config: TrainConfig, device: torch.device) -> int:
    """Loader processes: the option, else what leaves the cores to a CPU's training and keeps a GPU fed."""
    if config.workers is not None:
        return config.workers
    cores = os.cpu_count() or 1
    return min(8, cores - 1) if device.type == "cuda" else 0


def open_validation(config: TrainConfig) -> PairsProtocol | None:
    """The pairs scored after each epoch; None where there are none."""
    name = config.validation
    if name == "auto":
        name = "synthetic" if config.data == "synthetic" or config.data.startswith("synthetic:") else "none"
    if name == "none":
        return None
    if name == "synthetic":
        from zoo.data.synthetic import synthetic_pairs

        # a seed of its own: the pairs of `zoo evaluate --data synthetic` stay unseen
        images, same = synthetic_pairs(pairs=300, seed=1)
        return PairsProtocol(images, same, name="pairs", data="synthetic validation", data_sha256="")
    return PairsProtocol.from_bin(name)


def model_info(config: TrainConfig, training: Training, dataset: FaceDataset, spec: InputSpec) -> ModelInfo:
    """The facts that travel with the model of this run."""
    return ModelInfo(
        embedding_dim=config.embedding_dim,
        input=replace(spec),
        backbone=config.backbone,
        neck=getattr(training.model, "neck_name", config.neck),
        stem=config.stem,
        head=training.criterion.head.describe(),
        training_set=f"{dataset.name}: {dataset.describe()}",
        commit=code_commit(),
    )


def code_commit() -> str:
    """The git commit of the code that runs, with "+" after it where files were changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        ask = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def random_state() -> dict[str, torch.Tensor]:
    """The state of torch's random generators in this process (dropout and stochastic depth draw from them)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Puts torch's random generators into `state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
