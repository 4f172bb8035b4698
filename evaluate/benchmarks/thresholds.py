"""Thresholds that mean something: measured, with all that they hold for, or not stored at all."""

from __future__ import annotations

from dataclasses import replace

from zoo.evaluate.protocols.base import Figures
from zoo.modelinfo import ModelInfo, Threshold

FEWEST_FALSE_ACCEPTS = 30
"""A rate counted on fewer events is known to no better than a third of itself, and is not stored."""


def measured_thresholds(
    figures: Figures,
    model_sha256: str,
    flip: bool,
    precision: str,
    detector: str = "none (aligned crops)",
    alignment: str = "arcface-5-points",
) -> tuple[list[Threshold], list[str]]:
    """The thresholds that a benchmark's figures support, and a sentence for each rate that they do not."""
    kept, refused = [], list(figures["not_measurable"])
    for point in figures["operating_points"]:
        if point["false_accepts"] < FEWEST_FALSE_ACCEPTS:
            refused.append(
                f"no threshold for FAR {point['far_target']:g}: {point['false_accepts']} false accepts are behind it, "
                f"{FEWEST_FALSE_ACCEPTS} are needed"
            )
            continue
        kept.append(
            Threshold(
                far=point["far_target"],
                threshold=point["threshold"],
                protocol=figures["protocol"],
                data=figures["data"],
                data_sha256=figures["data_sha256"],
                negatives=point["negatives"],
                false_accepts=point["false_accepts"],
                far_interval=tuple(point["far_interval"]),
                flip=flip,
                precision=precision,
                detector=detector,
                alignment=alignment,
                model_sha256=model_sha256,
            )
        )
    return kept, refused


def with_thresholds(info: ModelInfo, measured: list[Threshold]) -> ModelInfo:
    """`info` with `measured` in place of older ones of the same rate; thresholds of another model are dropped."""
    models = {threshold.model_sha256 for threshold in measured}
    rates = {threshold.far for threshold in measured}
    others = [old for old in info.thresholds if old.far not in rates and old.model_sha256 in models]
    return replace(info, thresholds=tuple(sorted([*measured, *others], key=lambda threshold: threshold.far)))
