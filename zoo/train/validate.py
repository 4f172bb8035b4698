"""Validation: benchmarks that a run is measured on while it trains."""

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import nn

from zoo.backbones.timm_folder import TorchEmbedder
from zoo.data.base import EncodedFaces
from zoo.data.open import is_synthetic
from zoo.errors import InputError
from zoo.evaluate.benchmarks.find import find_benchmarks
from zoo.evaluate.protocols import PairsProtocol, Protocol
from zoo.formats.images import resized
from zoo.inference.embed import embed
from zoo.messages import Progress
from zoo.modelinfo import InputSpec
from zoo.train.config import TrainConfig
from zoo.train.people import pairs_of


def open_validation(config: TrainConfig, held: EncodedFaces | None = None) -> list[Protocol]:
    """The benchmarks of a run: those that --validation names, and pairs of the people who are `held` out."""
    names = config.validation
    if names == "auto":
        names = "synthetic" if is_synthetic(config.data) else "none"
    own: list[Protocol] = [pairs_of(held, config.on_corrupt == "skip")] if held else []
    return own + [one for name in names.split(",") if name != "none" for one in benchmarks_at(name.strip())]


def benchmarks_at(place: str) -> list[Protocol]:
    """Those of a file or a folder; InputError for a protocol without scores of pairs, which give an AUC."""
    if place == "synthetic":
        from zoo.data.synthetic import synthetic_pairs

        # with another seed than those of `zoo evaluate --data synthetic`, which stay unseen
        images, same = synthetic_pairs(pairs=300, seed=1)
        return [PairsProtocol(images, same, data="synthetic validation")]
    found = find_benchmarks(place)
    for one in found:
        if one.protocol not in ("pairs", "ijb"):
            raise InputError(f"expected pairs or IJB for --validation, found {one.protocol} at {one.path}")
    return [one.open() for one in found]


def measured(
    model: nn.Module, spec: InputSpec, device: torch.device, benchmarks: Sequence[Protocol], progress: Progress
) -> dict[str, float]:
    """Accuracy of pairs, AUC and TAR at FAR 1e-4 as far as they are measurable.

    Their means over the benchmarks and, where there are several, those of each. `progress` may end it.
    """
    embedder, found = TorchEmbedder(model, spec, device), {}
    for one in benchmarks:
        pictures = (image if image is None else resized(image, spec.size) for image in one.images())
        scored = one.score(embed(embedder, pictures, progress=progress))
        figures = {"accuracy": scored.accuracy, "auc": scored.auc, "tar_at_far_1e-4": scored.tar_at_far.get(1e-4)}
        found[one.data] = {name: float(x) for name, x in figures.items() if x is not None and math.isfinite(x)}
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    means = {name: fmean(figures[name] for figures in found.values() if name in figures) for name in names}
    each = {f"{name} {data}": value for data, figures in found.items() for name, value in figures.items()}
    return {**means, **(each if len(found) > 1 else {})}
