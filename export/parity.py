"""The proof of an export: the file's embeddings compared with torch's, at several batch sizes, optimised and not."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from zoo.data.synthetic import SyntheticFaces
from zoo.errors import InputError
from zoo.machine import cores
from zoo.modelinfo import Crops

Inputs = npt.NDArray[np.float32]  #: Model inputs (batch, 3, H, W)
Embeddings = npt.NDArray[np.float32]  #: Raw embeddings (batch, dim)

BATCHES = (1, 2, 5, 33)  #: Batch sizes of a proof: a single crop, the smallest real batch, and two that divide nothing
MIN_COSINE = 0.99999  #: Below it an export is rejected. float32 noise of 50 layers leaves 1 − 1e-6; a missing layer 0.9
MAX_RELATIVE = 1e-3  #: Largest difference, relative to the largest coordinate, that an export may have


class ParityError(InputError):
    """The exported file computes something else than the model; nothing is written."""


@dataclass(frozen=True)
class Differences:
    """How far embeddings are from those of the reference, at worst."""

    cosine: float  #: The smallest cosine between two corresponding embeddings
    max_abs: float  #: The largest absolute difference of two coordinates
    max_relative: float  #: `max_abs` divided by the reference's largest absolute coordinate

    @property
    def within(self) -> bool:
        """Whether these are rounding differences; false where one is NaN."""
        return self.cosine >= MIN_COSINE and self.max_relative <= MAX_RELATIVE

    def rounded(self) -> Self:
        """The cosine down to six decimals, the others up to one significant digit; what is not finite stays."""
        cosine = math.floor(self.cosine * 1e6) / 1e6 if math.isfinite(self.cosine) else self.cosine
        return replace(self, cosine=cosine, max_abs=_up(self.max_abs), max_relative=_up(self.max_relative))


@dataclass(frozen=True)
class Compared:
    batch: int
    optimised: Differences  #: With ONNX Runtime's graph optimisation, as users run the file
    unoptimised: Differences  #: The graph as written

    @property
    def within(self) -> bool:
        return self.optimised.within and self.unoptimised.within


def as_record(compared: Sequence[Compared]) -> dict[str, Any]:
    """The proof as metadata and export.json hold it: {batch: {cosine, max_abs, max_relative, unoptimised: {…}}}."""
    return {str(one.batch): {**asdict(one.optimised), "unoptimised": asdict(one.unoptimised)} for one in compared}


def crops_for_parity(size: tuple[int, int], count: int = max(BATCHES)) -> Crops:
    """`count` synthetic faces of people who are in no training set, RGB uint8 (count, height, width, 3)."""
    faces = SyntheticFaces(max(2, -(-count // 3)), 3, seed=0, split="test", image_size=size)
    return np.stack([faces.image(i) for i in range(count)])


def row_cosines(ours: Embeddings, theirs: Embeddings) -> npt.NDArray[np.float64]:
    """Cosines of the rows of `ours` and `theirs` (batch, dim): (batch,); 1 for equal rows, else 0 for one of zeros."""
    if ours.shape != theirs.shape:
        raise ParityError(f"expected embeddings of shape {ours.shape}, the file gives {theirs.shape}")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.einsum("ij,ij->i", a, b) / np.where(norms > 0, norms, np.inf)
    return np.where(np.all(a == b, axis=1), 1.0, np.clip(cosines, -1.0, 1.0))


def differences(ours: Embeddings, theirs: Embeddings) -> Differences:
    """How far `theirs` is from the reference `ours`, both (batch, dim)."""
    a, cosine = ours.astype(np.float64), float(row_cosines(ours, theirs).min())
    max_abs = float(np.abs(a - theirs).max())
    return Differences(cosine, max_abs, max_abs / max(float(np.abs(a).max()), float(np.finfo(np.float32).tiny)))


def session(
    model: str | Path | bytes, optimise: bool, threads: int | None = None, spin: bool = False
) -> ort.InferenceSession:
    """A CPU session of an ONNX file or bytes, all graph optimisations or none; with `spin` idle threads wait busily."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if threads or cores() < (os.cpu_count() or 1):  # else ONNX Runtime takes the machine's
        options.intra_op_num_threads = threads or cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(opened: ort.InferenceSession, inputs: Inputs) -> Embeddings:
    """The only output of a session for its only input."""
    embeddings: Embeddings = opened.run(None, {opened.get_inputs()[0].name: np.ascontiguousarray(inputs)})[0]
    return embeddings


def measure(
    reference: Callable[[Inputs], Embeddings], path: str | Path, inputs: Inputs, batches: Sequence[int] = BATCHES
) -> tuple[Compared, ...]:
    """Compares the file at `path` with `reference` at each of `batches`; batch b is the first b of `inputs`.

    `inputs` is (count, 3, H, W). Figures are rounded to the unfavourable side: one machine repeats its record.
    """
    if len(inputs) < max(batches):
        raise InputError(f"expected at least {max(batches)} crops for the proof of an export, found {len(inputs)}")
    optimised, plain = session(path, optimise=True), session(path, optimise=False)
    compared = []
    for batch in batches:
        ours = reference(part := np.ascontiguousarray(inputs[:batch]))
        sides = (differences(ours, run_session(opened, part)).rounded() for opened in (optimised, plain))
        compared.append(Compared(batch, *sides))
    return tuple(compared)


def _up(difference: float) -> float:
    if not difference > 0 or not math.isfinite(difference):
        return difference
    exponent = math.floor(math.log10(difference))
    return float(f"{math.ceil(difference / 10.0**exponent)}e{exponent}")


def parity_error(failed: Compared, name: str, rounding: Differences | None = None) -> ParityError:
    """The error for a comparison out of tolerance in the proof of the file called `name`.

    `rounding` is torch's float32 against its float64: where that is as far off, the file is not to blame.
    """
    found = failed.optimised if failed.unoptimised.within else failed.unoptimised
    if rounding is not None and not rounding.within and found.max_relative <= 10 * rounding.max_relative:
        own = f"a cosine of {rounding.cosine:.6f} to its float64 and differs by {rounding.max_relative:.1e}"
        what = f"the model is ill-conditioned, as torch's own float32 has {own}; train it further"
    elif failed.unoptimised.within:
        what = "ONNX Runtime's graph optimisation changes what it computes; report this with the model's config.json"
    else:
        what = "the exporter is wrong about a layer; try another --opset, and report this with the model's config.json"
    count = "1 crop" if failed.batch == 1 else f"{failed.batch} crops"
    cosine = f"a cosine of {found.cosine:.6f} (at least {MIN_COSINE})"
    most = f"a difference of {found.max_relative:.1e} of the largest coordinate (at most {MAX_RELATIVE:.0e})"
    told = f"found on a batch of {count} {cosine} and {most}, so nothing was written: {what}"
    return ParityError(f"expected {name} to compute what torch computes, {told}")
