"""The figures of a report, drawn by matplotlib without a screen."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

COLOURS = ("#0b62a4", "#d1495b", "#2e7d5b", "#8a5fbf", "#c77d0a", "#3b8ea5")
"""One a model, told apart by colour-blind eyes too; the lines' dashes differ as well."""


DASHES = ("-", "--", "-.", ":")


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
