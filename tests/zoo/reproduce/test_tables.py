"""Means and deviations over seeds, and when a gain is shown."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.support.reproducing import HEADS, cell_of, first_right, made_up
from zoo.errors import InputError
from zoo.evaluate.metrics import Floats
from zoo.evaluate.results import Evaluation, Identification
from zoo.reproduce.tables import (
    Gain,
    cited,
    gains,
    markdown,
    mean_curves,
    read_stated,
    roc_figure,
    seed_stats,
    spelling,
    stated_by,
    summary,
    unmatched,
)


@pytest.mark.parametrize(
    "line", ["lfw,accuracy,arcface", "lfw,accuracy,arcface,101", "lfw,accuracy,arcface,x", "a,b,c,1,2"]
)
def test_a_stated_figure_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "stated.csv").write_text(f"# a comment\nbenchmark,figure,head,percent\nlfw,AUC,arcface,99\n{line}\n")
    with pytest.raises(InputError, match=r"in line 4 of .*stated\.csv"):
        read_stated(tmp_path / "stated.csv")


def test_a_figure_stated_twice_is_refused_and_a_spreadsheets_mark_is_not(tmp_path: Path) -> None:
    rows = "benchmark,figure,head,percent\nlfw,AUC,arcface,99\n"
    (tmp_path / "stated.csv").write_text("\ufeff" + rows)
    assert read_stated(tmp_path / "stated.csv") == {("lfw", "auc", "arcface"): 0.99}
    (tmp_path / "stated.csv").write_text(rows + "LFW.bin,auc,ArcFace,98\n")
    with pytest.raises(InputError, match=r"found lfw auc arcface again in line 3"):
        read_stated(tmp_path / "stated.csv")


def test_benchmarks_and_figures_have_one_spelling() -> None:
    expected = ("cfpfp", "tar@far 0.0001", "arcface")
    assert spelling("CFP-FP", "TAR@FAR 1e-4", " ArcFace ") == expected
    assert spelling("cfp_fp.bin", "tar@far 0.0001", "arcface") == expected


def test_the_papers_tables_are_at_hand_whole_and_as_printed() -> None:
    paper = stated_by("paper")
    assert len(paper) == 54 and {head for _, _, head in paper} == {"arcface", "curricularface", "recurricularface"}
    assert paper["lfw", "accuracy", "recurricularface"] == pytest.approx(0.9925)
    assert paper["ijbc", "tar@far 0.0001", "arcface"] == pytest.approx(0.0157)
    assert paper["tinyface", "rank 1", "arcface"] == pytest.approx(0.42)
    assert "10.23977/acss.2024.080201" in cited("paper")
    assert stated_by("none") == {}


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ([(700, 800), (701, 803), (699, 798)], "better"),
        ([(800, 700), (803, 701), (798, 699)], "worse"),
        ([(700, 800), (701, 700), (699, 798)], "no difference shown"),
        ([(700, 710), (700, 780), (700, 900)], "no difference shown"),
        ([(700, 701), (700, 701), (700, 701)], "no difference shown"),
        ([(700, 800)], "better at one seed"),
    ],
    ids=str,
)
def test_a_gain_is_shown_when_pairs_and_seeds_together_show_it(counts: list[tuple[int, int]], verdict: str) -> None:
    cells = [
        made_up(head, seed, first_right(count))
        for seed, both in enumerate(counts)
        for head, count in zip(HEADS, both, strict=True)
    ]
    (gain,) = gains(cells, HEADS[1])
    assert gain.verdict == verdict
    assert gain.mean == pytest.approx(np.mean([b - a for a, b in counts]) / 1000)
    assert gain.interval[0] <= gain.mean <= gain.interval[1]
    assert f"| {verdict} |" in markdown(cells, HEADS[1])


def made_gain(values: Floats, drawn: Floats) -> Gain:
    return Gain("pairs", "AUC", *HEADS, dict(enumerate(values.tolist())), drawn)


def test_over_people_who_decide_nothing_the_interval_is_students() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.02, 12)
    low, high = made_gain(values, np.repeat(values[:, None], 500, axis=1)).interval
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose((low, high), expected, atol=0.1 * (expected[1] - expected[0]))


def test_of_one_seed_the_interval_is_that_of_the_people() -> None:
    drawn = np.random.default_rng(2).normal(0.01, 0.02, (1, 999))
    gain = made_gain(np.array([0.01]), drawn)
    assert gain.interval == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))


@pytest.mark.parametrize(
    ("seeds", "by_seed", "by_people", "by_both"),
    [(3, 1.0, 0.3, 0.0), (4, 0.5, 1.0, 0.5), (10, 1.0, 1.0, 0.0), (10, 0.5, 0.5, 1.0)],
)
def test_the_interval_holds_the_true_difference_in_95_of_100_trials_or_some_more(
    seeds: int, by_seed: float, by_people: float, by_both: float
) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        both = rng.normal(0, by_both, seeds)
        values = 1.0 + rng.normal(0, by_seed, seeds) + rng.normal(0, by_people) + both
        drawn = values[:, None] + rng.normal(0, by_people, 200) + rng.normal(0, by_both, (seeds, 200))
        low, high = made_gain(values, drawn).interval
        held += low <= 1.0 <= high
    assert 0.92 <= held / 300 <= 0.995


@pytest.mark.parametrize(("by_seed", "by_people", "by_both"), [(1.0, 0.2, 0.0), (0.5, 0.2, 1.0), (0.0, 0.2, 1.0)])
def test_so_many_seeds_as_are_named_show_the_difference_in_four_of_five_trials(
    by_seed: float, by_people: float, by_both: float
) -> None:
    rng = np.random.default_rng(4)

    def measured(seeds: int, draws: int) -> Gain:
        values = 1.0 + rng.normal(0, by_seed, seeds) + rng.normal(0, by_people) + rng.normal(0, by_both, seeds)
        return made_gain(
            values, values[:, None] + rng.normal(0, by_people, draws) + rng.normal(0, by_both, (seeds, draws))
        )

    many = measured(1000, 2000)
    count = many.seeds_for(1.0)
    assert count is not None and count > 5
    shown = np.mean([measured(count, 200).interval[0] > 0 for _ in range(300)])
    assert 0.74 <= shown <= 0.93, "the next whole number of seeds"
    assert many.seeds_for(0.5) is None, "people alone vary as much"


def test_the_people_of_one_seed_alone_say_nothing_of_seeds() -> None:
    gain = made_gain(np.array([0.01]), np.full((1, 5), 0.01))
    assert gain.seeds_for(1.0) is None and gain.over_seeds is None
    assert "| – | – |" in markdown([made_up(head, 0, first_right(700)) for head in HEADS], HEADS[1])


def test_the_interval_of_seeds_alone_is_students() -> None:
    values = np.array([0.72, 0.39, 1.11, -0.04, 0.69])
    expected = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert made_gain(values, np.zeros((5, 3))).over_seeds == pytest.approx(expected)


def test_seeds_that_one_head_lacks_are_in_no_difference() -> None:
    cells = [made_up("arcface", seed, first_right(700)) for seed in range(3)]
    cells += [made_up("recurricularface", 1, first_right(800))]
    (gain,) = gains(cells, "recurricularface")
    assert list(gain.seeds) == [1]
    assert "| arcface (3 seeds) | recurricularface (1 seed) |" in markdown(cells, "recurricularface")


def test_what_a_benchmark_cannot_measure_is_no_row() -> None:
    rows = seed_stats([made_up("arcface", 0, first_right(7, 10))])["pairs"]
    assert [label for _, label, _ in rows] == ["accuracy", "AUC", "TAR@FAR 0.1"]


def test_templates_and_searches_get_tables_of_their_own() -> None:
    search = Identification(9, 9, {1: 0.7}, {1: (0.6, 0.8)}, {0.01: 0.6, 0.1: math.nan})
    found = Evaluation(
        *("ijb", "IJB-C", "", None),
        negatives=10,
        auc=0.9,
        tar_at_far={0.0001: 0.8},
        identification={"G1": search},
    )
    tables = seed_stats([cell_of("arcface", 0, found)])
    assert [label for _, label, _ in tables["ijb"]] == ["AUC", "TAR@FAR 0.0001"]
    assert [label for _, label, _ in tables["search"]] == ["G1 rank 1", "G1 TPIR@FPIR 0.01"]


def test_the_roc_of_several_seeds_is_their_mean_at_each_rate() -> None:
    cells = [made_up("arcface", seed, first_right(7, 10)) for seed in (0, 1, 2)]
    curves = mean_curves(cells)["made.bin"]["arcface"]
    for far, mean, low, high in curves.T:
        at = [0.1 * (seed + 1) if far < 0.1 else 0.5 if far < 1 else 1.0 for seed in (0, 1, 2)]
        assert (mean, low, high) == pytest.approx((np.mean(at), min(at), max(at)))
    (axes,) = roc_figure(cells).axes
    assert axes.get_xscale() == "log" and [line.get_label() for line in axes.lines] == ["arcface"]


def test_stated_figures_stand_below_the_measured_ones_and_the_others_are_listed() -> None:
    cells = [made_up("arcface", 0, first_right(7, 10))]
    stated = {("made", "accuracy", "arcface"): 0.995, ("lfw", "auc", "arcface"): 0.9}
    assert "| made.bin | accuracy | 70.00 |\n|  | as stated | 99.50 |\n" in markdown(cells, "arcface", stated)
    assert unmatched(cells, stated) == ["lfw"]
    more = {("made", "eer", "arcface"): 0.1, ("made", "accuracy", "cosface"): 0.9}
    assert unmatched(cells, more) == ["made eer arcface", "cosface"]


@pytest.mark.parametrize(("pairs", "compares"), [(6000, True), (5999, False)])
def test_nothing_published_stands_below_a_figure_of_a_partial_benchmark(pairs: int, compares: bool) -> None:
    found = Evaluation("pairs", "LFW", "", None, pairs=pairs, accuracy=0.9)
    told = markdown([cell_of("arcface", 0, found)], "arcface", stated_by("paper"))
    assert ("| LFW | accuracy | 90.00 |\n|  | as stated | 99.25 |" in told) == compares
    assert "| LFW | accuracy | 90.00 |" in told


def test_a_script_gets_the_values_of_every_seed() -> None:
    cells = [made_up(head, seed, first_right(700 + seed)) for seed in (0, 1) for head in HEADS]
    found = json.loads(json.dumps(summary(cells, HEADS[1])))
    assert found["cells"] == [[head, seed] for seed in (0, 1) for head in HEADS]
    accuracy = found["figures"][0]
    assert (accuracy["benchmark"], accuracy["figure"]) == ("made.bin", "accuracy")
    assert accuracy["heads"]["arcface"]["values"] == [0.7, 0.701]
    (gain,) = found["gains"]
    assert gain["verdict"] == "no difference shown" and gain["seeds"] == {"0": 0, "1": 0}
    assert (gain["difference"], gain["seeds_needed"]) == (0.01, 2)
