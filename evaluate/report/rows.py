"""A record as rows, sentences and differences for people; from them Markdown, CSV and LaTeX tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from zoo.evaluate.comparison import paired_difference, unpack
from zoo.evaluate.intervals import EER, Estimate
from zoo.evaluate.report.record import Record


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
    names = distinct_names([record["model"]["name"] for record in records])
    table: Table = []
    for key in benchmarks_in(records):
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


def benchmarks_in(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Every benchmark that any model was measured on, told apart by its content as well as its name."""
    found = [(result["data"], result["data_sha256"]) for record in records for result in record["results"]]
    return list(dict.fromkeys(found))


def differences(records: Sequence[Record]) -> list[tuple[str, str]]:
    """How each model differs from the first one on the same pairs or probes: (benchmark, sentence)."""
    names = distinct_names([record["model"]["name"] for record in records])
    return [
        (key[0], sentence)
        for key in benchmarks_in(records)
        for sentence in sentences_of_difference(names, results_of(key, records))
    ]


def results_of(key: tuple[str, str], records: Sequence[Record]) -> list[tuple[int, dict[str, Any]]]:
    """A benchmark's results, each with its model's place."""
    return [
        (index, result)
        for index, record in enumerate(records)
        for result in record["results"]
        if (result["data"], result["data_sha256"]) == key
    ]


def sentences_of_difference(names: Sequence[str], entries: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
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


def distinct_names(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]
