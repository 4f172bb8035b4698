"""One model measured on one benchmark or many: what `zoo evaluate` does, as calls of Python."""

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import InputError
from zoo.evaluate.benchmarks import cache
from zoo.evaluate.benchmarks.find import find_benchmarks, is_archive, unpacked
from zoo.evaluate.benchmarks.input_check import look, try_usual_inputs
from zoo.evaluate.benchmarks.options import Options
from zoo.evaluate.calibration import calibrated
from zoo.evaluate.groups import group_rates
from zoo.evaluate.protocols import Found, IJBProtocol, PairsProtocol, Protocol
from zoo.evaluate.protocols.base import FEATURES
from zoo.evaluate.report.record import ModelFacts, Report, Settings, thumbnails
from zoo.evaluate.results import Evaluation
from zoo.files import cache_folder, write_json
from zoo.formats.pairs import HUB, fetch_dataset
from zoo.formats.read_ahead import read_ahead
from zoo.formats.score_table import ScoreTable, score_table
from zoo.inference.embed import Job, embed, embed_on, spans
from zoo.inference.metadata import write_model_info
from zoo.inference.providers import Device, choose
from zoo.messages import Bar, Progress, log, no_bar
from zoo.modelinfo import ModelInfo, Threshold
from zoo.resolve import FaceModel, find_model, load_embedder

FEWEST_FALSE_ACCEPTS = 30  #: A rate counted on fewer events is uncertain by more than a third, and is not stored


def measured_thresholds(found: Evaluation, model: FaceModel, flip: bool) -> tuple[list[Threshold], list[str]]:
    """The thresholds that a benchmark's figures support, and a sentence for each rate that they do not support."""
    measured_on = found.protocol, found.data, found.data_sha256
    detector = (found.failures and found.failures.cut) or Threshold.detector
    computed_by = model.precision, detector, model.input.alignment, model.model_sha256
    kept, refused = [], list(found.not_measurable)
    for point in found.operating_points:
        counted = point.negatives, point.false_accepts, point.far_interval
        if point.false_accepts >= FEWEST_FALSE_ACCEPTS:
            kept.append(Threshold(point.far_target, point.threshold, *measured_on, *counted, flip, *computed_by))
        else:
            few = f"{point.false_accepts} false accepts support it, {FEWEST_FALSE_ACCEPTS} are needed"
            refused.append(f"no threshold for FAR {point.far_target:g}: {few}")
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


Tell = Callable[[str], object]  #: Takes a sentence for whoever watches
Embeddings = npt.NDArray[np.float32]  #: (images, dim), not normalised


@dataclass(frozen=True)
class Model:
    """A model ready to be measured."""

    name: str  #: What people call it
    embedder: FaceModel
    options: Options


def load_model(model: str | Path | None, options: Options | None = None) -> Model:
    """The model that MODEL names, opened as the options say; None is the newest run, which must have been exported.

    InputError for a model that is missing or no face embedder, and for devices that are missing.
    """
    options = options or Options()
    place = find_model(model)
    if options.backend == "torch":
        by_torch = {"device": options.device, "threads": options.threads, "strict": options.strict}
        return Model(place.name, load_embedder(place.folder(), "torch", **by_torch), options)
    path = place.onnx()
    kinds = {Device.parse(device).kind for device in options.devices}
    if len(options.devices) > 1 and (len(kinds) > 1 or kinds == {"auto"}):
        raise InputError(f"expected several devices of one kind, e.g. cuda:0,cuda:1, found {options.device}")
    for device in options.devices[1:]:
        choose(Device.parse(device))
    embedder = load_embedder(path, options.backend, device=options.devices[0], **options.of_session)
    stated = embedder.info.input if embedder.info else None
    if options.write_thresholds and stated and options.given.over(stated) != stated:
        told = "for --write-thresholds, found another one given; leave out --mean, --std and --bgr"
        raise InputError(f"expected the input that {path} states ({stated.channel_order}, {stated.scaling}) {told}")
    return Model(place.name, embedder, options)


@dataclass(frozen=True)
class Benchmarks:
    """What --data and --protocol name."""

    opened: tuple[tuple[Protocol, Found | None], ...]  #: Each ready to be measured, and where it was found, if it was
    not_whole: tuple[str, ...] = ()  #: A sentence for each benchmark that is there and incomplete
    unpacked: Any = None  #: The folder of an archive, which is removed with this


def open_benchmarks(
    data: str | Path | Protocol = "synthetic", only: Sequence[str] = (), options: Options | None = None
) -> Benchmarks:
    """The benchmarks at or under `data`: a file, a folder, `synthetic`, or a protocol that is open already.

    `only` narrows by names of benchmarks, families or protocols. InputError where nothing is found.
    """
    options = options or Options()
    if isinstance(data, Protocol) or data == "synthetic":
        for name in [name for name in ("detector", "pairs") if getattr(options, name)]:
            raise InputError(f"expected a file or folder of photos as --data for --{name}, found {data}; leave it out")
        return Benchmarks(((data if isinstance(data, Protocol) else synthetic(), None),))
    archive = None
    if isinstance(data, str) and data.startswith(HUB):
        data = fetch_dataset(data)
    if is_archive(Path(data)):
        archive = unpacked(Path(data))
        inside = list(Path(archive.name).iterdir())
        data = inside[0] if len(inside) == 1 and inside[0].is_dir() else archive.name
    found = find_benchmarks(data, only)
    if options.detector and not any(one.protocol in ("pairs", "scface") and one.layout != "bin" for one in found):
        lists = "a list of pairs over photos (pairs.txt, RFW, .csv) or SCface"
        raise InputError(f"expected {lists} for --detector, found none at {data}; leave it out")
    if options.pairs and not any(one.layout == "people" for one in found):
        raise InputError(f"expected a folder of people for --pairs, found none at {data}; leave it out")
    opened, not_whole = [], []
    for one in found:
        try:
            features = FEATURES[0] if options.features == "all" else options.features
            protocol = one.open(features, options.detector, options.pairs)
            if isinstance(protocol, PairsProtocol):
                protocol.stratified |= options.folds == "stratified"
                protocol.official = one.benchmark is not None
            opened.append((protocol, one))
        except InputError as error:
            not_whole.append(str(error))
    return Benchmarks(tuple(opened), tuple(not_whole), archive)


def synthetic() -> PairsProtocol:
    """Pairs of synthetic faces, which say nothing about real ones; the people are in no training set."""
    from zoo.data.synthetic import synthetic_pairs

    images, same = synthetic_pairs()
    digest = hashlib.sha256(images.tobytes() + same.tobytes()).hexdigest()
    return PairsProtocol(images, same, data="synthetic faces", data_sha256=digest)


def cache_key_of(model: Model, protocol: Protocol) -> str:
    """The name under which a benchmark's embeddings are kept."""
    options, embedder = model.options, model.embedder
    model_ = [embedder.path.name, embedder.model_sha256, embedder.precision, embedder.provider]
    chosen = [options.flip, options.strict, options.cuda_graph]
    depends = {"model": model_, "input": asdict(embedder.input), "output": options.output, "options": chosen}
    return cache.cache_key(depends, protocol, torch=options.backend == "torch")


def embeddings_of(model: Model, protocol: Protocol, watch: Bar = no_bar, tell: Tell = log.info) -> Embeddings:
    """The raw embeddings of a benchmark, from the cache where the same were computed before."""
    options, embedder = model.options, model.embedder
    kept = cache.Parts(None)
    if options.cache:
        key = cache_key_of(model, protocol)
        known = cache.load(cache_folder("embeddings"), key, len(protocol))
        if known is not None:
            tell(f"{protocol.data}: embeddings reused from the cache (--no-cache computes them again)")
            return known
        kept = cache.Parts(cache_folder("embeddings") / f"{key}-{options.batch_size}")
    with watch(f"embedding {protocol.data}", len(protocol)) as progress:
        if kept.folder and kept.folder.exists():
            tell(f"{protocol.data}: resumed where an earlier evaluation stopped")
        if len(options.devices) > 1:
            job = Job(embedder.path, protocol, options.batch_size, options.flip, options.workers, options.of_session)
            found, notes = embed_on(job, options.devices, progress, kept.known, kept.add)
            embedder.notes[:] = dict.fromkeys([*embedder.notes, *notes])
        else:
            found = _embed_in_parts(model, protocol, progress, kept)
        if not found.any():
            advice = "there was no face in any of them, or the model is broken"
            raise InputError(f"expected embeddings, found zeros for all {len(found):,} pictures: {advice}")
        kept.finish(found)
    if kept.why_not:
        tell(f"{protocol.data}: the embeddings were not kept, as the cache cannot be written: {kept.why_not}")
    return found


def _embed_in_parts(model: Model, protocol: Protocol, progress: Progress, kept: cache.Parts) -> Embeddings:
    """The embeddings by one device: what is kept already, then the rest from one stream, part by part."""
    options = model.options
    every, dim = spans(len(protocol), options.batch_size), model.embedder.embedding_dim
    parts = [np.empty((0, dim), np.float32)]
    for start, stop in every:
        if (known := kept.known(start, stop)) is None:
            break
        parts.append(known)
        progress(stop - start)
    rest = every[len(parts) - 1 :]
    stream = read_ahead(protocol, options.workers, start=rest[0][0]) if rest else iter(())
    for start, stop in rest:
        pictures = itertools.islice(stream, stop - start)
        parts.append(embed(model.embedder, pictures, options.batch_size, options.flip, progress, dim=dim))
        kept.add(start, parts[-1])
    return np.concatenate(parts)


def _variants(model: Model, protocol: Protocol) -> Iterator[tuple[Model, Protocol]]:
    """The benchmark as the options say, or, for all of IJB's features, with all eight of them and of the flip."""
    if model.options.features != "all" or not isinstance(protocol, IJBProtocol):
        yield model, protocol
        return
    for flip, features in itertools.product((True, False), FEATURES):
        one = copy.copy(protocol)
        one.norm, one.detector_score = features[1] == "1", features[3] == "1"
        one.data = f"{protocol.data} {features}F{int(flip)}"
        yield replace(model, options=replace(model.options, flip=flip)), one


def _scored(
    model: Model, protocol: Protocol, place: Found | None, embeddings: npt.NDArray[np.floating], fused: bool
) -> Evaluation:
    """The figures, with all that a reader should know of the pictures, and the thumbnails that were asked for."""
    found = protocol.score(embeddings, model.options.compat)
    told = look(protocol, order_is_assumed=not model.embedder.stated)
    if isinstance(protocol, PairsProtocol) and found.auc is not None and not fused:
        told += try_usual_inputs(model.embedder, protocol, found.auc, model.options.flip)
    told += [*protocol.remarks(), place.shortfall(found) if place else ""]
    found = replace(found, notes=(*found.notes, *filter(None, told)), flip=model.options.flip)
    if isinstance(protocol, PairsProtocol) and model.options.thumbnails and found.curves.hardest:
        found = replace(found, thumbnails=thumbnails(protocol, found.curves.hardest))
    return found


def facts_of(models: Sequence[Model]) -> ModelFacts:
    """What a report says of a model, with the notes of its inferences so far, or of several that are fused."""
    every = []
    for model in models:
        one = model.embedder
        made_by = one.embedding_dim, one.precision, one.provider, one.input, one.info
        every.append(ModelFacts(model.name, one.path.name, one.model_sha256, *made_by, tuple(one.notes)))
    if len(every) == 1:
        return every[0]
    name, file = " + ".join(facts.name for facts in every), ", ".join(facts.file for facts in every)
    digest = hashlib.sha256("\0".join(facts.sha256 for facts in every).encode()).hexdigest()
    dim = sum(facts.embedding_dim for facts in every)
    note = "fused: the mean of the models' cosines, each divided by its spread over random pairs of pictures"
    return ModelFacts(name, file, digest, dim, every[0].precision, every[0].provider, notes=(note,))


def measure(
    model: Model,
    benchmarks: Benchmarks,
    watch: Bar = no_bar,
    tell: Tell = log.info,
    fused_with: Sequence[Model] = (),
    table: ScoreTable | None = None,
) -> Report:
    """One model, fused with others, on every benchmark; `not_measured` says what could not be, `table` takes scores."""
    results, groups, failed = [], {}, list(benchmarks.not_whole)
    models = (model, *fused_with)
    for opened, place in benchmarks.opened:
        embeddings: dict[bool, list[Embeddings]] = {}
        protocol = opened
        try:
            for own, protocol in _variants(model, opened):
                flip = own.options.flip
                if flip not in embeddings:
                    every = [replace(one, options=own.options) for one in models]
                    embeddings[flip] = [embeddings_of(one, opened, watch, tell) for one in every]
                rows: npt.NDArray[np.floating] = embeddings[flip][0]
                if fused_with:
                    protocol, rows = protocol.side_by_side(embeddings[flip])
                found = _scored(own, protocol, place, rows, fused=bool(fused_with))
                pairs = protocol.scored_pairs(rows) if own.options.costs or table else None
                columns = {**pairs.names, "same": pairs.same, "score": pairs.scores} if pairs else {}
                if pairs and own.options.costs:
                    found, columns["ln_lr"] = calibrated(found, pairs.scores, pairs.same, pairs.fold, own.options.costs)
                results.append(found)
                if pairs and table:
                    facts = facts_of(models)
                    named = {"benchmark": found.data, "benchmark_sha256": found.data_sha256}
                    table.add({"model": facts.name, "model_sha256": facts.sha256, **named}, columns)
            if isinstance(opened, PairsProtocol) and place and place.family:
                groups[opened.data] = (opened.cosines(rows), opened.same)
        except InputError as error:
            failed.append(f"{protocol.data}, {' + '.join(one.name for one in models)}: {error}")
    options, compared = model.options, group_rates(groups) if len(groups) > 1 else None
    settings = Settings(options.flip, options.compat, options.batch_size, options.features)
    report = Report(facts_of(models), tuple(results), settings, compared, tuple(failed))
    for found in results if options.write_thresholds and not fused_with else ():
        for sentence in store_thresholds(found, model.embedder, found.flip is not False):
            tell(sentence)
    return report


def evaluate(
    model: str | Path | None, data: str | Path | Protocol = "synthetic", *, watch: Bar = no_bar, **options: Any
) -> Evaluation:
    """One model on one benchmark: `evaluate("model.onnx", "lfw.bin").accuracy`.

    `model` is whatever names a model (`zoo.resolve`; None: the newest run); `data` is a benchmark's file or folder,
    `synthetic`, or an open protocol. `options` are the fields of `Options`: flip, features, compat, device, …
    InputError, in one sentence, for what cannot be measured, and where `data` holds several benchmarks.
    """
    chosen = load_model(model, Options(**options))
    benchmarks = open_benchmarks(data, options=chosen.options)
    found = [*(protocol.data for protocol, _ in benchmarks.opened), *benchmarks.not_whole]
    if len(found) > 1:
        told = f"found {len(found)} ({', '.join(found)}); evaluate_all measures them all"
        raise InputError(f"expected one benchmark at {data}, {told}")
    report = measure(chosen, benchmarks, watch)
    if report.not_measured:
        raise InputError(report.not_measured[0])
    return report.results[0]


def evaluate_all(
    model: str | Path | None,
    data: str | Path = "synthetic",
    *,
    only: Sequence[str] = (),
    watch: Bar = no_bar,
    fused_with: Sequence[str | Path] = (),
    scores: str | Path | None = None,
    **options: Any,
) -> Report:
    """One model on every benchmark at or under `data`, as a report: `results`, `not_measured`, `groups`, `save`.

    `only` narrows by names of benchmarks, families (rfw) or protocols; the scores of the models `fused_with` are fused
    with the model's; `scores` is where the table of raw scores goes; the rest is as for `evaluate`.
    """
    chosen, *others = (load_model(one, Options(**options)) for one in (model, *fused_with))
    with score_table(scores) as table:
        return measure(chosen, open_benchmarks(data, only, chosen.options), watch, fused_with=others, table=table)
