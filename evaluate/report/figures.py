"""The one style of every plot, and the figures of a report: drawn by matplotlib without a screen."""

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.evaluate.results import Curves, RocPoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0b62a4", "#d1495b", "#2e7d5b", "#8a5fbf", "#c77d0a", "#3b8ea5")
"""One per model, distinguishable for colour-blind readers; the dashes of lines differ as well."""
DASHES = ("-", "--", "-.", ":")
Drawn = tuple[str, int, Curves]  #: What a figure shows of one model: its name, its place among the models, its curves


def panels(titles: Sequence[str] = ("",), width: float = 6.4, height: float = 4.2) -> "tuple[Figure, list[Axes]]":
    """A plot for each title side by side, in the style of every plot, `width` × `height` inches each, in a figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * len(titles), height), layout="constrained")
    axes = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, loc="left", fontsize=10)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(True, which="major", color="#e4e7eb", linewidth=0.8)
        one.set_axisbelow(True)
    return figure, axes


def line(index: int) -> dict[str, Any]:
    """Colour, dashes and width of the line of model number `index`, for matplotlib."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.8}


def legend(axes: "Axes", corner: Any = "best") -> None:
    """Adds the names of the lines in a `corner`, e.g. "lower right"."""
    axes.legend(loc=corner, frameon=False)


def roc_axes(axes: "Axes") -> None:
    """Labels and limits of a ROC with a logarithmic false accept rate."""
    axes.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(None, 1.005), xlim=(None, 1))


def roc_figure(drawn: Sequence[Drawn]) -> "Figure | None":
    """TAR over FAR on a logarithmic axis, one line a model; None where no model has a curve."""
    return _rates([(name, line(index), one.roc) for name, index, one in drawn if one.roc])


def det_figure(drawn: Sequence[Drawn]) -> "Figure | None":
    """False non-match over false match rate, both logarithmic; None where no model has both kinds of errors."""
    curves = [(name, line(index), one.roc) for name, index, one in drawn if one.roc]
    return _rates(curves, "false match rate", "false non-match rate")


def open_set_figure(drawn: Sequence[Drawn]) -> "Figure | None":
    """FNIR over FPIR, one line a model and gallery; None where no probe is without a mate."""
    every = [(name, index, gallery, roc) for name, index, one in drawn for gallery, roc in one.open_set.items()]
    curves = [(f"{name} {gallery}".strip(), _gallery(index, gallery), roc) for name, index, gallery, roc in every]
    return _rates(curves, "false positive identification rate", "false negative identification rate")


def _rates(curves: Sequence[tuple[str, dict[str, Any], RocPoints]], across: str = "", up: str = "") -> "Figure | None":
    """TAR over FAR of curves with their names and styles, or, with labels, 1 − TAR on a logarithmic axis too."""
    lines = []
    for name, style, roc in curves:
        points = [
            (x, 1 - y if up else y) for x, y in zip(roc.far, roc.tar, strict=True) if x > 0 and not (up and y >= 1)
        ]
        lines += [(name, style, points)] if points else []
    if not lines:
        return None
    figure, (axes,) = panels()
    for name, style, points in lines:
        axes.step(*zip(*points, strict=True), where="pre", label=name, **style)  # rises first, as TAR@FAR counts
    if up:
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
    else:
        roc_axes(axes)
    legend(axes, "upper right" if up else "lower right")
    return figure


def _gallery(index: int, gallery: str) -> dict[str, Any]:
    """The line of model number `index` in a gallery: its colour, and dashes that tell galleries apart."""
    return {**line(index), "linestyle": ":" if gallery.endswith("2") else "--" if gallery == "union" else "-"}


def cmc_figure(drawn: Sequence[Drawn]) -> "Figure | None":
    """The share of probes found within the first n, one line a model and gallery; None where nothing was searched."""
    lines = [(name, index, gallery, rates) for name, index, c in drawn for gallery, rates in c.cmc.items()]
    if not lines:
        return None
    figure, (axes,) = panels()
    for name, index, gallery, rates in lines:
        label = f"{name} {gallery}".strip()
        axes.plot(range(1, len(rates) + 1), rates, label=label, marker=".", **_gallery(index, gallery))
    axes.set(xlabel="rank", ylabel="share of probes found")
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]  # MaxNLocator has it
    legend(axes, "lower right")
    return figure


def svg(figure: "Figure", name: str) -> str:
    """A figure as an <svg> element to put into a page, with its name for those who cannot see it."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name, quote=True)}" ', 1)
