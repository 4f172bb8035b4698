"""A run from its start to its end, for `zoo train` and programs: how it is watched and asked to stop. Imports no torch.

A run that a signal asks to stop finishes its step and saves; SIGUSR1 has it save and go on.
"""

import contextlib
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.files import new_folder, write_bytes, write_json
from zoo.messages import log
from zoo.runs import RUNS, find_run, lock, machine_faults
from zoo.train.config import TrainConfig, build, changes, flag, load_config, option_names, save_config
from zoo.train.typed import load_recipe

Record = dict[str, Any]  #: A line of metrics.jsonl: `step`, `epoch`, and figures by their names


@dataclass(frozen=True)
class Standing:
    step: int  #: Optimizer steps done, of `total_steps`
    total_steps: int
    epoch: int  #: The epoch of that step, from 1, of `epochs`
    epochs: int
    record: Record  #: The last line of the log; empty before the first one


Watch = Callable[[Standing], None]  #: Called after each step, which then waits for it


def unwatched(standing: Standing) -> None:
    """A `Watch` for whoever does not look."""


def heartbeat(seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> Watch:
    """A `Watch` that logs where a run stands, once in so many seconds: for a file in the place of a terminal."""
    began = last = clock()
    first_step: int | None = None

    def watch(now: Standing) -> None:
        nonlocal last, first_step
        first_step = now.step - 1 if first_step is None else first_step
        if clock() - last < seconds:
            return
        last = clock()
        hours = (last - began) / (now.step - first_step) * (now.total_steps - now.step) / 3600
        told = f"epoch {now.epoch}/{now.epochs}  step {now.step:,} of {now.total_steps:,}  {hours:.1f} h left"
        log.info("  ".join([told, *facts(now.record)]))

    return watch


def facts(record: Record) -> list[str]:
    """The figures of a log line as a person reads them."""
    shown = [f"{record['images_per_second']:.0f} images/s", f"loss {record['loss']:.3f}"] if "loss" in record else []
    shown += [f"t {record['t']:.3f}"] if "t" in record else []
    shown += [f"target cosine {record['mean_target_cosine']:.3f}"] if "mean_target_cosine" in record else []
    shown += [f"{record['skipped']} damaged images skipped"] if record.get("skipped") else []
    return shown


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved. `exit_code` is the shell's, 143 for SIGTERM."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.exit_code = 128 + number


CHECKPOINT = 1  #: The request to save and go on; one to stop by signal n is n + 1: the larger of two requests holds

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))
"""What Slurm's `--signal=USR1@60` sends before the time is over."""


class Stop:
    asked = 0  #: 0 for nothing
    step = 0  #: The step whose state was saved last

    def at_once(self) -> None:
        """Raises Interrupted where a signal asked the run to stop."""
        if self.asked > CHECKPOINT:
            raise Interrupted(self.asked - 1, self.step)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Lets the first SIGINT, SIGTERM or SIGHUP finish the step and save; a second SIGINT stops at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        if stop.asked > CHECKPOINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = max(stop.asked, CHECKPOINT if number in SAVING else number + 1)

    try:
        before = {number: signal.signal(number, ask) for number in (*STOPPING, *SAVING)}
    except ValueError:  # only the main thread may listen to signals
        before = {}
    try:
        yield stop
    except RuntimeError:
        stop.at_once()  # another process, asked to stop as well, has left a collective operation
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Trained:
    run: Path
    record: Record  #: The last line of its log, and the `validation` after it where there is one


def train(
    backbone: str | None = None,
    *,
    name: str | None = None,
    recipe: str | None = None,
    resume_or_start: bool = False,
    watch: Watch = unwatched,
    **options: Any,
) -> Trained:
    """Trains a new run in runs/NAME; by default it is called by backbone, head and time.

    With `resume_or_start` it goes on with the run of that name where there is one, as the script of a job wants that
    may be started several times. A run that was killed before its first checkpoint is started again.

    `options` are those of TrainConfig, e.g. train("resnet18", head="arcface", data="faces/", epochs=20); they override
    those of the `recipe`, a packaged one's name or a YAML file. Without data it is a trial on synthetic faces.
    InputError for what the user can mend, before anything is written; Interrupted when a signal stopped the run.
    """
    given = {"backbone": backbone, **options} if backbone else options
    if resume_or_start and not name:
        raise InputError("expected --name beside --resume-or-start, which tells the run to go on with, found none")
    if resume_or_start and name and has_checkpoint(RUNS / name):
        return resume(RUNS / name, recipe=recipe, watch=watch, **given)
    config = configured(recipe, given)
    run = RUNS / (name or f"{config.backbone}-{config.head}-{time.strftime('%Y%m%d-%H%M%S')}".translate(PLAIN))
    if run.parent != RUNS or run.name in ("", ".", ".."):
        raise InputError(f"expected --name to be a plain folder name, found {str(run)!r}; runs lie under {RUNS}/")
    if has_checkpoint(run) and first_process():
        raise InputError(f"expected a new run, found one at {run}; give another --name, or --resume {run.name}")
    return Trained(run, train_in(run, config, watch=watch))


@dataclass(frozen=True)
class DryRun:
    """What the first step of a run tells."""

    steps_per_epoch: int
    total_steps: int
    peak_bytes: int  #: The most memory that the step took: the GPU's, or on a CPU all that this process ever had


def dry_run(backbone: str | None = None, *, recipe: str | None = None, **options: Any) -> DryRun:
    """Takes one step of the run that `train` would start, in a temporary folder, which is removed."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("expected one process for --dry-run, found several; leave torchrun out and share --batch-size")
    config = configured(recipe, {**({"backbone": backbone} if backbone else {}), **options, "log": "none"})
    seen: list[Standing] = []

    def first_step(now: Standing) -> None:
        seen.append(now)
        raise StopIteration

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(StopIteration):
        train_in(Path(folder) / "run", config, watch=first_step)
    import torch

    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    peak = peak or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return DryRun(seen[0].total_steps // seen[0].epochs, seen[0].total_steps, peak)


def configured(recipe: str | None, given: Mapping[str, Any]) -> TrainConfig:
    """The options of a new run, with those of a recipe, and of --init, where they are not `given`."""
    recipe = recipe or (None if "data" in given else "quick-cpu")
    loaded = load_recipe(recipe) if recipe else {}
    values = {**rescaled(loaded, given), **given}
    if "data" not in values:
        advice = "`--data synthetic` tries it on synthetic faces"
        raise InputError(f"expected --data with the recipe {recipe}, found none; {advice}")
    config = build({**values, **inherited(build(values), given)})
    for name in sorted(SCALED & loaded.keys() - given.keys()):
        if values[name] != loaded[name]:
            log.info("%s of the recipe becomes %s for %d epochs", flag(name), getattr(config, name), config.epochs)
    return config


def rescaled(recipe: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a recipe, those that count epochs scaled to the number of epochs that is given."""
    if "epochs" not in given or "epochs" not in recipe or given["epochs"] == recipe["epochs"]:
        return dict(recipe)
    old, scaled = build({**recipe, "data": "synthetic"}, parts=False), dict(recipe)
    factor = build({"epochs": given["epochs"]}).epochs / old.epochs
    for name in SCALED & recipe.keys():
        value = getattr(old, name)
        scaled[name] = [round(n * factor) for n in value] if isinstance(value, tuple) else round(value * factor, 3)
    return scaled


SCALED = {"milestones", "warmup_epochs", "head_epochs", "margin_epochs"}  #: Options that count epochs


def inherited(config: TrainConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that --init brings beside its weights: the input that they expect, and their architecture.

    Those that are `given` are left out; InputError where they contradict the input, which would be lost in silence.
    """
    if config.init == "none":
        return {}
    if config.init == "timm":
        from zoo.backbones.timm_model import pretrained_scale

        scales: dict[str, Any] = dict(zip(("mean", "std"), pretrained_scale(config.backbone), strict=True))
        return {name: value for name, value in scales.items() if name not in given}
    from zoo.backbones import model_info
    from zoo.resolve import torch_folder

    info = model_info(torch_folder(config.init))
    spec = info.input
    own: dict[str, Any] = {"mean": spec.mean, "std": spec.std, "channel_order": spec.channel_order}
    own["image_size"] = spec.size[0]
    for name, value in own.items():
        if name in given and getattr(config, name) != value:
            wanted = f"{flag(name)} {value}, as the weights of --init {config.init} were trained with"
            raise InputError(f"expected {wanted}, found {getattr(config, name)}; leave it out")
    built = {"backbone": info.backbone, "stem": info.stem, "neck": info.neck, "embedding_dim": info.embedding_dim}
    return {**own, **{name: value for name, value in built.items() if value and name not in given}}


ORIGIN = "origin.json"  #: Where a run keeps the Origin of the weights that it started from
INHERITED = ("image_size", "mean", "std", "channel_order", "backbone", "stem", "neck", "embedding_dim")
"""What `inherited` may give."""
PLAIN = str.maketrans("/:", "--")  #: For folder names: what no name of a backbone or head may bring into them


def resume(
    run: str | Path | None = None, *, recipe: str | None = None, watch: Watch = unwatched, **options: Any
) -> Trained:
    """Goes on with a run, given by name or folder, where it stopped; None is the newest.

    `options` and those of the `recipe` may differ from the run's where they do not decide the weights, or mend what
    stopped it (`Option.mendable`). InputError for others, and as for `train`.
    """
    folder = find_run(run, holding="checkpoint/step-*")
    saved = load_config(folder / "config.yaml")
    given = {**(load_recipe(recipe) if recipe else {}), **options}
    given = {name: value for name, value in given.items() if (name, value) != ("precision", "auto")}
    if saved.init != "none":  # what --init brought overrides a recipe
        given = {name: value for name, value in given.items() if name in options or name not in INHERITED}
    config = build({**asdict(saved), **given})
    if refused := changes(saved, config, resumable=False, mendable=False):
        mends = ", ".join(map(flag, option_names(mendable=True)))
        advice = f"resume without them ({mends} may change), or start a new run"
        found = f"found other values for {', '.join(refused)}; {advice}"
        raise InputError(f"expected the options of {folder} to stay as they were, {found}")
    if "fp64" in (saved.precision, config.precision) and saved.precision != config.precision:
        raise InputError(f"expected --precision {saved.precision} to stay, found {config.precision}; start a new run")
    return Trained(folder, train_in(folder, config, resume=True, watch=watch))


def train_in(run: Path, config: TrainConfig, *, resume: bool = False, watch: Watch = unwatched) -> Record:
    """Trains by `config` in the folder `run`, under its lock; a new run leaves none before its first checkpoint.

    Of the processes that torchrun starts, the first one makes and locks the folder, and tells the others its name. The
    file of an augmentation is kept in the run, which goes on with it whatever becomes of the original.
    """
    from zoo.backbones import model_info
    from zoo.resolve import torch_folder
    from zoo.train.build import choose_device
    from zoo.train.loop import train
    from zoo.train.step import settled

    config = settled(config, choose_device(config))  # as it is saved: a run goes on as it began
    start = "none" if resume else config.init  # a run that goes on has its own weights
    trained = start not in ("none", "timm")
    start = str(torch_folder(start)) if trained else start
    here = replace(config, init=start, init_centres=config.init_centres and not resume)
    if not first_process():
        with machine_faults(run):
            return train(here, run, resume=resume)
    with machine_faults(run), new_folder(run, keep=has_checkpoint), lock(run):
        if not resume:
            save_config(config, run / "config.yaml")
            if trained and (origin := model_info(start).origin):  # its models and its card tell of others' weights
                write_json(run / ORIGIN, asdict(origin))
        augment, kept = Path(config.augment), run / "augment.yaml"
        if augment.suffix in (".yaml", ".yml"):
            if augment.is_file() and not (resume and kept.is_file()):
                write_bytes(kept, augment.read_bytes())
            here = replace(here, augment=str(kept if kept.is_file() else augment))
        return train(here, run, resume=resume, watch=watch)


def has_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoint/step-*"))


def first_process() -> bool:
    """Whether this process is alone or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"
