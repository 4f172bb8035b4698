"""Decoders, and the training loader end to end, in images per second of one core: two tables.

    python benchmarks/data.py [--data TRAIN.rec] [--images 2000] [--repeats 5]

Time is this process's CPU time, which other programs on the machine stretch less than the clock's; files come from the
page cache, so a disk's own speed is not in it. Every round measures all candidates one after another, so that a busy
moment hits them alike; the tables have medians. Without --data, the pictures are the synthetic faces as JPEG of
quality 95.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from zoo.data.augment import build_augmentation
from zoo.data.base import FaceDataset
from zoo.data.loader import TrainLoader
from zoo.data.open import open_dataset
from zoo.formats.images import decode, encode_jpeg
from zoo.formats.recordio import Header, RecordFile, RecordWriter, pack


def decoders() -> dict[str, Callable[[bytes], object]]:
    """Every decoder that is installed, each from JPEG bytes to an RGB array."""

    def by_cv2(content: bytes) -> object:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)

    found: dict[str, Callable[[bytes], object]] = {
        "cv2": by_cv2,
        "zoo.formats.images.decode": lambda content: decode(content, "x"),
    }
    try:
        import simplejpeg

        found["simplejpeg"] = lambda content: simplejpeg.decode_jpeg(content, "RGB")
    except ImportError:
        pass
    try:
        import turbojpeg

        codec = turbojpeg.TurboJPEG()
        found["PyTurboJPEG"] = lambda content: codec.decode(content, pixel_format=turbojpeg.TJPF_RGB)
    except (ImportError, RuntimeError, OSError):
        pass
    try:
        import torch
        import torchvision.io

        mode = torchvision.io.ImageReadMode.RGB
        found["torchvision.io"] = lambda content: torchvision.io.decode_jpeg(
            torch.frombuffer(bytearray(content), dtype=torch.uint8), mode
        ).permute(1, 2, 0)
    except ImportError:
        pass
    try:
        import PIL.Image

        found["Pillow"] = lambda content: np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))
    except ImportError:
        pass
    return found


def rates(candidates: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """The median images a CPU second of each candidate, which does its work and says how many images that was."""
    for candidate in candidates.values():
        candidate()
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            start = time.process_time()
            count = candidate()
            measured[name].append(count / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in measured.items()}


def table(title: str, found: dict[str, float], base: str) -> None:
    print(f"\n{title}")
    width = max(map(len, found))
    for name, rate in sorted(found.items(), key=lambda item: -item[1]):
        print(f"  {name:<{width}}  {rate:>8,.0f} images/s  {rate / found[base]:>5.2f} of {base}")


def write_sources(folder: Path, contents: Sequence[bytes], labels: Iterable[int]) -> dict[str, str]:
    """The same pictures in every layout; the address of each."""
    labels = list(labels)
    (folder / "rec").mkdir()
    with open(folder / "rec" / "train.rec", "wb") as records, open(folder / "rec" / "train.idx", "wb") as index:
        writer = RecordWriter(records, index)
        for key, (content, label) in enumerate(zip(contents, labels, strict=True)):
            writer.write(key, pack(Header((float(label),), key), content))
    sources = {"RecordIO": str(folder / "rec")}
    (folder / "tar").mkdir()
    for shard in range(0, len(contents), 500):
        with tarfile.open(folder / "tar" / f"{shard:08d}.tar", "w") as archive:
            for i in range(shard, min(shard + 500, len(contents))):
                for suffix, content in ((".jpg", contents[i]), (".cls", str(labels[i]).encode())):
                    member = tarfile.TarInfo(f"{i:08d}{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    sources["WebDataset"] = str(folder / "tar")
    try:
        import pyarrow
        import pyarrow.parquet

        rows = pyarrow.table({"image": [{"bytes": content, "path": None} for content in contents], "label": labels})
        pyarrow.parquet.write_table(rows, folder / "train.parquet", row_group_size=100)
        sources["Parquet"] = str(folder / "train.parquet")
    except ImportError:
        pass
    for i, (content, label) in enumerate(zip(contents, labels, strict=True)):
        person = folder / "folder" / f"{label:06d}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{i:08d}.jpg").write_bytes(content)
    sources["folder"] = str(folder / "folder")
    return sources


def epoch_of(dataset: FaceDataset, preset: str, batch_size: int) -> Callable[[], int]:
    loader = TrainLoader(dataset, build_augmentation(preset), batch_size)
    numbers = iter(range(10**9))
    return lambda: sum(len(labels) for _, labels, _ in loader.epoch(next(numbers)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a .rec file or a folder with one (default: synthetic faces)")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.data:
        file = RecordFile(args.data)
        count = min(args.images, len(file))
        contents, labels = [file.read(i) for i in range(count)], file.labels[:count].tolist()
    else:
        faces = open_dataset("synthetic")
        count = min(args.images, len(faces))
        contents, labels = [encode_jpeg(faces.image(i)) for i in range(count)], faces.labels[:count].tolist()
    height, width = decode(contents[0], "the first picture").shape[:2]
    print(f"{count:,} JPEG of {height}×{width}, {sum(map(len, contents)) / count:,.0f} bytes on average, one core")

    def decoding(decoder: Callable[[bytes], object]) -> Callable[[], int]:
        def work() -> int:
            for content in contents:
                decoder(content)
            return len(contents)

        return work

    bare = rates({name: decoding(decoder) for name, decoder in decoders().items()}, args.repeats)
    table("Decoding", bare, "cv2")
    ours = "zoo.formats.images.decode"
    with tempfile.TemporaryDirectory() as temporary:
        sources = write_sources(Path(temporary), contents, labels)
        work = {"bare " + ours: decoding(decoders()[ours])}
        for name, address in sources.items():
            for preset in ("none", "flip", "adaface", "strong") if name == "RecordIO" else ("flip",):
                work[f"{name}, {preset}"] = epoch_of(open_dataset(address), preset, args.batch_size)
        table("Read, decode, augment, collate (one core, no workers)", rates(work, args.repeats), "bare " + ours)


if __name__ == "__main__":
    main()
