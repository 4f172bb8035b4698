"""Measure models on benchmarks through ONNX Runtime.

zoo evaluate model.onnx --data lfw.bin
zoo evaluate --data synthetic --report report/        the newest run, on drawn faces
zoo evaluate a.onnx b.onnx --data benchmarks/ --protocol lfw ijbc --report report/
zoo evaluate stranger.onnx --data lfw/pairs.txt --detector yunet --bgr --mean 0 --std 255
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.commands.progress import bar
from zoo.errors import InputError

MODEL_FILE = "model.onnx"
FEATURES = ("N1D1", "N1D0", "N0D1", "N0D0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs="*", help=".onnx files or runs (default: the newest run)")
    parser.add_argument(
        "--data",
        default="synthetic",
        metavar="PATH",
        help="a .bin, pairs.txt or .csv; a folder of benchmarks (.bin, pairs.txt, RFW, IJBB, IJBC, tinyface); or "
        "synthetic: drawn faces (default)",
    )
    parser.add_argument("--protocol", nargs="+", default=[], metavar="NAME", help="only these: lfw, ijbc, tinyface, …")
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="sum the embeddings of each picture and its mirror image (default: yes)",
    )
    parser.add_argument(
        "--features", default="N1D1", help="IJB: N keeps norms, D weighs by the detector (default: N1D1)"
    )
    parser.add_argument("--compat", metavar="NAME", help="insightface: its figures, digit for digit")
    parser.add_argument("--backend", default="onnx", help="onnx, or torch: a run that was not exported (default: onnx)")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:1, tensorrt; several by commas, each a process of its own (default: auto)",
    )
    parser.add_argument("--precision", default="float32", help="float32, or float16 with TensorRT (default: float32)")
    parser.add_argument("--cuda-graph", action="store_true", help="record one batch on the GPU and play it again")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read ahead of each device (default: 2)")
    parser.add_argument(
        "--cache", action=argparse.BooleanOptionalAction, default=True, help="reuse embeddings (default: yes)"
    )
    parser.add_argument("--mean", type=float, help="a stranger's model: what is subtracted from 0 … 255")
    parser.add_argument("--std", type=float, help="a stranger's model: what the difference is divided by")
    parser.add_argument("--bgr", action="store_true", help="a stranger's model: blue first")
    parser.add_argument(
        "--detector", metavar="PATH", help="find the faces in the photos of a list by this YuNet file, or by yunet"
    )
    parser.add_argument("--strict", action="store_true", help="refuse a model whose input is not the crops' size")
    parser.add_argument("--report", metavar="DIR", help="write report.json, report.html, tables and figures there")
    parser.add_argument("--compare", nargs="+", default=[], metavar="JSON", help="show these report.json beside")
    parser.add_argument("--thumbnails", action="store_true", help="show the hardest pairs' faces in report.html")
    parser.add_argument(
        "--write-thresholds",
        action="store_true",
        help="store the measured thresholds in the model's metadata, those with 30 false accepts or more behind them",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


@dataclass
class Loaded:
    """A model ready to measure: what embeds, what a report says of it, and what its embeddings depend on."""

    path: Path
    embedder: Any
    facts: dict[str, Any]
    depends_on: dict[str, Any]
    devices: tuple[str, ...] = ()
    """More than one: a process for each embeds a share of the pictures."""
    options: dict[str, Any] = field(default_factory=dict)
    """What each of these processes opens the model with."""


def run(args: argparse.Namespace) -> int:
    from zoo.evaluate.protocols.base import check_compat
    from zoo.evaluate.report.record import Report, read_record, thumbnails
    from zoo.evaluate.report.rows import differences
    from zoo.evaluate.report.write import save_all
    from zoo.files import json_safe

    check_compat(args.compat)
    if args.features not in FEATURES:
        raise InputError(f"expected the features {', '.join(FEATURES)}, found {args.features!r}")
    if args.workers < 0:
        raise InputError(f"expected 0 workers or more, found {args.workers}")
    folder = report_folder(args.report) if args.report else None
    earlier = [read_record(path) for path in args.compare]
    models = [load_model(name, args) for name in args.models or [None]]
    benchmarks, failed = open_benchmarks(args)
    records, printed = [], []
    for model in models:
        notes: list[str] = []
        evaluations, groups, detectors = [], {}, []
        for name, protocol, shortfall in benchmarks:
            try:
                seen = look_at(protocol, model)
                embeddings, reused = embeddings_of(model, protocol, args)
                evaluation = protocol.evaluate(embeddings, args.compat)
                if name.startswith("rfw_"):
                    groups[protocol.data] = (protocol.cosines(embeddings), protocol.same)
                if args.thumbnails and hasattr(protocol, "pair_images"):
                    evaluation.curves["thumbnails"] = thumbnails(protocol, evaluation.curves["hardest"])
            except InputError as error:  # the other benchmarks are measured all the same
                failed.append(f"{protocol.data}, {model.facts['name']}: {error}")
                continue
            evaluations.append(evaluation)
            detectors.append(evaluation.figures.get("failures", {}).get("cut") or "none (aligned crops)")
            evaluation.figures["notes"] = [note for note in (*seen, shortfall(evaluation.figures)) if note]
            notes.append(reused)
        if not evaluations:
            continue
        options = {"flip": args.flip, "compat": args.compat, "batch_size": args.batch_size, "features": args.features}
        model.facts["notes"] = model.embedder.notes
        report = Report(model.facts, evaluations, options, groups, failed)
        records.append(report.record)
        notes += model.embedder.notes
        if args.write_thresholds:
            for evaluation, detector in zip(evaluations, detectors, strict=True):
                if "operating_points" in evaluation.figures:
                    notes += write_thresholds(model, evaluation.figures, args.flip, detector)
        for evaluation in evaluations:
            told = [note for note in (*evaluation.figures["notes"], *notes) if note]
            printed.append(json_safe({"model": model.facts, **evaluation.figures, "notes": told}))
        if not args.json:
            print_tables(report.record, [note for note in notes if note])
    *others, last = list(dict.fromkeys(failed)) or [""]
    for sentence in others:
        print(f"zoo: {sentence}", file=sys.stderr)
    if not records:
        raise InputError(last)
    if not args.json:
        for data, sentence in differences([*records, *earlier]):
            print(f"{data}: {sentence}")
    if folder:
        save_all(folder, [*records, *earlier])
        if not args.json:
            print(f"The report is {folder / 'report.html'}.")
    if args.json:
        whole = printed[0] if len(printed) == 1 and not failed else {"results": printed, "not_measured": failed}
        print(json.dumps(whole, indent=2))
    if last:
        raise InputError(last)
    return 0


def load_model(name: str | None, args: argparse.Namespace) -> Loaded:
    """The model that MODEL names, on the backend and device that were asked for."""
    if args.backend not in ("onnx", "torch"):
        raise InputError(f"expected --backend onnx or torch, found {args.backend!r}")
    if args.backend == "torch":
        for flag in ("write_thresholds", "cuda_graph", "bgr", "mean", "std"):
            if getattr(args, flag) not in (None, False):
                raise InputError(
                    f"expected an ONNX model for --{flag.replace('_', '-')}, found --backend torch; leave one out"
                )
        return load_torch(name, args)
    from zoo.inference.providers import Device, choose
    from zoo.inference.session import OnnxEmbedder
    from zoo.resolve import find_model

    # the newest run even where it was not exported: figures of an older one would be taken for its own
    path = find_model(name).onnx()
    devices = tuple(args.device.split(","))
    kinds = {Device.parse(device).kind for device in devices}
    if len(devices) > 1 and (len(kinds) > 1 or kinds == {"auto"}):
        raise InputError(f"expected several devices of one kind, e.g. cuda:0,cuda:1, found {args.device}")
    for device in devices[1:]:
        choose(Device.parse(device))
    options = {
        "threads": args.threads,
        "strict": args.strict,
        "input": given_input(path, args),
        "batch_size": args.batch_size,
        "precision": args.precision,
        "graph": args.cuda_graph,
    }
    embedder = OnnxEmbedder(path, device=devices[0], **options)
    facts = {
        "name": path.parent.name if path.name == MODEL_FILE and path.parent.name else path.name,
        "file": path.name,
        "sha256": embedder.model_sha256,
        "embedding_dim": embedder.embedding_dim,
        "precision": embedder.precision,
        "provider": embedder.provider,
        "input": asdict(embedder.input),
        "info": json.loads(embedder.info.to_json()) if embedder.info else None,
    }
    depends_on = {**_depends_on(facts, embedder.input), "graph": args.cuda_graph}
    return Loaded(path, embedder, facts, depends_on, devices, options)


def given_input(path: Path, args: argparse.Namespace) -> Any:
    """The input of --mean, --std and --bgr over what the file states; None without any of them."""
    from zoo.inference.metadata import read_model_info
    from zoo.modelinfo import InputSpec

    if args.mean is None and args.std is None and not args.bgr:
        return None
    for flag, value in (("mean", args.mean), ("std", args.std)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"expected a finite number for --{flag}, found {value}")
    info = read_model_info(path)
    stated = info.input if info else InputSpec()
    given = replace(
        stated,
        mean=stated.mean if args.mean is None else args.mean,
        std=stated.std if args.std is None else args.std,
        channel_order="BGR" if args.bgr else stated.channel_order,
    )
    if args.write_thresholds and info and given != stated:
        raise InputError(
            f"expected the input that {path} states ({stated.channel_order}, mean {stated.mean:g}, std {stated.std:g}) "
            "for --write-thresholds, found another one given; leave out --mean, --std and --bgr"
        )
    return given


def look_at(protocol: Any, model: Loaded) -> list[str]:
    """What some of the pictures tell at a glance: swapped colours, and photos taken for crops."""
    from zoo.evaluate.benchmarks.channel_check import look

    assumed = not model.facts["info"] and model.options.get("input") is None
    told = look(protocol, assumed)
    if getattr(protocol, "people", None) and protocol.cut is None:
        height, width = protocol.image(0).shape[:2]
        if (height, width) != (112, 112):
            told.append(
                f"pictures of {height}×{width} are taken as aligned crops; --detector yunet finds the faces first"
            )
    return told


def load_torch(name: str | None, args: argparse.Namespace) -> Loaded:
    """A model by PyTorch, from a folder in timm's layout, which every epoch of a run leaves."""
    from zoo.resolve import find_model, load_embedder

    if "," in args.device or args.precision != "float32":
        raise InputError("expected one device and float32 for --backend torch, found more; leave --backend out")
    place = find_model(name)
    embedder = load_embedder(place.folder(), "torch", device=args.device, threads=args.threads, strict=args.strict)
    facts = {
        "name": place.name,
        "file": embedder.path.name,
        "sha256": embedder.model_sha256,
        "embedding_dim": embedder.embedding_dim,
        "precision": embedder.precision,
        "provider": embedder.provider,
        "info": json.loads(embedder.info.to_json()) if embedder.info else None,
    }
    return Loaded(embedder.path, embedder, facts, _depends_on(facts, embedder.input))


def _depends_on(facts: dict[str, Any], spec: Any) -> dict[str, Any]:
    return {**{key: facts[key] for key in ("file", "sha256", "precision", "provider")}, "input": asdict(spec)}


def embeddings_of(model: Loaded, protocol: Any, args: argparse.Namespace) -> tuple[Any, str]:
    """The protocol's embeddings, from the cache where the very same were computed before; and whether they were."""
    from zoo.evaluate.benchmarks import cache
    from zoo.files import cache_folder
    from zoo.formats.read_ahead import read_ahead
    from zoo.inference.embed import embed
    from zoo.inference.multi_device import Job, embed_on

    key = ""
    if args.cache:
        facts = {"model": model.depends_on, "data": protocol.content_sha256(), "flip": args.flip}
        key = cache.cache_key({**facts, "protocol": type(protocol).__name__, "strict": args.strict})
        known = cache.load(cache_folder("embeddings"), key, len(protocol))
        if known is not None:
            return known, f"{protocol.data}: embeddings reused from the cache (--no-cache computes them again)"
    with bar(f"embedding {protocol.data}", len(protocol)) as progress:
        if len(model.devices) > 1:
            job = Job(model.path, protocol, args.batch_size, args.flip, args.workers, model.options)
            embeddings, notes = embed_on(job, model.devices, progress)
            model.embedder.notes[:] = dict.fromkeys([*model.embedder.notes, *notes])
        else:
            pictures = read_ahead(protocol, args.workers)
            embeddings = embed(model.embedder, pictures, args.batch_size, flip=args.flip, progress=progress)
    if args.cache:
        cache.store(cache_folder("embeddings"), key, embeddings)
    return embeddings, ""


Opened = tuple[str, Any, Callable[[dict[str, Any]], str]]
"""A benchmark's name, its protocol, and the sentence for figures of a partial copy."""


def open_benchmarks(args: argparse.Namespace) -> tuple[list[Opened], list[str]]:
    """What --data and --protocol name, and a sentence for each benchmark that is there and not whole."""
    if args.data == "synthetic":
        from zoo.data.synthetic import synthetic_pairs
        from zoo.evaluate.protocols.pairs import PairsProtocol

        images, same = synthetic_pairs()
        digest = hashlib.sha256(images.data)
        digest.update(same.data)
        drawn = PairsProtocol(images, same, data="synthetic (drawn faces)", data_sha256=digest.hexdigest())
        return [("synthetic", drawn, lambda figures: "")], []
    from zoo.evaluate.benchmarks.find import find_benchmarks

    found = find_benchmarks(args.data, args.protocol)
    if args.detector and not any(one.protocol == "pairs" and one.layout != "bin" for one in found):
        raise InputError(
            f"expected a list of pairs over photos (pairs.txt, RFW, .csv) for --detector, found none at {args.data}; "
            "leave it out"
        )
    opened: list[Opened] = []
    failed = []
    for one in found:
        try:
            opened.append((one.name, one.open(args.features, args.detector), one.shortfall))
        except InputError as error:
            failed.append(str(error))
    return opened, failed


def report_folder(name: str) -> Path:
    """The folder for the report, made before an hour of embedding and not after it."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected a folder for --report, cannot make {folder} ({error.strerror})") from None
    return folder


def write_thresholds(model: Loaded, figures: dict[str, Any], flip: bool, detector: str) -> list[str]:
    """Stores what was measured in the ONNX file, and in the config.json of its run; returns what to tell."""
    from zoo.evaluate.benchmarks.thresholds import measured_thresholds, with_thresholds
    from zoo.files import write_json
    from zoo.inference.metadata import write_model_info
    from zoo.modelinfo import ModelInfo

    path, embedder = model.path, model.embedder
    kept, told = measured_thresholds(
        figures, embedder.model_sha256, flip, embedder.precision, detector, embedder.input.alignment
    )
    if kept:
        info = with_thresholds(embedder.info or ModelInfo(embedder.embedding_dim, embedder.input), kept)
        write_model_info(path, info)
        embedder.info = info
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


def print_tables(record: dict[str, Any], notes: list[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from zoo.evaluate.report.rows import group_rows, holds, remarks, rows

    console = Console(width=None if sys.stdout.isatty() else 120)
    said: set[str] = set()
    for result in record["results"]:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(result["data"], no_wrap=True)
        table.add_column(record["model"]["name"], justify="right", no_wrap=True)
        for label, value in rows(result):
            table.add_row(label, value)
        console.print(table, markup=False)
        console.print(f"{holds(result)}.", markup=False, highlight=False)
        for note in remarks(result):
            said.add(note)
            console.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)
    for label, value in group_rows(record):
        console.print(f"{label}: {value}", markup=False, highlight=False)
    for note in dict.fromkeys(note for note in notes if note not in said):
        console.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)
