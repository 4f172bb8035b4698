"""What is claimed of a published model, beside what is measured."""

import contextlib
import csv
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError, explained
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.benchmarks.runner import Model, load_model, measure, open_benchmarks
from zoo.evaluate.intervals import ACCURACY, Interval
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import figures
from zoo.files import sha256
from zoo.hub.pull import is_hub_id, pull
from zoo.messages import Bar, no_bar
from zoo.published.catalogue import catalogue
from zoo.reproduce.tables import spelling

ROUNDING = 5e-5  #: Claims are rounded to a hundredth of a per cent
OTHER_LABELS = {"roc_auc": "auc", "eer": "equal error rate"}


@dataclass(frozen=True)
class Claim:
    """A figure that somebody published, and what was measured of it; None where it was not."""

    benchmark: str
    metric: str  #: As the tables of `zoo evaluate` call it: accuracy, TAR@FAR 0.0001, rank 1, G1 rank 1, …
    value: float  #: A fraction
    measured: float | None = None
    interval: Interval | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Benchmark and metric in one spelling."""
        name, metric, _ = spelling(self.benchmark, self.metric.replace("=", " ").replace("_", " "), "")
        metric = re.sub("^tar at far", "tar@far", metric)
        return name, OTHER_LABELS.get(metric.replace(" ", "_"), metric)

    @property
    def verdict(self) -> str:
        """Whether the claim lies in the 95 % interval of what was measured."""
        if self.measured is None or self.interval is None or math.isnan(self.interval[0] + self.measured):
            return "not measured"
        low, high = self.interval
        if self.value > high + ROUNDING:
            return "above what is measured"
        return "below what is measured" if self.value < low - ROUNDING else "holds"

    @property
    def told(self) -> str:
        """The claim and what was measured, in words."""
        words = f"{self.benchmark} {self.metric}: claimed {self.value:.4f}"
        if self.verdict == "not measured" or self.measured is None or self.interval is None:
            return f"{words}, not measured"
        return f"{words}, measured {self.measured:.4f} [{self.interval[0]:.4f}, {self.interval[1]:.4f}]: {self.verdict}"


@dataclass(frozen=True)
class Audit:
    """Every claim of a model."""

    source: str  #: Who claims it
    claims: tuple[Claim, ...]
    report: Report | None  #: All that was measured; None without data


def audit(
    model: str | Path,
    data: str | Path | None = None,
    claims: str | Path | None = None,
    watch: Bar = no_bar,
    **options: Any,
) -> Audit:
    """Measures what is claimed of a model again, on the benchmarks at or under `data`.

    `claims` is a file of claims (`read_claims`); otherwise they are the model's own (`claims_of`). `options` are the
    fields of `Options`. InputError where nothing is claimed, and where none of the benchmarks is in a claim.
    """
    loaded = load_model(model, Options(**options))
    source, stated = (str(claims), read_claims(Path(claims))) if claims else claims_of(str(model), loaded)
    if not stated:
        raise InputError(f"expected figures that are claimed of {model}, found none; give them by --claims FILE")
    if data is None:
        return Audit(source, tuple(stated), None)
    benchmarks = open_benchmarks(data, options=loaded.options)
    names = {claim.key[0] for claim in stated}
    wanted = tuple(one for one in benchmarks.opened if spelling(one[0].data, "", "")[0] in names)
    if not wanted:
        told = ", ".join(dict.fromkeys(claim.benchmark for claim in stated))
        there = ", ".join(protocol.data for protocol, _ in benchmarks.opened)
        raise InputError(f"expected a benchmark of the claims at {data} ({told}), found {there or 'none'}")
    report = measure(loaded, replace(benchmarks, opened=wanted), watch)
    measured = {
        Claim(found.data, label, value).key: (value, interval)
        for found in report.results
        for label, value, interval in figures(found)
    }
    audited = ((claim, *measured.get(claim.key, (None, None))) for claim in stated)
    return Audit(source, tuple(replace(one, measured=value, interval=of) for one, value, of in audited), report)


def read_claims(path: Path) -> list[Claim]:
    """The claims in a CSV file with the columns benchmark, metric, value, or in a JSON list of such objects.

    A value above 1 is in per cent. InputError, with the number of the claim, for anything else.
    """
    with explained(f"expected claims as CSV or JSON in {path}, cannot read it", OSError, ValueError):
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    if not isinstance(rows, list) or not rows:
        raise InputError(f"expected claims with benchmark, metric and value in {path}, found none")
    return [_claim(row, f"claim {number} of {path}") for number, row in enumerate(rows, 1)]


def _claim(row: Any, where: str) -> Claim:
    unread = f"expected a benchmark, a metric and a value in {where}, found {row}"
    with explained(unread, TypeError, ValueError, KeyError):
        value = float(row["value"])
        claim = Claim(str(row["benchmark"]), str(row["metric"]), value / 100 if value > 1 else value)
    if not 0 <= claim.value <= 1:
        raise InputError(f"expected a fraction or per cent in {where}, found {row['value']}")
    return claim


def claims_of(name: str, model: Model) -> tuple[str, list[Claim]]:
    """Who claims what of a model: its card, its metadata, else the catalogue, by the file's hash."""
    card = model.embedder.path.with_name("README.md")
    if is_hub_id(name) and not card.is_file():
        with contextlib.suppress(InputError):
            card = pull(name, ["README.md"]).folder / "README.md"
    if card.is_file() and (claims := card_claims(card.read_text("utf-8", "replace"))):
        return f"the model's card, {card}", claims
    origin = model.embedder.info.origin if model.embedder.info else None
    if origin and origin.stated:
        return origin.stated_from or origin.paper, stated_claims(origin.stated)
    known = catalogue().by_hash(sha256(model.embedder.path)) or catalogue().named(name)
    return (known.stated_from, stated_claims(known.stated)) if known else ("", [])


def card_claims(card: str) -> list[Claim]:
    """The rates in the metadata of a model card (`model-index`), as the Hub defines them; none where it has none."""
    claims = []
    with contextlib.suppress(yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        facts = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
        for result in facts["model-index"][0]["results"]:
            for metric in result["metrics"]:
                row = {"metric": metric.get("name") or metric["type"], "value": metric["value"]}
                with contextlib.suppress(InputError):  # a metric that is no rate
                    claims.append(_claim({"benchmark": result["dataset"]["name"], **row}, "the model's card"))
    return claims


def stated_claims(stated: dict[str, float]) -> list[Claim]:
    """Figures by benchmark, as the catalogue has them: LFW means its accuracy, IJB-C TAR@FAR=1e-4 names its own."""
    return [Claim(name.split(" ")[0], name.partition(" ")[2] or ACCURACY, value) for name, value in stated.items()]
