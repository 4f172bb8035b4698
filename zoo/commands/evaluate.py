"""Measure models on benchmarks through ONNX Runtime.

zoo evaluate model.onnx --data lfw.bin
zoo evaluate --data synthetic --report report/        the newest run, on synthetic faces
zoo evaluate a.onnx b.onnx --data benchmarks/ --protocol lfw ijbc --report report/
zoo evaluate third-party.onnx --data lfw/pairs.txt --detector yunet --bgr --mean 0 --std 255
zoo evaluate a.onnx b.onnx --data lfw.bin --fuse --prior 0.01 --scores scores.parquet

--workers N threads read ahead of each device (default: 2); --cuda-graph records one batch and replays it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.commands.options import MODEL_HELP, Parser, bar, given
from zoo.errors import InputError, explained

if TYPE_CHECKING:
    from zoo.evaluate import Report


def add_arguments(parser: Parser) -> None:
    from zoo.evaluate.benchmarks.options import Options

    parser.add("models MODEL", f"{MODEL_HELP} (default: the newest run)", nargs="*")
    data = "a .bin, pairs.txt, .csv or .parquet; a folder of benchmarks (also RFW, IJBB, IJBC, tinyface, SCface) or of"
    data += " people; an archive of one; hf://datasets/OWNER/NAME; or synthetic faces (default: synthetic)"
    parser.add("--data PATH", data, default="synthetic")
    parser.add("--protocol NAME", "only these benchmarks or protocols: lfw, rfw, ijb, …", nargs="+", default=[])
    parser.add_options(Options)
    parser.add("--report DIR", "write report.json, report.html, tables and figures there")
    parser.add("--scores OUT.parquet", "write every pair's score there, with people where known: personal data")
    parser.add("--fuse", "also fuse the scores of all models")
    parser.add("--compare JSON", "add these report.json to the report", nargs="+", default=[])
    parser.add_json("print the figures as JSON")


def run(args: argparse.Namespace) -> None:
    from zoo.evaluate.benchmarks.options import Options
    from zoo.evaluate.benchmarks.runner import load_model, measure, open_benchmarks
    from zoo.evaluate.report.page import save_all
    from zoo.evaluate.report.record import Report
    from zoo.evaluate.report.rows import compared
    from zoo.formats.score_table import PERSONAL, score_table

    options = Options(**given(args, Options))
    folder = Path(args.report) if args.report else None
    if folder:  # before an hour of embedding and not after it
        with explained(f"expected a folder for --report, cannot make {folder}", OSError):
            folder.mkdir(parents=True, exist_ok=True)
    earlier = [Report.read(path) for path in args.compare]
    if args.fuse and len(args.models) < 2:
        raise InputError(f"expected at least two models for --fuse, found {len(args.models)}")
    models = [load_model(name, options) for name in args.models or [None]]
    benchmarks = open_benchmarks(args.data, args.protocol, options)
    reports, printed = [], []
    failed = list(benchmarks.not_whole)
    with score_table(args.scores) as table:
        for first, *beside in [*([model] for model in models), *([models] if args.fuse else [])]:
            told: list[str] = []
            report = measure(first, benchmarks, bar, told.append, beside, table)
            failed += [sentence for sentence in report.not_measured if sentence not in failed]
            if not report.results:
                continue
            reports.append(report)
            told += report.model.notes
            if args.json:
                printed += figures(report, told)
            else:
                print_tables(report, told)
    if table and not table.rows:
        failed.append(f"expected a benchmark of pairs for --scores, found none; {args.scores} has no rows")
    elif table and not args.json:
        print(f"{args.scores} has the scores of {table.rows:,} pairs: {PERSONAL}.")
    *others, last = failed or [""]
    for sentence in others:
        print(f"zoo: {sentence}", file=sys.stderr)
    if not reports:
        raise InputError(last)
    if not args.json:
        for data, sentence in compared([*reports, *earlier]):
            print(f"{data}: {sentence}")
    if folder:
        save_all(folder, [*reports, *earlier])
        if not args.json:
            print(f"The report is {folder / 'report.html'}.")
    if args.json:
        whole = printed[0] if len(printed) == 1 and not failed else {"results": printed, "not_measured": failed}
        print(json.dumps(whole, indent=2))
    if last:
        raise InputError(last)


def figures(report: "Report", told: Sequence[str]) -> list[dict[str, object]]:
    """Each result's figures, with the model and everything that is told of it, for a script."""
    model = report.to_json()["model"]
    return [{"model": model, **found.to_json(curves=False), "notes": [*found.notes, *told]} for found in report.results]


def print_tables(report: "Report", told: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from zoo.evaluate.report.rows import group_rows, holds, remarks, rows

    console = Console(width=None if sys.stdout.isatty() else 120)
    said = {note for found in report.results for note in remarks(found)}
    for found in report.results:
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(found.data, no_wrap=True)
        table.add_column(report.model.name, justify="right", no_wrap=True)
        for label, value in rows(found):
            table.add_row(label, value)
        console.print(table, markup=False)
        console.print(f"{holds(found)}.", markup=False, highlight=False)
        for note in remarks(found):
            console.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)
    for label, value in group_rows(report.groups):
        console.print(f"{label}: {value}", markup=False, highlight=False)
    for note in dict.fromkeys(note for note in told if note not in said):
        console.print(f"· {note}", markup=False, highlight=False, soft_wrap=True)
