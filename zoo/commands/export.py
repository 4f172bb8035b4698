"""Export a trained model to ONNX or timm's layout, and prove that the file computes the same.

RUN is a run or any other MODEL with PyTorch weights; default: the newest run. --fp16 and --int8 write smaller files
beside the float32 one and print how they compare.

  zoo export --onnx
  zoo export runs/first --onnx --int8 --calibrate faces/ --data lfw.bin --max-accuracy-drop 0.005
  zoo export runs/first --safetensors --output copy/
  zoo export model.onnx --web page/ --threshold 0.3
"""

import argparse
import json
import logging
from typing import TYPE_CHECKING

from zoo.commands.options import Parser, answer, given
from zoo.errors import InputError
from zoo.messages import log

if TYPE_CHECKING:
    from zoo.export.artifacts import Change, Comparison, OnnxExport

LOW_COSINE = 0.99  #: A mean cosine to float32 below this gives a warning


def add_arguments(parser: Parser) -> None:
    from zoo.export.options import Options

    parser.add("run RUN", "a run, its folder, or another MODEL with weights", nargs="?")
    parser.add("--onnx", "write ONNX with metadata and measured parity")
    parser.add("--safetensors", "write config.json and model.safetensors, timm's layout")
    parser.add("--web OUT", "write a page of two photos that any static server can serve; MODEL needs an ONNX file")
    package = "node_modules/onnxruntime-web"
    parser.add("--onnxruntime-web FOLDER", f"with --web: the npm package (default: {package})", default=package)
    parser.add("--detector PATH", "with --web: YuNet's ONNX file (default: the pinned one)")
    parser.add("--threshold COSINE", "with --web: the page's threshold", type=float)
    parser.add("--far RATE", "with --web: the stored threshold of this rate", type=float)
    parser.add("-o --output PATH", "an .onnx file or a folder (default: model.onnx in the run's folder)")
    parser.add_options(Options)
    parser.add("--force", "replace existing files")
    parser.add_threads_argument()
    parser.add_json("print the facts of the written files as JSON")


def run(args: argparse.Namespace) -> int:
    if args.web is not None:
        return run_web(args)
    from zoo.export.options import Options

    chosen = given(args, Options)
    if not args.onnx and (chosen or not args.safetensors):
        found = "options of --onnx; add --onnx" if args.safetensors else "none; add --onnx, --safetensors or --web OUT"
        raise InputError(f"expected a format, found {found}")
    from zoo.export.artifacts import export_onnx, export_timm, timm_files

    if args.json:
        log.setLevel(logging.WARNING)
    if args.safetensors:  # before ONNX files are written
        timm_files(args.run, args.output, force=args.force)
    facts = {}
    if args.onnx:
        exported = export_onnx(args.run, args.output, force=args.force, **chosen)
        facts["onnx"] = exported.to_json()
        if not args.json:
            show(exported)
    if args.safetensors:
        files = [str(file) for file in export_timm(args.run, args.output, force=args.force)]
        facts["safetensors"] = {"files": files}
        if not args.json:
            print(", ".join(files))
    if args.json:
        print(json.dumps(facts if len(facts) > 1 else next(iter(facts.values()))))
    return 0


def run_web(args: argparse.Namespace) -> int:
    if args.onnx or args.safetensors:
        raise InputError("--web writes a page for a model that is exported already; export with another command first")
    from zoo.serve.web import export_web

    chosen = {"far": args.far, "threshold": args.threshold, "force": args.force}
    files = export_web(args.run, args.web, runtime=args.onnxruntime_web, detector=args.detector, **chosen)
    told = f"{args.web}: {len(files)} files, {sum(files.values()) / 2**20:.1f} MiB"
    next_step = f"next: python -m http.server --directory {args.web}"
    return answer(args, {"folder": args.web, "files": files}, [told, next_step])


def show(exported: "OnnxExport") -> None:
    path, parity = exported.model, exported.info.parity
    worst = min(record["cosine"] for record in parity.values())
    difference = max(record["max_abs"] for record in parity.values())
    beside = path.with_name(f"{path.name}.data")
    weights = f" and {beside.stat().st_size / 2**20:,.1f} MiB in {beside.name}" if beside.exists() else ""
    proven = f"cosine to torch at least {worst:.6f}, largest difference {difference:.0e}"
    where = f"at batches {', '.join(parity)}, on {exported.measured_on}"
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB{weights}, {proven}, {where}")
    if exported.comparison is not None:
        show_comparison(exported.comparison)
    print(f"next: zoo evaluate {path} --data PAIRS.bin")


def show_comparison(comparison: "Comparison") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, title=f"on {comparison.pairs}, with flip", title_justify="left")
    grid.add_column("file")
    for heading in ("MiB", "ms, batch 1", "ms, batch 32", "cosine mean", "worst", "accuracy", "TAR@FAR 0.01"):
        grid.add_column(heading, justify="right")
    for row in comparison.rows:
        first = row.precision == "float32"
        grid.add_row(
            row.file,
            f"{row.bytes / 2**20:.1f} ({row.size_ratio:.2f}×)",
            *(f"{row.milliseconds[b]:.1f} ({row.speed[b]:.2f}× as fast)" for b in ("1", "32")),
            f"{row.mean_cosine:.5f}",
            f"{row.worst_cosine:.5f}",
            changed(row.accuracy, None if first else row.accuracy_change),
            changed(row.tar, None if first else row.tar_change),
        )
    Console(width=160).print(grid)
    for row in comparison.rows:
        if row.mean_cosine < LOW_COSINE:
            far = f"its embeddings are far from float32's (mean cosine {row.mean_cosine:.4f})"
            print(f"{row.precision}: {far}: calibrate on crops like those in use, or do without it")
    for how in comparison.conversions:
        kept = ", ".join(how.kept_in_float32) or "nothing"
        print(f"{how.precision}: kept in float32: {kept}" + (f" ({how.why})" if how.why else ""))


def changed(value: float, change: "Change | None") -> str:
    interval = "" if change is None else f" ({change.value:+.4f}: {change.low:+.4f} to {change.high:+.4f})"
    return f"{value:.4f}{interval}" if value == value else "not measurable"
