"""A report as rows and sentences, and from them tables in Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.evaluate.groups import Groups
from zoo.evaluate.intervals import ACCURACY, AUC, EER, Interval
from zoo.evaluate.report.record import Report
from zoo.evaluate.results import Evaluation, differences

LATEX = str.maketrans({"±": r"$\pm$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
LATEX |= str.maketrans({character: "\\" + character for character in "&%$#_{}"})
NUMBER = re.compile(r"^-?\d+(?:[.,]\d+)*")  #: What the CSV takes of a cell
Figure = tuple[str, float, Interval | None]  #: A label, a value, and its interval where there is one


def figures(found: Evaluation) -> list[Figure]:
    """All rates by their labels, which are the same for every way of computing them."""
    return [*_of_pairs(found), *_of_searches(found)]


def _of_pairs(found: Evaluation) -> list[Figure]:
    rates = [(ACCURACY, found.accuracy, found.accuracy_interval), (AUC, found.auc, found.auc_interval)]
    rates += [(EER, found.eer, found.eer_interval), ("decidability", found.decidability, None)]
    nearest = found.compat and found.features
    intervals = {} if nearest else {point.far_target: point.tar_interval for point in found.operating_points}
    tars = [(f"TAR@FAR {far:g}", tar, intervals.get(far)) for far, tar in found.tar_at_far.items()]
    return [*((label, rate, interval) for label, rate, interval in rates if rate is not None), *tars]


def _of_searches(found: Evaluation) -> list[Figure]:
    table: list[Figure] = []
    for gallery, search in found.identification.items():
        ranks = [(f"rank {n}", rate, search.rank_interval[n]) for n, rate in search.rank.items()]
        rates = search.tpir_at_fpir.items()
        open_set = [(f"TPIR@FPIR {fpir:g}", rate, search.tpir_interval.get(fpir)) for fpir, rate in rates]
        table += [(f"{gallery} {label}".strip(), rate, interval) for label, rate, interval in (*ranks, *open_set)]
    return [*table, *((label, value, None) for label, value in found.figures.items())]


def rows(found: Evaluation) -> list[tuple[str, str]]:
    """The figures as a table: (label, value with its interval)."""
    known = found.features or found.fold_order or found.flip is not None  # not of reports of earlier versions
    table = [("protocol", found.how)] if known else []
    for label, rate, interval in _of_pairs(found):
        value = _rate(rate, interval)
        if label == ACCURACY:
            label += f", {found.folds} folds" + (f" as {found.compat} computes it" if found.compat else "")
            value = _rate(rate, interval, f" ± {found.accuracy_std:.6f}")
        elif label.startswith("TAR") and found.compat and found.features:
            label += f", {found.compat}'s nearest"
        table.append((label, value))
    table += [(f"threshold at FAR {one.far_target:g}", f"{one.threshold:.6f}") for one in found.operating_points]
    table += [(label, _rate(rate, interval)) for label, rate, interval in _of_searches(found)]
    for column, groups in found.groups.items():
        table += group_rows(groups, f"{column} ")
    if found.failures:
        table.append(("failures to enrol", f"{found.failures.images:,} of {found.failures.of:,} images"))
    return table


def _rate(rate: float, interval: Interval | None = None, spread: str = "") -> str:
    if math.isnan(rate):
        return "not measurable"
    bounds = "[interval not measurable]" if interval and math.isnan(interval[0]) else "[{:.4f}, {:.4f}]"
    return f"{rate:.6f}{spread}{'  ' + bounds.format(*interval) if interval else ''}"


def remarks(found: Evaluation) -> list[str]:
    """What a reader of a benchmark's table should know: how intervals were found, pictures without a face, notes."""
    searches = sorted({search.intervals for search in found.identification.values() if search.intervals})
    pairs = found.intervals or ("" if searches else "exact binomial, pairs or probes taken as independent")
    told = [f"95 % intervals: {'; '.join(filter(None, [pairs, *searches]))}"]
    failures = found.failures
    if failures and failures.cut:
        told.append(f"pictures: {failures.cut}")
    if failures and failures.images:
        templates = f", {failures.templates:,} templates" if failures.templates is not None else ""
        of = f"({failures.pairs:,} pairs{templates}): {failures.policy}"
        told.append(f"{failures.images:,} of {failures.of:,} images have no usable face {of}")
    return [*told, *found.not_measurable, *found.notes]


def holds(found: Evaluation) -> str:
    """The pairs, probes or pictures that the figures were counted on."""
    if found.probes is not None:
        parts = f"{found.probes:,} probes, {found.gallery:,} matches, {found.distractors:,} distractors"
        return f"{parts}; ties count against the mate"
    told = f"{found.pairs:,} pairs" if found.pairs is not None else f"{found.images or 0:,} images"
    if found.positives is not None:
        told += f": {found.positives:,} of one person, {found.negatives:,} of two"
    if found.templates is not None:
        told = f"{found.images:,} images, {found.templates:,} templates, {told}"
    searches = {name: one for name, one in found.identification.items() if name != "mean"}
    for gallery, search in searches.items():
        told += f"; {gallery}: {search.mated_probes:,} mated and {search.non_mated_probes:,} other probes"
    return told


def group_rows(groups: Groups | None, column: str = "") -> list[tuple[str, str]]:
    """The rates of groups of people at one threshold, and their spread, by `column` in words: (label, value)."""
    if groups is None:
        return []
    if not groups.groups:
        return [(f"{column}groups", groups.not_measurable or "")]
    table = [(f"threshold of all {column}groups, FAR {groups.far_target:g}", f"{groups.threshold:.6f}")]
    for kind in ("fmr", "fnmr"):
        for name, rates in sorted(groups.groups.items()):
            value = _rate(getattr(rates, kind), getattr(rates, f"{kind}_interval"))
            table.append((f"{kind.upper()} {column}{name}", value))
        ratio = getattr(groups, f"{kind}_ratio")
        times = "" if ratio is None or ratio != ratio else f", the highest {ratio:.2f} times the lowest"
        table.append((f"{kind.upper()} {column}differential", f"{getattr(groups, f'{kind}_spread'):.6f}{times}"))
    return table


@dataclass(frozen=True)
class Leaderboard:
    """Every model's first figure on every benchmark, in per cent."""

    columns: list[tuple[str, str]]  #: (benchmark, figure)
    rows: list[tuple[str, list[tuple[str, bool]]]]
    """Models, each with a cell a column: the text, and whether it is better than all others beyond its interval."""


def headline(found: Evaluation) -> tuple[str, float, Interval | None]:
    """The figure that a benchmark is known by, with its interval: accuracy, TAR at a small FAR, or rank 1."""
    if found.accuracy is not None:
        return "accuracy", found.accuracy, found.accuracy_interval
    if found.operating_points:
        point = min(found.operating_points, key=lambda one: abs(math.log10(one.far_target) + 4))
        return f"TAR@FAR {point.far_target:g}", found.tar_at_far[point.far_target], point.tar_interval
    for search in found.identification.values():
        return "rank 1", search.rank[1], search.rank_interval[1]
    label, value = next(iter(found.figures.items()), ("", math.nan))
    return label, value, None


def leaderboard(reports: Sequence[Report]) -> Leaderboard:
    """The headlines of all models on all benchmarks, with two decimals in per cent."""
    columns, cells = [], []
    for (data, _), results in by_benchmark(reports).items():
        found = {index: headline(result) for index, result in results.items()}
        column: list[tuple[str, bool]] = [("", False)] * len(reports)
        for index, (_, value, interval) in found.items():
            others = [other for place, (_, other, _) in found.items() if place != index]
            best = bool(others) and interval is not None and all(interval[0] > other for other in others)
            column[index] = ("" if math.isnan(value) else f"{100 * value:.2f}", best)
        columns.append((data, next(iter(found.values()))[0]))
        cells.append(column)
    names = model_names(reports)
    return Leaderboard(columns, [(name, [column[index] for column in cells]) for index, name in enumerate(names)])


def side_by_side(tables: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Every label of several tables with its value in each of them, empty where a table has none."""
    labels = dict.fromkeys(label for table in tables for label in table)
    return [(label, [table.get(label, "") for table in tables]) for label in labels]


def summary(reports: Sequence[Report]) -> list[list[str]]:
    """All figures of all models as lines of cells: the headings, then benchmark, figure and a value for each model."""
    lines = [["benchmark", "figure", *model_names(reports)]]
    for (data, _), found in by_benchmark(reports).items():
        columns = [dict(rows(found[index])) if index in found else {} for index in range(len(reports))]
        lines += [[data, label, *values] for label, values in side_by_side(columns)]
    groups = side_by_side([dict(group_rows(report.groups)) for report in reports])
    return lines + [["groups", label, *values] for label, values in groups]


def markdown(reports: Sequence[Report]) -> str:
    """The figures as a table in Markdown."""
    headings, *table = summary(reports)
    lines, board = [headings, ["---", "---", *["---:"] * len(reports)], *table], leaderboard(reports)
    above = [["model", *(f"{data}, {figure}, %" for data, figure in board.columns)]]
    above.append(["---", *["---:"] * len(board.columns)])
    above += [[name, *(f"**{text}**" if best else text for text, best in row)] for name, row in board.rows]
    text = "\n".join(map(markdown_table, (above, lines)))
    told = [(result.data, remark) for report in reports for result in report.results for remark in remarks(result)]
    notes = [f"* {data}: {remark}\n" for data, remark in dict.fromkeys([*told, *compared(reports)])]
    return f"{text}\n{''.join(notes)}"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def comma_separated(reports: Sequence[Report]) -> str:
    """The figures as CSV, numbers without intervals."""
    headings, *table = summary(reports)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    for data, label, *values in table:
        writer.writerow([data, label, *(v if label == "protocol" else "".join(NUMBER.findall(v)) for v in values)])
    return text.getvalue()


def latex(reports: Sequence[Report]) -> str:
    """The leaderboard and the figures as LaTeX tabulars of the booktabs package."""
    board = leaderboard(reports)
    first = [["model", *(f"{data}, {figure}" for data, figure in board.columns)]]
    first += [[name, *(text for text, _ in row)] for name, row in board.rows]
    bold = {(y, x) for y, (_, row) in enumerate(board.rows, 1) for x, (_, best) in enumerate(row, 1) if best}
    return _tabular(first, "l", bold) + "\n" + _tabular(summary(reports), "ll", set())


def _tabular(lines: Sequence[Sequence[str]], left: str, bold: set[tuple[int, int]]) -> str:
    """A tabular whose first columns are aligned `left`, with `bold` cells (line, column)."""
    lines = [[cell.translate(LATEX) for cell in line] for line in lines]
    text = []
    for y, line in enumerate(lines):
        cells = (rf"\textbf{{{cell}}}" if (y, x) in bold else cell for x, cell in enumerate(line))
        text.append(" & ".join(cells) + r" \\")
    columns = left + "r" * (len(lines[0]) - len(left))
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", text[0], r"\midrule", *text[1:]]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"]) + "\n"


TABLES = {"md": markdown, "csv": comma_separated, "tex": latex}


def by_benchmark(reports: Sequence[Report]) -> dict[tuple[str, str], dict[int, Evaluation]]:
    """The results on every benchmark, by its name and content (copies are numbered) and the model's place."""
    found: dict[tuple[str, str], dict[int, Evaluation]] = {}
    for index, report in enumerate(reports):
        for result in report.results:
            name, copies = result.data, 1
            while index in found.setdefault((name, result.data_sha256), {}):
                copies += 1
                name = f"{result.data} ({copies})"
            found[name, result.data_sha256][index] = result
    return found


def compared(reports: Sequence[Report]) -> list[tuple[str, str]]:
    """How each model differs from the first one on the same pairs or probes: (benchmark, sentence)."""
    names, benchmarks = model_names(reports), by_benchmark(reports)
    return [(key[0], told) for key, found in benchmarks.items() for told in sentences_of_difference(names, found)]


def sentences_of_difference(names: Sequence[str], results: Mapping[int, Evaluation]) -> list[str]:
    """Sentences that compare each model with the first one on the same data, figure by figure."""
    (base, first), *others = results.items()
    told = []
    for index, found in others:
        protocols = "" if found.measured_as(first) else f"; other protocols: {found.how} against {first.how}"
        for label, one in differences(first, found).items():
            (low, high), counted = one.interval, one.gained is not None
            pairs = f", {one.gained} pairs gained and {one.lost} lost" if counted else ""
            drawn = "" if counted else " of pairs" if found.people is None else " of people"
            verdict = f"{one.verdict(lower_is_better=label == EER)} ({one.method}{drawn}){protocols}"
            figure = f"{label}: {one.value:+.6f} [{low:+.6f}, {high:+.6f}]{pairs}"
            told.append(f"{names[index]} against {names[base]}, {figure}: {verdict}")
    return told


def model_names(reports: Sequence[Report]) -> list[str]:
    """The models' names, numbered where several have the same."""
    names = [report.model.name for report in reports]
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]
