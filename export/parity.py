"""The proof of an export: the file's embeddings beside torch's, at several batch sizes, optimised and as written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from zoo.data.synthetic import SyntheticFaces
from zoo.errors import InputError
from zoo.modelinfo import Crops

Inputs = npt.NDArray[np.float32]
"""Model inputs (batch, 3, H, W)."""
Embeddings = npt.NDArray[np.float32]
"""Raw embeddings (batch, dim)."""

BATCHES = (1, 2, 5, 33)
"""Batch sizes of a proof: the single picture, the smallest real batch, and two that divide nothing."""
MIN_COSINE = 0.99999
"""Below it an export is refused. float32 noise of a 50-layer network leaves 1 − 1e-6; a dropped layer leaves 0.9."""
MAX_RELATIVE = 1e-3
"""Largest difference, relative to the largest coordinate, that an export may have."""


class ParityError(InputError):
    """The exported file computes something else than the model: the export is refused and nothing is written."""


@dataclass(frozen=True)
class Failure:
    """The first comparison of a proof that is out of tolerance."""

    batch: int
    figures: dict[str, float]
    """As `differences` gives them."""
    only_optimised: bool
    """Whether the file as it is written agrees, and only ONNX Runtime's graph optimisation makes it wrong."""


def crops_for_parity(size: tuple[int, int], count: int = max(BATCHES)) -> Crops:
    """`count` drawn faces of people who are in no training set, RGB uint8 (count, height, width, 3)."""
    people = max(2, -(-count // 3))
    faces = SyntheticFaces(people, 3, seed=0, split="test", image_size=size)
    return np.stack([faces.image(i) for i in range(count)])


def row_cosines(ours: Embeddings, theirs: Embeddings) -> npt.NDArray[np.float64]:
    """The cosine of each row of `ours` with that of `theirs`, both (batch, dim): (batch,) in [−1, 1].

    Equal rows have cosine 1, rows of zeros included; a row of zeros has cosine 0 to any other.
    """
    if ours.shape != theirs.shape:
        raise ParityError(f"expected embeddings of shape {ours.shape}, the file gives {theirs.shape}")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, np.inf)
    return np.where(np.all(a == b, axis=1), 1.0, np.clip(cosines, -1.0, 1.0))


def differences(ours: Embeddings, theirs: Embeddings) -> dict[str, float]:
    """How far `theirs` (batch, dim) is from `ours`: worst cosine of a row, max absolute and max relative difference.

    Relative is to the largest coordinate of `ours`.
    """
    cosines = row_cosines(ours, theirs)
    a = ours.astype(np.float64)
    max_abs = float(np.abs(a - theirs).max())
    return {
        "cosine": float(cosines.min()),
        "max_abs": max_abs,
        "max_relative": max_abs / max(float(np.abs(a).max()), float(np.finfo(np.float32).tiny)),
    }


def session(
    model: str | Path | bytes, optimise: bool, threads: int | None = None, spin: bool = False
) -> ort.InferenceSession:
    """A CPU session of an ONNX file or its bytes, with every graph optimisation or none.

    `spin` lets idle threads wait busily, which is a little faster and takes the cores from everyone else.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def measure(
    reference: Callable[[Inputs], Embeddings], path: str | Path, inputs: Inputs, batches: Sequence[int] = BATCHES
) -> dict[str, Any]:
    """The parity of the file at `path` with `reference`: {batch: {cosine, max_abs, max_relative, unoptimised: {…}}}.

    Batch b is the first b of `inputs` (count, 3, H, W). The figures are rounded to the unfavourable side, so that
    the same weights give the same record on one machine.
    """
    if len(inputs) < max(batches):
        raise InputError(f"expected at least {max(batches)} crops for the proof of an export, found {len(inputs)}")
    optimised, plain = session(path, optimise=True), session(path, optimise=False)
    name = optimised.get_inputs()[0].name
    record: dict[str, Any] = {}
    for batch in batches:
        part = np.ascontiguousarray(inputs[:batch])
        ours = reference(part)
        record[str(batch)] = {
            **rounded(differences(ours, optimised.run(None, {name: part})[0])),
            "unoptimised": rounded(differences(ours, plain.run(None, {name: part})[0])),
        }
    return record


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Cosines down to six decimals, differences up to one significant digit; what is not finite stays."""
    return {name: _down(value) if name == "cosine" else _up(value) for name, value in figures.items()}


def _down(cosine: float) -> float:
    return math.floor(cosine * 1e6) / 1e6 if math.isfinite(cosine) else cosine


def _up(difference: float) -> float:
    if not difference > 0 or not math.isfinite(difference):
        return difference
    exponent = math.floor(math.log10(difference))
    return float(f"{math.ceil(difference / 10.0**exponent)}e{exponent}")


def within(figures: dict[str, float], min_cosine: float = MIN_COSINE, max_relative: float = MAX_RELATIVE) -> bool:
    """Whether `differences` are those of rounding; not where they are not numbers."""
    return figures["cosine"] >= min_cosine and figures["max_relative"] <= max_relative


def agree(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> bool:
    """Whether two arrays (batch, …) of one shape differ by rounding alone."""
    flat = (len(ours), -1)
    return within(differences(ours.reshape(flat), theirs.reshape(flat)))


def failure(record: dict[str, Any]) -> Failure | None:
    """The first batch of a `measure` record that is out of tolerance; None where the export is right."""
    for batch, optimised in record.items():
        plain = optimised["unoptimised"]
        if not within(plain):
            return Failure(int(batch), plain, only_optimised=False)
        if not within(optimised):
            return Failure(int(batch), optimised, only_optimised=True)
    return None


def refusal(failed: Failure, name: str, where: str) -> ParityError:
    """The sentence for a failed proof of the file called `name`; `where` tells at which layer it goes wrong."""
    what = (
        "ONNX Runtime's graph optimisation changes what it computes; report this with the model's config.json"
        if failed.only_optimised
        else f"{where}; write what follows in another way or try another --opset"
    )
    count = "1 crop" if failed.batch == 1 else f"{failed.batch} crops"
    return ParityError(
        f"expected {name} to compute what torch computes, found on a batch of {count} a cosine of "
        f"{failed.figures['cosine']:.6f} (at least {MIN_COSINE}) and a difference of "
        f"{failed.figures['max_relative']:.1e} of the largest coordinate (at most {MAX_RELATIVE:.0e}), so nothing was "
        f"written: {what}"
    )
