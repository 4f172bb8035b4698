"""Tables of several trainings of several heads: mean ± deviation over seeds, whether a gain is shown, and the power."""

import contextlib
import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from zoo.errors import InputError, explained
from zoo.evaluate.intervals import ACCURACY, AUC, EER, NORMAL_95, Estimate, PeoplePairs, unpack
from zoo.evaluate.protocols import PROTOCOLS
from zoo.evaluate.report.figures import legend, line, panels, roc_axes
from zoo.evaluate.report.record import Report
from zoo.evaluate.report.rows import figures as rates
from zoo.evaluate.report.rows import markdown_table
from zoo.evaluate.results import Evaluation

Stated = Mapping[tuple[str, str, str], float]  #: (benchmark, figure, head) in the form of `spelling` → a fraction
PAPER = "Tables 1 to 3 of Sang & Yang, ReCurricularFace, 2024, doi 10.23977/acss.2024.080201"

NORMAL_80 = 0.8416212335729143  #: The 80 % quantile of the normal distribution
TIMES = 20  #: How often seeds are drawn in each draw of people


def stated_by(source: str) -> Stated:
    """The figures that "paper", "none" or a CSV file states."""
    if source == "none":
        return {}
    return read_stated(Path(__file__).with_name("paper.csv") if source == "paper" else Path(source))


def cited(source: str) -> str:
    """What the source of figures is called."""
    return PAPER if source == "paper" else source


def read_stated(path: Path) -> Stated:
    """The figures in a CSV file with the columns benchmark, figure, head and percent; # starts a comment.

    A benchmark is named like its file or as in its paper (`cfp_fp.bin`, CFP-FP), a figure as in the tables.
    InputError, with the line, for another layout, an invalid percentage and a repeated figure.
    """
    unread = f"expected quoted figures as CSV in {path}, cannot read it"
    with explained(unread, OSError, UnicodeDecodeError, advice="check the path"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = csv.DictReader([line for _, line in numbered], skipinitialspace=True)
    if (found := ",".join(rows.fieldnames or ())) != (wanted := "benchmark,figure,head,percent"):
        raise InputError(f"expected the columns {wanted} in {path}, found {found or 'nothing'}; name them in line 1")
    stated: dict[tuple[str, str, str], float] = {}
    for (number, _), row in zip(numbered[1:], rows, strict=False):
        try:
            percent = float(row["percent"])
        except (TypeError, ValueError):
            percent = math.nan
        if None in row or None in row.values() or not 0 <= percent <= 100:
            wanted = f"a benchmark, a figure, a head and a percentage from 0 to 100 in line {number} of {path}"
            raise InputError(f"expected {wanted}, found {lines[number - 1]!r}; correct that line")
        key = spelling(row["benchmark"], row["figure"], row["head"])
        if key in stated:
            raise InputError(f"expected each figure once, found {' '.join(key)} again in line {number} of {path}")
        stated[key] = percent / 100
    return stated


def spelling(benchmark: str, figure: str, head: str) -> tuple[str, str, str]:
    """One spelling of a benchmark (CFP-FP, cfp_fp.bin), a figure (TAR@FAR 1e-4, TAR@FAR 0.0001) and a head."""
    words = figure.lower().split()
    for place, word in enumerate(words):
        with contextlib.suppress(ValueError):
            words[place] = f"{float(word):g}"
    name = "".join(letter for letter in benchmark.lower().removesuffix(".bin") if letter.isalnum())
    return name, " ".join(words), head.strip().lower()


TABLES = {
    "pairs": "Table 1: verification of pairs",
    "ijb": "Table 2: verification at low false accept rates (IJB-B, IJB-C)",
    "search": "Table 3: search, TinyFace and IJB 1:N",
}  #: The kinds of figures with their headings, in the order of printing


@dataclass(frozen=True)
class Cell:
    """One training: its head, its seed, and what `zoo evaluate` measured of it."""

    head: str
    seed: int
    report: Report
    loss: float = math.nan  #: The mean of its last training steps

    def __str__(self) -> str:
        return f"{self.head} seed {self.seed}"


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n − 1) over seeds; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None


def percent(values: Sequence[float]) -> str:
    """A figure's mean and deviation over seeds, as the tables print them."""
    spread = deviation(values)
    return f"{100 * statistics.fmean(values):.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


Row = tuple[str, str, dict[str, list[float]]]  #: Benchmark, figure, and each head's fractions, one per seed


def figures(result: Evaluation) -> Iterator[tuple[str, str, float]]:
    """A benchmark's measurable figures as (kind in TABLES, label, fraction)."""
    kind = "ijb" if result.accuracy is None else "pairs"
    for label, value, _ in rates(result):
        searched = "rank" in label or "TPIR" in label
        if not math.isnan(value) and (searched or label in (ACCURACY, AUC) or label.startswith("TAR")):
            yield "search" if searched else kind, label, value


def seed_stats(cells: Sequence[Cell]) -> dict[str, list[Row]]:
    """{kind: rows} over all cells, in the order of TABLES and of the reports."""
    gathered: dict[str, dict[tuple[str, str], dict[str, list[float]]]] = {kind: {} for kind in TABLES}
    for cell in cells:
        for result in cell.report.results:
            for kind, label, value in figures(result):
                gathered[kind].setdefault((result.data, label), {}).setdefault(cell.head, []).append(value)
    return {kind: [(*key, heads) for key, heads in rows.items()] for kind, rows in gathered.items() if rows}


@dataclass(frozen=True)
class Gain:
    """A figure of `second` less that of `first` on one benchmark, at each seed that both have."""

    data: str
    figure: str
    first: str
    second: str
    seeds: Mapping[int, float]
    drawn: npt.NDArray[np.float64]  #: The differences in each draw of people, or of pairs where unknown: (seeds, draws)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seeds.values())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean difference, by a bootstrap crossed over people and seeds.

        In each draw of people, seeds are drawn too. Few seeds vary less in their draws than in truth: what they deviate
        on all people is widened by √(n/(n − 1)) and to Student's distribution. Of a single seed, people alone.
        """
        count, draws = self.drawn.shape
        mean = self.drawn.mean(axis=0)
        if count > 1:
            widened = math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, 0.975)) / NORMAL_95
            chosen = np.random.default_rng(0).integers(0, count, (TIMES, count, draws))
            deviation = (np.array(list(self.seeds.values()))[chosen] - self.mean).mean(axis=1)
            mean = np.take_along_axis(self.drawn[None], chosen, axis=1).mean(axis=1) + (widened - 1) * deviation
        low, high = (float(bound) for bound in np.nanpercentile(mean, (2.5, 97.5)))
        return min(low, self.mean), max(high, self.mean)

    @property
    def verdict(self) -> str:
        """Whether the interval leaves out zero."""
        low, high = self.interval
        if low <= 0 <= high:
            return "no difference shown"
        return ("better" if low > 0 else "worse") + ("" if len(self.seeds) > 1 else " at one seed")

    @property
    def over_seeds(self) -> tuple[float, float] | None:
        """The 95 % interval by Student's t over the seeds, for exactly these people; None of a single seed."""
        if (count := len(self.seeds)) < 2:
            return None
        half = float(stdtrit(count - 1, 0.975)) * statistics.stdev(self.seeds.values()) / math.sqrt(count)
        return self.mean - half, self.mean + half

    def seeds_for(self, difference: float) -> int | None:
        """The fewest seeds with which `interval` shows such a difference in four of five trials, judged by two or more.

        The variance that draws of people cause in all seeds alike remains; what they cause in one seed, and what seeds
        differ by, falls with their number. None where 10,000 seeds are too few.
        """
        if (count := len(self.seeds)) < 2:
            return None
        alone = float(np.nanvar(self.drawn, axis=1).mean())
        alike = max(0.0, (count * float(np.nanvar(self.drawn.mean(axis=0))) - alone) / (count - 1))
        own, between, n = alone - alike, statistics.variance(self.seeds.values()), np.arange(2, 10_001)
        drawn = alike + own * (2 * n - 1) / n**2 + between / n * (stdtrit(n - 1, 0.975) / NORMAL_95) ** 2
        needed = NORMAL_95 * np.sqrt(drawn) + NORMAL_80 * np.sqrt(alike + np.maximum(own, between) / n)
        return next(iter(n[needed <= difference].tolist()), None)


def gains(cells: Sequence[Cell], second: str) -> list[Gain]:
    """`second` compared with every other column, figure by figure and seed by seed, on the same draws of people."""
    measured: dict[tuple[str, str], dict[str, dict[int, Estimate]]] = {}
    for cell in cells:
        for result in cell.report.results:
            for label, value in estimates(result).items():
                measured.setdefault((result.data, label), {}).setdefault(cell.head, {})[cell.seed] = value
    found = []
    for (data, label), by_head in measured.items():
        mine = by_head.pop(second, {})
        for first, theirs in by_head.items():
            both = {seed: (theirs[seed], mine[seed]) for seed in sorted(theirs.keys() & mine.keys())}
            if both and all(one.same_draws(other) for pair in both.values() for one, other in [pair]):
                drawn = np.stack([other.replicates - one.replicates for one, other in both.values()])
                each = {seed: other.value - one.value for seed, (one, other) in both.items()}
                found.append(Gain(data, label, first, second, each, drawn))
    return found


def estimates(result: Evaluation) -> dict[str, Estimate]:
    """The figures of a benchmark in every draw of its people, by label, without the equal error rate."""
    found = {label: one for label, one in result.curves.estimates.items() if label != EER}
    if ACCURACY not in found and result.curves.right and result.pairs and result.accuracy is not None:
        right = unpack(result.curves.right, result.pairs)
        found[ACCURACY] = PeoplePairs.unknown(result.pairs).share(right, result.accuracy)
    return found


def mean_curves(cells: Sequence[Cell]) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """{benchmark: {head: (4, points)}}: FARs, and at each the mean, smallest and largest TAR over the seeds."""
    found: dict[str, dict[str, list[npt.NDArray[np.float64]]]] = {}
    for cell in cells:
        for result in cell.report.results:
            if (roc := result.curves.roc) and result.negatives:
                far = np.geomspace(1 / result.negatives, 1, 300)
                tar = np.asarray(roc.tar)[np.searchsorted(roc.far, far * (1 + 1e-12), side="right") - 1]
                found.setdefault(result.data, {}).setdefault(cell.head, [far]).append(tar)
    band = np.mean, np.min, np.max
    return {
        data: {head: np.stack([far, *(of(tars, axis=0) for of in band)]) for head, (far, *tars) in by_head.items()}
        for data, by_head in found.items()
    }


def roc_figure(cells: Sequence[Cell]) -> Any:
    """Figure 2: TAR over FAR on a logarithmic axis; a panel per benchmark, a line per head, a band over its seeds."""
    if not (benchmarks := mean_curves(cells)):
        return None
    heads = list(dict.fromkeys(cell.head for cell in cells))
    figure, plots = panels(list(benchmarks), width=5.6)
    for axes, by_head in zip(plots, benchmarks.values(), strict=True):
        for head, (far, mean, low, high) in by_head.items():
            style = line(heads.index(head))
            axes.plot(far, mean, label=head, **style)
            axes.fill_between(far, low, high, color=style["color"], alpha=0.15, linewidth=0)
        roc_axes(axes)
        legend(axes, "lower right")
    return figure


HOW = (
    "The interval is from a bootstrap crossed over people (pairs where people are unknown) and seeds; where it holds "
    "zero, no difference is shown. Seeds alone: Student's 95 % interval for exactly these people. Last column: about "
    "how many seeds show a difference of {:g} in four of five trials, judged by those so far; – where no number does."
)


def markdown(cells: Sequence[Cell], second: str, stated: Stated | None = None, difference: float = 0.01) -> str:
    """The tables, and the gains of `second` over the other heads, in Markdown. InputError without a cell.

    A figure that is `stated` has a row below the measured one, unless this copy of the benchmark has another size.
    """
    if not cells:
        raise InputError("expected at least one evaluated training to tabulate, found none")
    heads = list(dict.fromkeys(cell.head for cell in cells))
    counts = [sum(cell.head == head for cell in cells) for head in heads]
    headings = [f"{head} ({n} seed{'' if n == 1 else 's'})" for head, n in zip(heads, counts, strict=True)]
    partial = {  # of another size than the published benchmark of that name: nothing published compares
        found.data
        for cell in cells
        for found in cell.report.results
        for known in (PROTOCOLS[found.protocol].benchmarks if found.protocol in PROTOCOLS else ())
        if known.title == found.data and known.other_sizes(found)
    }
    parts = []
    for kind, rows in seed_stats(cells).items():
        parts.append(f"## {TABLES[kind]}\n")
        lines = [["benchmark", "figure, %", *headings], ["---", "---", *["---:"] * len(heads)]]
        for data, label, by_head in rows:
            lines.append([data, label, *(percent(by_head[head]) if head in by_head else "" for head in heads)])
            theirs = [None if data in partial else (stated or {}).get(spelling(data, label, head)) for head in heads]
            if any(value is not None for value in theirs):
                lines.append(["", "as stated", *("" if value is None else f"{100 * value:.2f}" for value in theirs)])
        parts.append(markdown_table(lines))
    if found := gains(cells, second):
        parts.append("## Is there a gain?\n")
        parts.append(f"{second} less the others, in percentage points. {HOW.format(100 * difference)}\n")
        lines = [["benchmark", "figure", "against", "difference", "95 %", "at each seed", "", "seeds alone", "seeds"]]
        lines += [["---"] * 3 + ["---:"] * 2 + ["---"] * 2 + ["---:"] * 2, *(row(gain, difference) for gain in found)]
        parts.append(markdown_table(lines))
    return "\n".join(parts)


def unmatched(cells: Sequence[Cell], stated: Stated) -> list[str]:
    """The stated figures that none of these cells measures, in the form of `spelling`.

    Of a benchmark or a head that no cell has, the name alone.
    """
    rows = [row for rows in seed_stats(cells).values() for row in rows]
    measured = {spelling(data, label, head) for data, label, by_head in rows for head in by_head}
    missing = [key for key in stated if key not in measured]
    benchmarks, heads = ({key[place] for key in measured} for place in (0, 2))
    named = (b if b not in benchmarks else h if h not in heads else f"{b} {figure} {h}" for b, figure, h in missing)
    return list(dict.fromkeys(named))


def row(gain: Gain, difference: float) -> list[str]:
    each = " ".join(f"{100 * value:+.1f}" for value in gain.seeds.values())
    needed = gain.seeds_for(difference)
    return [
        *(gain.data, gain.figure, gain.first, f"{100 * gain.mean:+.2f}", points(gain.interval), each, gain.verdict),
        *("–" if gain.over_seeds is None else points(gain.over_seeds), "–" if needed is None else f"{needed:,}"),
    ]


def points(interval: tuple[float, float]) -> str:
    return "[" + ", ".join(f"{100 * bound:+.2f}" for bound in interval) + "]"


def summary(cells: Sequence[Cell], second: str, difference: float = 0.01) -> dict[str, Any]:
    """The content of `markdown` as JSON: every figure's values by head, and every gain."""
    measured, compared = [], []
    for kind, rows in seed_stats(cells).items():
        for data, label, by_head in rows:
            heads = {h: {"values": v, "mean": statistics.fmean(v), "std": deviation(v)} for h, v in by_head.items()}
            measured.append({"table": kind, "benchmark": data, "figure": label, "heads": heads})
    for gain in gains(cells, second):
        between = {"benchmark": gain.data, "figure": gain.figure, "first": gain.first, "second": gain.second}
        found = {"mean": gain.mean, "interval": gain.interval, "seeds": gain.seeds, "verdict": gain.verdict}
        needed = {"over_seeds": gain.over_seeds, "difference": difference, "seeds_needed": gain.seeds_for(difference)}
        compared.append({**between, **found, **needed})
    of_cells = {"cells": [[cell.head, cell.seed] for cell in cells], "training_loss": {str(c): c.loss for c in cells}}
    return {**of_cells, "figures": measured, "gains": compared}
