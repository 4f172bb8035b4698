"""A tiny reproduction, and made-up cells of one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.support.training import TINY
from zoo.evaluate.intervals import pack
from zoo.evaluate.report.record import ModelFacts, Report
from zoo.evaluate.results import Curves, Evaluation, RocPoints
from zoo.formats.bins import write_bin
from zoo.formats.images import encode_jpeg
from zoo.reproduce.grid import Grid
from zoo.reproduce.tables import Cell

HEADS = ("arcface", "recurricularface")


def prepare(folder: Path, pairs: int = 30) -> Path:
    """A recipe and a benchmark of synthetic faces."""
    from zoo.data.synthetic import synthetic_pairs

    recipe = {name: value for name, value in TINY.items() if name != "data"} | {"checkpoint_every": 2, "epochs": 2}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "benchmarks").mkdir()
    images, same = synthetic_pairs(pairs=pairs, seed=3)
    write_bin(folder / "benchmarks/drawn.bin", [encode_jpeg(image) for image in images], same)
    return folder


def grid_in(folder: Path, heads: tuple[str, ...] = ("arcface",), seeds: int = 1, **options: object) -> Grid:
    """A grid of one epoch over what `prepare` has made in the folder."""
    given = {"epochs": 1, "checkpoint_every": None, **options}
    benchmarks, recipe = str(folder / "benchmarks"), str(folder / "tiny.yaml")
    return Grid("synthetic:5x7", benchmarks, folder / "out", heads, seeds, recipe, given)


def made_up(head: str, seed: int, right: np.ndarray[Any, Any]) -> Cell:
    """A cell on one benchmark of pairs, of which the model has `right` right."""
    roc = RocPoints([0.0, 0.1, 1.0], [0.1 * (seed + 1), 0.5, 1.0])
    found = Evaluation(
        *("pairs", "made.bin", "", None),
        pairs=len(right),
        negatives=len(right) // 2,
        accuracy=float(right.mean()),
        auc=0.5,
        tar_at_far={0.1: 0.25, 0.001: math.nan},
        curves=Curves(roc=roc, right=pack(right)),
    )
    return cell_of(head, seed, found)


def cell_of(head: str, seed: int, found: Evaluation) -> Cell:
    return Cell(head, seed, Report(ModelFacts(head), (found,)))


def first_right(count: int, pairs: int = 1000) -> np.ndarray[Any, Any]:
    return np.arange(pairs) < count
