"""Clusters of labelled faces by `zoo cluster`'s average linkage, beside DBSCAN; and its time and memory for many faces.

    python benchmarks/cluster.py --model model.onnx --data RECORDIO_FOLDER [--thresholds 0.3 0.4 0.5]
    python benchmarks/cluster.py --faces 100000 [--photos 20] [--dim 512]

--data takes aligned crops that are labelled by person, in insightface's RecordIO layout; B-cubed F is the mean over
faces of the agreement of their cluster with their person (Bagga and Baldwin 1998).
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.cluster import DBSCAN

from zoo.data.open import open_dataset
from zoo.inference.embed import embed
from zoo.inference.session import OnnxEmbedder
from zoo.recognition.cluster import average_link

Labels = npt.NDArray[np.int64]


def b_cubed(labels: Labels, truth: Labels) -> tuple[float, float, float]:
    """Precision, recall and F."""
    _, cells, sizes = np.unique(np.stack([labels, truth], 1), axis=0, return_inverse=True, return_counts=True)
    both = sizes[cells.ravel()]
    precision = float((both / np.bincount(labels)[labels]).mean())
    recall = float((both / np.bincount(truth)[truth]).mean())
    return precision, recall, 2 * precision * recall / (precision + recall)


def labelled(model: Path, data: Path, thresholds: list[float]) -> None:
    """B-cubed figures on labelled crops."""
    dataset = open_dataset(str(data))
    truth = np.array(dataset.labels, np.int64)
    rows = embed(OnnxEmbedder(model, device="cpu"), (dataset.image(i) for i in range(len(dataset))))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    print(f"{data}: {len(rows):,} faces of {len(np.unique(truth)):,} people")
    print(f"{'cosine':>8}{'':<4}{'method':<18}{'clusters':>9}{'precision':>11}{'recall':>9}{'F':>9}{'seconds':>9}")
    for threshold in thresholds:
        methods = {
            "average linkage": lambda t=threshold: average_link(rows, t),
            "DBSCAN": lambda t=threshold: DBSCAN(eps=1 - t, min_samples=2, metric="cosine").fit_predict(rows),
        }
        for name, method in methods.items():
            start = time.perf_counter()
            labels = np.array(method(), np.int64)  # type: ignore[no-untyped-call]
            noise = labels < 0  # faces of no cluster are clusters of their own
            labels[noise] = labels.max() + 1 + np.arange(noise.sum())
            figures = "".join(
                f"{value:>{width}.4f}" for value, width in zip(b_cubed(labels, truth), (11, 9, 9), strict=True)
            )
            took = time.perf_counter() - start
            print(f"{threshold:>8.2f}    {name:<18}{len(np.unique(labels)):>9,}{figures}{took:>9.1f}")


def synthetic(faces: int, photos: int, dim: int) -> None:
    """Time and memory for random people whose photos have a mean cosine of 0.55.

    Of 512-d people hardly two have a cosine above 0.4; of 112-d people as many as of a model with FAR 0.00001 at 0.4.
    """
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((faces // photos, dim), dtype=np.float32), photos, axis=0)
    rows += 0.9 * rng.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    labels = average_link(rows, 0.4)
    took = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{len(rows):,} faces of {faces // photos:,} people, {dim}-d: {labels.max() + 1:,} clusters, B-cubed F"
        f" {b_cubed(labels, np.arange(len(rows)) // photos)[2]:.4f}, {took:.0f} CPU seconds,"
        f" {(peak - before) / 1024:.0f} MB of memory beside the {rows.nbytes / 2**20:.0f} MB of embeddings"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.35, 0.4, 0.45])
    parser.add_argument("--faces", type=int, help="random faces to sort")
    parser.add_argument("--photos", type=int, default=20, help="photos of a synthetic person")
    parser.add_argument("--dim", type=int, default=512)
    args = parser.parse_args()
    if args.data:
        labelled(args.model, args.data, args.thresholds)
    if args.faces:
        synthetic(args.faces, args.photos, args.dim)


if __name__ == "__main__":
    main()
