"""Measure a model on a benchmark through ONNX Runtime.

zoo evaluate model.onnx --data lfw.bin
zoo evaluate --data synthetic --report report/        the newest run, on drawn faces
zoo evaluate model.onnx --data lfw.bin --compat insightface --json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import InputError

MODEL_FILE = "model.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="an ONNX file, a run or a Hub id (default: the newest run)"
    )
    parser.add_argument(
        "--data", default="synthetic", metavar="PATH", help="a .bin benchmark, or synthetic: drawn faces (default)"
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="sum the embeddings of each picture and its mirror image (default: yes)",
    )
    parser.add_argument("--compat", metavar="NAME", help="insightface: its accuracy, digit for digit")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, tensorrt (default: auto)")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--report", metavar="DIR", help="write report.json and report.html there")
    parser.add_argument(
        "--write-thresholds",
        action="store_true",
        help="store the measured thresholds in the model's metadata, those with 30 false accepts or more behind them",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    from zoo.evaluate.embedder import embed
    from zoo.evaluate.protocols.base import check_compat
    from zoo.evaluate.report import Report, finite
    from zoo.evaluate.session import OnnxEmbedder

    check_compat(args.compat)
    path = model_path(args.model)
    folder = report_folder(args.report) if args.report else None
    embedder = OnnxEmbedder(path, device=args.device, threads=args.threads)
    protocol = open_protocol(args.data)
    with progress_bar(f"embedding {protocol.data}", len(protocol)) as progress:
        embeddings = embed(embedder, protocol.images(), args.batch_size, flip=args.flip, progress=progress)
    evaluation = protocol.evaluate(embeddings, args.compat)
    model = {
        "name": path.parent.name if path.name == MODEL_FILE and path.parent.name else path.name,
        "file": path.name,
        "sha256": embedder.model_sha256,
        "embedding_dim": embedder.embedding_dim,
        "precision": embedder.precision,
        "provider": embedder.provider,
        "notes": embedder.notes,
        "info": json.loads(embedder.info.to_json()) if embedder.info else None,
    }
    report = Report(model, [evaluation], {"flip": args.flip, "compat": args.compat, "batch_size": args.batch_size})
    notes = list(embedder.notes)
    if folder:
        report.save(folder / "report.json")
        report.save(folder / "report.html")
        notes.append(f"the report is {folder / 'report.html'}")
    if args.write_thresholds:
        notes += write_thresholds(path, embedder, evaluation.figures, args.flip)
    if args.json:
        print(json.dumps(finite({"model": model, **evaluation.figures, "notes": notes}), indent=2))
    else:
        print_table(model["name"], report.record["results"][0], notes)
    return 0


def report_folder(name: str) -> Path:
    """The folder for the report, made before an hour of embedding and not after it."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected a folder for --report, cannot make {folder} ({error.strerror})") from None
    return folder


def model_path(model: str | None) -> Path:
    """The ONNX file that MODEL names: itself, the one in a run folder or on the Hub; None: that of the newest run."""
    from zoo.hub.pull import is_hub_id, resolve_model
    from zoo.train.runs import find_run

    if model is not None and (Path(model).is_file() or is_hub_id(model)):
        return resolve_model(model)
    if model is not None and (Path(model) / MODEL_FILE).is_file():
        return Path(model) / MODEL_FILE
    if model is not None and Path(model).suffix == ".onnx":
        raise InputError(f"expected an ONNX model at {model}, found no such file; check the path")
    folder = find_run(model)
    if not (folder / MODEL_FILE).is_file():
        raise InputError(f"expected {MODEL_FILE} in {folder}, found none; write it with `zoo export {folder} --onnx`")
    return folder / MODEL_FILE


def open_protocol(data: str) -> Any:
    """The benchmark that --data names."""
    from zoo.evaluate.protocols.pairs import PairsProtocol

    if data == "synthetic":
        from zoo.data.synthetic import synthetic_pairs

        images, same = synthetic_pairs()
        digest = hashlib.sha256(images)
        digest.update(same)
        return PairsProtocol(images, same, data="synthetic (drawn faces)", data_sha256=digest.hexdigest())
    path = Path(data)
    if not path.is_file():
        raise InputError(f"expected a .bin benchmark or the word synthetic for --data, found no file at {data}")
    return PairsProtocol.from_bin(path)


def write_thresholds(path: Path, embedder: Any, figures: dict[str, Any], flip: bool) -> list[str]:
    """Stores what was measured in the ONNX file, and in the config.json of its run; returns what to tell."""
    from zoo.evaluate.session import write_model_info
    from zoo.evaluate.thresholds import measured_thresholds, with_thresholds
    from zoo.files import write_json
    from zoo.spec import ModelInfo

    kept, told = measured_thresholds(
        figures, embedder.model_sha256, flip, embedder.precision, alignment=embedder.input.alignment
    )
    if kept:
        info = with_thresholds(embedder.info or ModelInfo(embedder.embedding_dim, embedder.input), kept)
        write_model_info(path, info)
        config = path.with_name("config.json")
        if config.is_file():
            content = json.loads(config.read_text())
            if "zoo" in content:
                content["zoo"]["thresholds"] = json.loads(info.to_json())["thresholds"]
                write_json(config, content)
    for threshold in kept:
        told.append(
            f"stored the threshold {threshold.threshold:.6f} for FAR {threshold.far:g} "
            f"({threshold.false_accepts} false accepts among {threshold.negatives:,} negatives)"
        )
    return told


def print_table(name: str, result: dict[str, Any], notes: list[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from zoo.evaluate.report import rows

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(result["data"], no_wrap=True)
    table.add_column(name, justify="right", no_wrap=True)
    for label, value in rows(result):
        table.add_row(label, value)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table, markup=False)
    console.print(
        f"{result['pairs']:,} pairs: {result['positives']:,} of one person, {result['negatives']:,} of two; "
        "in brackets the exact binomial 95 % interval.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for note in dict.fromkeys([*result["not_measurable"], *notes]):
        console.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr for people who watch; nothing where stderr is a file."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
