"""List what can be named: heads, backbones, protocols, recipes, models, runs, and what others have published.

zoo list heads
zoo list backbones 'mobilefacenet*'
zoo list recipes --json
zoo list published --weights-license permissive      others' models, with the terms of weights and training data
zoo list models            runs and pulled models; `zoo list models OWNER` asks the Hub
"""

import argparse
import fnmatch
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.errors import InputError, unknown_name
from zoo.registry import Registry

Row = dict[str, Any]  #: One thing that can be named: "name", and whatever else is known of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help=", ".join(LISTS))
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="names to show, e.g. 'arc*'")
    terms = "published: those whose weights are under this license, or permissive"
    parser.add_argument("--weights-license", metavar="ID", help=terms)
    parser.add_argument("--json", action="store_true", help="print a list of records for a script")


def run(args: argparse.Namespace) -> int:
    if args.kind not in LISTS:
        raise unknown_name("list", args.kind, LISTS)
    rows, show = LISTS[args.kind]
    if args.weights_license is not None and args.kind != "published":
        raise InputError(f"expected `zoo list published` for --weights-license, found the list {args.kind}")
    if args.kind == "models" and args.pattern.replace("-", "_").replace(".", "_").isidentifier():
        from zoo.hub.pull import owner_models

        found, args.pattern = owner_models(args.pattern), "*"
    else:
        found = published(args.weights_license) if args.kind == "published" else rows()
    chosen = [row for row in found if fnmatch.fnmatch(row["name"], args.pattern)]
    if found and not chosen:
        missing = f"expected {args.kind} matching {args.pattern!r}, found none"
        raise InputError(f"{missing}; `zoo list {args.kind}` shows all")
    for line in [json.dumps(chosen, indent=2)] if args.json else map(show, chosen):
        print(line)
    return 0


def heads() -> list[Row]:
    """Every head with its paper, its T and N, and its options: type and default."""
    from zoo.heads import HEADS, head_options, type_name

    tell_failed(HEADS)
    found = []
    for name, head in HEADS.items():
        options = {one.name: {"type": type_name(one.type), "default": one.default} for one in head_options(head)}
        found.append({"name": name, "paper": head.paper, "summary": head.summary, "options": options})
    return found


def show_head(row: Row) -> str:
    options = ", ".join(f"{name}={option['default']}" for name, option in row["options"].items())
    choices = [f"{name}: {option['type']}" for name, option in row["options"].items() if "|" in option["type"]]
    lines = [row["name"], f"    {row['paper']}", f"    {row['summary']}", f"    {options}"]
    return "\n".join([*lines, *(f"    {choice}" for choice in choices)])


def tell_failed(registry: Registry[Any]) -> None:
    """One sentence on stderr for each entry point of an installed package that cannot be loaded."""
    for problem in registry.failed.values():
        print(f"zoo: {problem}", file=sys.stderr)


def backbones() -> list[Row]:
    """Every timm architecture; importing zoo.backbones registers ours among them."""
    import timm

    import zoo.backbones  # noqa: F401

    return [{"name": name} for name in timm.list_models()]


def protocols() -> list[Row]:
    """Every protocol, what it measures, and its benchmarks with what a whole copy of each holds."""
    from zoo.evaluate.benchmarks.find import describe
    from zoo.evaluate.protocols import PROTOCOLS

    tell_failed(PROTOCOLS)
    return [describe(name) for name in PROTOCOLS]


def show_protocol(row: Row) -> str:
    lines = [f"{row['name']:<10} {row['summary']}"]
    for benchmark in row["benchmarks"]:
        holds = ", ".join(f"{count:,} {what}" for what, count in benchmark.items() if what not in ("name", "title"))
        lines.append(f"    {benchmark['name']:<16} {benchmark['title']}: {holds}")
    return "\n".join(lines)


def recipes() -> list[Row]:
    """The recipes that ship with zoo, each with its file's first comment line."""
    files = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
    return [{"name": file.stem, "summary": file.read_text().partition("\n")[0].lstrip("# ").strip()} for file in files]


def runs() -> list[Row]:
    """The run folders under runs/, oldest first."""
    from zoo.runs import run_folders

    return [{"name": one.name, "path": str(one), "model": (one / "model.onnx").is_file()} for one in run_folders()]


def models() -> list[Row]:
    """The models that runs have exported and those that were pulled from the Hub, with what is known of each."""
    from zoo.hub.pull import cached_models, described

    return [described(Path(row["path"]), row["path"], "run") for row in runs() if row["model"]] + cached_models()


def show_model(row: Row) -> str:
    known = [row.get("head"), row.get("backbone"), f"{row['dim']} dimensions" if row.get("dim") else None]
    if row.get("accuracy") is not None:
        known.append(f"accuracy {row['accuracy']:.4f} on {row.get('measured_on')}")
    lines = [f"{row['name']}  ({row['place']})", f"    {', '.join(filter(None, known))}"]
    lines.append(f"    {row.get('training_set') or ''}")
    return "\n".join(line for line in lines if line.strip())


def published(terms: str | None = None) -> list[Row]:
    """Others' models, by the license of the weights where `terms` are given; that of the data stands beside it."""
    from zoo.published.catalogue import catalogue, select

    return [{**asdict(model), "where": model.where} for model in select(catalogue(), terms)]


def show_published(row: Row) -> str:
    weights, data = row["weights_license"], row["data"]
    stated = ", ".join(f"{name} {100 * value:.2f}" for name, value in row["stated"].items())
    known = f"sha256 {row['sha256'][:12]}…, from {row['sha256_from']}" if row["sha256"] else "no hash is known"
    lines = [
        f"{row['name']}   {row['backbone'] or row['layout']}, {row['dim']} dimensions, by {row['authors']}",
        f"    {row['where']} ({known}; not checked here)",
        f"    weights: {weights['name'] or weights['id']} {weights['link']}",
        f"    data {data['name']}: {data['license']} {data['link']}; consent: {data['consent']}",
        f"    stated by its authors (%): {stated} {row['stated_from']}" if stated else "",
    ]
    return "\n".join(line.rstrip() for line in lines if line)


def conventions() -> list[Row]:
    """The names for `zoo adopt --as`."""
    from zoo.published.catalogue import catalogue

    return [asdict(convention) for convention in catalogue().conventions.values()]


def show_convention(row: Row) -> str:
    scaling = f"{row['channel_order']}, (x − {row['mean']:g}) / {row['std']:g}, epsilon {row['eps']:g}"
    return f"{row['name']:<16} {row['layout']:<14} {scaling}   {row['source']}"


def show_named(row: Row) -> str:
    return f"{row['name']:<24} {row['summary']}".rstrip() if row.get("summary") else str(row["name"])


LISTS: dict[str, tuple[Callable[[], list[Row]], Callable[[Row], str]]] = {
    "heads": (heads, show_head),
    "backbones": (backbones, show_named),
    "protocols": (protocols, show_protocol),
    "recipes": (recipes, show_named),
    "models": (models, show_model),
    "published": (published, show_published),
    "conventions": (conventions, show_convention),
    "runs": (runs, show_named),
}  #: Every list: what gathers its rows, and what turns a row into lines for people
