"""The log of a run: one line of metrics.jsonl every few steps, and what other packages and curves.html show of it.

What a run was resumed with other than before: options in history.jsonl, a JSON object a line; machine.json.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import explained, first_line, needs
from zoo.evaluate.report.figures import legend, line, panels, svg
from zoo.evaluate.report.page import templates
from zoo.files import json_safe, write_json, write_text
from zoo.heads import MarginSoftmaxLoss
from zoo.messages import log
from zoo.train.config import TrainConfig, changes, load_config, save_config
from zoo.train.start import Record
from zoo.train.typed import load_yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Write = Callable[[Mapping[str, float], int, float], object]  #: Takes figures by name, the step, seconds since 1970
Logger = Callable[[Path, Mapping[str, Any]], AbstractContextManager[Write]]  #: Opened with a run's folder and options


class MetricsFile:
    """metrics.jsonl: a JSON object a line, each with the number of steps done and the time when it was written.

    It is the one record of a run: what a logger shows and the curves are made from it.
    """

    def __init__(self, path: Path, resume_at: int, logger: AbstractContextManager[Write] | None = None) -> None:
        """Opens `path` and drops what came after step `resume_at`; the `logger` gets what is kept, and what comes."""
        kept = []
        if path.is_file():  # the validation of that step is made anew
            lines = path.read_text().splitlines(keepends=True) if resume_at else []
            kept = [line for line in lines if reached(line) <= resume_at - ('"validation"' in line)]
            write_text(path, "".join(kept))
        self.opened = contextlib.ExitStack()
        with explained("expected --log to open a run there, found none", Exception, advice="see its own settings"):
            self.logger = self.opened.enter_context(logger) if logger else None
        for old in kept:
            self.tell(json.loads(old))
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()

    def tell(self, record: Record) -> None:
        """Gives the logger the numbers of a record: train/loss, …, validation/accuracy, …"""
        figures = {f"train/{name}": value for name, value in record.items() if name not in ("step", "time")}
        figures |= {f"validation/{name}": value for name, value in record.get("validation", {}).items()}
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        try:
            if self.logger:
                self.logger(numbers, record["step"], record["time"])
        except Exception as trouble:  # a server that is gone must not end a run
            log.warning("--log has failed (%s); metrics.jsonl goes on", first_line(trouble))
            self.logger = None

    def write(self, record: Record) -> None:
        """Appends `record`; numbers that are not finite become null, as JSON knows no NaN."""
        clean = json_safe(record) | {"time": round(time.time(), 3)}
        self.file.write(json.dumps(clean) + "\n")
        self.file.flush()
        self.tell(clean)

    def close(self) -> None:
        """Flushes to disk, where the file is on one."""
        self.opened.close()
        if Path(self.file.name).is_file():
            os.fsync(self.file.fileno())
        self.file.close()


@contextlib.contextmanager
def tensorboard(run: Path, options: Mapping[str, Any]) -> Iterator[Write]:
    """Event files in the run's folder. A resumed run writes them anew, as they cannot be shortened."""
    with needs("tensorboard", "tensorboard", "for --log tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    with SummaryWriter(str(run / "tensorboard")) as board:
        yield lambda figures, step, at: [board.add_scalar(n, x, step, walltime=at) for n, x in figures.items()]


@contextlib.contextmanager
def weights_and_biases(run: Path, options: Mapping[str, Any]) -> Iterator[Write]:
    """A run of the same name in the project `zoo`. A resumed run goes on there, and tells nothing twice."""
    with needs("wandb", "wandb", "for --log wandb"):
        import wandb
    name = run.resolve().name
    with wandb.init(project="zoo", id=name, name=name, resume="allow", config=dict(options)) as board:
        known = board.step
        yield lambda figures, step, at: board.log(dict(figures), step=step) if step >= known else None


@contextlib.contextmanager
def mlflow_run(run: Path, options: Mapping[str, Any]) -> Iterator[Write]:
    """A run where MLFLOW_TRACKING_URI says. A resumed run is a new one there, with the lines before it."""
    with needs("mlflow", "mlflow", "for --log mlflow"):
        import mlflow
    with mlflow.start_run(run_name=run.resolve().name):
        mlflow.log_params(dict(options))
        names = str.maketrans("(),", "   ")
        yield lambda figures, step, at: mlflow.log_metrics({n.translate(names): x for n, x in figures.items()}, step)


LOGGERS: dict[str, Logger] = {"tensorboard": tensorboard, "wandb": weights_and_biases, "mlflow": mlflow_run}  # --log


def reached(line: str) -> float:
    """The step in a line of metrics.jsonl; infinite for a line cut short by a crash."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


class Meter:
    """Sums on the device what the log shows; measures images per second and the share of waiting for data."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self.passes = self.images = 0
        self.waited_seconds, self.since = 0.0, time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block's time as waiting for data."""
        before = time.perf_counter()
        yield
        self.waited_seconds += time.perf_counter() - before

    def add(self, loss: torch.Tensor, images: int) -> None:
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


def note_changes(run: Path, config: TrainConfig, step: int) -> None:
    """Notes the options that a resumed run mends from `step` on in its config.yaml, and both values in its history."""
    saved = load_config(run / "config.yaml")
    mended = {name: getattr(config, name) for name in changes(saved, config, mendable=True)}
    if not mended:
        return
    changed = {name: [getattr(saved, name), value] for name, value in mended.items()}
    line = {"step": step, "time": round(time.time(), 3), "changed": changed}
    history = run / "history.jsonl"
    write_text(history, f"{history.read_text('utf-8') if history.is_file() else ''}{json.dumps(line)}\n")
    save_config(replace(saved, **mended), run / "config.yaml")


def note_machine(run: Path, config: TrainConfig, device: torch.device, processes: int, resume: bool) -> list[str]:
    """Notes what a run trains on and, on a resume, says why it may not end as an uninterrupted run, bit for bit."""
    gpu, kept = device.type == "cuda", run / "machine.json"
    processor = torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability()
    now: dict[str, Any] = {"device": device.type, "processor": processor, "torch": torch.__version__}
    now |= {"processes": processes, "precision": config.precision}
    now["threads"] = None if gpu else torch.get_num_threads()
    before = json.loads(kept.read_text()) if resume and kept.is_file() else now
    write_json(kept, now)
    told = [f"{name} {now[name]} in place of {value}" for name, value in before.items() if now.get(name) != value]
    doubt = f"resumed with {', '.join(told)}: the weights will not be those of an uninterrupted run"
    sentences = [doubt] if told else []
    if resume and gpu and not config.deterministic:
        sentences.append("a run on a GPU repeats bit for bit only with --deterministic, which is slower (docs/gpu.md)")
    return sentences


CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss",)),
    ("Learning rate", ("lr",)),
    ("Validation", ("accuracy", "auc")),
    ("Mean cosine to the class centre", ("mean_target_cosine",)),
    ("Share of hard negatives", ("hard_negative_share",)),
    ("t of the head", ("t",)),
    ("Mean norm of the embeddings", ("embedding_norm",)),
    ("Images per second", ("images_per_second",)),
    ("Fraction of the time spent waiting for data", ("data_wait",)),
)  #: Each figure's title and the figures of a record that it shows; one that no record has is left out


def write_curves(run: Path) -> None:
    """Draws `run`/curves.html from the run's metrics.jsonl and config.yaml."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    write_text(run / "curves.html", page(run.name, load_yaml(run / "config.yaml"), records))


def page(name: str, config: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The HTML page of a run called `name` with these options and records of metrics.jsonl."""
    flat = [{**record, **record.get("validation", {})} for record in records]
    figures = [svg(figure, text) for text, keys in CURVES if (figure := draw(text, keys, flat)) is not None]
    validated = [record for record in flat if "accuracy" in record]
    best = max(validated, key=lambda record: (record["auc"], record["accuracy"]), default=None)
    template = templates("zoo.train").get_template("curves.html.j2")
    return template.render(name=name, config=config, last=flat[-1] if flat else {}, best=best, figures=figures)


def draw(text: str, keys: Sequence[str], records: Sequence[Record]) -> "Figure | None":
    """A figure of `keys` over the steps, titled `text`; None where no record has one of them as a finite number."""
    curves = {key: [(r["step"], r[key]) for r in records if r.get(key) is not None] for key in keys}
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        return None
    figure, (axes,) = panels((text,), 5.6, 3.2)
    axes.set_xlabel("step")
    for index, (key, points) in enumerate(curves.items()):
        few = "." if len(points) < 40 else ""
        axes.plot(*zip(*points, strict=True), marker=few, label={"auc": "AUC"}.get(key, key), **line(index))
    if len(keys) > 1:
        legend(axes)
    return figure
