"""Write a trained run as a model file, with proof that it computes the same.

RUN is a run folder, its name, or a folder with config.json and model.safetensors; default: the newest run.

  zoo export --onnx
  zoo export runs/first --onnx --output face.onnx --opset 20
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError
from zoo.hub.pull import is_hub_id, resolve_folder
from zoo.train import runs

if TYPE_CHECKING:
    from zoo.spec import ModelInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `zoo export`."""
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="run folder or name, a folder in timm's layout, or a Hub id"
    )
    parser.add_argument("--onnx", action="store_true", help="ONNX with metadata and measured parity")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: model.onnx in the run's folder")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set (default: 18)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--json", action="store_true", help="print the facts of the written file as JSON")


def run(args: argparse.Namespace) -> int:
    """Exports; 0 when the file is written and proven."""
    if not args.onnx:
        raise InputError("expected a format, found none; add --onnx")
    if args.run is not None and is_hub_id(args.run) and not args.output:
        raise InputError(f"expected --output FILE for {args.run}, which is on the Hub and not in a folder of yours")
    folder = source(args.run)
    target = Path(args.output) if args.output else folder / "model.onnx"
    if target.exists() and not args.force:
        raise InputError(f"expected no file at {target}, found one; add --force to replace it or name another --output")
    if not target.parent.is_dir():
        raise InputError(f"expected a folder to write {target.name} into, found none at {target.parent}; create it")
    from zoo.backbones import load_timm
    from zoo.export.onnx import OPSET, export_onnx

    model = load_timm(folder)
    info = export_onnx(model, target, info_of(folder), opset=OPSET if args.opset is None else args.opset)
    if args.json:
        print(json.dumps({"model": str(target), **json.loads(info.to_json())}))
        return 0
    worst = min(record["cosine"] for record in info.parity.values())
    difference = max(record["max_abs"] for record in info.parity.values())
    print(
        f"{target}: {target.stat().st_size / 2**20:.1f} MiB, cosine to torch at least {worst:.6f}, largest difference "
        f"{difference:.0e}, at batches {', '.join(info.parity)}\nnext: zoo evaluate {target} --data PAIRS.bin"
    )
    return 0


def source(name: str | None) -> Path:
    """The folder to export; InputError for a run without a finished epoch or one that is being written."""
    if name is not None and is_hub_id(name):
        return resolve_folder(name)
    is_model_folder = name is not None and (Path(name) / "config.json").is_file()
    folder = Path(str(name)) if is_model_folder else runs.find_run(name)
    if runs.is_being_written(folder):
        raise InputError(f"the run {folder} is being written at this moment; wait until it ends or stop it")
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise InputError(
            f"expected a trained model in {folder}, found a run that never finished an epoch; go on with "
            f"`zoo train --resume {folder}`"
        )
    return folder


def info_of(folder: Path) -> ModelInfo:
    """The facts of a model folder: its `zoo` block, or what timm's configuration tells of a folder without one."""
    from zoo.backbones import read_config
    from zoo.spec import InputSpec, ModelInfo

    config = read_config(folder)
    if isinstance(config.get("zoo"), dict):
        return ModelInfo.from_json(json.dumps(config["zoo"]))
    cfg = config.get("pretrained_cfg") or {}
    mean, std = cfg.get("mean") or (0.5,), cfg.get("std") or (0.5,)
    if len({*mean}) > 1 or len({*std}) > 1:
        raise InputError(f"expected one mean and one std for all channels in {folder}, found {mean} and {std}")
    size = cfg.get("input_size") or (3, 112, 112)
    return ModelInfo(
        embedding_dim=int(config.get("num_classes", 0)),
        input=InputSpec(size=(int(size[1]), int(size[2])), mean=255 * mean[0], std=255 * std[0]),
        backbone=config["architecture"],
        neck="native",
        stem="stock",
    )
