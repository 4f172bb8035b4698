"""A run's curves as one page that needs nothing beside it: curves.html, drawn from metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.evaluate.report.figures import legend, line, panels, svg, title
from zoo.evaluate.report.page import templates
from zoo.files import write_text
from zoo.train.recipes import load_yaml
from zoo.train.watch import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss",)),
    ("Learning rate", ("lr",)),
    ("Validation", ("accuracy", "auc")),
    ("Mean cosine to the class centre", ("mean_target_cosine",)),
    ("Share of hard negatives", ("hard_negative_share",)),
    ("t of the head", ("t",)),
    ("Mean norm of the embeddings", ("embedding_norm",)),
    ("Images per second", ("images_per_second",)),
    ("Fraction of the time spent waiting for data", ("data_wait",)),
)  #: Each figure's title and the figures of a record that it shows; one that no record has is left out


def write_curves(run: Path) -> None:
    """Draws `run`/curves.html from the run's metrics.jsonl and config.yaml."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    write_text(run / "curves.html", page(run.name, load_yaml(run / "config.yaml"), records))


def page(name: str, config: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The HTML page of a run called `name` with these options and records of metrics.jsonl."""
    flat = [{**record, **record.get("validation", {})} for record in records]
    figures = [svg(figure, text) for text, keys in CURVES if (figure := draw(text, keys, flat)) is not None]
    validated = [record for record in flat if "accuracy" in record]
    template = templates("zoo.train").get_template("curves.html.j2")
    return template.render(
        name=name,
        config=config,
        last=flat[-1] if flat else {},
        best=max(validated, key=lambda record: (record["auc"], record["accuracy"]), default=None),
        figures=figures,
    )


def draw(text: str, keys: Sequence[str], records: Sequence[Record]) -> Figure | None:
    """A figure of `keys` over the steps, titled `text`; None where no record has one of them as a finite number."""
    curves = {key: [(r["step"], r[key]) for r in records if r.get(key) is not None] for key in keys}
    curves = {key: points for key, points in curves.items() if points}
    if not curves:
        return None
    figure, (axes,) = panels(1, 5.6, 3.2)
    title(axes, text)
    axes.set_xlabel("step")
    for index, (key, points) in enumerate(curves.items()):
        few = "." if len(points) < 40 else ""
        axes.plot(*zip(*points, strict=True), marker=few, label={"auc": "AUC"}.get(key, key), **line(index))
    if len(keys) > 1:
        legend(axes)
    return figure
