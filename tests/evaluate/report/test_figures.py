"""The style of every plot and the figures of a report, as matplotlib holds them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.report import figures
from zoo.evaluate.report.figures import det_figure, roc_figure, svg
from zoo.evaluate.results import Curves, RocPoints

RNG = np.random.default_rng(0)
SAME = RNG.random(301) < 0.5
OPEN = {"G1": RocPoints([0.0, 0.1, 1.0], [0.25, 0.5, 1.0]), "G2": RocPoints([0.0, 0.2, 1.0], [0.25, 0.75, 0.75])}
DRAWN = [
    (name, index, Curves.of(SortedScores.of(RNG.normal(SAME, 0.7), SAME), cmc={"G2": [0.5, 0.75]}, open_set=OPEN))
    for index, name in enumerate(("one", "two"))
]
NOTHING = [("empty", 0, Curves())]


@pytest.mark.parametrize("draw", [figures.roc_figure, figures.det_figure, figures.cmc_figure, figures.open_set_figure])
def test_a_model_without_a_curve_is_no_figure(draw) -> None:
    assert draw(NOTHING) is None and draw([]) is None


def test_the_roc_has_a_line_a_model_on_a_logarithmic_axis() -> None:
    (axes,) = figures.roc_figure([*NOTHING, *DRAWN]).axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "false accept rate"
    assert [line.get_label() for line in axes.lines] == ["one", "two"]
    assert [line.get_color() for line in axes.lines] == list(figures.COLOURS[:2])
    far = axes.lines[0].get_xdata()
    assert (far > 0).all() and len(far) == len(DRAWN[0][2].roc.far) - 1


def test_the_det_is_the_roc_turned_over() -> None:
    (axes,) = figures.det_figure(DRAWN).axes
    roc = DRAWN[0][2].roc
    expected = [(x, 1 - y) for x, y in zip(roc.far, roc.tar, strict=True) if x > 0 and y < 1]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), expected)


def test_searches_are_drawn() -> None:
    (axes,) = figures.cmc_figure(DRAWN).axes
    assert [line.get_label() for line in axes.lines] == ["one G2", "two G2"]
    (axes,) = figures.open_set_figure(DRAWN).axes
    assert [line.get_label() for line in axes.lines] == ["one G1", "one G2", "two G1", "two G2"]
    assert axes.lines[1].get_xydata().tolist() == [[0.2, 0.25], [1.0, 0.25]]
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert axes.get_xlabel() == "false positive identification rate" and axes.get_yscale() == "log"


def test_panels_share_one_style() -> None:
    figure, axes = figures.panels(("a", "b", "c"), width=2.0, height=1.5)
    assert len(axes) == 3 and figure.get_size_inches().tolist() == [6.0, 1.5]
    assert not any(one.spines[side].get_visible() for one in axes for side in ("top", "right"))
    assert figures.line(1)["color"] == figures.line(1 + len(figures.COLOURS))["color"]
    assert figures.line(0)["linestyle"] != figures.line(1)["linestyle"]


def test_a_figure_becomes_an_element_without_a_date() -> None:
    element = figures.svg(figures.roc_figure(DRAWN), 'a "title"')
    assert element.startswith('<svg role="img" aria-label="a &quot;title&quot;"') and "<metadata>" not in element


def test_perfect_scores_have_no_det_and_no_warning() -> None:
    scores = SortedScores(np.linspace(0.8, 0.9, 20), np.linspace(0.1, 0.2, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert det_figure([("m", 0, Curves.of(scores))]) is None
        figure = roc_figure([("m", 0, Curves.of(scores))])
        assert figure is not None and svg(figure, "ROC")
