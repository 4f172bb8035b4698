"""Train several heads under equal conditions, export and evaluate each, and write the paper's tables of them.

Every head is trained with every seed and evaluated on every benchmark under --benchmarks. Interrupt it at any time and
give the same command again: finished cells are kept, and a half-trained one continues where it stopped.

  zoo reproduce --data casia/ --benchmarks benchmarks/ -o reproduction
  zoo reproduce --data faces/ --benchmarks lfw.bin --recipe quick-cpu --set epochs=5 --seeds 2
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from zoo.commands.options import training_bar
from zoo.train.config import set_option
from zoo.train.signals import Interrupted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="TRAIN", help="training set, as `zoo train --data` takes it")
    benchmarks = "a folder of benchmarks (.bin, IJBB, IJBC, tinyface), or a .bin"
    add("--benchmarks", required=True, metavar="PATH", help=benchmarks)
    add("--seeds", type=int, default=3, metavar="N", help="trainings per head, with seeds 0 to N − 1 (default: 3)")
    heads = "heads to compare (default: arcface, cosface, curricularface, adaface, recurricularface)"
    add("--heads", nargs="+", metavar="NAME", help=heads)
    add("--recipe", metavar="NAME|FILE", help="one recipe for all heads (default: those of the paper's section 4.2)")
    add("--set", metavar="key=value", action="append", default=[], help="any other option of `zoo train`")
    stated = "published figures to print below the measured ones (default: the ReCurricularFace paper's Tables 1 to 3)"
    stated += "; a file has the columns benchmark,figure,head,percent"
    add("--stated", default="paper", metavar="paper|none|FILE.csv", help=stated)
    output = "folder of tables and cells (default: reproduction)"
    add("-o", "--output", default="reproduction", metavar="OUT", help=output)
    add("--quiet", action="store_true", help="no progress on the terminal")


def run(args: argparse.Namespace) -> int:
    """Runs the grid; 0 when all cells are there, 130 or 143 when a signal stopped it."""
    options: dict[str, Any] = {}
    for assignment in args.set:
        set_option(options, assignment)
    from zoo.reproduce.grid import HEADS, Grid, reproduce

    heads, output = tuple(args.heads or HEADS), Path(args.output)
    grid = Grid(args.data, args.benchmarks, output, heads, args.seeds, args.recipe, options, args.stated)
    try:
        with training_bar(args.quiet) as watch:
            reproduce(grid, watch)
    except Interrupted as stop:
        print(f"zoo: stopped; what is done is saved in {output}, give the same command again to go on", file=sys.stderr)
        return stop.exit_code
    if not args.quiet:
        print(f"The tables are in {output / 'reproduction.md'}.")
    return 0
