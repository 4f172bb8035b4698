"""The training loop: `train_here` from top to bottom is one run. What survives a restart is in `Training.state`."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from zoo.backbones import save_timm
from zoo.data.augment import build_augmentation
from zoo.data.loader import TrainLoader
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.evaluate.embedder import embed
from zoo.heads import clip_grad_norm
from zoo.spec import InputSpec
from zoo.train import checkpoint, distributed
from zoo.train.build import build, choose_device, loader_workers, model_info, open_validation
from zoo.train.config import TrainConfig
from zoo.train.embedder import TorchEmbedder, normalise
from zoo.train.health import Health
from zoo.train.log import Meter, MetricsFile, Watch, facts
from zoo.train.optim import build_schedule
from zoo.train.signals import Interrupted, stop_signals


def train(config: TrainConfig, run: Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Trains by `config` in the folder `run`; returns the last log record and, where there is one, the validation.

    Writes metrics.jsonl, checkpoint/ and, after every epoch, config.json + model.safetensors in timm's layout. Under
    torchrun the processes share the batch and the class centres, and rank 0 writes and talks. InputError for what the
    user can mend; Interrupted when a signal stopped the run after saving it.
    """
    with distributed.join(choose_device(config)) as place:
        run = distributed.everywhere(run, place)
        return train_here(config, run, place, resume=resume, quiet=quiet or place.rank > 0)


def train_here(
    config: TrainConfig, run: Path, place: distributed.Place, *, resume: bool, quiet: bool
) -> dict[str, Any]:
    """`train` in this process, which is at `place` among those of the run."""
    device = choose_device(config, place.local_rank)
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
    model, criterion, scaler = training.model, training.criterion, training.scaler
    optimizers = (training.optimizer, training.centre_optimizer)
    schedules = [build_schedule(config, optimizer, steps_per_epoch) for optimizer in optimizers]
    replica = distributed.replicate(model, place, device)
    forward = torch.compile(replica) if config.compile else replica
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    precision = torch.autocast(device.type, low) if low else contextlib.nullcontext()
    number = criterion.weight.dtype
    notes = training.restore(run / "checkpoint") if resume else []
    step = training.progress["step"]
    health = Health(config.skip_nonfinite, config.batch_size // place.world, device, training.progress["bad_steps"])
    metrics = MetricsFile(run / "metrics.jsonl" if place.rank == 0 else Path(os.devnull), resume_at=step)
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
                for schedule in schedules:
                    schedule.step_update(step)
                statistics = health.remember(model, criterion)

                seen = []
                for part in range(config.accumulate):
                    with meter.waiting():
                        crops, labels, indices = next(batches)
                    pixels = normalise(crops.to(device, non_blocking=True), spec).to(number)
                    if config.channels_last:
                        pixels = pixels.contiguous(memory_format=torch.channels_last)
                    torch.manual_seed(dropout_seed(config.seed, step * config.accumulate + part, place.rank))
                    with distributed.local_gradients(replica, last=part == config.accumulate - 1):
                        with precision:
                            embeddings = forward(pixels)
                        loss = criterion(embeddings.to(number), labels.to(device, non_blocking=True))
                        scaler.scale(loss / config.accumulate).backward()
                    meter.add(loss, len(labels) * place.world)
                    seen.append(indices)

                for optimizer in optimizers:
                    if scaler.is_enabled():
                        scaler.unscale_(optimizer)
                limit = config.clip_norm or math.inf
                norm = clip_grad_norm(model.parameters(), [criterion.weight], limit, distributed.group())
                withhold = health.check(loss, norm, step, seen, overflow_is_normal=scaler.is_enabled())
                training.optimizer.found_inf = withhold.float()  # type: ignore[attr-defined]  # the fused step heeds it
                training.optimizer.step()
                training.centre_optimizer.step(finite=~withhold)
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=True)
                scaler.update()
                health.put_back(statistics, withhold)
                if training.average:
                    training.average.update(model)
                step += 1
                training.progress["step"] = step
                watch.step(step, f"{epoch + 1}/{config.epochs}")

                end_of_epoch = step % steps_per_epoch == 0
                log_now = step % config.log_every == 0 or end_of_epoch
                # the processes must agree to stop, and asking at every step would make the host wait for the device
                stopping = distributed.anywhere(stop.received, place, device) if log_now or place.world == 1 else 0
                save_now = step % config.checkpoint_every == 0 if config.checkpoint_every else end_of_epoch
                save_now = save_now or step == total_steps or bool(stopping)
                if log_now or save_now:
                    training.progress["bad_steps"] = health.judge(dataset)
                    rate = training.optimizer.param_groups[0]["lr"]
                    result = {"step": step, "epoch": epoch + 1, "lr": rate, **meter.read(criterion)}
                    metrics.write(result)
                    watch.facts(result)
                if end_of_epoch and place.rank == 0:
                    best = training.average.module if training.average else model
                    save_timm(best, run, asdict(model_info(config, model, criterion, dataset, spec)))
                    summary = f"epoch {epoch + 1}/{config.epochs}  " + "  ".join(facts(result))
                    if validation is not None:
                        scores = validation.score(embed(TorchEmbedder(best, spec, device), validation.images()))
                        result["validation"] = {name: float(scores[name]) for name in ("accuracy", "auc")}
                        metrics.write({"step": step, "epoch": epoch + 1, "validation": result["validation"]})
                        summary += f"  {validation.data}: accuracy {scores['accuracy']:.4f}, AUC {scores['auc']:.4f}"
                    watch.say(summary)
                    meter.reset()
                if save_now:
                    # batch statistics are rank 0's: the others save their shard of the centres alone
                    checkpoint.save(training.state(whole=place.rank == 0), run / "checkpoint", step, config.keep)
                if stopping:
                    raise Interrupted(stopping, step)
    return result


def dropout_seed(seed: int, forward_pass: int, rank: int) -> int:
    """What dropout and stochastic depth draw from in a pass: a function of its number, so a restart needs no state."""
    return (seed * 1_000_003 + forward_pass) * 65_537 + rank
