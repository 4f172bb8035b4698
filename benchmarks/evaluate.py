"""The cost of an evaluation: each part compared with the usual implementation, in one process.

    python benchmarks/evaluate.py [folds|ijbc|tinyface|embed|decode] [--model M.onnx --data F.bin|IJBC] [--scale 1.0]

The sizes are those of the benchmarks, the embeddings are random. Medians of several rounds; peak memory is the
high-water mark of the process, so run a part by itself to measure it.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.evaluate import metrics
from zoo.evaluate.intervals import PeoplePairs
from zoo.evaluate.metrics import SortedScores
from zoo.evaluate.similarity import pair_scores, pool, search, unit_rows


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def line(what: str, ours: float, theirs: float | None = None, note: str = "") -> None:
    ratio = f"{theirs:10.3f} s {theirs / ours:8.1f}×" if theirs is not None else " " * 21
    print(f"{what:<58}{ours:10.4f} s {ratio}  {note}", flush=True)


def folds(args: argparse.Namespace) -> None:
    """6,000 pairs in 10 folds: exact, against the loop over folds and thresholds."""
    rng = np.random.default_rng(0)
    same = np.arange(6000) % 600 < 300
    scores = np.clip(rng.normal(np.where(same, 0.5, 0.05), 0.15), -1, 1)
    distances = 2 - 2 * scores

    def by_loops() -> float:
        grid = np.arange(0, 4, 0.01)
        accuracies = []
        for here in np.array_split(np.arange(6000), 10):
            others = np.setdiff1d(np.arange(6000), here)
            train = [accuracy(distances[others], same[others], threshold) for threshold in grid]
            for threshold in grid:  # the usual code also measures the test fold at every threshold
                accuracy(distances[here], same[here], threshold)
            accuracies.append(accuracy(distances[here], same[here], grid[int(np.argmax(train))]))
        return float(np.mean(accuracies))

    assert abs(by_loops() - metrics.kfold_accuracy_insightface(distances, same).mean) < 1e-12
    loops = seconds(by_loops, 3)
    line("6,000 pairs, 10 folds, exact", seconds(lambda: metrics.kfold_accuracy(scores, same), 21), loops)
    line(
        "6,000 pairs, 10 folds, compat insightface",
        seconds(lambda: metrics.kfold_accuracy_insightface(distances, same), 21),
        loops,
    )


def accuracy(distances: Any, same: Any, threshold: float) -> float:
    accepted = np.less(distances, threshold)
    true = np.sum(np.logical_and(accepted, same)) + np.sum(np.logical_and(~accepted, ~same))
    return float(true) / len(distances)


def ijbc(args: argparse.Namespace) -> None:
    """IJB-C's size, and half of it: images and pairs; then intervals, and how the time grew."""
    totals, whole = [], []
    for scale in (args.scale / 2, args.scale):
        images, templates, pairs = (int(count * scale) for count in (469_375, 23_124, 15_658_489))
        rng = np.random.default_rng(0)
        features = rng.standard_normal((images, 512), dtype=np.float32)
        template = np.concatenate([np.arange(templates), rng.integers(0, templates, images - templates)])
        medium = rng.integers(0, 50, images)
        weight = rng.uniform(0.5, 1, images)
        left, right = rng.integers(0, templates, pairs), rng.integers(0, templates, pairs)
        same = np.zeros(pairs, bool)
        same[rng.integers(0, pairs, int(19_557 * scale))] = True
        start = time.perf_counter()
        pooled = pool(features, template, medium, weight, templates)
        pooling = time.perf_counter() - start
        scores = pair_scores(pooled, left, right)
        scoring = time.perf_counter() - start - pooling
        kernel = SortedScores.of(scores, same)
        for far in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
            metrics.tar_at_far(kernel, far)
        metrics.auc(kernel)
        metrics.eer(kernel)
        total = time.perf_counter() - start
        person = np.arange(templates) % max(1, int(3_531 * scale))
        who = PeoplePairs.of(person[left], person[right])
        estimates = who.rates(scores, same, 0.5, 0.5, dict.fromkeys((1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), 0.5))
        assert all(estimate.interval for estimate in estimates.values())
        bootstrapped = time.perf_counter() - start - total
        totals.append(total)
        whole.append(total + bootstrapped)
        line(
            f"{images:,} × 512 images, {templates:,} templates, {pairs:,} pairs",
            total,
            note=f"pooling {pooling:.2f} s, scores {scoring:.2f} s, rates {total - pooling - scoring:.2f} s, "
            f"peak {peak_gib():.2f} GiB with the inputs",
        )
        line(f"  and its intervals: {who.draws.replicates} replicates of {who.draws.people:,} people", bootstrapped)
    print(
        f"twice the images and pairs: {totals[1] / totals[0]:.2f} times the time "
        f"({whole[1] / whole[0]:.2f} with intervals)",
        flush=True,
    )


def tinyface(args: argparse.Namespace) -> None:
    """TinyFace's size; beside it the matrix product alone, which nothing can undercut."""
    rng = np.random.default_rng(0)
    probes = unit_rows(rng.standard_normal((3728, 512), dtype=np.float32))
    gallery = unit_rows(rng.standard_normal((int(157_871 * args.scale), 512), dtype=np.float32))
    probe_ids = rng.integers(0, 2000, len(probes))
    gallery_ids = np.full(len(gallery), -1)
    gallery_ids[:4443] = np.arange(4443) % 2000

    def work() -> list[float]:
        found = search(probes, gallery, probe_ids, gallery_ids)
        return [found.rank(n) for n in (1, 5, 20)]

    def product() -> None:
        for start in range(0, len(gallery), 4096):
            probes @ gallery[start : start + 4096].T

    line(
        f"3,728 probes, {len(gallery):,} gallery, 512-d (right: the product alone)",
        seconds(work, 3),
        seconds(product, 3),
        f"peak {peak_gib():.2f} GiB",
    )


def embed(args: argparse.Namespace) -> None:
    """Embedding a .bin from its encoded pictures, against ONNX Runtime alone on prepared tensors."""
    if not (args.model and args.data):
        print("embed: give --model and --data")
        return
    from zoo.evaluate.protocols.pairs import PairsProtocol
    from zoo.formats.read_ahead import read_ahead
    from zoo.inference.embed import batches
    from zoo.inference.embed import embed as embed_pictures
    from zoo.inference.session import OnnxEmbedder

    model = OnnxEmbedder(args.model, device="cpu")
    protocol = PairsProtocol.from_bin(args.data)
    ready = [model.input.to_input(crops) for crops in batches(protocol.images(), 64, [])]
    name = model.session.get_inputs()[0].name

    def bare() -> None:
        for tensor in ready:
            model.session.run(None, {name: tensor})

    def ours() -> None:
        embed_pictures(model, read_ahead(protocol), 64, flip=False)

    ours_times, bare_times = [], []
    for _ in range(args.rounds):  # alternately, so that load on the machine affects both
        ours_times.append(seconds(ours, 1))
        bare_times.append(seconds(bare, 1))
    mine, theirs = statistics.median(ours_times), statistics.median(bare_times)
    note = f"{len(protocol) / mine:.0f} against {len(protocol) / theirs:.0f} images/s: {theirs / mine:.3f} of bare"
    line(f"{len(protocol):,} pictures of {Path(args.data).name}, decoded, no flip", mine, theirs, note)


def decode(args: argparse.Namespace) -> None:
    """Reading ahead by threads, as zoo does, against as many processes that return their pictures by pickle."""
    if not args.data:
        print("decode: give --data")
        return
    import multiprocessing
    from collections import deque
    from collections.abc import Iterator
    from concurrent.futures import Future, ProcessPoolExecutor

    from zoo.evaluate.benchmarks.find import find_benchmarks
    from zoo.formats.images import Image
    from zoo.formats.read_ahead import read_ahead
    from zoo.inference.session import OnnxEmbedder

    protocol = find_benchmarks(args.data)[0].open()
    spans = [range(start, min(start + 64, len(protocol))) for start in range(0, len(protocol), 64)]
    model = OnnxEmbedder(args.model, device="cpu") if args.model else None
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), _share, (protocol,)) as pool:
        list(pool.map(_read, spans[:4]))  # the processes have started

        def by_processes() -> Iterator[Image]:
            waiting: deque[Future[list[Image]]] = deque()
            for span in spans:
                waiting.append(pool.submit(_read, span))
                if len(waiting) > 4:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

        def by_threads() -> Iterator[Image | None]:
            return read_ahead(protocol, 2)

        from zoo.inference.embed import embed as embed_pictures

        works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "read alone": (lambda: deque(by_threads(), 0), lambda: deque(by_processes(), 0))
        }
        if model is not None:
            works["read and embed"] = (
                lambda: embed_pictures(model, by_threads(), flip=False),
                lambda: embed_pictures(model, by_processes(), flip=False),
            )
        for what, sides in works.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(args.rounds):  # alternately, so that load on the machine affects both
                for side, work in enumerate(sides):
                    times[side].append(seconds(work, 1))
            threads, processes = (statistics.median(side) for side in times)
            rates = f"{len(protocol) / threads:.0f} against {len(protocol) / processes:.0f} images/s"
            line(f"{what}: 2 threads (right: 2 processes), {protocol.data}", threads, processes, rates)


_protocol: Any = None


def _share(protocol: Any) -> None:
    global _protocol
    _protocol = protocol


def _read(span: range) -> list[Any]:
    return [_protocol.image(index) for index in span]


PARTS = {"folds": folds, "ijbc": ijbc, "tinyface": tinyface, "embed": embed, "decode": decode}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--model", help="the ONNX model of the embed and decode parts")
    parser.add_argument("--data", help="the .bin of the embed part, any benchmark of the decode part")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of the full size")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the embed and decode parts")
    arguments = parser.parse_args()
    print(f"{'':<58}{'zoo':>10}   {'beside it':>10}   {'ratio':>8}")
    for part in arguments.parts:
        PARTS[part](arguments)
