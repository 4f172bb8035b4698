"""Measure a published model again, and print what is claimed of it beside what is measured.

zoo audit adaface-r50/ --data benchmarks/                 the claims of its card, its metadata or the catalogue
zoo audit third-party.onnx --claims claims.csv --data lfw.bin --bgr

The claims are read from the model's card (model-index), else from its metadata, else from zoo's catalogue. Exit code 0:
every claim that was measured lies in its 95 % interval; 1: one lies outside, above or below; 3: nothing was measured.
"""

import argparse
from dataclasses import asdict

from zoo.commands.options import MODEL_HELP, Parser, answer, bar, given
from zoo.errors import Exit


def add_arguments(parser: Parser) -> None:
    from zoo.evaluate.benchmarks.options import Options

    parser.add("model MODEL", MODEL_HELP)
    parser.add("--claims FILE", "what is claimed: CSV with benchmark,metric,value, or JSON; fractions or per cent")
    parser.add("--data DIR", "the benchmarks, as for zoo evaluate (default: measure nothing)")
    parser.add_options(Options)
    parser.add_json()


def run(args: argparse.Namespace) -> int:
    """Prints the claims; see the module for the exit codes."""
    from zoo.evaluate.benchmarks.options import Options
    from zoo.reproduce.audit import audit

    found = audit(args.model, args.data, args.claims, bar, **given(args, Options))
    told = [f"claimed by {found.source}", *(one.told for one in found.claims)]
    if found.report:
        told += [f"{one.data}: {one.how}" for one in found.report.results] + list(found.report.not_measured)
    claims = [{**asdict(one), "verdict": one.verdict} for one in found.claims]
    answer(args, {"claimed_by": found.source, "claims": claims}, told)
    if not (verdicts := {one.verdict for one in found.claims} - {"not measured"}):
        return Exit.NO_VERDICT
    return Exit.OK if verdicts == {"holds"} else Exit.DIFFERENT
