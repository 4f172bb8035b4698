"""How fast the synthetic faces are drawn, how far raw pixels get on them, and a picture to look at.

python benchmarks/synthetic_faces.py [SHEET.png]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from zoo.data.synthetic import SyntheticFaces, synthetic_pairs
from zoo.formats.images import encode_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", nargs="?", type=Path, metavar="SHEET.png", help="where to write the picture")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    faces = SyntheticFaces(500, 4)
    rates = []
    for start in range(0, 2000, 400):
        began = time.perf_counter()
        for index in range(start, start + 400):
            faces.image(index)
        rates.append(400 / (time.perf_counter() - began))
    print(f"drawing, one core   {statistics.median(rates):7.0f} images/s (median of {len(rates)} rounds of 400)")

    images, same = synthetic_pairs(6000)
    pixels = images.reshape(len(images), -1).astype(np.float32)
    for name, origin in (("raw pixels", 0.0), ("less their own mean", pixels.mean(axis=1, keepdims=True))):
        vectors = pixels - np.float32(origin)
        norms = np.linalg.norm(vectors, axis=1)
        scores = np.einsum("ij,ij->i", vectors[::2], vectors[1::2]) / (norms[::2] * norms[1::2])
        auc = (scores[same][:, None] > scores[~same][None]).mean()
        print(f"AUC {name:<20}{auc:7.3f} ({same.sum():,} same and {(~same).sum():,} different pairs)")

    if args.sheet is not None:
        rows = [np.concatenate([faces.image(4 * person + i) for i in range(4)], axis=1) for person in range(8)]
        args.sheet.write_bytes(encode_png(np.concatenate(rows)))


if __name__ == "__main__":
    main()
