"""List heads, backbones, protocols, recipes, models, runs, and what others have published: all that can be named.

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
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zoo.commands.options import Parser
from zoo.errors import InputError, unknown_name
from zoo.registry import Registry

Row = tuple[dict[str, Any], str]  #: A record, with "name" and all that is known, and its lines for people


def add_arguments(parser: Parser) -> None:
    parser.add("kind KIND", ", ".join(LISTS))
    parser.add("pattern PATTERN", "names to show, e.g. 'arc*'", nargs="?", default="*")
    parser.add("--weights-license ID", "published: those whose weights are under this license, or permissive")
    parser.add_json("print a list of records for a script")


def run(args: argparse.Namespace) -> None:
    if args.kind not in LISTS:
        raise unknown_name("list", args.kind, LISTS)
    if args.weights_license is not None and args.kind != "published":
        raise InputError(f"expected `zoo list published` for --weights-license, found the list {args.kind}")
    if args.kind == "models" and args.pattern.replace("-", "_").replace(".", "_").isidentifier():
        from zoo.hub.pull import owner_models

        found, args.pattern = list(map(model_row, owner_models(args.pattern))), "*"
    else:
        found = list(published(args.weights_license) if args.kind == "published" else LISTS[args.kind]())
    chosen = [(record, text) for record, text in found if fnmatch.fnmatch(record["name"], args.pattern)]
    if found and not chosen:
        missing = f"expected {args.kind} matching {args.pattern!r}, found none"
        raise InputError(f"{missing}; `zoo list {args.kind}` shows all")
    records, texts = [record for record, _ in chosen], [text for _, text in chosen]
    for text in [json.dumps(records, indent=2)] if args.json else texts:
        print(text)


def heads() -> Iterator[Row]:
    """Every head with its paper, its T and N, and its options: type and default."""
    from zoo.heads import HEADS, head_options, type_name

    tell_failed(HEADS)
    for name, head in HEADS.items():
        options = {one.name: {"type": type_name(one.type), "default": one.default} for one in head_options(head)}
        defaults = ", ".join(f"{option}={told['default']}" for option, told in options.items())
        choices = [f"{option}: {told['type']}" for option, told in options.items() if "|" in told["type"]]
        record = {"name": name, "paper": head.paper, "summary": head.summary, "options": options}
        yield record, "\n    ".join([name, head.paper, head.summary, defaults, *choices])


def tell_failed(registry: Registry[Any]) -> None:
    """One sentence on stderr for each entry point of an installed package that cannot be loaded."""
    for problem in registry.failed.values():
        print(f"zoo: {problem}", file=sys.stderr)


def backbones() -> Iterator[Row]:
    """Every timm architecture; importing zoo.backbones registers ours among them."""
    import timm

    import zoo.backbones  # noqa: F401

    return (({"name": name}, name) for name in timm.list_models())


def protocols() -> Iterator[Row]:
    """Every protocol, what it measures, and its benchmarks with what a whole copy of each holds."""
    from zoo.evaluate.benchmarks.find import describe
    from zoo.evaluate.protocols import PROTOCOLS

    tell_failed(PROTOCOLS)
    for record in map(describe, PROTOCOLS):
        lines = [f"{record['name']:<10} {record['summary']}"]
        for one in record["benchmarks"]:
            holds = ", ".join(f"{count:,} {what}" for what, count in one.items() if what not in ("name", "title"))
            lines.append(f"    {one['name']:<16} {one['title']}: {holds}")
        yield record, "\n".join(lines)


def recipes() -> Iterator[Row]:
    """The recipes that ship with zoo, each with its file's first comment line."""
    for file in sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml")):
        about = file.read_text().partition("\n")[0].lstrip("# ").strip()
        yield {"name": file.stem, "summary": about}, f"{file.stem:<24} {about}".rstrip()


def runs() -> Iterator[Row]:
    """The run folders under runs/, oldest first."""
    from zoo.runs import run_folders

    for one in run_folders():
        yield {"name": one.name, "path": str(one), "model": (one / "model.onnx").is_file()}, one.name


def models() -> Iterator[Row]:
    """The models that runs have exported and those that were pulled from the Hub, with what is known of each."""
    from zoo.hub.pull import cached_models, described

    own = [described(Path(run["path"]), run["path"], "run") for run, _ in runs() if run["model"]]
    return map(model_row, own + cached_models())


def model_row(model: dict[str, Any]) -> Row:
    known = [model.get("head"), model.get("backbone"), f"{model['dim']} dimensions" if model.get("dim") else None]
    if model.get("accuracy") is not None:
        known.append(f"accuracy {model['accuracy']:.4f} on {model.get('measured_on')}")
    lines = [f"{model['name']}  ({model['place']})", ", ".join(filter(None, known)), model.get("training_set") or ""]
    return model, "\n    ".join(filter(None, lines))


def published(terms: str | None = None) -> Iterator[Row]:
    """Others' models, by the license of the weights where `terms` are given; that of the data stands beside it."""
    from zoo.published.catalogue import catalogue, select

    for model in select(catalogue(), terms):
        weights, data = model.weights_license, model.data
        stated = ", ".join(f"{name} {100 * value:.2f}" for name, value in model.stated.items())
        known = f"sha256 {model.sha256[:12]}…, from {model.sha256_from}" if model.sha256 else "no hash is known"
        lines = [
            f"{model.name}   {model.backbone or model.layout}, {model.dim} dimensions, by {model.authors}",
            f"{model.where} ({known}; not checked here)",
            f"weights: {weights.name or weights.id} {weights.link}".rstrip(),
            f"data {data.name}: {data.license} {data.link}; consent: {data.consent}",
            f"stated by its authors (%): {stated} {model.stated_from}".rstrip() if stated else "",
        ]
        yield {**asdict(model), "where": model.where}, "\n    ".join(filter(None, lines))


def conventions() -> Iterator[Row]:
    """The names for `zoo adopt --as`."""
    from zoo.published.catalogue import catalogue

    for one in catalogue().conventions.values():
        scaling = f"{one.channel_order}, (x − {one.mean:g}) / {one.std:g}, epsilon {one.eps:g}"
        yield asdict(one), f"{one.name:<16} {one.layout:<14} {scaling}   {one.source}"


LISTS: dict[str, Callable[[], Iterator[Row]]] = {
    one.__name__: one for one in (heads, backbones, protocols, recipes, models, published, conventions, runs)
}  #: Every list, by its name
