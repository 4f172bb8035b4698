"""Write a trained run as model files, with proof that they compute the same.

RUN is a run folder, its name, or a folder with config.json and model.safetensors; default: the newest run.
--fp16 and --int8 write smaller files beside the float32 one and print what they cost.

  zoo export --onnx
  zoo export runs/first --onnx --int8 --calibrate faces/ --data lfw.bin --max-accuracy-drop 0.005
  zoo export runs/first --safetensors --output copy/
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import runs
from zoo.errors import InputError
from zoo.export.formats import FORMATS, Options
from zoo.resolve import find_model
from zoo.resolve.kinds import Folder, HubModel

LOW_COSINE = 0.99
"""A mean cosine to float32 below this is remarked upon."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo export`; every format has one of its own."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="run folder or name, or a folder in timm's layout")
    for name in FORMATS:
        parser.add_argument(f"--{name}", action="store_true", help=FORMATS[name].what)
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="an .onnx file or a folder; default: model.onnx in the run's folder"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set (default: 18)")
    parser.add_argument("--fp16", action="store_true", help="a float16 file too, half the size")
    parser.add_argument("--int8", action="store_true", help="an int8 file too, a quarter of the size")
    parser.add_argument(
        "--calibrate",
        metavar="DATA",
        help="crops for int8's ranges and for parity: a folder, .rec or .bin; default: drawn",
    )
    parser.add_argument(
        "--calibration-method",
        metavar="NAME",
        action="append",
        help="percentile, entropy or minmax; repeat to try several (default: percentile and entropy, the better)",
    )
    parser.add_argument("--data", metavar="PAIRS.bin", help="pairs to compare the files on; default: drawn faces")
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        metavar="X",
        help="write nothing where a smaller file loses more than this fraction of accuracy on --data, as measured",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="with --max-accuracy-drop: nor where the loss's 95 %% interval reaches beyond X, as it does on few pairs",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--json", action="store_true", help="print the facts of the written files as JSON")


def run(args: argparse.Namespace) -> int:
    """Exports; 0 when every file is written and proven."""
    formats = [name for name in FORMATS if getattr(args, name)]
    if not formats:
        raise InputError(f"expected a format, found none; add {' or '.join('--' + name for name in FORMATS)}")
    if (args.fp16 or args.int8) and not args.onnx:
        raise InputError("--fp16 and --int8 are kinds of ONNX files; add --onnx")
    for flag, value, needs in (
        ("--opset", args.opset, "onnx"),
        ("--calibrate", args.calibrate, "onnx"),
        ("--calibration-method", args.calibration_method, "int8"),
    ):
        if value is not None and not getattr(args, needs):
            raise InputError(f"{flag} says how --{needs} is done; add --{needs} or leave it out")
    if args.data is not None and not (args.fp16 or args.int8):
        raise InputError("--data is what smaller files are compared on; add --fp16 or --int8, or use zoo evaluate")
    if args.max_accuracy_drop is not None and not (args.fp16 or args.int8):
        raise InputError("--max-accuracy-drop compares a smaller file; add --fp16 or --int8")
    if args.max_accuracy_drop is not None and not 0 <= args.max_accuracy_drop < 1:
        raise InputError(
            f"expected a fraction such as 0.005 after --max-accuracy-drop, found {args.max_accuracy_drop:g}; "
            "0 allows no loss"
        )
    if args.strict and args.max_accuracy_drop is None:
        raise InputError("--strict says how --max-accuracy-drop is meant; add it")
    if isinstance(find_model(args.run), HubModel) and not args.output:
        raise InputError(f"expected --output for {args.run}, which is on the Hub and not in a folder of yours")
    folder = source(args.run)
    output = Path(args.output) if args.output else None
    if output is not None and output.suffix != ".onnx" and output.exists() and not output.is_dir():
        raise InputError(f"expected a folder or an .onnx file after --output, found another file at {output}")
    from zoo.backbones import load_timm, model_info

    info = model_info(folder)
    targets = {name: FORMATS[name].target(folder, output) for name in formats}
    options = Options(
        opset=args.opset,
        fp16=args.fp16,
        int8=args.int8,
        calibrate=args.calibrate,
        training_data=training_data(folder),
        methods=tuple(args.calibration_method or Options.methods),
        data=args.data,
        max_accuracy_drop=args.max_accuracy_drop,
        strict=args.strict,
        force=args.force,
        say=(lambda line: None) if args.json else lambda line: print(line, file=sys.stderr, flush=True),
    )
    for name, target in targets.items():
        FORMATS[name].require_free(target, options)
    model = load_timm(folder)
    with folder_for(output):
        written = {name: FORMATS[name].write(model, info, targets[name], options) for name in formats}
    if args.json:
        print(json.dumps(written[formats[0]] if len(formats) == 1 else written))
    else:
        for name, facts in written.items():
            show(name, facts)
    return 0


@contextlib.contextmanager
def folder_for(output: Path | None) -> Iterator[None]:
    """The folder that the user named, made where it is new, and gone again where nothing was written into it."""
    if output is None or output.suffix == ".onnx" or output.is_dir():
        yield
        return
    try:
        output.mkdir()
    except OSError as error:
        raise InputError(f"cannot make the folder {output} ({error.strerror}); choose another one") from None
    try:
        yield
    finally:
        if not any(output.iterdir()):
            output.rmdir()


def show(name: str, facts: dict[str, Any]) -> None:
    """What was written, for people."""
    if name != "onnx":
        print(f"{facts['folder']}: {', '.join(facts['files'])}, {facts['bytes'] / 2**20:.1f} MiB")
        return
    path = Path(facts["model"])
    worst = min(record["cosine"] for record in facts["parity"].values())
    difference = max(record["max_abs"] for record in facts["parity"].values())
    beside = path.with_name(f"{path.name}.data")
    weights = f" and {beside.stat().st_size / 2**20:,.1f} MiB in {beside.name}" if beside.exists() else ""
    print(
        f"{path}: {path.stat().st_size / 2**20:.1f} MiB{weights}, cosine to torch at least {worst:.6f}, "
        f"largest difference {difference:.0e}, at batches {', '.join(facts['parity'])}, on {facts['measured_on']}"
    )
    if "variants" in facts:
        table(facts)
    print(f"next: zoo evaluate {path} --data PAIRS.bin")


def table(facts: dict[str, Any]) -> None:
    """The variants beside the float32 file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    far = "TAR@FAR 0.01"
    grid = Table(box=box.SIMPLE_HEAD, title=f"on {facts['pairs']}, with flip", title_justify="left")
    for heading in ("file", "MiB", "ms, batch 1", "ms, batch 32", "cosine mean", "worst", "accuracy", far):
        grid.add_column(heading, justify="left" if heading == "file" else "right")
    for row in facts["variants"]:
        first = row["precision"] == "float32"
        grid.add_row(
            row["file"],
            f"{row['bytes'] / 2**20:.1f} ({row['size_ratio']:.2f}×)",
            *(f"{row['milliseconds'][b]:.1f} ({row['speed'][b]:.2f}× as fast)" for b in ("1", "32")),
            f"{row['mean_cosine']:.5f}",
            f"{row['worst_cosine']:.5f}",
            changed(row["accuracy"], None if first else row["accuracy_change"]),
            changed(row["tar"], None if first else row["tar_change"]),
        )
    Console(width=160).print(grid)
    for row in facts["variants"]:
        if row["mean_cosine"] < LOW_COSINE:
            print(
                f"{row['precision']}: its embeddings are far from float32's (mean cosine {row['mean_cosine']:.4f}): "
                "calibrate on crops like those that it will see, or do without it"
            )
    if "max_accuracy_drop" in facts:
        limit = facts["max_accuracy_drop"]["limit"]
        for row in facts["variants"][1:]:
            print(drop_text(row["precision"], row["accuracy_change"], limit))
    for name, how in facts["quantisation"].items():
        kept = ", ".join(how["kept_in_float32"]) or "nothing"
        print(f"{name}: kept in float32: {kept}" + (f" ({how['why']})" if how["why"] else ""))


def drop_text(name: str, change: dict[str, float], limit: float) -> str:
    """What --max-accuracy-drop found, and whether the pairs suffice to be sure of it."""
    loss, least, most = (0.0 - change[key] for key in ("value", "high", "low"))
    certain = (
        "the whole interval is within it"
        if most <= limit
        else "the interval reaches beyond it, which --strict would refuse; more pairs tell more"
    )
    interval = f"95 % interval {least:+.4f} to {most:+.4f}"
    return f"{name}: loses {loss:.4f} of accuracy ({interval}), allowed {limit:g}: {certain}"


def changed(value: float | None, change: dict[str, float] | None) -> str:
    """A rate, and its change with the interval."""
    if value is None:
        return "not measurable"
    if change is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({change['value']:+.4f}: {change['low']:+.4f} to {change['high']:+.4f})"


def training_data(folder: Path) -> str | None:
    """What the run was trained on, where that is still there as crops: the best to calibrate and prove on."""
    config = folder / "config.yaml"
    if not config.is_file():
        return None
    from zoo.train.config import load_config

    data = load_config(config).data
    return data if data and Path(data).exists() else None


def source(name: str | None) -> Path:
    """The folder to export; InputError for a run without a finished epoch or one that is being written."""
    place = find_model(name)
    if isinstance(place, Folder) and runs.is_being_written(place.path):
        raise InputError(f"the run {place.path} is being written at this moment; wait until it ends or stop it")
    return place.folder()
