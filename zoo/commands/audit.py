"""Measure a published model again, and print what is claimed of it beside what is measured.

zoo audit adaface-r50/ --data benchmarks/                 the claims of its card, its metadata or the catalogue
zoo audit third-party.onnx --claims claims.csv --data lfw.bin --bgr

The claims are read from the model's card (model-index), else from its metadata, else from zoo's catalogue. Exit code 0:
every claim that was measured lies in its 95 % interval; 1: one lies outside, above or below; 3: nothing was measured.
"""

import argparse

from zoo.commands.options import MODEL_HELP, add_json, add_options, answer, bar, given
from zoo.errors import Exit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from zoo.evaluate.benchmarks.options import Options

    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    claims = "what is claimed: CSV with benchmark,metric,value, or JSON; fractions or per cent"
    parser.add_argument("--claims", metavar="FILE", help=claims)
    parser.add_argument("--data", metavar="DIR", help="the benchmarks, as for zoo evaluate (default: measure nothing)")
    add_options(parser, Options)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the claims; see the module for the exit codes."""
    from zoo.evaluate.benchmarks.options import Options
    from zoo.reproduce.audit import audit

    found = audit(args.model, args.data, args.claims, bar, **given(args, Options))
    told = [f"claimed by {found.source}", *(one.told for one in found.claims)]
    if found.report:
        told += [f"{one.data}: {one.how}" for one in found.report.results] + list(found.report.not_measured)
    claims = [
        {**vars(one.claim), "measured": one.measured, "interval": one.interval, "verdict": one.verdict}
        for one in found.claims
    ]
    answer(args, {"claimed_by": found.source, "claims": claims}, told)
    if not (verdicts := {one.verdict for one in found.claims} - {"not measured"}):
        return Exit.NO_VERDICT
    return Exit.OK if verdicts == {"holds"} else Exit.DIFFERENT
