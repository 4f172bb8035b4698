"""A measurement on record: report.json for machines, and report.html, one page that needs nothing else, to look at."""

from __future__ import annotations

import base64
import csv
import datetime
import html
import io
import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.evaluate.bootstrap import EER, Estimate
from zoo.evaluate.comparison import group_rates, paired_difference, unpack
from zoo.evaluate.metrics import Bools, Floats
from zoo.evaluate.protocols.base import Evaluation
from zoo.files import atomic_path, json_safe, write_json, write_text
from zoo.formats.images import encode_jpeg
from zoo.machine import commit

Record = dict[str, Any]
"""What report.json holds: "model", "options", "provenance" and "results"."""

COLOURS = ("#0b62a4", "#d1495b", "#2e7d5b", "#8a5fbf", "#c77d0a", "#3b8ea5")
"""One a model, told apart by colour-blind eyes too; the lines' dashes differ as well."""
DASHES = ("-", "--", "-.", ":")


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
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, without_pictures(self.record))
        elif path.suffix == ".html":
            write_text(path, page([self.record]))
        elif path.suffix[1:] in TABLES:
            write_text(path, TABLES[path.suffix[1:]]([self.record]))
        else:
            raise InputError(f"expected a report named .json, .html, .md, .csv or .tex, found {path.name}")


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
    names = _distinct_names([record["model"]["name"] for record in records])
    for key in _benchmarks(records):
        drawn = [
            (names[index], index, result["curves"])
            for index, record in enumerate(records)
            for result in record["results"]
            if (result["data"], result["data_sha256"]) == key and result.get("curves")
        ]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", key[0]).strip("-").lower()
        if [name for name, _ in _benchmarks(records)].count(key[0]) > 1:
            stem += f"-{key[1][:8]}"
        for kind, draw in (("roc", roc_figure), ("det", det_figure), ("cmc", cmc_figure)):
            figure = draw(drawn)
            for suffix in ("svg", "png") if figure is not None else ():
                with atomic_path(folder / f"{stem}-{kind}.{suffix}") as temporary:
                    figure.savefig(temporary, format=suffix, dpi=160)


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


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """A result's figures as a table for people: (label, value with its interval)."""
    table = []
    if result.get("accuracy") is not None:
        compat = f" as {result['compat']} computes it" if result.get("compat") else ""
        table.append(
            (
                f"accuracy, {result['folds']} folds{compat}",
                f"{result['accuracy']:.6f} ± {result['accuracy_std']:.6f}{_between(result['accuracy_interval'])}",
            )
        )
    for key, label in (("auc", "AUC"), ("eer", "equal error rate")):
        if result.get(key) is not None:
            within = result.get(f"{key}_interval")
            table.append((label, f"{result[key]:.6f}" + (_between(within) if within else "")))
    points = {f"{point['far_target']:g}": point for point in result.get("operating_points", [])}
    compat = f", {result['compat']}'s nearest" if result.get("compat") and "features" in result else ""
    for far, tar in result.get("tar_at_far", {}).items():
        label = f"TAR@FAR {far}{compat}"
        if tar is None:
            table.append((label, "not measurable"))
        elif compat:
            table.append((label, f"{tar:.6f}"))
        else:
            table.append((label, f"{tar:.6f}{_between(points[far]['tar_interval'])}"))
    for gallery, found in result.get("identification", {}).items():
        prefix = f"{gallery} " if gallery else ""
        for n, rate in found["rank"].items():
            table.append((f"{prefix}rank {n}", f"{rate:.6f}{_between(found['rank_interval'][n])}"))
        for fpir, rate in found["tpir_at_fpir"].items():
            within = found.get("tpir_interval", {}).get(fpir)
            told = "not measurable" if rate is None else f"{rate:.6f}" + (_between(within) if within else "")
            table.append((f"{prefix}TPIR@FPIR {fpir}", told))
    if failures := result.get("failures"):
        table.append(("failures to enrol", f"{failures['images']:,} of {failures['of']:,} images"))
    return table


def _between(interval: Sequence[float]) -> str:
    return f"  [{interval[0]:.4f}, {interval[1]:.4f}]"


def methods(result: dict[str, Any]) -> list[str]:
    """How a result's intervals were found and what became of pictures without a face, in sentences."""
    found = result.get("identification", {}).values()
    searches = sorted({one["intervals"] for one in found if "intervals" in one})
    pairs = result.get("intervals") or ("" if searches else "exact binomial, pairs or probes taken as independent")
    told = [f"95 % intervals: {'; '.join(filter(None, [pairs, *searches]))}"]
    failures = result.get("failures")
    if failures and failures["cut"]:
        told.append(f"pictures: {failures['cut']}")
    if failures and failures["images"]:
        templates = f", {failures['templates']:,} templates" if "templates" in failures else ""
        told.append(
            f"{failures['images']:,} of {failures['of']:,} images have no usable face "
            f"({failures['pairs']:,} pairs{templates}): {failures['policy']}"
        )
    return told


def remarks(result: dict[str, Any]) -> list[str]:
    """All that a reader of a benchmark's table should know, in sentences."""
    return [*methods(result), *result.get("not_measurable", []), *result.get("notes", [])]


def holds(result: dict[str, Any]) -> str:
    """What a benchmark's figures were counted on, in words."""
    if "probes" in result:
        parts = f"{result['probes']:,} probes, {result['gallery']:,} matches, {result['distractors']:,} distractors"
        return f"{parts}; ties count against the mate"
    told = f"{result['pairs']:,} pairs: {result['positives']:,} of one person, {result['negatives']:,} of two"
    if "templates" in result:
        told = f"{result['features']}, {result['images']:,} images, {result['templates']:,} templates, {told}"
    for gallery, found in result.get("identification", {}).items():
        told += f"; {gallery}: {found['mated_probes']:,} mated and {found['non_mated_probes']:,} other probes"
    return told


def group_rows(record: Record) -> list[tuple[str, str]]:
    """The rates of groups of people at one threshold, and their spread: (label, value)."""
    groups = record.get("groups")
    if not groups:
        return []
    if not groups["groups"]:
        return [("groups", groups["not_measurable"])]
    table = [
        (name, f"FMR {rates['fmr']:.5f}, FNMR {rates['fnmr']:.5f}") for name, rates in sorted(groups["groups"].items())
    ]
    where = f"at one threshold, {groups['threshold']:.4f}, of FAR {groups['far_target']:g} over all groups"
    spread = f"FMR {groups['fmr_spread']:.5f}, FNMR {groups['fnmr_spread']:.5f}, {where}"
    return [*table, ("spread between groups", spread)]


Table = list[tuple[str, str, list[str]]]


def summary(records: Sequence[Record]) -> tuple[list[str], Table]:
    """All figures of all models: the models' names, and rows (benchmark, figure, values)."""
    names = _distinct_names([record["model"]["name"] for record in records])
    table: Table = []
    for key in _benchmarks(records):
        columns = [
            next((dict(rows(r)) for r in record["results"] if (r["data"], r["data_sha256"]) == key), {})
            for record in records
        ]
        for label in dict.fromkeys(label for column in columns for label in column):
            table.append((key[0], label, [column.get(label, "") for column in columns]))
    return names, table


def markdown(records: Sequence[Record]) -> str:
    """The figures as a table in Markdown."""
    names, table = summary(records)
    lines = [["benchmark", "figure", *names], ["---", "---", *["---:"] * len(names)]]
    lines += [[data, label, *values] for data, label, values in table]
    text = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    results = [result for record in records for result in record["results"]]
    told = [(result["data"], remark) for result in results for remark in remarks(result)]
    notes = [f"* {data}: {remark}\n" for data, remark in dict.fromkeys([*told, *differences(records)])]
    return f"{text}\n{''.join(notes)}"


def comma_separated(records: Sequence[Record]) -> str:
    """The figures as CSV, numbers without intervals."""
    names, table = summary(records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["benchmark", "figure", *names])
    for data, label, values in table:
        writer.writerow([data, label, *[value.split(" ")[0] if value[:1].isdigit() else "" for value in values]])
    return text.getvalue()


def latex(records: Sequence[Record]) -> str:
    """The figures as a LaTeX tabular of the booktabs package."""
    names, table = summary(records)
    special = {character: "\\" + character for character in "&%$#_{}"}
    special |= {"±": "$\\pm$", "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    rows_ = [["benchmark", "figure", *names], *[[data, label, *values] for data, label, values in table]]
    lines = [" & ".join("".join(special.get(c, c) for c in cell) for cell in row) + r" \\" for row in rows_]
    lines = [rf"\begin{{tabular}}{{ll{'r' * len(names)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


TABLES = {"md": markdown, "csv": comma_separated, "tex": latex}


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
            {**record, "group_rows": group_rows(record), "name": name, "colour": COLOURS[index % len(COLOURS)]}
            for index, (name, record) in enumerate(zip(names, records, strict=True))
        ],
        benchmarks=[_benchmark(data, names, records) for data in _benchmarks(records)],
        not_measured=list(dict.fromkeys(line for record in records for line in record.get("not_measured", []))),
    )


def _benchmarks(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Every benchmark that any model was measured on, told apart by its content as well as its name."""
    found = [(result["data"], result["data_sha256"]) for record in records for result in record["results"]]
    return list(dict.fromkeys(found))


def _benchmark(key: tuple[str, str], names: Sequence[str], records: Sequence[Record]) -> dict[str, Any]:
    entries = _entries(key, records)
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
        "differences": _differences(names, entries),
        "figures": figures,
        "histograms": [histogram_svg(*entry) for entry in drawn if "histogram" in entry[2]],
        "thumbnails": [
            (names[index], result["curves"]["thumbnails"])
            for index, result in entries
            if "thumbnails" in result["curves"]
        ],
        "sweeps": [{"name": name, **curves["sweep"]} for name, _, curves in drawn if "sweep" in curves],
    }


def differences(records: Sequence[Record]) -> list[tuple[str, str]]:
    """How each model differs from the first one on the same pairs or probes: (benchmark, sentence)."""
    names = _distinct_names([record["model"]["name"] for record in records])
    return [
        (key[0], sentence) for key in _benchmarks(records) for sentence in _differences(names, _entries(key, records))
    ]


def _entries(key: tuple[str, str], records: Sequence[Record]) -> list[tuple[int, dict[str, Any]]]:
    """A benchmark's results, each with its model's place."""
    return [
        (index, result)
        for index, record in enumerate(records)
        for result in record["results"]
        if (result["data"], result["data_sha256"]) == key
    ]


def _differences(names: Sequence[str], entries: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
    """Sentences that compare each model with the first one on the same data, figure by figure."""
    (base, first), *others = [(index, result) for index, result in entries if result.get("curves")]
    sentences = []
    for index, result in others:
        told = [*_accuracy_difference(first, result), *_estimate_differences(first, result)]
        sentences += [f"{names[index]} against {names[base]}, {sentence}" for sentence in told]
    return sentences


def _accuracy_difference(first: Record, second: Record) -> list[str]:
    """By what each model has right, where no people are drawn for it."""
    curves = first["curves"], second["curves"]
    if not all("right" in c and "accuracy" not in c.get("estimates", {}) for c in curves):
        return []
    if (first["pairs"], first["compat"]) != (second["pairs"], second["compat"]):
        return []
    found = paired_difference(*(unpack(c["right"], first["pairs"]) for c in curves))
    low, high = found.interval
    return [
        f"accuracy: {found.value:+.6f} [{low:+.6f}, {high:+.6f}], {found.only_second} pairs gained and "
        f"{found.only_first} lost: {found.verdict} (matched pairs, Agresti and Min)"
    ]


def _estimate_differences(first: Record, second: Record) -> list[str]:
    """By the same draws for both models."""
    packed = first["curves"].get("estimates", {}), second["curves"].get("estimates", {})
    before, after = ({label: Estimate.unpacked(one) for label, one in side.items()} for side in packed)
    drawn = "people" if "people" in second else "pairs"
    sentences = []
    for label in after:
        if label not in before or not after[label].same_draws(before[label]):
            continue
        if label == "accuracy" and first["compat"] != second["compat"]:
            continue
        value, (low, high) = after[label].less(before[label])
        better, worse = (high < 0, low > 0) if label == EER else (low > 0, high < 0)
        verdict = "better" if better else "worse" if worse else "no difference shown"
        sentences.append(f"{label}: {value:+.6f} [{low:+.6f}, {high:+.6f}]: {verdict} (the same draws of {drawn})")
    return sentences


def _distinct_names(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]


Drawn = tuple[str, int, dict[str, Any]]
"""What a figure shows of one model: its name, its place among the models, its curves."""


def roc_figure(drawn: Sequence[Drawn]) -> Any:
    """TAR over FAR on a logarithmic axis, one line a model; None where no model has a curve."""
    drawn = [entry for entry in drawn if "roc" in entry[2]]
    if not drawn:
        return None
    figure, axes = _axes(6.4, 4.2)
    for name, index, curves in drawn:
        far, tar = curves["roc"]["far"], curves["roc"]["tar"]
        measured = [(x, y) for x, y in zip(far, tar, strict=True) if x > 0]
        axes.step(*zip(*measured, strict=True), where="post", label=name, **_line(index))
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(None, 1.005), xlim=(None, 1))
    return _finish(figure, axes, "lower right")


def det_figure(drawn: Sequence[Drawn]) -> Any:
    """False non-match over false match rate, both logarithmic; None where no model has a curve."""
    drawn = [entry for entry in drawn if "roc" in entry[2]]
    if not drawn:
        return None
    figure, axes = _axes(6.4, 4.2)
    for name, index, curves in drawn:
        points = [
            (x, 1 - y) for x, y in zip(curves["roc"]["far"], curves["roc"]["tar"], strict=True) if x > 0 and y < 1
        ]
        if points:
            axes.step(*zip(*points, strict=True), where="post", label=name, **_line(index))
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate")
    return _finish(figure, axes, "upper right")


def cmc_figure(drawn: Sequence[Drawn]) -> Any:
    """The share of probes found within the first n, one line a model and gallery; None where nothing was searched."""
    lines = [(name, index, gallery, rates) for name, index, c in drawn for gallery, rates in c.get("cmc", {}).items()]
    if not lines:
        return None
    figure, axes = _axes(6.4, 4.2)
    for name, index, gallery, rates in lines:
        style = {**_line(index), "linestyle": ":" if gallery.endswith("2") else "-"}
        axes.plot(range(1, len(rates) + 1), rates, label=f"{name} {gallery}".strip(), marker=".", **style)
    axes.set(xlabel="rank", ylabel="share of probes found")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finish(figure, axes, "lower right")


def rejection_figure(drawn: Sequence[Drawn]) -> Any:
    """False non-match rate over the share of pairs turned away for their short embeddings; None without pairs."""
    drawn = [entry for entry in drawn if entry[2].get("rejection")]
    if not drawn:
        return None
    figure, axes = _axes(6.4, 4.2)
    for name, index, curves in drawn:
        axes.plot(curves["rejection"]["rejected"], curves["rejection"]["fnmr"], label=name, marker=".", **_line(index))
    axes.set(xlabel="share of pairs turned away, shortest embeddings first", ylabel="false non-match rate at FAR 0.01")
    return _finish(figure, axes, "upper right")


FIGURES: tuple[tuple[str, Callable[[Sequence[Drawn]], Any]], ...] = (
    ("ROC", roc_figure),
    ("DET", det_figure),
    ("CMC", cmc_figure),
    ("Error versus reject", rejection_figure),
)


def _finish(figure: Any, axes: Any, corner: str) -> Any:
    axes.grid(True, which="major", color="#e4e7eb", linewidth=0.8)
    axes.legend(loc=corner, frameon=False)
    return figure


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
