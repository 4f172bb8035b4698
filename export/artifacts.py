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
from zoo.export import parity
from zoo.export.calibration import CALIBRATION_CROPS, CropSet, read_crops
from zoo.export.formats import Options
from zoo.export.onnx import OPSET, SINGLE_FILE_BYTES, draft_folder, export_onnx, publish
from zoo.export.quantize import Variant, to_half, to_int8
from zoo.export.variants import Row, as_json, compare
from zoo.files import write_json
from zoo.inference.metadata import load_proto, read_model_info, set_facts
from zoo.modelinfo import ModelInfo

SUFFIX = {"float16": ".fp16.onnx", "int8": ".int8.onnx"}
DRAWN_PAIRS = 600
"""Pairs of drawn faces that variants are compared on where the user names no benchmark."""


def default_target(folder: Path, output: Path | None) -> Path:
    """model.onnx in the run's folder, the user's file, or model.onnx in the user's folder."""
    if output is None:
        return folder / "model.onnx"
    return output if output.suffix == ".onnx" else output / "model.onnx"


def files(target: Path, options: Options) -> list[Path]:
    """Everything that an export to `target` writes, or removes because it belongs to an earlier export."""
    models = list(model_files(target, options).values())
    return [*models, *(path.with_name(f"{path.name}.data") for path in models), report_file(target)]


def model_files(target: Path, options: Options) -> dict[str, Path]:
    """The file of each precision that was asked for."""
    wanted = [name for name, asked in (("float16", options.fp16), ("int8", options.int8)) if asked]
    return {"float32": target, **{name: target.with_name(target.stem + SUFFIX[name]) for name in wanted}}


def report_file(target: Path) -> Path:
    """export.json, or NAME.export.json for a model that is not called model.onnx: two exports may share a folder."""
    return target.with_name("export.json" if target.stem == "model" else f"{target.stem}.export.json")


def write(model: nn.Module, info: ModelInfo, target: Path, options: Options) -> dict[str, Any]:
    """Writes `target`, its variants beside it and export.json; returns what export.json holds.

    Everything is proven before anything is written: a variant that is refused leaves no file of this export behind.
    """
    paths = model_files(target, options)
    wanted = [name for name in paths if name != "float32"]
    for name, suffix in SUFFIX.items():
        stale = target.with_name(target.stem + suffix)
        if name not in paths and stale.exists():
            options.say(f"{stale} is left as it is, of an earlier export: make it again or delete it")
    if wanted:  # before minutes of exporting, and again when the graph is there
        _require_one_file(4 * sum(tensor.numel() for tensor in model.state_dict().values()))
    crops = _crops(info, options, bool(wanted))
    with draft_folder(target) as draft:
        drafts = {name: draft / path.name for name, path in paths.items()}
        info = export_onnx(
            model,
            drafts["float32"],
            info,
            opset=OPSET if options.opset is None else options.opset,
            crops=_at_least(crops.crops, max(parity.BATCHES)),
            single_file_bytes=SINGLE_FILE_BYTES,
        )
        if wanted and (weights := draft / f"{target.name}.data").exists():
            _require_one_file(weights.stat().st_size)
        facts: dict[str, Any] = {"info": asdict(info), "parity": info.parity, "measured_on": crops.name}
        rows: list[Row] = []
        if wanted:
            rows = _write_variants(drafts, info, crops, options)
            facts["pairs"] = _pairs_name(options)
            facts["variants"] = as_json(rows)
            if options.max_accuracy_drop is not None:
                facts["max_accuracy_drop"] = {"limit": options.max_accuracy_drop, "strict": options.strict}
            stated = {name: read_model_info(drafts[name]) for name in wanted}
            facts["quantisation"] = {name: found.quantisation for name, found in stated.items() if found}
        for name, path in paths.items():
            publish(load_proto(drafts[name]), draft, path)
    write_json(report_file(target), facts)
    return {"model": str(target), **facts}


def _require_one_file(weights: int) -> None:
    """InputError where `weights`, in bytes, do not fit into one file, which is all that the converters read."""
    if weights >= SINGLE_FILE_BYTES:
        raise InputError(
            f"expected weights below {SINGLE_FILE_BYTES / 2**30:.0f} GiB for --fp16 and --int8, found "
            f"{weights / 2**30:.1f} GiB; export the float32 file alone"
        )


def _write_variants(drafts: dict[str, Path], info: ModelInfo, crops: CropSet, options: Options) -> list[Row]:
    """Makes each variant beside the float32 draft and compares them; InputError for one that loses too much."""
    proto = load_proto(drafts["float32"], weights=True)
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
        if not np.isfinite(row.mean_cosine):
            raise InputError(f"{row.precision} gives embeddings that are not finite: nothing was written")
        if options.max_accuracy_drop is not None:
            require_accuracy(row, options.max_accuracy_drop, options.strict, _pairs_name(options))
    return rows


def require_accuracy(row: Row, limit: float, strict: bool, pairs: str) -> None:
    """InputError where the variant's accuracy falls by more than `limit`, a fraction, on these very pairs.

    That judges the point estimate: the loss that was measured. `strict` judges the far end of its paired 95 % interval,
    so that few pairs, which prove little, are refused rather than believed.
    """
    change = row.accuracy_change
    loss, least, most = (0.0 - value for value in (change.value, change.high, change.low))
    interval = f"95 % interval {least:+.4f} to {most:+.4f}"
    if loss > limit:
        raise InputError(
            f"expected {row.precision} to lose at most {limit:g} of accuracy, found a loss of {loss:.4f} ({interval}) "
            f"on {pairs}, so nothing was written: allow more, calibrate on other crops or do without {row.precision}"
        )
    if strict and most > limit:
        raise InputError(
            f"expected {row.precision} to lose at most {limit:g} of accuracy with 95 % certainty (--strict), found a "
            f"loss of {loss:.4f} ({interval}) on {pairs}, so nothing was written: compare on more pairs (--data), "
            f"allow more or do without --strict"
        )


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
    set_facts(variant.proto, own)
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
