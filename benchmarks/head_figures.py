"""Draws the figures of docs/heads.md and writes its two tables, all computed from the heads.

python benchmarks/head_figures.py        # writes docs/figures/heads-*.svg and the generated parts of docs/heads.md
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes

from zoo.files import write_text
from zoo.heads import HEADS, MarginHead, build_head, head_options, nearest_centre_angle, recurricular_constants

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
            head.t.fill_(t)
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
            head.t.fill_(0.5)
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


def save(figure: plt.Figure, name: str) -> None:
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


def with_tables(text: str) -> str:
    """The document with its generated parts replaced."""
    for name, table in (("heads", heads_table()), ("constants", constants_table())):
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
