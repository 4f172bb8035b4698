"""Draws the figures of docs/heads.md and writes its two tables, all computed from the heads.

python benchmarks/head_figures.py        # writes docs/figures/heads-*.svg and the generated parts of docs/heads.md
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.files import write_text
from zoo.heads import (
    HEADS,
    CurricularFace,
    MarginHead,
    Pieces,
    ReCurricularFace,
    build_head,
    head_options,
    nearest_centre_angle,
    printed_b,
    recurricular_constants,
)

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "zoo"  # the same drawing gives the same bytes
matplotlib.rcParams["font.size"] = 9

from matplotlib import pyplot as plt  # noqa: E402

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"
CLASSES, DIM, MARGIN = 10_572, 512, 0.5


def curricular_heads() -> dict[str, MarginHead]:
    heads = {
        "CurricularFace": build_head("curricularface"),
        "ReCurricularFace, a = 1.1, b = 0.4 (paper)": build_head("recurricularface"),
        "ReCurricularFace, derived constants": build_head("recurricularface", constants="derived"),
    }
    for head in heads.values():
        head.bind(CLASSES, DIM)
    return heads


def negatives_against_targets() -> None:
    """N against T for a sample that moves in the plane from its own centre to the nearest other centre."""
    separation = nearest_centre_angle(CLASSES, DIM)
    theta_y = torch.linspace(0, separation, 301, dtype=torch.float64)
    cos_y, cos_j, norm = theta_y.cos(), (separation - theta_y).cos(), torch.ones(301)
    ideal = math.cos((separation + MARGIN) / 2)
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), sharex=True, sharey=True, layout="constrained")
    for axis, (name, head) in zip(axes, curricular_heads().items(), strict=True):
        for t, colour in ((0.0, "#9ecae1"), (0.5, "#4292c6"), (1.0, "#084594")):
            head.get_buffer("t").fill_(t)
            target = head.target(cos_y, norm)
            negative = head.negative(cos_j[:, None], head.boundary(cos_y, norm)[:, None])[:, 0]
            axis.plot(target, negative, ".", ms=2, color=colour, label=f"t = {t:g}")
        axis.plot([-0.4, 1.2], [-0.4, 1.2], color="grey", lw=0.8)
        axis.plot([ideal], [ideal], "o", ms=7, mfc="none", color="#d94801", label="ideal boundary")
        axis.set(title=name, xlabel="T", xlim=(-0.4, 1.0), ylim=(-0.1, 1.6))
        axis.title.set_fontsize(9)
    axes[0].set_ylabel("N")
    axes[0].legend(frameon=False)
    save(figure, "heads-n-against-t")


def gradient_curves() -> None:
    """The gradients of T and N: how strongly a sample is pulled to its centre and pushed from another one."""
    figure, (pull, push) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    theta = torch.linspace(0.02, math.pi - 0.02, 400, dtype=torch.float64)
    for name in ("softmax", "sphereface", "cosface", "arcface", "circle"):
        cos = theta.cos().requires_grad_()
        (slope,) = torch.autograd.grad(build_head(name).target(cos, torch.full((400,), 20.0)).sum(), cos)
        pull.plot(theta.rad2deg(), slope, label=name)
    pull.set_ylim(-0.2, 6)
    label(pull, "dT / d cos θ_y", "θ_y (degrees)")
    heads = {
        "softmax": build_head("softmax"),
        "mv-arc": build_head("mv-arc"),
        **curricular_heads(),
        "circle": build_head("circle"),
    }
    for name, head in heads.items():
        if "t" in head.stats():
            head.get_buffer("t").fill_(0.5)
        cos = theta.cos().requires_grad_()
        (slope,) = torch.autograd.grad(head.negative(cos[:, None], torch.full((400, 1), -2.0)).sum(), cos)
        push.plot(theta.rad2deg(), slope, label=name.replace(", a = 1.1, b = 0.4", ""))
    label(push, "dN / d cos θ_j of a hard negative, t = 0.5", "θ_j (degrees)")
    save(figure, "heads-gradients")


def label(axis: Axes, title: str, x: str) -> None:
    axis.set(title=title, xlabel=x)
    axis.title.set_fontsize(9)
    axis.axhline(0, color="grey", lw=0.6)
    axis.legend(frameon=False, fontsize=8)


def save(figure: Figure, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(f"wrote docs/figures/{name}.svg")


def heads_table() -> str:
    """Every head of this project, as `zoo list heads` shows it."""
    lines = ["| head | T and N | options and defaults |", "|---|---|---|"]
    for name in HEADS:
        kind = HEADS[name]
        if kind.__module__.startswith("zoo."):
            options = ", ".join(f"{option.name} {option.default}" for option in head_options(kind))
            lines.append(f"| `{name}` | {kind.summary} | {options} |")
    return "\n".join(lines)


def constants_table() -> str:
    """E and the constants that follow from it, for m = 0.5."""
    lines = ["| classes | dim | E, degrees | a | b |", "|---|---|---|---|---|"]
    sizes = [(941, 512), (10_572, 512), (85_742, 512), (360_232, 512), (2_059_906, 512), (10_572, 128)]
    for classes, dim in sizes:
        separation = nearest_centre_angle(classes, dim)
        a, b = recurricular_constants(separation, MARGIN)
        lines.append(f"| {classes:,} | {dim} | {math.degrees(separation):.4f} | {a:.6f} | {b:.6f} |")
    return "\n".join(lines)


def boundary(head: MarginHead, t: float, classes: int = CLASSES) -> float:
    """θ_y in degrees from which on N exceeds T, for a sample that moves between two centres at an angle of E."""
    head.bind(classes, DIM)
    if isinstance(head, CurricularFace):
        head.get_buffer("t").fill_(t)
    separation, norm = nearest_centre_angle(classes, DIM), torch.ones(1)

    def exceeds(theta: torch.Tensor) -> torch.Tensor:
        cos_y = theta.cos()
        negative = head.negative((separation - theta).cos()[:, None], head.boundary(cos_y, norm)[:, None])
        return negative[:, 0] > head.target(cos_y, norm)

    theta = torch.linspace(0, separation, 8001, dtype=torch.float64)
    for _ in range(2):  # 0.01°, then 0.00001°
        first = int(exceeds(theta).int().argmax())
        theta = torch.linspace(theta[first - 1], theta[first], 1001, dtype=torch.float64)
    return math.degrees(theta[int(exceeds(theta).int().argmax())])


class EverywhereCurricular(CurricularFace):
    """CurricularFace without its condition: what the paper's Figure 1 was drawn with."""

    def pieces(self) -> Pieces:
        return Pieces(quadratic=1.0, linear=self.t, above=-math.inf)


class OnlyVeryNear(ReCurricularFace):
    """Modulation only where cos θ_j > cos((E − m)/2), the one condition that the paper's text names."""

    def pieces(self) -> Pieces:
        nearest = math.cos((nearest_centre_angle(CLASSES, DIM) - MARGIN) / 2)
        return Pieces(quadratic=self.a, linear=self.b * self.t, above=nearest)


BOUNDARIES: dict[str, Callable[[], MarginHead]] = {
    "CurricularFace, hard negatives only": lambda: build_head("curricularface"),
    "CurricularFace, all negatives": EverywhereCurricular,
    "ReCurricularFace 1.1 / 0.4, hard only": lambda: build_head("recurricularface"),
    "ReCurricularFace 1.1 / 0.4, all": lambda: build_head("recurricularface", modulate="all"),
    "ReCurricularFace 1.1 / 0.4, where cos θ_j > cos((E − m)/2)": OnlyVeryNear,
    "derived 1.1106 / 0.3541, hard only": lambda: build_head("recurricularface", constants="derived"),
    "derived 1.1106 / 0.3541, all": lambda: build_head("recurricularface", constants="derived", modulate="all"),
    "equation (6) as printed, hard only": lambda: build_head(
        "recurricularface", constants="derived", b=printed_b(nearest_centre_angle(CLASSES, DIM), MARGIN)
    ),
}
"""The readings of the paper, by the name of their row."""


def boundaries_table() -> str:
    """Where N overtakes T, for each reading and some values of t."""
    times = (0, 0.3, 0.5, 0.6, 1)
    lines = ["| θ_y in degrees | " + " | ".join(f"t = {t}" for t in times) + " |", "|---" * 6 + "|"]
    for name, build in BOUNDARIES.items():
        head = build()
        lines.append(f"| {name} | " + " | ".join(f"{boundary(head, t):.2f}" for t in times) + " |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """The document with its generated parts replaced."""
    tables = {"heads": heads_table(), "constants": constants_table(), "boundaries": boundaries_table()}
    for name, table in tables.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    document = FOLDER.parent / "heads.md"
    write_text(document, with_tables(document.read_text()))
    negatives_against_targets()
    gradient_curves()
