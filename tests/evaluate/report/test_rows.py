"""A report in rows and sentences, and the tables made of them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.support.benchmarks import colour_pairs
from zoo.evaluate.groups import GroupRates, Groups
from zoo.evaluate.protocols import PairsProtocol
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.evaluate.report.rows import TABLES, compared, group_rows, holds, remarks, rows, summary
from zoo.evaluate.results import Evaluation, Failures, Identification


def measured(seed: int, data: str = "a|b & c") -> Evaluation:
    images, same = colour_pairs(60)
    protocol = PairsProtocol(images, same, data=data, data_sha256="ab" * 32)
    return protocol.score(np.random.default_rng(seed).normal(size=(len(protocol), 3)))


@pytest.fixture
def reports() -> list[Report]:
    return [Report(ModelFacts("one"), (measured(0),)), Report(ModelFacts("two_2"), (measured(1), measured(2, "d")))]


def test_every_figure_is_a_row_with_its_interval() -> None:
    found = measured(0)
    table = dict(rows(found))
    low, high = found.accuracy_interval
    assert table["accuracy, 10 folds"] == f"{found.accuracy:.6f} ± {found.accuracy_std:.6f}  [{low:.4f}, {high:.4f}]"
    tars = [f"TAR@FAR {far:g}" for far in found.tar_at_far]
    thresholds = [f"threshold at FAR {point.far_target:g}" for point in found.operating_points]
    first = ["AUC", "equal error rate", "decidability", *tars]
    assert list(table)[2:] == [*first, *thresholds, "FNMR at zero FMR"] and thresholds
    assert table["TAR@FAR 0.0001"] == "not measurable"
    assert "60 pairs: 30 of one person, 30 of two" in holds(found)
    assert remarks(found)[0].startswith("95 % intervals: exact binomial")


def test_both_copies_of_a_benchmark_stand_in_every_table(reports: list[Report]) -> None:
    twice = [replace(reports[0], results=(measured(0), measured(3))), reports[1]]
    lines = [line for line in summary(twice) if line[1] == "AUC"]
    assert [line[0] for line in lines] == ["a|b & c", "a|b & c (2)", "d"]
    assert lines[0][2] == dict(rows(measured(0)))["AUC"] and lines[1][2:] == [dict(rows(measured(3)))["AUC"], ""]


def test_searches_failures_and_other_figures_are_rows_too() -> None:
    search = Identification(7, 2, {1: 0.5, 5: 0.75}, {1: (0.4, 0.6), 5: (0.7, 0.8)}, {0.1: 0.25, 0.01: math.nan})
    found = Evaluation(
        *("mine", "x", "", None),
        images=9,
        identification={"G1": search, "": search},
        figures={"mean rank": 1.5},
        failures=Failures(2, 9, 3, "left out", "cut by hand"),
    )
    table = dict(rows(found))
    assert table["G1 rank 1"] == "0.500000  [0.4000, 0.6000]" and table["rank 5"] == "0.750000  [0.7000, 0.8000]"
    assert table["G1 TPIR@FPIR 0.1"] == "0.250000" and table["G1 TPIR@FPIR 0.01"] == "not measurable"
    assert table["mean rank"] == "1.500000" and table["failures to enrol"] == "2 of 9 images"
    assert "2 of 9 images have no usable face (3 pairs): left out" in remarks(found)


def test_groups_and_their_spread_are_told_or_why_not() -> None:
    rates = GroupRates(0.25, (0, 1), 0.125, (0, 1))
    groups = Groups(0.01, 0.5, {"b": rates, "a": replace(rates, fmr=0.5)}, 0.25, 0.0, None, 2.0, 1.0)
    report = Report(ModelFacts("m"), (), groups=groups)
    table = dict(group_rows(report.groups))
    assert table["threshold of all groups, FAR 0.01"] == "0.500000" and table["FMR a"] == "0.500000  [0.0000, 1.0000]"
    assert table["FMR differential"] == "0.250000, the highest 2.00 times the lowest" and "FNMR b" in table
    for written in TABLES.values():
        assert "FMR differential" in written([report])
    few = Report(ModelFacts("m"), (), groups=Groups(0.01, None, not_measurable="too few"))
    assert group_rows(few.groups) == [("groups", "too few")] and group_rows(None) == []


def test_a_model_without_a_benchmark_has_empty_cells(reports: list[Report]) -> None:
    headings, *table = summary(reports)
    assert headings == ["benchmark", "figure", "one", "two_2"]
    of_d = [values for data, _, *values in table if data == "d"]
    assert of_d and all(values[0] == "" and values[1] for values in of_d)


def test_each_model_is_compared_with_the_first_on_the_same_data(reports: list[Report]) -> None:
    told = compared(reports)
    assert {data for data, _ in told} == {"a|b & c"}
    assert told[0][1].startswith("two_2 against one, accuracy: ") and "Agresti and Min" in told[0][1]
    assert told[1][1].startswith("two_2 against one, AUC: ") and "the same draws of pairs" in told[1][1]
    assert compared([reports[0], replace(reports[0], model=ModelFacts("one"))])[0][1].startswith("one (2) against one")


def test_a_comparison_of_other_protocols_is_marked() -> None:
    first, second = measured(0), measured(1)
    alike = [
        Report(ModelFacts("a"), (replace(first, flip=True),)),
        Report(ModelFacts("b"), (replace(second, flip=True),)),
    ]
    other = [alike[0], Report(ModelFacts("b"), (replace(second, flip=False),))]
    assert not any("other protocols" in sentence for _, sentence in compared(alike))
    assert all(sentence.endswith("folds in file order") for _, sentence in compared(other))
    assert all("; other protocols: no flip, " in sentence for _, sentence in compared(other))


def test_markup_in_a_name_stays_text_in_every_table(reports: list[Report]) -> None:
    assert "a\\|b & c" in TABLES["md"](reports)
    assert r"a|b \& c" in TABLES["tex"](reports) and r"two\_2" in TABLES["tex"](reports)
    table = list(csv.reader(io.StringIO(TABLES["csv"](reports))))
    assert table[0] == ["benchmark", "figure", "one", "two_2"] and table[1][0] == "a|b & c"
    assert table[1][1:3] == ["protocol", "10 folds in file order"]
    assert float(table[2][2]) == pytest.approx(reports[0].results[0].accuracy, abs=1e-6)
