"""The training loop: `train_here` from top to bottom is one run. What survives a restart is in `Training.state`."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.distributed import ReduceOp

from zoo.backbones import save_timm
from zoo.data.loader import TrainLoader
from zoo.data.open import is_synthetic
from zoo.evaluate.protocols import Protocol
from zoo.messages import log
from zoo.modelinfo import Origin, typed
from zoo.train import checkpoint, distributed, start
from zoo.train.build import build, build_schedule, choose_device, info_of, open_loader
from zoo.train.config import TrainConfig, plain
from zoo.train.finetune import merged, open_teacher
from zoo.train.log import LOGGERS, MetricsFile, note_changes, note_machine, write_curves
from zoo.train.people import facts_of, measured, open_training, open_validation, same_data
from zoo.train.start import CHECKPOINT, Interrupted, Record, Standing, Stop, Watch, stop_signals, unwatched
from zoo.train.step import Stepper, ahead, settings, settled


def train(config: TrainConfig, run: Path, *, resume: bool = False, watch: Watch = unwatched) -> Record:
    """Trains by `config` in the folder `run`; returns the last log record and, where there is one, the validation.

    Writes metrics.jsonl, checkpoint/ and, after every epoch, config.json + model.safetensors in timm's layout, also in
    best/ where the validation was never better, and curves.html. Under torchrun the processes share the batch and the
    class centres; rank 0 alone writes, logs and calls `watch` after each step, and its options hold for all. InputError
    for what the user can mend; Interrupted when a signal stopped the run after saving it.
    """
    with distributed.join(choose_device(config), config.patience_minutes) as rank:
        run, resume, options = distributed.everywhere((run, resume, config), rank)
        if not config.gather:
            distributed.require_shared(run, rank)
        own = replace(options, init="none" if resume else config.init)  # a pulled model lies elsewhere on each machine
        return train_here(own, run, rank, resume=resume, watch=watch)


def train_here(config: TrainConfig, run: Path, rank: distributed.Rank, *, resume: bool, watch: Watch) -> Record:
    """`train` in this process, which is `rank` among those of the run."""
    device = choose_device(config, rank.local)
    config = settled(config, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    gather = config.gather and rank.world > 1
    dataset, held = distributed.agreed(lambda: open_training(config, config.input.size), rank)
    loader = distributed.agreed(lambda: open_loader(config, dataset, rank, device), rank)
    data = distributed.same(facts_of(dataset), "training set", rank)
    steps_per_epoch = len(loader) // config.accumulate
    total_steps = config.epochs * steps_per_epoch
    validation = distributed.agreed(lambda: open_validation(config, held), rank)
    training = build(config, dataset.num_classes, device, dataset)
    both = (training.optimizer, False), (training.centre_optimizer, True)
    schedules = [build_schedule(config, optimizer, steps_per_epoch, centres) for optimizer, centres in both]
    teacher = open_teacher(config, run, dataset, training.criterion, rank)
    kept = run / "checkpoint"
    with checkpoint.handed_out(kept, rank) if resume and gather else contextlib.nullcontext(kept) as place:
        damage = training.restore(place) if resume else []
    same_data(run, data, training.progress, rank)
    step = training.progress["step"]
    if resume and rank.first:
        note_changes(run, config, step)
    doubts = note_machine(run, config, device, rank.world, resume) if rank.first else []
    take_step = Stepper(config, training, rank, device, steps_per_epoch, teacher)
    logger = LOGGERS[config.log](run, plain(config)) if config.log != "none" and rank.first else None
    metrics = MetricsFile(run / "metrics.jsonl" if rank.first else Path(os.devnull), step, logger)
    saver = checkpoint.Saver(kept, config.keep, config.checkpoint_minutes if rank.first else None, gather)
    record: Record = {}
    if rank.first:
        log.info("training on %s; %s, %d steps per epoch", dataset.describe(), device, steps_per_epoch)
        if is_synthetic(config.data):
            log.info("synthetic faces: the model will recognise no real person; --data names a set of real ones")
        for sentence in [*getattr(dataset, "notes", ()), *damage, *doubts]:
            log.warning(sentence)

    with stop_signals() as stop, contextlib.closing(metrics), saver, settings(config, device):
        milestones = Milestones(take_step, run, loader, validation, metrics, saver, stop)
        stop.step = step
        if step == 0:  # a full disk is found out now, and a run that was killed can be resumed
            saver.save(training.state(whole=rank.first), step)
            saver.wait()
        elif step % steps_per_epoch == 0 or milestones.validates(step):  # a signal may have ended it
            record = milestones({"step": step, "epoch": -(-step // steps_per_epoch)})
        take_step.meter.reset()
        for epoch in range(step // steps_per_epoch, config.epochs):
            batches = loader.epoch(epoch, start_step=step % steps_per_epoch * config.accumulate)
            batches = ahead(batches, device, partial(take_step.prepare, epoch=epoch))
            for _ in range(step % steps_per_epoch, steps_per_epoch):
                for schedule in schedules:
                    schedule(step)
                take_step(batches, step)
                step += 1
                training.progress["step"] = step

                end_of_epoch = step % steps_per_epoch == 0
                log_now = step % config.log_every == 0 or end_of_epoch
                # the processes must agree, and asking at every step would make the host wait for the device
                asked = max(stop.asked, CHECKPOINT if saver.due() else 0)
                asked = distributed.reduced(asked, ReduceOp.MAX, rank, device) if log_now or rank.world == 1 else 0
                save_now = step % config.checkpoint_every == 0 if config.checkpoint_every else end_of_epoch
                validate_now = milestones.validates(step)
                save_now = save_now or bool(asked) or step == total_steps or validate_now
                if log_now or save_now:
                    training.progress["bad_steps"] = take_step.nonfinite.judge(dataset)
                    rate = max(group["lr"] for group in training.optimizer.param_groups)
                    record = {"step": step, "epoch": epoch + 1, "lr": rate, **take_step.meter.read(training.criterion)}
                    if end_of_epoch and config.on_corrupt == "skip":
                        record["skipped"] = distributed.reduced(len(loader.skipped), ReduceOp.SUM, rank, device)
                    metrics.write(record)
                if rank.first:
                    watch(Standing(step, total_steps, epoch + 1, config.epochs, record))
                if save_now:
                    # batch statistics are rank 0's: the others save their shard of the centres alone
                    saver.save(training.state(whole=rank.first), step, training.best["step"])
                    stop.step, stop.asked = step, 0 if stop.asked == CHECKPOINT else stop.asked
                if asked > CHECKPOINT:
                    saver.wait()
                    raise Interrupted(asked - 1, step)
                if end_of_epoch or validate_now:
                    record = milestones(record)
                if save_now or end_of_epoch:
                    take_step.meter.reset()
    return record


@dataclass(frozen=True)
class Milestones:
    """What happens at an epoch's end and where a validation is due, in the first process: a signal ends it at once."""

    stepper: Stepper
    run: Path
    loader: TrainLoader
    validation: Sequence[Protocol]
    metrics: MetricsFile
    saver: checkpoint.Saver
    stop: Stop

    def validates(self, step: int) -> bool:
        """Whether a validation is due after so many steps; its checkpoint is written first."""
        config, epoch = self.stepper.config, self.stepper.steps_per_epoch
        return bool(self.validation) and (step % (config.validate_every or epoch) == 0 or step == config.epochs * epoch)

    def __call__(self, record: Record) -> Record:
        """Saves the model of an epoch, and in best/ where no validation was better; `record` with the validation."""
        config, training = self.stepper.config, self.stepper.training
        training.collect()
        if not self.stepper.rank.first:
            return record
        step, epoch, ended = record["step"], record["epoch"], record["step"] % self.stepper.steps_per_epoch == 0
        told = info_of(config, training, self.loader.dataset)
        if (others := self.run / start.ORIGIN).is_file():
            told = replace(told, origin=typed(Origin, json.loads(others.read_text(encoding="utf-8"))))
        info = asdict(told)
        epochs = [self.run, *([self.run / f"epoch-{epoch:03d}"] if config.keep_epochs else [])]
        if ended:
            log.info("  ".join([f"epoch {epoch}/{config.epochs}", *start.facts(record)]))
            for sentence in list(self.loader.skipped.values())[:1]:
                log.info("one of the damaged images skipped: %s", sentence)
        for folder in epochs if ended else []:
            save_timm(training.trained, folder, info, merged(training.trained))
        if self.validates(step):
            scores = measured(training.trained, config.input, self.stepper.device, self.validation, self.heed)
            if training.is_best(scores, ", ".join(one.data for one in self.validation)):
                save_timm(training.trained, self.run / "best", info, merged(training.trained))
                self.saver.mark_best(step)
            self.metrics.write({"step": step, "epoch": epoch, "validation": scores})
            log.info("validation after step %d: %s", step, ", ".join(f"{name} {x:.4f}" for name, x in scores.items()))
            record = {**record, "validation": scores}
        if config.curves and ended:
            write_curves(self.run)
        return record

    def heed(self, count: int) -> None:
        """Ends the validation where a signal asked the run to stop; a resume repeats it."""
        if self.stop.asked > CHECKPOINT:
            self.saver.wait()
            self.stop.at_once()
