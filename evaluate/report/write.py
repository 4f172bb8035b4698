"""The files of a report: pages, tables, figures and records, each whole or absent."""

import re
from collections.abc import Sequence
from pathlib import Path

from zoo.evaluate.report.figures import cmc_figure, det_figure, open_set_figure, roc_figure
from zoo.evaluate.report.page import page
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import TABLES, benchmarks_in, model_names, results_of
from zoo.files import atomic_path, write_text

FIGURES = {"roc": roc_figure, "det": det_figure, "cmc": cmc_figure, "open-set-det": open_set_figure}


def save_all(folder: str | Path, reports: Sequence[Report]) -> None:
    """report.html, tables and figures of one model or several side by side, and each one's report.json in `folder`.

    The first model's is report.json, the others' report-2.json and so on.
    """
    folder = Path(folder)
    for index, report in enumerate(reports):
        report.save(folder / f"report{'' if index == 0 else f'-{index + 1}'}.json")
    write_text(folder / "report.html", page(reports))
    for suffix, table in TABLES.items():
        write_text(folder / f"report.{suffix}", table(reports))
    names = model_names(reports)
    keys = benchmarks_in(reports)
    for key in keys:
        drawn = [(names[index], index, found.curves) for index, found in results_of(key, reports)]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", key[0]).strip("-").lower()
        if [name for name, _ in keys].count(key[0]) > 1:
            stem += f"-{key[1][:8]}"
        for kind, draw in FIGURES.items():
            figure = draw(drawn)
            if figure is None:
                continue
            for suffix in ("svg", "png"):
                with atomic_path(folder / f"{stem}-{kind}.{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix, dpi=160)
