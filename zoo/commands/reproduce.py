"""Train several heads under equal conditions: export and evaluate each, and write the paper's tables of them.

Every head is trained with every seed and evaluated on every benchmark under --benchmarks. Interrupt it at any time and
give the same command again: finished cells are kept, and a half-trained one continues where it stopped.

  zoo reproduce --data casia/ --benchmarks benchmarks/ -o reproduction
  zoo reproduce --data faces/ --benchmarks lfw.bin --recipe quick-cpu --jobs 4 --minutes 30 \\
      --heads arcface recurricularface+modulate=all recurricularface
  zoo reproduce --gather machine1/ machine2/ -o reproduction
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from zoo.commands.options import Parser, positive, training_bar
from zoo.errors import InputError
from zoo.train.config import set_option
from zoo.train.start import Interrupted


def add_arguments(parser: Parser) -> None:
    parser.add("--data TRAIN", "training set, as `zoo train --data` takes it")
    parser.add("--benchmarks PATH", "a folder of benchmarks (.bin, IJBB, IJBC, tinyface), or a .bin")
    gather = "train nothing: the tables of the finished cells in the output folders of other calls or machines"
    parser.add("--gather DIR", gather, type=Path, nargs="+", default=[])
    parser.add("--seeds N", "trainings per head, with seeds 0 to N − 1 (default: 3)", type=int, default=3)
    heads = "heads to compare, the last one with the others (default: arcface, cosface, curricularface, adaface,"
    heads += " recurricularface); HEAD+option=value is a variant by options of the head or of `zoo train`, or a recipe"
    parser.add("--heads NAME", heads, nargs="+", default=[])
    parser.add("--recipe NAME|FILE", "one recipe for all heads (default: those of the paper's section 4.2)")
    parser.add("--set key=value", "any other option of `zoo train`", action="append", default=[])
    parser.add("--jobs N", "cells at once, also on one GPU (default: 1)", type=positive, default=1)
    parser.add("--minutes M", "save and stop after M; the same call goes on", type=float, default=math.inf)
    parser.add("--cell-minutes M", "after M of training, go to the next cell", type=float, default=math.inf)
    stated = "published figures to print below the measured ones (default: the ReCurricularFace paper's Tables 1 to 3)"
    stated += "; a file has the columns benchmark,figure,head,percent"
    parser.add("--stated paper|none|FILE.csv", stated, default="paper")
    points = "percentage points of which the tables say how many seeds would show them (default: 1)"
    parser.add("--difference POINTS", points, type=float, default=1.0)
    output = "folder of tables and cells (default: reproduction)"
    parser.add("-o --output OUT", output, type=Path, default=Path("reproduction"))
    parser.add("--quiet", "no progress on the terminal")


def run(args: argparse.Namespace) -> int:
    """Runs the grid; 0 when all cells are there or its time is over, 130 or 143 when a signal stopped it."""
    options: dict[str, Any] = {}
    for assignment in args.set:
        set_option(options, assignment)
    from zoo.reproduce.grid import HEADS, Grid, Pace, reproduce
    from zoo.reproduce.page import gather

    output, heads, told = args.output, tuple(args.heads), {"stated": args.stated, "difference": args.difference / 100}
    if args.gather:
        gather(args.gather, output, heads, **told)
    elif args.data is None or args.benchmarks is None:
        raise InputError("expected --data and --benchmarks, or --gather with folders of finished cells; give them")
    else:
        grid = Grid(args.data, args.benchmarks, output, heads or HEADS, args.seeds, args.recipe, options, **told)
        try:
            with training_bar(args.quiet) as watch:
                done = reproduce(grid, watch, Pace(args.jobs, args.minutes, args.cell_minutes))
        except Interrupted as stop:
            advice = "give the same command again to go on"
            print(f"zoo: stopped; what is done is saved in {output}, {advice}", file=sys.stderr)
            return stop.exit_code
        if not done:
            print("No cell is finished yet; the same command goes on.")
            return 0
    if not args.quiet:
        print(f"The tables are in {output / 'reproduction.md'}.")
    return 0
