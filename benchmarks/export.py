"""The gain of an export: eager torch and ONNX Runtime in float32, float16 and int8, in one run, medians and ratios.

    python benchmarks/export.py                                        resnet18, face stem, untrained: speed and size
    python benchmarks/export.py --run runs/first --calibrate faces/ --data pairs.bin     a trained model: accuracy too

Run it alone on the machine. The candidates take turns, so that load affects all of them alike. An untrained model has
the speed and size of a trained one, but not its cosines and accuracy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from zoo.backbones import blueprint_of, create_backbone, load_timm, model_info
from zoo.export.artifacts import seconds_of, write
from zoo.export.options import Options
from zoo.export.parity import session
from zoo.modelinfo import ModelInfo

TARGETS = [
    ("float32 ONNX / eager torch, time at batch 1", 0.75, "at most"),
    ("int8 / float32, throughput at batch 1", 1.7, "at least"),
    ("int8 / float32, size", 0.3, "at most"),
    ("float16 / float32, size", 0.51, "at most"),
    ("int8 to float32, mean cosine", 0.99, "at least"),
    ("int8 − float32, accuracy", -0.005, "at least"),
]


def turns(model: nn.Module, paths: dict[str, Path], batch: int, threads: int, seconds: float) -> dict[str, float]:
    """Median milliseconds of one inference of each candidate at `batch`: about `seconds` each, in five turns.

    Each turn opens its own session: the idle threads of an open one wait busily and would slow down the next candidate.
    """
    pixels = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 112, 112)).astype(np.float32)
    tensor = torch.from_numpy(pixels)
    taken: dict[str, list[float]] = {"torch": [], **{name: [] for name in paths}}
    with torch.inference_mode():
        for _ in range(5):
            taken["torch"] += seconds_of(lambda: model(tensor), seconds / 5)
            for name, path in paths.items():
                candidate = session(path, optimise=True, threads=threads, spin=True)
                taken[name] += seconds_of(partial(candidate.run, None, {"input": pixels}), seconds / 5)
                del candidate
    return {name: 1e3 * float(np.median(values)) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run folder, or a folder in timm's layout")
    parser.add_argument("--backbone", default="resnet18", help="without --run")
    parser.add_argument("--calibrate")
    parser.add_argument("--data")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each candidate and batch size")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.run:
        model, info = load_timm(args.run), model_info(args.run)
    else:
        torch.manual_seed(0)
        model = create_backbone(args.backbone)
        model.train()(torch.randn(16, 3, 112, 112))
        info = ModelInfo(512, backbone=args.backbone, stem="face", neck=blueprint_of(model).neck)
    model = model.eval()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        options = Options(fp16=True, int8=True, calibrate=args.calibrate, data=args.data)
        compared = write(model, info, target, options).comparison
        assert compared is not None
        rows = {row.precision: row for row in compared.rows}
        paths = {name: Path(folder) / row.file for name, row in rows.items()}
        times = {batch: turns(model, paths, batch, args.threads, args.seconds) for batch in (1, 32)}
    print(f"\n{info.backbone}, {info.stem} stem, {info.neck} neck; {args.threads} threads; pairs: {compared.pairs}")
    print(f"{'':10}{'MiB':>8}{'size':>8}{'ms @1':>9}{'speed':>8}{'ms @32':>9}{'speed':>8}{'cosine':>9}{'accuracy':>10}")
    for name in ("torch", *paths):
        row = rows.get(name)
        size = f"{row.bytes / 2**20:8.1f}{row.size_ratio:8.3f}" if row else f"{'':16}"
        speed = "".join(f"{times[b][name]:9.1f}{times[b]['float32'] / times[b][name]:8.2f}" for b in (1, 32))
        worth = f"{row.mean_cosine:9.5f}{row.accuracy:10.4f}" if row else ""
        print(f"{name:10}{size}{speed}{worth}")
    found = [
        times[1]["float32"] / times[1]["torch"],
        times[1]["float32"] / times[1]["int8"],
        rows["int8"].size_ratio,
        rows["float16"].size_ratio,
        rows["int8"].mean_cosine,
        rows["int8"].accuracy_change.value,
    ]
    print()
    for (what, bound, side), value in zip(TARGETS, found, strict=True):
        reached = value <= bound if side == "at most" else value >= bound
        print(f"{'reached' if reached else 'MISSED':8} {what}: {value:.4f} ({side} {bound})")
    for how in compared.conversions:
        print(how.facts())


if __name__ == "__main__":
    main()
