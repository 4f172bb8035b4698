"""What trained weights are worth on other people's pictures: `--recipe finetune` against training from scratch.

    python benchmarks/finetune.py --data lfw_rec/ --pairs lfw_dev.bin [--minutes 5] [--source-minutes 20] [--seeds 3]

Every fourth identity of --data (--one-of) is somebody's own set, the others are those of the source, a run of ours. On
the own set one run starts from the source's weights and one from scratch, for each seed. Each may use --minutes of
processor time on one thread: a first epoch says how long an epoch takes, and the epochs are as many as fit. Both are
scored on --pairs, whose people must be in neither set; the pairs decide nothing. Results are kept in --out, a line a
run, and a second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from zoo.data.open import open_dataset
from zoo.evaluate import evaluate
from zoo.formats.images import encode_png
from zoo.train.start import train

SHAPE = {"backbone": "resnet18", "stem": "stock", "neck": "flat", "embedding_dim": 256}
PLAIN = {"head": "recurricularface", "dropout": 0.2, "schedule": "cosine", "augment": "strong", "lr": 0.1}
COMMON = {"validation": "none", "device": "cpu", "workers": 0, "threads": 1, "batch_size": 64, "curves": False}
FAR = 0.01


def divided(data: str, folder: Path, one_of: int) -> tuple[Path, Path]:
    """The identities of a training set in two folders, every `one_of`-th in the second one."""
    found = folder / "first", folder / "second"
    if (folder / "whole").exists():
        return found
    dataset = open_dataset(data, (112, 112))
    for index, label in enumerate(np.asarray(dataset.labels)):
        person = found[int(label % one_of == one_of - 1)] / f"{label:06d}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{index:06d}.png").write_bytes(encode_png(dataset.image(index)))
    (folder / "whole").touch()
    return found


def timed(work: Callable[[], Any]) -> float:
    """Minutes of processor time of `work`."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--source-minutes", type=float, default=20)
    parser.add_argument("--one-of", type=int, default=4, help="2: two halves")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("finetune"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    data, pairs = os.path.abspath(args.data), os.path.abspath(args.pairs)
    os.chdir(args.out)
    first, second = divided(data, Path(), args.one_of)
    larger = len(list(first.glob("*/*.png"))) / len(list(second.glob("*/*.png")))
    kept = Path("results.jsonl")
    done: list[dict[str, Any]] = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []

    def cell(name: str, **options: Any) -> dict[str, Any]:
        """A run by its name, trained and measured unless it has been."""
        for known in done:
            if known["name"] == name:
                return known
        shutil.rmtree(f"runs/{name}", ignore_errors=True)  # one that was interrupted
        spent = timed(lambda: train(name=name, **{**COMMON, **options}))
        result = evaluate(f"runs/{name}", pairs, backend="torch", device="cpu")
        tar = result.tar_at_far[FAR]
        record = {"name": name, "minutes": spent, "epochs": options["epochs"], "tar": tar, "auc": result.auc}
        record["accuracy"] = result.accuracy
        done.append(record)
        with kept.open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        return record

    def epochs(minutes: float, one: float) -> int:
        return max(2, int(minutes / one))

    start = {**SHAPE, **PLAIN}
    pace = cell("pace", **start, data=str(second), epochs=1, seed=0)["minutes"]
    whole = epochs(args.source_minutes, pace * larger)
    cell("source", **start, data=str(first), epochs=whole, warmup_epochs=1, seed=0)
    count = epochs(args.minutes, pace)
    rows: dict[str, list[dict[str, Any]]] = {"scratch": [], "finetune": []}
    warm = {"warmup_epochs": min(1.0, count / 4)}
    for seed in range(args.seeds):
        own: dict[str, Any] = {"data": str(second), "epochs": count, "seed": seed, **warm}
        mark = f"{args.minutes:g}-{seed}"
        rows["scratch"].append(cell(f"scratch-{mark}", **start, **own))
        tuned = {**own, "recipe": "finetune", "init": "runs/source", "head_epochs": min(1.0, count / 4)}
        rows["finetune"].append(cell(f"finetune-{mark}", **tuned))
    before = evaluate("runs/source", pairs, backend="torch", device="cpu")
    show(args.minutes, rows, before.tar_at_far[FAR])


def show(minutes: float, rows: dict[str, list[dict[str, Any]]], before: float) -> None:
    """The table of both ways, and the difference."""
    table = Table("", "processor minutes", f"TAR@FAR {FAR:g}, a seed each", "mean", "AUC", "accuracy")
    for name, records in rows.items():
        tars = [record["tar"] for record in records]
        table.add_row(
            name,
            f"{statistics.mean(record['minutes'] for record in records):.1f} of {minutes:g}",
            ", ".join(f"{tar:.3f}" for tar in tars),
            f"{statistics.mean(tars):.3f}",
            *(f"{statistics.mean(record[key] for record in records):.3f}" for key in ("auc", "accuracy")),
        )
    Console(width=120).print(table)
    ahead = statistics.mean(r["tar"] for r in rows["finetune"]) - statistics.mean(r["tar"] for r in rows["scratch"])
    print(f"fine-tuning is {100 * ahead:+.1f} points of TAR@FAR {FAR:g} from scratch; its start alone has {before:.3f}")


if __name__ == "__main__":
    main()
