"""A measurement on record: report.json for machines, and report.html, one page that needs nothing else, to look at."""

from __future__ import annotations

import datetime
import html
import io
import json
import math
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.protocols.base import Evaluation
from zoo.files import write_json, write_text

Record = dict[str, Any]
"""What report.json holds: "model", "options", "provenance" and "results"."""

COLOURS = ("#0b62a4", "#d1495b", "#2e7d5b", "#8a5fbf", "#c77d0a", "#3b8ea5")
"""One a model, told apart by colour-blind eyes too; the lines' dashes differ as well."""
DASHES = ("-", "--", "-.", ":")


class Report:
    """One model's results on one or several benchmarks.

    `model` holds the facts of the model (name, sha256, …), `options` what was asked for (flip, device, …).
    """

    def __init__(self, model: dict[str, Any], evaluations: Sequence[Evaluation], options: dict[str, Any]) -> None:
        self.record: Record = finite(
            {
                "format": 1,
                "model": model,
                "options": options,
                "provenance": provenance(),
                "results": [{**e.figures, "curves": e.curves} for e in evaluations],
            }
        )

    def save(self, path: str | Path) -> None:
        """Writes report.json or report.html, by the name's ending; whole or not at all."""
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, self.record)
        elif path.suffix == ".html":
            write_text(path, page([self.record]))
        else:
            raise InputError(f"expected a report named .json or .html, found {path.name}")


def provenance() -> dict[str, Any]:
    """What computed the figures: versions, commit, machine and time."""
    packages = ("timm-face-zoo", "numpy", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless")
    return {
        "versions": {name: found for name in packages if (found := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """The checkout's commit; empty for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def finite(value: Any) -> Any:
    """`value` fit for JSON: NaN and infinities become None, "not measurable", and tuples become lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(path: str | Path) -> Record:
    """The content of a report.json; InputError for another file."""
    try:
        record = json.loads(Path(path).read_text())
        if record["format"] == 1 and record["results"] and record["model"]:
            return dict(record)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"expected a report.json of `zoo evaluate --report` at {path}, found something else")


ROWS = (
    ("accuracy", "accuracy"),
    ("auc", "AUC"),
    ("eer", "EER"),
)


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """A result's figures as a table for people: (label, value with its interval)."""
    table = []
    if result.get("accuracy") is not None:
        low, high = result["accuracy_interval"]
        compat = f" as {result['compat']} computes it" if result.get("compat") else ""
        table.append(
            (
                f"accuracy, {result['folds']} folds{compat}",
                f"{result['accuracy']:.6f} ± {result['accuracy_std']:.6f}  [{low:.4f}, {high:.4f}]",
            )
        )
    for key, label in (("auc", "AUC"), ("eer", "equal error rate")):
        if result.get(key) is not None:
            table.append((label, f"{result[key]:.6f}"))
    points = {f"{point['far_target']:g}": point for point in result.get("operating_points", [])}
    for far, tar in result.get("tar_at_far", {}).items():
        if far in points:
            low, high = points[far]["tar_interval"]
            table.append((f"TAR@FAR {far}", f"{tar:.6f}  [{low:.4f}, {high:.4f}]"))
        else:
            table.append((f"TAR@FAR {far}", "not measurable"))
    return table


def page(records: Sequence[Record]) -> str:
    """report.html for one model or several side by side: one page without any request to a network."""
    import jinja2

    if not records:
        raise InputError("expected at least one report to show, found none")
    names = _distinct_names([record["model"]["name"] for record in records])
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("zoo").joinpath("templates/report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        models=[
            {**record, "name": name, "colour": COLOURS[index % len(COLOURS)]}
            for index, (name, record) in enumerate(zip(names, records, strict=True))
        ],
        benchmarks=[_benchmark(data, names, records) for data in _benchmarks(records)],
    )


def _benchmarks(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Every benchmark that any model was measured on, told apart by its content as well as its name."""
    found = [(result["data"], result["data_sha256"]) for record in records for result in record["results"]]
    return list(dict.fromkeys(found))


def _benchmark(key: tuple[str, str], names: Sequence[str], records: Sequence[Record]) -> dict[str, Any]:
    entries = [
        (index, result)
        for index, record in enumerate(records)
        for result in record["results"]
        if (result["data"], result["data_sha256"]) == key
    ]
    tables = [dict(rows(result)) for _, result in entries]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    drawn = [(names[index], index, result["curves"]) for index, result in entries if result.get("curves")]
    first = entries[0][1]
    return {
        "data": key[0],
        "sha256": key[1],
        "pairs": first.get("pairs", 0),
        "positives": first.get("positives", 0),
        "negatives": first.get("negatives", 0),
        "columns": [(names[index], COLOURS[index % len(COLOURS)]) for index, _ in entries],
        "table": [(label, [table.get(label, "") for table in tables]) for label in labels],
        "notes": list(dict.fromkeys(note for _, result in entries for note in result.get("not_measurable", []))),
        "roc": roc_svg(drawn) if drawn else "",
        "histograms": [histogram_svg(*entry) for entry in drawn],
        "sweeps": [{"name": name, **curves["sweep"]} for name, _, curves in drawn if "sweep" in curves],
    }


def _distinct_names(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]


Drawn = tuple[str, int, dict[str, Any]]
"""What a figure shows of one model: its name, its place among the models, its curves."""


def roc_svg(drawn: Sequence[Drawn]) -> str:
    """TAR over FAR on a logarithmic axis, one line a model, as an SVG element."""
    figure, axes = _axes(6.4, 4.2)
    for name, index, curves in drawn:
        far, tar = curves["roc"]["far"], curves["roc"]["tar"]
        measured = [(x, y) for x, y in zip(far, tar, strict=True) if x > 0]
        axes.step(*zip(*measured, strict=True), where="post", label=name, **_line(index))
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(None, 1.005), xlim=(None, 1))
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.8)
    axes.legend(loc="lower right", frameon=False)
    return svg(figure, "ROC: true accept rate over false accept rate, logarithmic")


def histogram_svg(name: str, index: int, curves: dict[str, Any]) -> str:
    """How the scores of both kinds of pairs are spread, as an SVG element."""
    histogram = curves["histogram"]
    figure, axes = _axes(6.4, 3.0)
    for kind, colour, label in (
        ("negatives", "#9aa5b1", "different people"),
        ("positives", COLOURS[index % len(COLOURS)], "same person"),
    ):
        total = sum(histogram[kind]) or 1
        shares = [count / total for count in histogram[kind]]
        axes.stairs(shares, histogram["edges"], fill=True, color=colour, alpha=0.55, label=label)
        axes.stairs(shares, histogram["edges"], color=colour, linewidth=1.0)
    filled = [
        edge
        for kind in ("positives", "negatives")
        for edge, count in zip(histogram["edges"], histogram[kind], strict=False)
        if count
    ]
    axes.set(xlabel="cosine similarity", ylabel="share of pairs", xlim=(min(filled) - 0.05, max(filled) + 0.07))
    axes.set_title(name, loc="left", fontsize=10)
    axes.legend(frameon=False)
    return svg(figure, f"Histogram of similarities, {name}")


def _line(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "linewidth": 1.8,
    }


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Any, title: str) -> str:
    """A matplotlib figure as an <svg> element to put into a page, with its title for those who cannot see it."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title, quote=True)}" ', 1)
