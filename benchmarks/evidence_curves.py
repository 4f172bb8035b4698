"""What happened inside the heads during the trainings of benchmarks/evidence.py: t, hard negatives and the boundary.

    python benchmarks/evidence_curves.py evidence --figure docs/figures/reproduction-curves.svg

The boundary is the angle to its own centre from which on N > T for a sample between two centres, which are as far apart
as the nearest of so many random ones, at the t of each epoch. The table has means over the seeds, and the range.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from head_figures import boundary
from matplotlib import pyplot as plt

from zoo.files import atomic_path
from zoo.heads import MarginHead, build_head
from zoo.train.config import load_config

PARTS = {"real": "real faces", "synthetic": "synthetic faces"}
REAL_PEOPLE = 941
QUANTITIES = {
    "t": "t",
    "hard_negative_share": "share of hard negatives",
    "mean_target_cosine": "mean cos θ_y",
    "boundary": "boundary, degrees",
}
SHOWN = (0.03, 0.25, 0.5, 0.75, 1.0)
"""Parts of a training that the table shows."""
Curves = dict[str, npt.NDArray[np.float64]]


def curves_of(folder: Path) -> dict[str, Curves]:
    """{column: {quantity: (seeds, epochs)}} of a folder of cells."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for file in sorted(folder.glob("*/metrics.jsonl")):
        config = load_config(file.with_name("config.yaml"))
        sizes = re.match(r"synthetic:(\d+)x", config.data)
        head = build_head(config.head, **config.head_options)
        at = functools.partial(rounded_boundary, head, int(sizes[1]) if sizes else REAL_PEOPLE)
        epochs = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [{**epoch, "boundary": at(round(epoch.get("t", 0.0), 3))} for epoch in epochs]
        column = found.setdefault(file.parent.name.rpartition("-seed")[0], {})
        for quantity in QUANTITIES.keys() & rows[0].keys():
            column.setdefault(quantity, []).append([row[quantity] for row in rows])
    return {name: {what: np.array(rows) for what, rows in curves.items()} for name, curves in found.items()}


@functools.cache
def rounded_boundary(head: MarginHead, classes: int, t: float) -> float:
    return boundary(head, max(0.0, min(t, 1.0)), classes)


def table(curves: dict[str, Curves]) -> list[str]:
    """Each column's quantities in some epochs, in Markdown."""
    epochs = next(iter(next(iter(curves.values())).values())).shape[1]
    shown = [max(1, round(part * epochs)) for part in SHOWN]
    lines = ["| head | seeds | | " + " | ".join(f"epoch {epoch}" for epoch in shown) + " |", "|---" * 8 + "|"]
    for name, quantities in curves.items():
        for what in [what for what in QUANTITIES if what in quantities]:
            rows = quantities[what][:, [epoch - 1 for epoch in shown]]
            digits = 1 if what == "boundary" else 3
            cells = [f"{row.mean():.{digits}f} ({row.min():.{digits}f}–{row.max():.{digits}f})" for row in rows.T]
            lines.append(f"| {name} | {len(rows)} | {QUANTITIES[what]} | " + " | ".join(cells) + " |")
    return lines


def draw(parts: dict[str, dict[str, Curves]], path: Path) -> None:
    """A row of panels for each part, a line for each column: the mean over seeds, and a band from lowest to highest."""
    figure, panels = plt.subplots(
        len(parts), len(QUANTITIES), figsize=(11, 2.7 * len(parts)), layout="constrained", squeeze=False
    )
    for row, (part, curves) in zip(panels, parts.items(), strict=True):
        for axes, (what, title) in zip(row, QUANTITIES.items(), strict=True):
            for number, (name, quantities) in enumerate(curves.items()):
                if what in quantities:
                    values = quantities[what]
                    epochs = np.arange(1, values.shape[1] + 1)
                    axes.plot(epochs, values.mean(axis=0), color=f"C{number}", label=name, lw=1.2)
                    axes.fill_between(
                        epochs, values.min(axis=0), values.max(axis=0), color=f"C{number}", alpha=0.2, lw=0
                    )
            axes.set(title=f"{title}, {PARTS[part]}", xlabel="epoch")
            axes.title.set_fontsize(9)
        row[-2].legend(frameon=False, fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--heads", nargs="+", default=[], help="the columns to show; all if not set")
    args = parser.parse_args()
    parts = {}
    for part in PARTS:
        curves = curves_of(args.folder / part)
        curves = {name: curves[name] for name in args.heads or curves if name in curves}
        if curves:
            parts[part] = curves
            print("\n".join([f"{PARTS[part]}:", "", *table(curves), ""]))
    if args.figure:
        draw(parts, args.figure)


if __name__ == "__main__":
    main()
