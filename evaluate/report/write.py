"""The files of a report: pages, tables, figures and records, each whole or absent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from zoo.evaluate.report.figures import cmc_figure, det_figure, roc_figure
from zoo.evaluate.report.page import page
from zoo.evaluate.report.record import Record, without_pictures
from zoo.evaluate.report.rows import TABLES, benchmarks_in, distinct_names
from zoo.files import atomic_path, write_json, write_text


def save_all(folder: str | Path, records: Sequence[Record]) -> None:
    """report.html, tables and figures of one model or several side by side, and each one's report.json in `folder`.

    The first model's is report.json, the others' report-2.json and so on.
    """
    folder = Path(folder)
    for index, record in enumerate(records):
        write_json(folder / f"report{'' if index == 0 else f'-{index + 1}'}.json", without_pictures(record))
    write_text(folder / "report.html", page(records))
    for suffix, table in TABLES.items():
        write_text(folder / f"report.{suffix}", table(records))
    names = distinct_names([record["model"]["name"] for record in records])
    for key in benchmarks_in(records):
        drawn = [
            (names[index], index, result["curves"])
            for index, record in enumerate(records)
            for result in record["results"]
            if (result["data"], result["data_sha256"]) == key and result.get("curves")
        ]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", key[0]).strip("-").lower()
        if [name for name, _ in benchmarks_in(records)].count(key[0]) > 1:
            stem += f"-{key[1][:8]}"
        for kind, draw in (("roc", roc_figure), ("det", det_figure), ("cmc", cmc_figure)):
            figure = draw(drawn)
            for suffix in ("svg", "png") if figure is not None else ():
                with atomic_path(folder / f"{stem}-{kind}.{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix, dpi=160)
