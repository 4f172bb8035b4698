"""The files of a report: tables, figures, and report.html for one model or several, which asks nothing of a network."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.evaluate.report import rows
from zoo.evaluate.report.figures import cmc_figure, det_figure, open_set_figure, roc_figure
from zoo.evaluate.report.record import Report
from zoo.evaluate.results import Evaluation, to_json
from zoo.files import atomic_path, write_text

if TYPE_CHECKING:
    import jinja2

FIGURES = {"roc": roc_figure, "det": det_figure, "cmc": cmc_figure, "open-set-det": open_set_figure}
DRAWN = ("roc", "histogram", "sweep", "rejection", "cmc", "open_set")  #: The curves that the page draws
MODELS = 8  #: How many models the page has colours for; more begin again


def templates(package: str, **options: Any) -> "jinja2.Environment":
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
    names, models = rows.model_names(reports), []
    for name, one in zip(names, reports, strict=True):
        facts = {"facts": one.model, "flip": one.options.flip, "provenance": one.provenance}
        models.append({"name": name, **facts, "group_rows": rows.group_rows(one.groups)})
    template = templates("zoo.evaluate.report").get_template("report.html.j2")
    benchmarks = [_benchmark(key, names, found) for key, found in rows.by_benchmark(reports).items()]
    absent = list(dict.fromkeys(line for report in reports for line in report.not_measured))
    return template.render(models=models, board=rows.leaderboard(reports), benchmarks=benchmarks, not_measured=absent)


def _benchmark(key: tuple[str, str], names: Sequence[str], results: Mapping[int, Evaluation]) -> dict[str, Any]:
    models = []
    for index, found in results.items():
        drawn = {part: to_json(getattr(found.curves, part)) for part in DRAWN}
        models.append({"name": names[index], "index": index % MODELS, **drawn})
    entries, (data, digest) = results.items(), key
    return {
        "data": data,
        "sha256": digest,
        "holds": rows.holds(next(iter(results.values()))),
        "columns": [(names[index], index) for index in results],
        "table": rows.side_by_side([dict(rows.rows(found)) for found in results.values()]),
        "notes": list(dict.fromkeys(note for found in results.values() for note in rows.remarks(found))),
        "differences": rows.sentences_of_difference(names, results),
        "thumbnails": [(names[index], found.thumbnails) for index, found in entries if found.thumbnails],
        "swept": [(names[index], index) for index, found in entries if found.curves.sweep],
        "drawn": {"name": data, "models": models},
    }


def save_all(folder: str | Path, reports: Sequence[Report]) -> None:
    """report.html, tables, figures and report.json, report-2.json, … of models side by side in `folder`."""
    folder = Path(folder)
    for index, report in enumerate(reports):
        report.save(folder / f"report{'' if index == 0 else f'-{index + 1}'}.json")
    write_text(folder / "report.html", page(reports))
    for suffix, table in rows.TABLES.items():
        write_text(folder / f"report.{suffix}", table(reports))
    names, benchmarks = rows.model_names(reports), rows.by_benchmark(reports)
    for (data, digest), results in benchmarks.items():
        drawn = [(names[index], index, found.curves) for index, found in results.items()]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", data).strip("-").lower()
        if [name for name, _ in benchmarks].count(data) > 1:
            stem += f"-{digest[:8]}"
        for kind, draw in FIGURES.items():
            if (figure := draw(drawn)) is None:
                continue
            for suffix in ("svg", "png"):
                with atomic_path(folder / f"{stem}-{kind}.{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix, dpi=160)
