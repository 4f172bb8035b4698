"""Describe an ONNX model, from zoo or a third party, and warn of what looks wrong.

zoo inspect runs/first
zoo inspect model.onnx --json
"""

import argparse
from typing import TYPE_CHECKING

from zoo.commands.options import MODEL_HELP, Parser

if TYPE_CHECKING:
    from zoo.modelinfo import ModelInfo


def add_arguments(parser: Parser) -> None:
    parser.add("model MODEL", MODEL_HELP)
    parser.add_threads_argument()
    parser.add_json("print everything as JSON")


def run(args: argparse.Namespace) -> int:
    from zoo.export import inspect_onnx
    from zoo.resolve import onnx_file

    found = inspect_onnx(onnx_file(args.model))
    if args.json:
        print(found.to_json())
        return 0
    ports = [*(("input", port) for port in found.inputs), *(("output", port) for port in found.outputs)]
    lines = [
        ("file", f"{found.file}, {found.bytes / 2**20:.1f} MiB, by {found.producer or 'an unnamed program'}"),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opset.items())),
        *((kind, f"{port.name}: {port.dtype} ({', '.join(map(str, port.shape))})") for kind, port in ports),
        ("pixels", found.normalisation),
        ("parameters", f"{found.parameters:,} ({', '.join(f'{n:,} {kind}' for kind, n in found.weights.items())})"),
        ("operators", ", ".join(f"{count} {name}" for name, count in found.operators.items())),
        *(fact_lines(found.facts) if found.facts else [("facts", "none: the file was not written by zoo")]),
        *(("warning", warning) for warning in found.warnings),
    ]
    print("\n".join(f"{name:<14}{value}" for name, value in lines))
    return 0


def fact_lines(facts: "ModelInfo") -> list[tuple[str, str]]:
    """The facts that zoo wrote into the file, "not stated" where one is empty."""
    stated = ("backbone", "stem", "neck", "head", "training_set", "license", "commit", "worth")
    lines = [(name.replace("_", " "), getattr(facts, name) or "not stated") for name in stated]
    for batch, figures in sorted(facts.parity.items(), key=lambda item: int(item[0])):
        difference = f"largest difference {figures['max_abs']:.0e}"
        lines.append(("parity", f"batch {batch}: cosine {figures['cosine']}, {difference}"))
    if facts.quantisation:
        kept = ", ".join(facts.quantisation.get("kept_in_float32", [])) or "nothing"
        how = f", ranges by {facts.quantisation['method']}" if "method" in facts.quantisation else ""
        lines.append(("precision", f"{facts.quantisation['precision']}{how}; kept in float32: {kept}"))
    known = (f"{one.threshold:.4f} at FAR {one.far:g} on {one.data} ({one.precision})" for one in facts.thresholds)
    return [*lines, *(("threshold", line) for line in known)]
