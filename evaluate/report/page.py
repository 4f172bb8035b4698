"""report.html: one page for one model or several side by side, without any request to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.evaluate.codec import to_json
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import (
    benchmarks_in,
    group_rows,
    holds,
    leaderboard,
    model_names,
    remarks,
    results_of,
    rows,
    sentences_of_difference,
)

if TYPE_CHECKING:
    import jinja2


DRAWN = ("roc", "histogram", "sweep", "rejection", "cmc", "open_set")
"""The curves that the page draws."""
MODELS = 8
"""How many models the page has colours for; more begin again."""


def templates(package: str, **options: Any) -> jinja2.Environment:
    """The templates in a package's folder templates/; they may `include` base.css, the style of all pages.

    `options` are jinja2.Environment's; without any, what is filled in is escaped for HTML.
    """
    import jinja2

    loaders = [jinja2.PackageLoader(name) for name in dict.fromkeys((package, "zoo.evaluate.report"))]
    usual: dict[str, Any] = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), **{**usual, **options})


def page(reports: Sequence[Report]) -> str:
    """The HTML of the page; InputError without a report."""
    if not reports:
        raise InputError("expected at least one report to show, found none")
    names = model_names(reports)
    return (
        templates("zoo.evaluate.report")
        .get_template("report.html.j2")
        .render(
            models=[
                {
                    "name": name,
                    "facts": report.model,
                    "flip": report.options.flip,
                    "provenance": report.provenance,
                    "group_rows": group_rows(report),
                }
                for name, report in zip(names, reports, strict=True)
            ],
            board=leaderboard(reports),
            benchmarks=[_benchmark(key, names, reports) for key in benchmarks_in(reports)],
            not_measured=list(dict.fromkeys(line for report in reports for line in report.not_measured)),
        )
    )


def _benchmark(key: tuple[str, str], names: Sequence[str], reports: Sequence[Report]) -> dict[str, Any]:
    entries = results_of(key, reports)
    tables = [dict(rows(found)) for _, found in entries]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    return {
        "data": key[0],
        "sha256": key[1],
        "holds": holds(entries[0][1]),
        "columns": [(names[index], index) for index, _ in entries],
        "table": [(label, [table.get(label, "") for table in tables]) for label in labels],
        "notes": list(dict.fromkeys(note for _, found in entries for note in remarks(found))),
        "differences": sentences_of_difference(names, entries),
        "thumbnails": [(names[index], found.thumbnails) for index, found in entries if found.thumbnails],
        "swept": [(names[index], index) for index, found in entries if found.curves.sweep],
        "drawn": {
            "name": key[0],
            "models": [
                {
                    "name": names[index],
                    "index": index % MODELS,
                    **{part: to_json(getattr(found.curves, part)) for part in DRAWN},
                }
                for index, found in entries
            ],
        },
    }
