"""report.html: one page for one model or several side by side, which asks no network for anything."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.report.figures import COLOURS, FIGURES, histogram_svg, svg
from zoo.evaluate.report.record import Record
from zoo.evaluate.report.rows import (
    benchmarks_in,
    distinct_names,
    group_rows,
    holds,
    remarks,
    results_of,
    rows,
    sentences_of_difference,
)


def page(records: Sequence[Record]) -> str:
    """report.html for one model or several side by side: one page without any request to a network."""
    import jinja2

    if not records:
        raise InputError("expected at least one report to show, found none")
    names = distinct_names([record["model"]["name"] for record in records])
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("zoo").joinpath("templates/report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        models=[
            {**record, "group_rows": group_rows(record), "name": name, "colour": COLOURS[index % len(COLOURS)]}
            for index, (name, record) in enumerate(zip(names, records, strict=True))
        ],
        benchmarks=[_benchmark(data, names, records) for data in benchmarks_in(records)],
        not_measured=list(dict.fromkeys(line for record in records for line in record.get("not_measured", []))),
    )


def _benchmark(key: tuple[str, str], names: Sequence[str], records: Sequence[Record]) -> dict[str, Any]:
    entries = results_of(key, records)
    tables = [dict(rows(result)) for _, result in entries]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    drawn = [(names[index], index, result["curves"]) for index, result in entries if result.get("curves")]
    first = entries[0][1]
    figures = [svg(figure, f"{kind}, {key[0]}") for kind, draw in FIGURES if (figure := draw(drawn)) is not None]
    return {
        "data": key[0],
        "sha256": key[1],
        "holds": holds(first),
        "columns": [(names[index], COLOURS[index % len(COLOURS)]) for index, _ in entries],
        "table": [(label, [table.get(label, "") for table in tables]) for label in labels],
        "notes": list(dict.fromkeys(note for _, result in entries for note in remarks(result))),
        "differences": sentences_of_difference(names, entries),
        "figures": figures,
        "histograms": [histogram_svg(*entry) for entry in drawn if "histogram" in entry[2]],
        "thumbnails": [
            (names[index], result["curves"]["thumbnails"])
            for index, result in entries
            if "thumbnails" in result["curves"]
        ],
        "sweeps": [{"name": name, **curves["sweep"]} for name, _, curves in drawn if "sweep" in curves],
    }
