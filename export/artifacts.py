"""The exports of a model: ONNX, its float16 and int8 variants and what they cost beside it, and timm's layout."""

import contextlib
import hashlib
import timeit
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from torch import nn

from zoo import runs
from zoo.backbones import load_timm, model_info
from zoo.backbones.timm_folder import CONFIG, WEIGHTS, save_timm
from zoo.data.open import open_crops
from zoo.data.synthetic import synthetic_pairs
from zoo.errors import InputError, explained
from zoo.evaluate.intervals import ACCURACY
from zoo.evaluate.protocols.pairs import PairsProtocol
from zoo.evaluate.results import Evaluation, differences
from zoo.export import parity
from zoo.export.onnx import SINGLE_FILE_BYTES, draft_folder, publish, write_onnx
from zoo.export.options import SYNTHETIC_PAIRS, Options
from zoo.export.quantize import Conversion, Variant, to_float16, to_int8
from zoo.files import json_safe, new_folder, write_json
from zoo.inference.embed import embed
from zoo.inference.metadata import load_proto, set_facts
from zoo.inference.session import OnnxEmbedder
from zoo.messages import log
from zoo.modelinfo import Crops, ModelInfo
from zoo.resolve import Folder, HubModel, find_model

FAR = 0.01  #: The false accept rate of the compared TAR: thousands of negatives measure it
TURNS = 3  #: How often each file's latency is measured, so that load on the machine does not affect one file alone


@dataclass(frozen=True)
class Change:
    """A figure of the variant less that of the float32 file, a fraction, with its paired 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One file of the comparison; the float32 row compares with itself."""

    file: str
    precision: str
    bytes: int
    size_ratio: float  #: Of the float32 file's size
    milliseconds: dict[str, float]  #: Median latency by batch size
    speed: dict[str, float]  #: float32's latency over this one's, by batch size: 2 is twice as fast
    mean_cosine: float  #: To float32's embeddings, over the pictures and their mirror images
    worst_cosine: float
    accuracy: float
    accuracy_change: Change
    tar: float  #: At FAR; NaN where the pairs are too few to measure it
    tar_change: Change


def compare(paths: dict[str, Path], protocol: PairsProtocol, threads: int | None = None) -> list[Row]:
    """A row for each file of `paths` (precision → file), the first being the float32 file that the others compare with.

    Accuracy, TAR and the intervals of their changes are those of `zoo evaluate`, for the sum over a picture and its
    mirror image; the cosine is over both, each alone. Latency is the median of runs that alternate between the files,
    so that load on the machine affects all of them alike.
    """
    embeddings, evaluations = {}, {}
    for name, path in paths.items():
        embedder = OnnxEmbedder(path, device="cpu", threads=threads)
        plain = embed(embedder, protocol.images(), flip=False)
        mirrored = embed(embedder, (None if p is None else p[:, ::-1] for p in protocol.images()), flip=False)
        embeddings[name] = np.concatenate([plain, mirrored])
        evaluations[name] = protocol.score(plain + mirrored)
    times = {batch: latency(paths, batch, threads) for batch in (1, 32)}
    first = next(iter(paths))
    rows = []
    for name, path in paths.items():
        sizes = total_bytes(path), total_bytes(path) / total_bytes(paths[first])
        milliseconds = {str(batch): 1e3 * result[name] for batch, result in times.items()}
        speed = {str(batch): result[first] / result[name] for batch, result in times.items()}
        cosines = parity.row_cosines(embeddings[first], embeddings[name])
        nearness, measured = (float(cosines.mean()), float(cosines.min())), evaluations[name]
        accuracy, tar = changes(evaluations[first], measured)
        rates = measured.accuracy or 0.0, accuracy, measured.tar_at_far[FAR], tar
        rows.append(Row(path.name, name, *sizes, milliseconds, speed, *nearness, *rates))
    return rows


def changes(reference: Evaluation, other: Evaluation) -> tuple[Change, Change]:
    """The changes of accuracy and of TAR from `reference` to `other`, as `zoo evaluate` prints them of these files."""
    if reference is other:
        return Change(0.0, 0.0, 0.0), Change(0.0, 0.0, 0.0)
    found = map(differences(reference, other).get, (ACCURACY, f"TAR@FAR {FAR:g}"))
    accuracy, tar = (Change(*[np.nan] * 3) if one is None else Change(one.value, *one.interval) for one in found)
    return accuracy, tar


def total_bytes(path: Path) -> int:
    """The size of an ONNX file and of the weights beside it."""
    beside = path.parent / f"{path.name}.data"
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def latency(paths: dict[str, Path], batch: int, threads: int | None = None, seconds: float = 2.0) -> dict[str, float]:
    """Median seconds of one inference at `batch`, by name: about `seconds` per file, in TURNS turns.

    Each turn opens its own session: the idle threads of an open one wait busily and would slow down the next file.
    """
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(TURNS):
        for name, path in paths.items():
            session = parity.session(path, optimise=True, threads=threads, spin=True)
            node = session.get_inputs()[0]
            pixels = np.random.default_rng(0).uniform(-1, 1, (batch, *node.shape[1:])).astype(np.float32)
            taken[name] += seconds_of(partial(session.run, None, {node.name: pixels}), seconds / TURNS)
    return {name: float(np.median(values)) for name, values in taken.items()}


def seconds_of(inference: Callable[[], object], seconds: float) -> list[float]:
    """The duration in seconds of each of as many inferences as fit into `seconds`, at least two; two more warm up."""
    timer = timeit.Timer(inference)
    warm = min(timer.repeat(2, 1))
    return timer.repeat(max(2, round(seconds / warm)), 1)


CALIBRATION_CROPS = 128  #: How many crops calibrate a quantisation; the ranges converge well before
SUFFIX = {"float16": ".fp16.onnx", "int8": ".int8.onnx"}


class CropSet(NamedTuple):
    crops: Crops  #: RGB uint8 (count, H, W, 3)
    name: str  #: Where they come from, for reports; never the name of a person


@dataclass(frozen=True)
class Comparison:
    pairs: str  #: The pairs that accuracy and TAR were measured on
    rows: tuple[Row, ...]  #: The float32 file, then the variants
    conversions: tuple[Conversion, ...]  #: How each variant was made

    def to_json(self) -> dict[str, Any]:
        """The part of export.json about variants; what the pairs cannot measure is None."""
        made = {how.precision: how.facts() for how in self.conversions}
        return {"pairs": self.pairs, "variants": json_safe([*map(asdict, self.rows)]), "quantisation": made}


@dataclass(frozen=True)
class OnnxExport:
    """What `export_onnx` wrote, and what it measured."""

    model: Path  #: The float32 file
    info: ModelInfo  #: The facts in its metadata, the parity with torch among them
    measured_on: str  #: The crops that parity was measured on
    comparison: Comparison | None = None  #: The variants beside the float32 file; None where none was asked for

    def facts(self) -> dict[str, Any]:
        """The content of export.json."""
        facts = {"info": asdict(self.info), "parity": self.info.parity, "measured_on": self.measured_on}
        return {**facts, **(self.comparison.to_json() if self.comparison else {})}

    def to_json(self) -> dict[str, Any]:
        """What `zoo export --json` prints."""
        return {"model": str(self.model), **self.facts()}


def export_onnx(
    model: str | Path | None = None, output: str | Path | None = None, *, force: bool = False, **options: Any
) -> OnnxExport:
    """Exports MODEL (see `zoo.resolve`; None: the newest run) to ONNX, with proof that it computes the same.

    `output` is an .onnx file or a folder for model.onnx, which is created; by default the model's folder. Existing
    files are replaced only with `force`. `options` are the fields of `Options`: fp16, int8, calibrate, data, …

    InputError for contradictory options, a model that cannot be read, an existing file and a rejected variant;
    ParityError where the file computes something else than torch. In each case nothing is written.
    """
    if isinstance(find_model(model), HubModel) and output is None:
        raise InputError(f"expected --output for {model}, which is on the Hub and not in a local folder")
    folder = source(model)
    output = None if output is None else Path(output)
    chosen = Options(**{"training_data": runs.training_data(folder), **options})
    target = output if output is not None and output.suffix == ".onnx" else (output or folder) / "model.onnx"
    if output not in (None, target) and output.exists() and not output.is_dir():
        raise InputError(f"expected a folder or an .onnx file after --output, found another file at {output}")
    models = model_files(target, chosen).values()
    require_free((*models, *(path.with_name(f"{path.name}.data") for path in models), report_file(target)), force)
    built = load_timm(folder)
    with contextlib.nullcontext() if output in (None, target) else new_folder(output):
        return write(built, model_info(folder), target, chosen)


def source(model: str | Path | None) -> Path:
    """MODEL's folder in timm's layout; InputError for a run without a finished epoch or one being written."""
    place = find_model(model)
    if isinstance(place, Folder) and runs.is_being_written(place.path):
        raise InputError(f"the run {place.path} is being written at this moment; wait until it ends or stop it")
    return place.folder()


def require_free(paths: Sequence[Path], force: bool) -> None:
    """InputError where one of `paths` exists, unless `force`."""
    for path in paths:
        if path.exists() and not force:
            found = "found one; add --force to replace it or name another --output"
            raise InputError(f"expected no file at {path}, {found}")


def model_files(target: Path, options: Options) -> dict[str, Path]:
    return {"float32": target, **{name: target.with_name(target.stem + SUFFIX[name]) for name in options.variants}}


def report_file(target: Path) -> Path:
    """export.json, or NAME.export.json for a model not called model.onnx: two exports may share a folder."""
    return target.with_name("export.json" if target.stem == "model" else f"{target.stem}.export.json")


def write(model: nn.Module, info: ModelInfo, target: Path, options: Options) -> OnnxExport:
    """Writes `target`, its variants beside it and export.json, all proven first: a rejected one leaves no file."""
    paths = model_files(target, options)
    for name, suffix in SUFFIX.items():
        stale = target.with_name(target.stem + suffix)
        if name not in paths and stale.exists():
            log.warning("%s is from an earlier export and stays unchanged: export it again or delete it", stale)
    if options.variants:  # before minutes of exporting, and again when the graph is there
        _require_one_file(4 * sum(tensor.numel() for tensor in model.state_dict().values()))
    crops = choose_crops(info, options)
    with draft_folder(target) as draft:
        drafts = {name: draft / path.name for name, path in paths.items()}
        proof = _at_least(crops.crops, max(parity.BATCHES))
        info = write_onnx(model, drafts["float32"], info, options.opset, proof, single_file_bytes=SINGLE_FILE_BYTES)
        if options.variants and (weights := draft / f"{target.name}.data").exists():
            _require_one_file(weights.stat().st_size)
        comparison = _write_variants(drafts, info, crops, options) if options.variants else None
        for name, path in paths.items():
            publish(load_proto(drafts[name]), draft, path)
    written = OnnxExport(target, info, crops.name, comparison)
    write_json(report_file(target), written.facts())
    return written


def _require_one_file(weights: int) -> None:
    """InputError where `weights`, in bytes, do not fit into one file, which the converters need."""
    if weights >= SINGLE_FILE_BYTES:
        found = f"found {weights / 2**30:.1f} GiB; export the float32 file alone"
        raise InputError(f"expected weights below {SINGLE_FILE_BYTES / 2**30:.0f} GiB for --fp16 and --int8, {found}")


def _write_variants(drafts: dict[str, Path], info: ModelInfo, crops: CropSet, options: Options) -> Comparison:
    """Makes each variant beside the float32 draft and compares them; InputError for one that loses too much."""
    proto = load_proto(drafts["float32"], weights=True)
    del proto.metadata_props[:]
    inputs = info.input.to_input(crops.crops)
    conversions = []
    for name in options.variants:
        log.info("making %s …", drafts[name].name)
        variant = to_float16(proto, inputs[:33]) if name == "float16" else to_int8(proto, inputs, crops.name)
        conversions.append(_save(variant, drafts[name], drafts["float32"], info, inputs))
    log.info("comparing on %s …", options.pairs)
    rows = compare(drafts, _protocol(info, options))
    for row in rows[1:]:
        if not np.isfinite(row.mean_cosine):
            raise InputError(f"{row.precision} gives embeddings that are not finite: nothing was written")
        limit, change = options.max_accuracy_drop, row.accuracy_change
        if limit is not None and not -change.value <= limit:  # NaN, not measurable, is rejected too
            loss = f"{0 - change.value:.4f} (95 % interval {0 - change.high:+.4f} to {0 - change.low:+.4f})"
            found = f"found a loss of {loss} on {options.pairs}, so nothing was written"
            raise InputError(f"expected {row.precision} to lose at most {limit:g} of accuracy, {found}")
    return Comparison(options.pairs, tuple(rows), tuple(conversions))


def _save(variant: Variant, path: Path, reference: Path, info: ModelInfo, inputs: parity.Inputs) -> Conversion:
    """Writes a variant's draft and facts, without float32's thresholds: how it was made, and its parity."""
    proto = variant.proto
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    float32 = parity.session(reference, optimise=True)
    few = _at_least(inputs, max(parity.BATCHES))
    compared = parity.measure(lambda batch: parity.run_session(float32, batch), path, few)
    made = replace(variant.conversion, to_float32=parity.as_record(compared))
    set_facts(proto, replace(info, quantisation=made.facts(), thresholds=()))
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return made


def choose_crops(info: ModelInfo, options: Options) -> CropSet:
    """The crops of --calibrate, else of the training data where they have the model's size, else synthetic faces."""
    count = CALIBRATION_CROPS if options.variants else max(parity.BATCHES)
    if options.calibrate is None and options.training_data is not None:
        try:
            return read_crops(options.training_data, info.input.size, count)
        except InputError as error:
            log.warning("synthetic faces are used instead of the training data: %s", error)
    return read_crops(options.calibrate, info.input.size, count)


def _at_least(values: Any, count: int) -> Any:
    """The first `count` rows, repeated from the start where there are fewer."""
    return values[np.arange(count) % len(values)]


def _protocol(info: ModelInfo, options: Options) -> PairsProtocol:
    if options.data:
        return PairsProtocol.from_bin(options.data)
    images, same = synthetic_pairs(SYNTHETIC_PAIRS, seed=0, image_size=info.input.size)
    return PairsProtocol(images, same, "synthetic faces", hashlib.sha256(images.tobytes()).hexdigest())


def read_crops(source: str | None, size: tuple[int, int], count: int = CALIBRATION_CROPS) -> CropSet:
    """`count` crops spread evenly over `source`, or all where there are fewer, of exactly `size`, (height, width).

    `source` is anything that `open_crops` reads: a training set in any layout, a benchmark of pairs, or a folder of
    pictures at any depth. None or "synthetic" gives synthetic faces of people who are in no training set. Nothing is
    resized: crops unlike those in use would degrade the model. InputError for no pictures, or one of another size.
    """
    if source is None or source == "synthetic":
        return CropSet(parity.crops_for_parity(size, count), "synthetic faces")
    dataset = open_crops(source, size)
    total = len(dataset)
    if total == 0:
        raise InputError(f"expected crops to calibrate on in {source}, found 0 images; name aligned face crops")
    crops = []
    for index in np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)).tolist():
        crop = dataset.image(index)
        if crop.shape[:2] != size:
            wanted = f"crops of {size[0]}×{size[1]} to calibrate on in {source}"
            found = f"found one of {crop.shape[0]}×{crop.shape[1]} (image {index})"
            raise InputError(f"expected {wanted}, {found}; align the faces to the model's size first")
        crops.append(crop)
    return CropSet(np.stack(crops), f"{Path(source).name}: {len(crops)} of {total:,} images")


def timm_files(model: str | Path | None, output: str | Path | None, *, force: bool = False) -> list[Path]:
    """The files that `export_timm` writes; InputError where MODEL cannot be written there."""
    folder = source(model)
    if output is None or Path(output).suffix == ".onnx":
        raise InputError(f"{folder} has timm's layout already; name another folder with --output to copy it there")
    files = [Path(output) / name for name in (CONFIG, WEIGHTS)]
    require_free(files, force)
    return files


def export_timm(model: str | Path | None, output: str | Path | None, *, force: bool = False) -> list[Path]:
    """Copies config.json and model.safetensors of MODEL (see `zoo.resolve`) into the folder `output`; the two files."""
    files = timm_files(model, output, force=force)
    with explained(f"cannot write into {output}", OSError, advice="choose another folder"):
        save_timm(load_timm(source(model)), files[0].parent, asdict(model_info(source(model))))
    return files
