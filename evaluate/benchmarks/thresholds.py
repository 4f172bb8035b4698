"""Measured thresholds: stored with everything that they hold for, or not at all."""

import json
from collections.abc import Sequence
from dataclasses import replace

from zoo.evaluate.results import Evaluation
from zoo.files import write_json
from zoo.inference.embed import FaceModel
from zoo.inference.metadata import write_model_info
from zoo.modelinfo import ModelInfo, Threshold

FEWEST_FALSE_ACCEPTS = 30  #: A rate counted on fewer events is uncertain by more than a third, and is not stored


def measured_thresholds(found: Evaluation, model: FaceModel, flip: bool) -> tuple[list[Threshold], list[str]]:
    """The thresholds that a benchmark's figures support, and a sentence for each rate that they do not support."""
    kept, refused = [], list(found.not_measurable)
    measured_on = found.protocol, found.data, found.data_sha256
    detector = (found.failures and found.failures.cut) or Threshold.detector
    computed_by = model.precision, detector, model.input.alignment, model.model_sha256
    for point in found.operating_points:
        if point.false_accepts < FEWEST_FALSE_ACCEPTS:
            few = f"{point.false_accepts} false accepts support it, {FEWEST_FALSE_ACCEPTS} are needed"
            refused.append(f"no threshold for FAR {point.far_target:g}: {few}")
            continue
        counted = point.negatives, point.false_accepts, point.far_interval
        kept.append(Threshold(point.far_target, point.threshold, *measured_on, *counted, flip, *computed_by))
    return kept, refused


def with_thresholds(info: ModelInfo, measured: Sequence[Threshold]) -> ModelInfo:
    """`info` with `measured` in place of older ones of the same rate; thresholds of another model are dropped."""
    models = {threshold.model_sha256 for threshold in measured}
    rates = {threshold.far for threshold in measured}
    others = [old for old in info.thresholds if old.far not in rates and old.model_sha256 in models]
    return replace(info, thresholds=tuple(sorted([*measured, *others], key=lambda threshold: threshold.far)))


def store_thresholds(found: Evaluation, model: FaceModel, flip: bool) -> list[str]:
    """Writes the thresholds into the ONNX file and the config.json of its run; returns what to report."""
    if not found.tar_at_far:
        return []
    kept, told = measured_thresholds(found, model, flip)
    if kept:
        model.info = with_thresholds(model.info or ModelInfo(model.embedding_dim, model.input), kept)
        write_model_info(model.path, model.info)
        config = model.path.with_name("config.json")
        content = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        if "zoo" in content:
            content["zoo"]["thresholds"] = json.loads(model.info.to_json())["thresholds"]
            write_json(config, content)
    for one in kept:
        counted = f"{one.false_accepts} false accepts among {one.negatives:,} negatives"
        told.append(f"stored the threshold {one.threshold:.6f} for FAR {one.far:g} ({counted})")
    return told
