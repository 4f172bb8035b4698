"""A measurement on record: what report.json holds, how it is made and read."""

from __future__ import annotations

import base64
import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.comparison import group_rates
from zoo.evaluate.metrics import Bools, Floats
from zoo.evaluate.protocols.base import Evaluation
from zoo.files import json_safe, write_json, write_text
from zoo.formats.images import encode_jpeg
from zoo.machine import commit

Record = dict[str, Any]
"""What report.json holds: "model", "options", "provenance" and "results"."""


class Report:
    """One model's results on one or several benchmarks.

    `model` holds the facts of the model (name, sha256, …), `options` what was asked for (flip, device, …), and
    `groups` the scores and truths of groups of people who are to be compared at one threshold. `not_measured` are
    sentences on benchmarks that were found and could not be measured.
    """

    def __init__(
        self,
        model: dict[str, Any],
        evaluations: Sequence[Evaluation],
        options: dict[str, Any],
        groups: Mapping[str, tuple[Floats, Bools]] | None = None,
        not_measured: Sequence[str] = (),
    ) -> None:
        self.record: Record = json_safe(
            {
                "format": 1,
                "model": model,
                "options": options,
                "provenance": provenance(),
                "not_measured": list(not_measured),
                "results": [{**e.figures, "curves": e.curves} for e in evaluations],
                "groups": group_rates(groups) if groups and len(groups) > 1 else None,
            }
        )

    def save(self, path: str | Path) -> None:
        """Writes .json, .html, .md, .csv or .tex, by the name's ending; whole or not at all."""
        from zoo.evaluate.report.page import page
        from zoo.evaluate.report.rows import TABLES

        path = Path(path)
        if path.suffix == ".json":
            write_json(path, without_pictures(self.record))
        elif path.suffix == ".html":
            write_text(path, page([self.record]))
        elif path.suffix[1:] in TABLES:
            write_text(path, TABLES[path.suffix[1:]]([self.record]))
        else:
            raise InputError(f"expected a report named .json, .html, .md, .csv or .tex, found {path.name}")


def without_pictures(record: Record) -> Record:
    """The record without thumbnails: a report.json is passed around, and faces are not ours to pass around."""
    results = [
        {**result, "curves": {name: curve for name, curve in result["curves"].items() if name != "thumbnails"}}
        for result in record["results"]
    ]
    return {**record, "results": results}


def thumbnails(protocol: Any, hardest: dict[str, list[tuple[int, float]]]) -> dict[str, list[dict[str, Any]]]:
    """Both pictures of each of the hardest pairs as data URIs, for a page that its owner asked for."""
    return {
        kind: [
            {
                "pair": pair,
                "similarity": round(score, 4),
                "pictures": [
                    "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, 85)).decode()
                    for picture in protocol.pair_images(pair)
                ],
            }
            for pair, score in pairs
        ]
        for kind, pairs in hardest.items()
    }


def provenance() -> dict[str, Any]:
    """What computed the figures: versions, commit, machine and time."""
    packages = ("timm-face-zoo", "numpy", "onnxruntime-gpu", "onnxruntime", "opencv-python-headless")
    return {
        "versions": {name: found for name in packages if (found := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def read_record(path: str | Path) -> Record:
    """The content of a report.json; InputError for another file."""
    try:
        record = json.loads(Path(path).read_text())
        if record["format"] == 1 and record["results"] and record["model"]:
            return dict(record)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"expected a report.json of `zoo evaluate --report` at {path}, found something else")
