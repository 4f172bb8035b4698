"""The ONNX format: the float32 file, its float16 and int8 variants, and export.json, which tells how they compare."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from zoo.data.synthetic import synthetic_pairs
from zoo.errors import InputError
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.session import METADATA_KEY
from zoo.export import parity
from zoo.export.calibration import CALIBRATION_CROPS, CropSet, read_crops
from zoo.export.formats import Options
from zoo.export.onnx import OPSET, draft_folder, export_onnx, publish
from zoo.export.quantize import Variant, to_half, to_int8
from zoo.export.variants import Row, as_json, compare
from zoo.files import write_json
from zoo.spec import ModelInfo

SUFFIX = {"float16": ".fp16.onnx", "int8": ".int8.onnx"}
DRAWN_PAIRS = 600
"""Pairs of drawn faces that variants are compared on where the user names no benchmark."""


def default_target(folder: Path, output: Path | None) -> Path:
    """model.onnx in the run's folder, the user's file, or model.onnx in the user's folder."""
    if output is None:
        return folder / "model.onnx"
    return output if output.suffix == ".onnx" else output / "model.onnx"


def write(model: nn.Module, info: ModelInfo, target: Path, options: Options) -> dict[str, Any]:
    """Writes `target`, its variants beside it and export.json; returns what export.json holds.

    Everything is proven before anything is written: a variant that is refused leaves no file of this export behind.
    """
    wanted = [name for name, asked in (("float16", options.fp16), ("int8", options.int8)) if asked]
    files = {"float32": target, **{name: target.with_name(target.stem + SUFFIX[name]) for name in wanted}}
    for path in files.values():
        if path.exists() and not options.force:
            raise InputError(
                f"expected no file at {path}, found one; add --force to replace it or name another --output"
            )
    crops = _crops(info, options, bool(wanted))
    with draft_folder(target) as draft:
        drafts = {name: draft / path.name for name, path in files.items()}
        info = export_onnx(
            model,
            drafts["float32"],
            info,
            opset=OPSET if options.opset is None else options.opset,
            crops=_at_least(crops.crops, max(parity.BATCHES)),
        )
        facts: dict[str, Any] = {"info": asdict(info), "parity": info.parity, "measured_on": crops.name}
        rows: list[Row] = []
        if wanted:
            rows = _write_variants(drafts, info, crops, options)
            facts["pairs"] = _pairs_name(options)
            facts["variants"] = as_json(rows)
            facts["quantisation"] = {name: ModelInfo.from_json(_facts(drafts[name])).quantisation for name in wanted}
        for name, path in files.items():
            publish(onnx.load(str(drafts[name]), load_external_data=False), draft, path)
    write_json(target.with_name("export.json"), facts)
    return {"model": str(target), **facts}


def _write_variants(drafts: dict[str, Path], info: ModelInfo, crops: CropSet, options: Options) -> list[Row]:
    """Makes each variant beside the float32 draft and compares them; InputError for one that loses too much."""
    proto = onnx.load(str(drafts["float32"]))
    del proto.metadata_props[:]
    inputs = info.input.to_input(crops.crops)
    for name, path in drafts.items():
        if name == "float32":
            continue
        options.say(f"making {path.name} …")
        if name == "float16":
            variant = to_half(proto, inputs[:33])
        else:
            variant = to_int8(proto, inputs, options.methods, crops.name, options.say)
        _save(variant, path, drafts["float32"], info, inputs)
    options.say(f"comparing on {_pairs_name(options)} …")
    rows = compare(drafts, _protocol(info, options))
    for row in rows[1:]:
        drop = -row.accuracy_change.value
        if options.max_accuracy_drop is not None and drop > options.max_accuracy_drop:
            raise InputError(
                f"{row.precision} loses {drop:.4f} of accuracy on {_pairs_name(options)}, more than the "
                f"{options.max_accuracy_drop:g} of --max-accuracy-drop: nothing was written"
            )
        if not np.isfinite(row.mean_cosine):
            raise InputError(f"{row.precision} gives embeddings that are not finite: nothing was written")
    return rows


def _save(variant: Variant, path: Path, reference: Path, info: ModelInfo, inputs: parity.Inputs) -> None:
    """A variant's draft with its facts: thresholds are left behind, since they hold for the float32 file alone."""
    onnx.checker.check_model(variant.proto, full_check=True)
    path.write_bytes(variant.proto.SerializeToString(deterministic=True))
    session = parity.session(reference, optimise=True)
    name = session.get_inputs()[0].name

    def float32(batch: parity.Inputs) -> parity.Embeddings:
        embeddings: parity.Embeddings = session.run(None, {name: batch})[0]
        return embeddings

    few = _at_least(inputs, max(parity.BATCHES))
    record = parity.measure(float32, path, few)
    facts = {**variant.facts, "to_float32": record}
    own = replace(info, quantisation=facts, thresholds=())
    variant.proto.metadata_props.add(key=METADATA_KEY, value=own.to_json())
    path.write_bytes(variant.proto.SerializeToString(deterministic=True))


def _crops(info: ModelInfo, options: Options, many: bool) -> CropSet:
    """The crops of --calibrate, else of the training data where they fit, else drawn faces; few where few do."""
    count = CALIBRATION_CROPS if many else max(parity.BATCHES)
    if options.calibrate is None and options.training_data is not None:
        try:
            return read_crops(options.training_data, info.input.size, count)
        except InputError as error:
            options.say(f"drawn faces are used instead of the training data: {error}")
    return read_crops(options.calibrate, info.input.size, count)


def _at_least(values: Any, count: int) -> Any:
    """The first `count` rows, repeated from the start where there are fewer."""
    return values[np.arange(count) % len(values)]


def _pairs_name(options: Options) -> str:
    return Path(options.data).name if options.data else f"{DRAWN_PAIRS} pairs of drawn faces, which are not faces"


def _protocol(info: ModelInfo, options: Options) -> PairsProtocol:
    if options.data:
        return PairsProtocol.from_bin(options.data)
    height, width = info.input.size
    images, same = synthetic_pairs(DRAWN_PAIRS, seed=0, image_size=(height, width))
    return PairsProtocol(images, same, data="drawn faces", data_sha256=hashlib.sha256(images.tobytes()).hexdigest())


def _facts(path: Path) -> str:
    model = onnx.load(str(path), load_external_data=False)
    return str(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
