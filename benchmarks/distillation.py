"""What a teacher is worth at equal CPU time: `zoo train` with and without one, on the same pictures, several seeds.

    python benchmarks/distillation.py --data faces/ --pairs pairs.bin --teacher MODEL.onnx [--recipe quick-cpu]
        [--epochs 3] [--seeds 3] [--jobs 1] [--set key=value …] [--taught key=value …] [-o runs/distillation]

Each run has one thread. `--set` is for both sides, `--taught` for the one with a teacher. That side trains first, for
`--epochs`; the CPU time of its whole run, with the teacher's embeddings, gives the other side its epochs: as many as
take at least as long at the pace of its steps. On a shared machine the pace varies, and the other side may get less.
The pairs are used once, after both have ended: no checkpoint, epoch or option is chosen by them. Differences are
paired: for each seed both sides have the same draws of pairs, and over the seeds Student's interval counts. Finished
runs under `-o` are kept, so that an interrupted trial goes on with its next run.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from zoo.evaluate import Options, differences, evaluate
from zoo.evaluate.benchmarks.runner import load_model
from zoo.export.artifacts import export_onnx
from zoo.files import write_json
from zoo.reproduce.tables import Gain, estimates
from zoo.train.config import build, set_option
from zoo.train.start import Standing, train_in
from zoo.train.typed import load_recipe

FIGURES = ("AUC", "TAR@FAR 0.01", "accuracy")


def trained(run: Path, options: dict[str, Any]) -> dict[str, float]:
    """Trains in `run` unless it is there; its epochs, CPU seconds in all and those of an epoch of steps."""
    kept = run / "cpu.json"
    if not kept.exists():
        steps: list[float] = []

        def watch(standing: Standing) -> None:
            steps.append(time.process_time())

        before = time.process_time()
        config = build({**options, "threads": 1, "workers": 0, "device": "cpu", "curves": False})
        train_in(run, config, watch=watch)
        seconds = time.process_time() - before
        of_epoch = (steps[-1] - steps[0]) / (len(steps) - 1) * len(steps) / config.epochs
        export_onnx(run, force=True)
        write_json(kept, {"epochs": config.epochs, "seconds": seconds, "seconds_of_epoch": of_epoch})
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def both(args: argparse.Namespace, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """The runs of a seed: what `trained` says of the one with a teacher, and of the one alone."""
    options: dict[str, Any] = {**load_recipe(args.recipe), "data": args.data, "seed": seed, "epochs": args.epochs}
    options["embedding_dim"] = load_model(args.teacher, Options(threads=1)).embedder.embedding_dim
    for assignment in args.set:
        set_option(options, assignment)
    with_teacher: dict[str, Any] = {**options, "teacher": args.teacher}
    for assignment in args.taught:
        set_option(with_teacher, assignment)
    taught = trained(args.output / f"taught-seed{seed}", with_teacher)
    epochs = math.ceil(taught["seconds"] / taught["seconds_of_epoch"])
    return taught, trained(args.output / f"alone-seed{seed}", {**options, "epochs": epochs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "pairs", "teacher"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--recipe", default="quick-cpu")
    parser.add_argument("--epochs", type=int, default=3, help="of the run with a teacher")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once, in processes of one thread each")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="an option of both sides")
    parser.add_argument("--taught", action="append", default=[], metavar="key=value", help="of the taught side")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/distillation"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, processes, max_tasks_per_child=1) as pool:
        runs = list(pool.map(both, [args] * args.seeds, range(args.seeds)))
    print("| seed | side | epochs | CPU minutes | AUC | TAR@FAR 0.01 | accuracy |\n|---|---|---|---|---|---|---|")
    compared: dict[str, dict[int, Any]] = {figure: {} for figure in FIGURES}
    drawn: dict[str, list[np.ndarray]] = {figure: [] for figure in FIGURES}
    for seed, times in enumerate(runs):
        results = {}
        for side, took in zip(("taught", "alone"), times, strict=True):
            found = results[side] = evaluate(args.output / f"{side}-seed{seed}", args.pairs, threads=1, cache=False)
            shown = f"{found.auc:.4f} | {found.tar_at_far[0.01]:.4f} | {found.accuracy:.4f}"
            print(f"| {seed} | {side} | {took['epochs']:.0f} | {took['seconds'] / 60:.1f} | {shown} |")
        for figure, one in differences(results["alone"], results["taught"]).items():
            compared.setdefault(figure, {})[seed] = one
        taught, alone = (estimates(results[side]) for side in ("taught", "alone"))
        for figure in FIGURES:
            drawn[figure].append(taught[figure].replicates - alone[figure].replicates)
    print()
    for figure, each in ((figure, compared[figure]) for figure in FIGURES):
        values = {seed: one.value for seed, one in each.items()}
        print(gained(Gain(args.pairs, figure, "alone", "taught", values, np.stack(drawn[figure])), each))


def gained(gain: Gain, compared: dict[int, Any]) -> str:
    """The gain of a figure in a sentence, and at each seed with its own interval."""
    low, high = gain.interval
    each = "; ".join(
        f"seed {seed} {one.value:+.4f} [{one.interval[0]:+.4f}, {one.interval[1]:+.4f}]"
        for seed, one in compared.items()
    )
    over = f"[{low:+.4f}, {high:+.4f}] over people and seeds"
    if (seeds := gain.over_seeds) is not None:
        over += f", [{seeds[0]:+.4f}, {seeds[1]:+.4f}] over seeds alone"
    return f"{gain.figure}: taught against alone {gain.mean:+.4f} {over}; {each}: {gain.verdict}"


if __name__ == "__main__":
    main()
