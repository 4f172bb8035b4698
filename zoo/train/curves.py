"""A run's curves as one page that needs nothing beside it: curves.html, drawn from metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.evaluate.report.figures import COLOURS, svg
from zoo.files import write_text
from zoo.train.config import load_yaml

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss",)),
    ("Learning rate", ("lr",)),
    ("Validation", ("accuracy", "auc")),
    ("Mean cosine to the own centre", ("mean_target_cosine",)),
    ("Share of hard negatives", ("hard_negative_share",)),
    ("t of the head", ("t",)),
    ("Mean length of embeddings", ("embedding_norm",)),
    ("Images a second", ("images_per_second",)),
    ("Share of time spent waiting for data", ("data_wait",)),
)
"""Each figure's title and the figures of a record that it shows; one that no record has is left out."""

Record = Mapping[str, Any]


def write_curves(run: Path) -> None:
    """Draws `run`/curves.html from the run's metrics.jsonl and config.yaml."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    write_text(
        run / "curves.html", page(run.name, load_yaml(run / "config.yaml"), [json.loads(line) for line in lines])
    )


def page(name: str, config: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The HTML page of a run called `name` with these options and records of metrics.jsonl."""
    import jinja2

    flat = [{**record, **record.get("validation", {})} for record in records]
    figures = [svg(figure, title) for title, keys in CURVES if (figure := draw(title, keys, flat)) is not None]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    validated = [record for record in flat if "accuracy" in record]
    return environment.get_template("curves.html.j2").render(
        name=name,
        config=config,
        last=flat[-1] if flat else {},
        best=max(validated, key=lambda record: (record["accuracy"], record["auc"]), default=None),
        figures=figures,
    )


def draw(title: str, keys: Sequence[str], records: Sequence[Record]) -> Any:
    """The matplotlib figure of `keys` over the steps; None where no record has one of them as a finite number."""
    curves = {key: [(r["step"], r[key]) for r in records if r.get(key) is not None] for key in keys}
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e7eb", linewidth=0.8)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step")
    for (key, points), colour in zip(curves.items(), COLOURS, strict=False):
        few = "." if len(points) < 40 else ""
        axes.plot(
            *zip(*points, strict=True), color=colour, linewidth=1.6, marker=few, label={"auc": "AUC"}.get(key, key)
        )
    if len(keys) > 1:
        axes.legend(frameon=False)
    return figure
