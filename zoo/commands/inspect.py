"""Tell what an ONNX face model holds, ours or a stranger's, and what is suspicious about it.

zoo inspect runs/first/model.onnx
zoo inspect somebody.onnx --json
"""

from __future__ import annotations

import argparse
from typing import Any

from zoo.commands.options import MODEL_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo inspect`."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints; 0 for any readable model, whatever the warnings."""
    from zoo.export.inspect import inspect
    from zoo.resolve import onnx_file

    found = inspect(onnx_file(args.model))
    if args.json:
        print(found.to_json())
        return 0
    lines: list[tuple[str, Any]] = [
        ("file", f"{found.file}, {found.bytes / 2**20:.1f} MiB, by {found.producer or 'an unnamed program'}"),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opset.items())),
        *(("input", port_text(port)) for port in found.inputs),
        *(("output", port_text(port)) for port in found.outputs),
        ("pixels", found.normalisation),
        ("parameters", f"{found.parameters:,} ({', '.join(f'{n:,} {kind}' for kind, n in found.weights.items())})"),
        ("operators", ", ".join(f"{count} {name}" for name, count in found.operators.items())),
    ]
    if found.facts is None:
        lines.append(("facts", "none: the file was not written by zoo"))
    else:
        lines += fact_lines(found.facts)
    lines += [("warning", warning) for warning in found.warnings]
    for name, value in lines:
        print(f"{name:<14}{value}")
    return 0


def port_text(port: Any) -> str:
    """A port in words."""
    return f"{port.name}: {port.dtype} ({', '.join(map(str, port.shape))})"


def fact_lines(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """The facts that zoo wrote into the file; what nobody stated is called so."""
    lines: list[tuple[str, Any]] = [
        (name.replace("_", " "), facts.get(name) or "not stated")
        for name in ("backbone", "stem", "neck", "head", "training_set", "license", "commit")
    ]
    for batch, figures in sorted(facts.get("parity", {}).items(), key=lambda item: int(item[0])):
        lines.append(
            ("parity", f"batch {batch}: cosine {figures['cosine']}, largest difference {figures['max_abs']:.0e}")
        )
    quantisation = facts.get("quantisation") or {}
    if quantisation:
        kept = ", ".join(quantisation.get("kept_in_float32", [])) or "nothing"
        how = f", ranges by {quantisation['method']}" if "method" in quantisation else ""
        lines.append(("precision", f"{quantisation['precision']}{how}; kept in float32: {kept}"))
    for entry in facts.get("thresholds", ()):
        lines.append(
            ("threshold", f"{entry['threshold']:.4f} at FAR {entry['far']:g} on {entry['data']} ({entry['precision']})")
        )
    return lines
