"""The training loop: `train_here` from top to bottom is one run. What survives a restart is in `Training.state`."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from zoo.backbones import save_timm
from zoo.backbones.torch_embedder import TorchEmbedder
from zoo.data.base import FaceDataset
from zoo.data.open import is_synthetic
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.inference.embed import embed
from zoo.messages import log
from zoo.modelinfo import Origin
from zoo.train import checkpoint, distributed
from zoo.train.build import Training, build, choose_device, model_info, open_loader, open_validation, same_images
from zoo.train.config import TrainConfig
from zoo.train.curves import write_curves
from zoo.train.distill import open_teacher
from zoo.train.finetune import merged
from zoo.train.log import MetricsFile
from zoo.train.optim import build_schedule, head_steps
from zoo.train.signals import CHECKPOINT, Interrupted, stop_signals
from zoo.train.speed import ahead, settings, settled
from zoo.train.start import ORIGIN
from zoo.train.step import Stepper
from zoo.train.watch import Record, Standing, Watch, facts, unwatched


def train(config: TrainConfig, run: Path, *, resume: bool = False, watch: Watch = unwatched) -> Record:
    """Trains by `config` in the folder `run`; returns the last log record and, where there is one, the validation.

    Writes metrics.jsonl, checkpoint/ and, after every epoch, config.json + model.safetensors in timm's layout, also in
    best/ where the validation was never better, and curves.html. Under torchrun the processes share the batch and the
    class centres; rank 0 alone writes, logs and calls `watch` after each step. InputError for what the user can mend;
    Interrupted when a signal stopped the run after saving it.
    """
    with distributed.join(choose_device(config)) as rank:
        run = distributed.everywhere(run, rank)
        return train_here(config, run, rank, resume=resume, watch=watch)


def train_here(config: TrainConfig, run: Path, rank: distributed.Rank, *, resume: bool, watch: Watch) -> Record:
    """`train` in this process, which is `rank` among those of the run."""
    device, spec = choose_device(config, rank.local), config.input
    config = settled(config, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    loader = open_loader(config, spec, rank, device)
    steps_per_epoch = len(loader) // config.accumulate
    total_steps = config.epochs * steps_per_epoch
    validation = open_validation(config)
    training = build(config, loader.dataset.num_classes, device, loader.dataset)
    optimizers = (training.optimizer, training.centre_optimizer)
    schedules = [
        build_schedule(config, optimizer, steps_per_epoch, centres=optimizer is training.centre_optimizer)
        for optimizer in optimizers
    ]
    teacher = open_teacher(config, run, loader.dataset, training.criterion, rank)
    damage = training.restore(run / "checkpoint") if resume else []
    same_images(training.progress, len(loader.dataset))
    step = training.progress["step"]
    margin_steps = round(config.margin_epochs * steps_per_epoch)
    take_step = Stepper(
        config, training, rank, device, spec, head_steps(config, steps_per_epoch), margin_steps, teacher
    )
    board = run / "tensorboard" if config.log == "tensorboard" and rank.first else None
    metrics = MetricsFile(run / "metrics.jsonl" if rank.first else Path(os.devnull), step, board)
    saver = checkpoint.Saver(run / "checkpoint", config.keep, config.checkpoint_minutes if rank.first else None)
    record: Record = {}
    if rank.first:
        log.info("training on %s; %s, %d steps per epoch", loader.dataset.describe(), device, steps_per_epoch)
        if is_synthetic(config.data):
            log.info("synthetic faces: the model will recognise no real person; --data names a set of real ones")
        for sentence in damage:
            log.warning(sentence)

    with stop_signals() as stop, contextlib.closing(metrics), saver, settings(config, device):
        take_step.meter.reset()
        for epoch in range(step // steps_per_epoch, config.epochs):
            batches = loader.epoch(epoch, start_step=step % steps_per_epoch * config.accumulate)
            batches = ahead(batches, device, take_step.prepare)
            for _ in range(step % steps_per_epoch, steps_per_epoch):
                for schedule in schedules:
                    schedule.step_update(step)
                take_step(batches, step)
                step += 1
                training.progress["step"] = step

                end_of_epoch = step % steps_per_epoch == 0
                log_now = step % config.log_every == 0 or end_of_epoch
                # the processes must agree, and asking at every step would make the host wait for the device
                asked = stop.received or (CHECKPOINT if saver.due() else 0)
                asked = distributed.anywhere(asked, rank, device) if log_now or rank.world == 1 else 0
                save_now = step % config.checkpoint_every == 0 if config.checkpoint_every else end_of_epoch
                save_now = save_now or bool(asked) or step == total_steps or (end_of_epoch and validation is not None)
                if log_now or save_now:
                    training.progress["bad_steps"] = take_step.nonfinite.judge(loader.dataset)
                    rate = max(group["lr"] for group in training.optimizer.param_groups)
                    record = {"step": step, "epoch": epoch + 1, "lr": rate, **take_step.meter.read(training.criterion)}
                    if end_of_epoch and config.on_corrupt == "skip":
                        record["skipped"] = distributed.total(len(loader.skipped), rank, device)
                    metrics.write(record)
                if rank.first:
                    watch(Standing(step, total_steps, epoch + 1, config.epochs, record))
                if end_of_epoch and rank.first:
                    log.info("  ".join([f"epoch {epoch + 1}/{config.epochs}", *facts(record)]))
                    if scores := save_epoch(config, run, training, loader.dataset, validation, device):
                        record["validation"] = scores
                        metrics.write({"step": step, "epoch": epoch + 1, "validation": scores})
                        log.info("validation: accuracy %.4f, AUC %.4f", scores["accuracy"], scores["auc"])
                    if loader.skipped:
                        log.info("one of the damaged images skipped: %s", next(iter(loader.skipped.values())))
                    if config.curves:
                        write_curves(run)
                if save_now:
                    # batch statistics are rank 0's: the others save their shard of the centres alone
                    saver.save(training.state(whole=rank.first), step, training.best["step"])
                if save_now or end_of_epoch:
                    take_step.meter.reset()
                if asked > CHECKPOINT:
                    saver.wait()
                    raise Interrupted(asked, step)
    return record


def origin_in(run: Path) -> Origin | None:
    """Where the weights that a run started from come from; None where nobody else trained them."""
    file = run / ORIGIN
    return Origin.from_dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def save_epoch(
    config: TrainConfig,
    run: Path,
    training: Training,
    dataset: FaceDataset,
    validation: PairsProtocol | None,
    device: torch.device,
) -> dict[str, float]:
    """Saves the model after an epoch, and in best/ where no validation was better; its accuracy and AUC, if scored."""
    trained, spec = training.trained, config.input
    info: dict[str, Any] = asdict(replace(model_info(config, training, dataset, spec), origin=origin_in(run)))
    save_timm(trained, run, info, merged(trained))
    if validation is None:
        return {}
    scores = validation.score(embed(TorchEmbedder(trained, spec, device), validation.images()))
    found = {name: float(getattr(scores, name)) for name in ("accuracy", "auc")}
    if training.is_best(found, validation.data):
        save_timm(trained, run / "best", info, merged(trained))
    return found
