"""The time from two photos to a verdict and of searching galleries, beside a bare script and other packages.

    python benchmarks/verify.py --model model.onnx --detector yunet.onnx --photos DIR [--peer PYTHON …]
    python benchmarks/verify.py --galleries 1000 1000000 10000000 [--dim D]
    python benchmarks/verify.py --model model.onnx --detector yunet.onnx --quality FILE.bin
    python benchmarks/verify.py --model model.onnx --detector yunet.onnx --landmarks IJBC [--every N]
    python benchmarks/verify.py --model model.onnx --detector yunet.onnx --agreement RECORDIO [--every N]

DIR holds photos and a pairs.csv (a,b,same). Run it on an idle machine. Rounds alternate between the candidates, so that
a busy moment affects them alike; the tables show medians. `--peer` names the Python of an environment with insightface,
deepface or uniface, which cannot share one with onnxruntime-gpu.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.data.open import open_dataset
from zoo.evaluate.metrics import SortedScores, tar_at_far
from zoo.faces.align import align
from zoo.faces.detect import choose_face
from zoo.faces.finder import CROP_DEVIATION, deviation
from zoo.faces.quality import LEAST_BRIGHTNESS, MOST_BLUR, MOST_TURN, NOD_RANGE, measure
from zoo.formats.bins import read_bin
from zoo.formats.images import Image, decode, read_image
from zoo.formats.mapped import write_mapped
from zoo.formats.pairs import read_pairs_csv
from zoo.inference.embed import embed
from zoo.recognition.gallery import ARRAYS, FORMAT, Gallery
from zoo.recognition.index import LEAST_AGREEMENT
from zoo.recognition.search import Codes
from zoo.recognition.verifier import FaceVerifier

BARE = """
import sys
import cv2, numpy as np, onnxruntime as ort
detector = cv2.FaceDetectorYN.create(sys.argv[2], "", (640, 640))
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
detector.detect(np.zeros((640, 640, 3), np.uint8))
session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 112, 112), np.float32)})
"""
"""Imports cv2 and onnxruntime, opens both models and runs each once: the least that any such program must do."""

PEERS = {
    "insightface": "from insightface.app import FaceAnalysis",
    "deepface": "from deepface import DeepFace",
    "uniface": "import uniface",
}
"""The first import that a user of each package writes; `import deepface` alone loads nothing."""

SIDES = (340, 640, 1280)
"""The canvases on which landmarks are measured, in pixels."""


SPAWN = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""
"""Starts a process from a small one: what the starting process holds counts as the new one's peak memory."""


def measured(command: Sequence[str]) -> tuple[float, float, float, float]:
    """(wall seconds, CPU seconds, peak MB, exit code) of one process."""
    told = subprocess.run([sys.executable, "-S", "-c", SPAWN, *command], capture_output=True, text=True, check=True)
    wall, cpu, peak, code = map(float, told.stdout.split())
    return wall, cpu, peak, code


def cold(model: str, detector: str, a: Path, b: Path, peers: Sequence[str], rounds: int) -> None:
    """The whole process of each candidate."""
    zoo = [str(Path(sys.executable).with_name("zoo")), "verify", str(a), str(b)]
    commands: dict[str, list[str]] = {
        "bare script": [sys.executable, "-c", BARE, model, detector],
        "zoo verify": [*zoo, "--model", model, "--detector", detector, "--threshold", "0.3"],
    }
    missing = list(PEERS)
    for python in peers:
        for name, statement in PEERS.items():
            if subprocess.run([python, "-c", statement], capture_output=True).returncode == 0:
                commands[statement] = [python, "-c", statement]
                missing.remove(name)
    results: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(measured(command))
    print(f"cold, {rounds} rounds: {a.name} {read_image(a).shape[:2]}, {b.name} {read_image(b).shape[:2]}")
    print(f"{'':<44}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}{'÷ bare':>8}{'CPU ÷':>8}  exit")
    walls, cpus, *_ = zip(*results["bare script"], strict=True)
    bare, bare_cpu = statistics.median(walls), statistics.median(cpus)
    for name, rows in results.items():
        wall, cpu, peak, code = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:<44}{wall:>8.3f}{cpu:>8.3f}{peak:>9.0f}{wall / bare:>8.2f}{cpu / bare_cpu:>8.2f}  {code:.0f}")
    if missing:
        print(f"not installed: {', '.join(missing)}")


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median milliseconds of a call, wall and CPU, after one to warm up."""
    work()
    walls, cpus = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - before)
    return 1000 * statistics.median(walls), 1000 * statistics.median(cpus)


def warm(verifier: FaceVerifier, a: Path, b: Path, rounds: int) -> None:
    """Pair after pair in one process, and how the time divides."""
    image, detector = read_image(a), verifier.detector
    crop, face = verifier.crop(image), detector.detect(image)[0]
    steps = {
        "a pair of photos": lambda: verifier.verify(a, b),
        "  read and decode one": lambda: read_image(a),
        "  find its face": lambda: detector.detect(image),
        "  look at it again": lambda: detector.refine(image, face),
        "  embed two crops, flipped": lambda: verifier.embed_crops([crop, crop]),
    }
    print(f"\nwarm, {rounds} rounds, milliseconds{'':<8}{'wall':>9}{'CPU':>8}")
    for name, step in steps.items():
        print(f"{name:<34}" + "".join(f"{value:>8.1f}" for value in timed(step, rounds)))


class RandomTemplates:
    """Unit-length rows that are made as they are written, always the same, so that no memory has to hold them."""

    def __init__(self, people: int, dim: int) -> None:
        self.shape, self.dtype = (people, dim), np.dtype(np.float32)
        self.itemsize, self.nbytes = self.dtype.itemsize, people * dim * 4
        self.scales, self.errors = np.empty(people, np.float32), np.empty(people, np.float32)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows 10,000 at a time, and where they are."""
        people, dim = self.shape
        for start in range(0, people, 10_000):
            rows = np.random.default_rng(start).standard_normal((min(10_000, people - start), dim), np.float32)
            yield slice(start, start + len(rows)), rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def tofile(self, file: IO[bytes]) -> None:
        """Writes the rows, and keeps the scales and errors of their codes."""
        for where, rows in self.blocks():
            codes = Codes.of(rows)
            self.scales[where], self.errors[where] = codes.scales, codes.errors
            rows.tofile(file)


class RandomValues:
    """The codes' values of random templates."""

    def __init__(self, templates: RandomTemplates) -> None:
        self.templates, self.shape, self.dtype = templates, templates.shape, np.dtype(np.int8)
        self.itemsize, self.nbytes = 1, templates.nbytes // 4

    def tofile(self, file: IO[bytes]) -> None:
        """Writes the values."""
        for _, rows in self.templates.blocks():
            Codes.of(rows).values.tofile(file)


def write_random_gallery(path: Path, people: int, dim: int) -> None:
    """A gallery file of people with random templates, as `Gallery.save` writes it."""
    templates = RandomTemplates(people, dim)
    names = np.frombuffer("".join(f"{number:012}" for number in range(people)).encode(), np.uint8)
    empty = Gallery.empty(dim, {})
    arrays: dict[str, Any] = {name: getattr(empty, name) for name in ARRAYS}
    arrays |= {"templates": templates, "lengths": np.ones(people, np.float32), "photos": np.zeros(people, np.int32)}
    arrays |= {"name_bytes": names, "name_ends": np.arange(12, 12 * people + 1, 12)}
    arrays |= {"code_values": RandomValues(templates)}
    arrays |= {"code_scales": templates.scales, "code_errors": templates.errors}
    write_mapped(path, arrays, {"format": FORMAT, "facts": json.dumps({"model": "random"})})


SEARCH = """
import statistics, sys, time
import numpy as np
from zoo.recognition.gallery import Gallery
gallery, rounds = Gallery.open(sys.argv[1]), int(sys.argv[3])
rng = np.random.default_rng(1)
queries = rng.standard_normal((7, gallery.dim), dtype=np.float32)
queries /= np.linalg.norm(queries, axis=1, keepdims=True)

def plain(queries, k):
    scores = np.concatenate([gallery.templates[i : i + 16384] @ queries.T for i in range(0, len(gallery), 16384)]).T
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
    return np.take_along_axis(best, order, 1), scores

search = plain if sys.argv[2] == "plain" else gallery.search
times = []
for count in (1, 7):
    found, _ = search(queries[:count], 5) if rounds or count == 7 else (None, None)
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        search(queries[:count], 5)
        spans.append(1000 * (time.perf_counter() - start))
    times.append(statistics.median(spans) if spans else float("nan"))
facts = dict(line.split(":") for line in open("/proc/self/status"))
memory = [int(facts[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon", "RssFile")]  # the first since exec
print(*times, *memory, found.ravel().tolist())
"""
"""Searches a gallery file by zoo or by plain float32 products: milliseconds, peak MB, of it anonymous and mapped, and
who is found. Without rounds only who is found."""


def galleries(sizes: Sequence[int], rounds: int, dim: int = 512) -> None:
    """Opening and searching saved galleries that the page cache holds, beside products of all float32 templates.

    Above a million people the products are made once, to compare who is found.
    """
    print(
        f"\ngalleries, {dim}-d, {rounds} rounds, milliseconds; peak MB of a process that searches, anonymous and mapped"
    )
    print(
        f"{'people':>10}{'file MB':>9}{'open':>8}  {'search':<8}{'1 face':>10}{'7 faces':>10}{'peak MB':>9}"
        f"{'anon.':>8}{'mapped':>8}"
    )
    for people in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gallery"
            write_random_gallery(path, people, dim)
            opened, _ = timed(lambda path=path: Gallery.open(path).name(0), rounds)  # type: ignore[misc]
            everybody = set()
            for method in ("zoo", "plain"):
                many = method == "plain" and people > 1_000_000
                command = [sys.executable, "-c", SEARCH, str(path), method, str(0 if many else rounds)]
                done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                one, seven, *memory, found = done.split(maxsplit=5)
                everybody.add(found)
                size = f"{people:>10,}{path.stat().st_size / 1e6:>9.0f}{opened:>8.2f}"
                figures = "".join(f"{float(mb):>{width}.0f}" for mb, width in zip(memory, (9, 8, 8), strict=True))
                print(f"{size}  {method:<8}{float(one):>10.1f}{float(seven):>10.1f}{figures}", flush=True)
            assert len(everybody) == 1, "the two searches found different people"


def photos(verifier: FaceVerifier, folder: Path) -> None:
    """The faces found in each photo, and whether one threshold is right for all pairs."""
    print("\nfaces found (largest; every face)")
    thorough = verifier.taking("all")
    for path in sorted(folder.glob("*.jpg")):
        image = read_image(path)
        largest, every = verifier.crop(image), thorough.crops(image)
        eyes = largest.quality.eye_distance or 0
        warned = "; ".join(largest.quality.warnings()) or "-"
        print(f"{path.name:<32}{len(largest.faces):>3}{len(every):>4}  {eyes:>4.0f} px between the eyes  {warned}")
    pairs = read_pairs_csv(folder / "pairs.csv")
    embeddings = {path: verifier.embed(path) for path in {path for a, b, _ in pairs for path in (a, b)}}
    scores = [(float(embeddings[a] @ embeddings[b]), same) for a, b, same in pairs]
    least = min(score for score, same in scores if same)
    most = max(score for score, same in scores if same is False)
    print(f"{len(pairs)} pairs: least similar of one person {least:.4f}, most similar of two {most:.4f}")


def quality(verifier: FaceVerifier, path: Path) -> None:
    """The distribution of each measure over the crops of a benchmark."""
    images, _ = read_bin(path)
    rows, unseen = [], 0
    for content in images:
        image = decode(content, path.name)
        faces = verifier.detector.detect(image)
        if not faces:
            unseen += 1
            continue
        face = max(faces, key=lambda face: face.box[2] * face.box[3])
        found = measure(image, face.landmarks)
        rows.append(
            (found.blur, found.brightness, abs(found.turn or 0), found.nod or 0, deviation(face, image.shape[:2]))
        )
    print(f"{path.name}: {len(rows):,} crops, {unseen} without a face; quantiles and the limits in use")
    print(f"{'':<10}{'0 %':>8}{'1 %':>8}{'50 %':>8}{'99 %':>8}{'100 %':>8}  limit")
    limits = (MOST_BLUR, LEAST_BRIGHTNESS, MOST_TURN, NOD_RANGE, CROP_DEVIATION)
    for name, values, limit in zip(
        ("blur", "brightness", "turn", "nod", "deviation"), np.array(rows).T, limits, strict=True
    ):
        print(
            f"{name:<10}" + "".join(f"{v:>8.3f}" for v in np.quantile(values, [0, 0.01, 0.5, 0.99, 1])) + f"  {limit}"
        )


def landmarks(verifier: FaceVerifier, folder: Path, every: int) -> None:
    """TAR at FAR 0.001 of crops pasted on canvases of several sizes, with the first landmarks and with the final ones.

    All pairs of every `every`-th picture of `folder`, IJB-C's layout with 1:N lists.
    """
    whose: dict[str, str] = {}
    for path in sorted((folder / "meta").glob("*_1N_*.csv")):
        with open(path, newline="") as file:
            whose |= {row["FILENAME"]: row["SUBJECT_ID"] for row in csv.DictReader(file)}
    crops: dict[tuple[str, int], list[Image]] = {}
    people, unseen = [], 0
    for name in sorted(whose)[::every]:
        image = read_image(folder / "loose_crop" / name)
        canvases = [pasted(image, side) for side in SIDES]
        found = [verifier.detector.detect(canvas) for canvas in canvases]
        if not all(found):
            unseen += 1
            continue
        people.append(whose[name])
        for side, canvas, faces in zip(SIDES, canvases, found, strict=True):
            face = choose_face(faces, canvas.shape[:2], "central")
            for which, points in (
                ("first", face.landmarks),
                ("final", verifier.detector.refine(canvas, face).landmarks),
            ):
                crops.setdefault((which, side), []).append(align(canvas, points, verifier.size))
    one, other = np.triu_indices(len(people), 1)
    same = np.array(people)[one] == np.array(people)[other]
    print(
        f"{folder}: {len(people):,} pictures, {unseen} without a face on some canvas; detector {verifier.detector.name}"
    )
    print(f"{same.sum():,} pairs of one person, {(~same).sum():,} of two")
    print(f"{'landmarks':<10}{'canvas':>8}{'TAR at FAR 0.001':>18}")
    for (which, side), pictures in sorted(crops.items()):
        rows = embed(verifier.embedder, pictures).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        point = tar_at_far(SortedScores.of((rows @ rows.T)[one, other], same), 1e-3)
        print(f"{which:<10}{side:>8}{point.tar:>18.4f}")


def agreement(verifier: FaceVerifier, data: Path, every: int) -> None:
    """The mean similarity of a person's crops: of real people, and of two people under one name."""
    dataset = open_dataset(str(data), min_images=2)
    chosen = [np.flatnonzero(dataset.labels == person) for person in range(0, dataset.num_classes, every)]
    rows = [embed(verifier.embedder, [dataset.image(int(i)) for i in photos[:10]]) for photos in chosen]
    rows = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in rows]

    def agree(photos: Sequence[np.ndarray]) -> float:
        one = np.concatenate(photos)
        return float(((one @ one.T).sum() - len(one)) / (len(one) * (len(one) - 1)))

    print(
        f"{data}: {len(rows):,} people; quantiles of the mean similarity of their photos, noted below {LEAST_AGREEMENT}"
    )
    print(f"{'':<24}{'0 %':>8}{'1 %':>8}{'50 %':>8}{'99 %':>8}{'100 %':>8}{'noted':>8}")
    mixed = [agree([one[:2], other[:2]]) for one, other in pairwise(rows)]
    for name, values in {"one person": [agree([one]) for one in rows], "two photos each of two": mixed}.items():
        quantiles = "".join(f"{value:>8.3f}" for value in np.quantile(values, [0, 0.01, 0.5, 0.99, 1]))
        print(f"{name:<24}{quantiles}{np.mean(np.array(values) < LEAST_AGREEMENT):>8.1%}")


def pasted(image: Image, side: int) -> Image:
    """The picture in the middle of a grey square."""
    canvas = np.full((side, side, 3), 128, np.uint8)
    top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--detector")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--peer", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--galleries", type=int, nargs="+", metavar="PEOPLE", help="galleries to search, and no photos")
    parser.add_argument("--quality", type=Path, metavar="FILE.bin")
    parser.add_argument("--landmarks", type=Path, metavar="IJBC")
    parser.add_argument("--agreement", type=Path, metavar="RECORDIO")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of pictures or people, take every N-th")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dim", type=int, default=512, help="of the galleries")
    args = parser.parse_args()
    if args.galleries:
        galleries(args.galleries, args.rounds, args.dim)
        return
    verifier = FaceVerifier(args.model, args.detector, threshold=0.3)
    if args.quality:
        quality(verifier, args.quality)
    if args.landmarks:
        landmarks(verifier, args.landmarks, args.every)
    if args.agreement:
        agreement(verifier, args.agreement, args.every)
    if args.photos:
        large = sorted(p for p in args.photos.glob("*.jpg") if max(read_image(p).shape[:2]) == 900)
        a, b = large[0], large[1]
        cold(args.model, args.detector, a, b, args.peer, args.rounds)
        warm(verifier, a, b, args.rounds)
        galleries([1_000, 100_000], args.rounds)
        photos(verifier, args.photos)


if __name__ == "__main__":
    main()
