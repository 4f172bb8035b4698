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
from zoo.backbones.torch_embedder import TorchEmbedder, normalise
from zoo.data.augment import build_augmentation
from zoo.data.loader import TrainLoader
from zoo.data.open import open_dataset
from zoo.errors import InputError
from zoo.heads import clip_grad_norm
from zoo.inference.embed import embed
from zoo.modelinfo import InputSpec
from zoo.train import checkpoint, distributed
from zoo.train.build import build, choose_device, loader_workers, model_info, open_validation
from zoo.train.config import TrainConfig
from zoo.train.curves import write_curves
from zoo.train.log import Meter, MetricsFile, Watch, facts
from zoo.train.nonfinite import Health
from zoo.train.optim import build_schedule
from zoo.train.signals import CHECKPOINT, Interrupted, stop_signals


def train(config: TrainConfig, run: Path, *, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Trains by `config` in the folder `run`; returns the last log record and, where there is one, the validation.

    Writes metrics.jsonl, checkpoint/ and, after every epoch, config.json + model.safetensors in timm's layout, also in
    best/ where the validation was never better, and curves.html. Under torchrun the processes share the batch and the
    class centres, and rank 0 writes and talks. InputError for what the user can mend; Interrupted when a signal stopped
    the run after saving it.
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
    dataset = open_dataset(
        config.data, image_size=spec.size, min_images=config.min_images, max_images=config.max_images
    )
    loader = TrainLoader(
        dataset,
        build_augmentation(config.augment),
        batch_size=distributed.share(config.batch_size, config.accumulate, place.world),
        seed=config.seed,
        workers=loader_workers(config, device),
        rank=place.rank,
        world=place.world,
        pin_memory=device.type == "cuda",
        on_corrupt=config.on_corrupt,
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
    same_images(training.progress, len(dataset))
    step = training.progress["step"]
    health = Health(config.skip_nonfinite, config.batch_size // place.world, device, training.progress["bad_steps"])
    board = run / "tensorboard" if config.log == "tensorboard" and place.rank == 0 else None
    metrics = MetricsFile(run / "metrics.jsonl" if place.rank == 0 else Path(os.devnull), step, board)
    result: dict[str, Any] = {}
    minutes = config.checkpoint_minutes if place.rank == 0 else None
    saver = checkpoint.Saver(run / "checkpoint", config.keep, minutes)

    with Watch(total_steps, step, quiet) as watch, stop_signals() as stop, contextlib.closing(metrics), saver:
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
                    del crops  # the loader's next batch takes its memory
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
                # the processes must agree, and asking at every step would make the host wait for the device
                asked = stop.received or (CHECKPOINT if saver.due() else 0)
                asked = distributed.anywhere(asked, place, device) if log_now or place.world == 1 else 0
                save_now = step % config.checkpoint_every == 0 if config.checkpoint_every else end_of_epoch
                save_now = save_now or bool(asked) or step == total_steps or (end_of_epoch and validation is not None)
                if log_now or save_now:
                    training.progress["bad_steps"] = health.judge(dataset)
                    rate = training.optimizer.param_groups[0]["lr"]
                    result = {"step": step, "epoch": epoch + 1, "lr": rate, **meter.read(criterion)}
                    if end_of_epoch and config.on_corrupt == "skip":
                        result["skipped"] = distributed.total(len(loader.skipped), place, device)
                    metrics.write(result)
                    watch.facts(result)
                if end_of_epoch and place.rank == 0:
                    trained = training.average.module if training.average else model
                    info = asdict(model_info(config, model, criterion, dataset, spec))
                    save_timm(trained, run, info)
                    summary = [f"epoch {epoch + 1}/{config.epochs}", *facts(result)]
                    if validation is not None:
                        scores = validation.score(embed(TorchEmbedder(trained, spec, device), validation.images()))
                        result["validation"] = {name: float(scores[name]) for name in ("accuracy", "auc")}
                        metrics.write({"step": step, "epoch": epoch + 1, "validation": result["validation"]})
                        summary.append(f"{validation.data}: accuracy {scores['accuracy']:.4f}, AUC {scores['auc']:.4f}")
                        if training.is_best(result["validation"], validation.data):
                            save_timm(trained, run / "best", info)
                    watch.say("  ".join(summary))
                    if loader.skipped:
                        watch.say(f"one of the damaged images skipped: {next(iter(loader.skipped.values()))}")
                    if config.curves:
                        write_curves(run)
                if save_now:
                    # batch statistics are rank 0's: the others save their shard of the centres alone
                    saver.save(training.state(whole=place.rank == 0), step, training.best["step"])
                if save_now or end_of_epoch:
                    meter.reset()
                if asked > CHECKPOINT:
                    saver.wait()
                    raise Interrupted(asked, step)
    return result


def same_images(progress: dict[str, int], found: int) -> None:
    """Notes at a run's start how many images it trains on; InputError where a run that is resumed finds others."""
    expected = progress["images"] or found
    if found != expected:
        raise InputError(
            f"expected the {expected:,} training images that the run began with, found {found:,}; bring them back,"
            " or start a new run, with --init if its weights are to be kept"
        )
    progress["images"] = found


def dropout_seed(seed: int, forward_pass: int, rank: int) -> int:
    """What dropout and stochastic depth draw from in a pass: a function of its number, so a restart needs no state."""
    return (seed * 1_000_003 + forward_pass) * 65_537 + rank
