"""`python docs/make_api.py` writes docs/api.md and the table of options in docs/training.md from docstrings.

A test compares what is there with what it would write.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import json
import textwrap
from pathlib import Path
from typing import Any

MODULES = (
    "zoo",
    "zoo.resolve",
    "zoo.heads",
    "zoo.backbones",
    "zoo.train",
    "zoo.export",
    "zoo.evaluate",
    "zoo.recognition",
    "zoo.publish",
    "zoo.reproduce",
)
"""The packages whose `__all__` is the Python API, in the order of the page."""

PAGE = Path(__file__).parent / "api.md"


def page() -> str:
    """The whole page."""
    parts = [
        "# Python API",
        "What the commands do, a program can do with the functions and classes below. This page is generated from their"
        " docstrings by `python docs/make_api.py`.",
    ]
    described: set[Any] = set()
    for name in MODULES:
        parts += section(importlib.import_module(name), described)
    return "\n\n".join(parts) + "\n"


def section(module: Any, described: set[Any]) -> list[str]:
    """A package: its docstring and its public names; what an earlier section has described is only named."""
    parts = [f"## `{module.__name__}`", fenced(inspect.getdoc(module) or "")]
    again = []
    for name in module.__all__:
        thing = getattr(module, name)
        if not callable(thing) or inspect.ismodule(thing):
            continue
        if thing in described:
            again.append(f"`{name}`")
            continue
        described.add(thing)
        parts += entry(f"{module.__name__}.{name}", thing)
    if again:
        parts.append(f"Also here: {', '.join(again)}.")
    return parts


def entry(name: str, thing: Any) -> list[str]:
    """A function or a class: how it is called, what it says of itself, its fields and public methods."""
    parts = [f"### `{name}`", f"```python\n{short_name(name)}{signature(thing)}\n```", inspect.getdoc(thing) or ""]
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing):
            told = field_docs(thing)
            parts += [
                "\n".join(
                    f"* `{field.name}`: {told.get(field.name) or field.metadata.get('help', '')}".rstrip(": ")
                    for field in dataclasses.fields(thing)
                )
            ]
        for method, function in vars(thing).items():
            own = isinstance(function, property) or inspect.isfunction(function) or isinstance(function, classmethod)
            if not own or (method.startswith("_") and method != "__call__"):
                continue
            plain = function.fget if isinstance(function, property) else inspect.unwrap(getattr(thing, method))
            if not plain.__qualname__.startswith(f"{thing.__name__}."):
                continue  # torch wraps an inherited step of an optimizer once one is made
            call = "" if isinstance(function, property) else signature(plain)
            parts.append(f"* `.{method}{call}`: {first_paragraph(plain)}".rstrip(": "))
    return parts


def signature(thing: Any) -> str:
    """The parameters with their defaults, without types, which the docstring explains."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty, default=shown(parameter.default))
        for parameter in found.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    return str(found.replace(parameters=kept, return_annotation=inspect.Signature.empty))


class Name:
    """Stands for a function that is a default: its name, without the address that Python prints."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def shown(default: Any) -> Any:
    """A default as the page shows it, the same in every process."""
    return Name(default.__name__) if inspect.isfunction(default) else default


def field_docs(kind: type) -> dict[str, str]:
    """What stands at a dataclass's fields: a `#:` comment behind one, or a docstring below it."""
    source = textwrap.dedent(inspect.getsource(kind))
    tree, lines = ast.parse(source).body[0], source.splitlines()
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in itertools.zip_longest(tree.body, tree.body[1:]):
        if not (isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)):
            continue
        _, beside, told = lines[(before.end_lineno or 0) - 1].partition("  #: ")
        if not beside and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            told = str(after.value.value)
        if told:
            found[before.target.id] = " ".join(told.split()) + ("" if told.endswith((".", "…")) else ".")
    return found


def first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def short_name(name: str) -> str:
    return name.rpartition(".")[2]


def fenced(text: str) -> str:
    """A module's docstring: its sentences as they are, a table of calls within it as code."""
    return "\n\n".join(
        f"```text\n{part}\n```" if any(line.startswith("zoo.") for line in part.splitlines()) else part
        for part in text.split("\n\n")
    )


OPTIONS_PAGE = Path(__file__).parent / "training.md"
BEGIN, END = "<!-- options: generated -->", "<!-- end of options -->"


def with_options(text: str) -> str:
    """docs/training.md with every training option: its default, and whether it may change on a resume."""
    from zoo.train.config import DESCRIPTIONS, HINTS, OPTIONS, TrainConfig, plain
    from zoo.train.typed import spelled

    rows = ["| option | type | default | on a resume | what it does |", "|---|---|---|---|---|"]
    usual = plain(TrainConfig())
    for name, told in DESCRIPTIONS.items():
        resume = "may change" if OPTIONS[name].resumable else "may mend" if OPTIONS[name].mendable else "stays"
        default = json.dumps(usual[name]).strip('"').replace("null", "none") or "empty"
        rows.append(
            f"| `{name}` | {spelled(HINTS[name])} | {default} | {resume} | {told.replace('|', chr(92) + '|')} |"
        )
    before, _, rest = text.partition(BEGIN)
    return "\n".join([before + BEGIN, *rows, END + rest.partition(END)[2]])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    OPTIONS_PAGE.write_text(with_options(OPTIONS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
