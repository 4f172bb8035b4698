"""What data costs: decoders, the loader, its share of a training step, the scan of a set, and near-duplicates.

    python benchmarks/data.py [decode loader train scan near scale] [--data TRAIN.rec] [--images 2000] [--repeats 5]

decode, loader: images per second of one core, as this process's CPU time, which other programs on the machine stretch
less than the clock's; files come from the page cache, so a disk's own speed is not in it. train: a resnet18 (stock
stem) learns on every core, with its batches at hand or from the loader; time is the clock's. scan: `zoo data info`
and `check` with one process and with one a core, by the clock. near: false matches between different people and found
copies for several limits of the perceptual hash. scale: memory, time and reads of large sets (benchmarks/scale.py).
Every round measures all candidates one after another, so that a busy moment hits them alike; the tables have medians.
Without --data, pictures are synthetic faces as JPEG of quality 95, of which `near` says nothing about real ones.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import collections
import io
import itertools
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from zoo.data.audit import NEAR, near_pairs, perceptual_hash, scan
from zoo.data.augment import build_augmentation
from zoo.data.base import EncodedFaces, FaceDataset, Selected
from zoo.data.open import open_dataset, open_people
from zoo.formats.frames import Header, RecordWriter, pack
from zoo.formats.images import Image, decode, encode_jpeg, resized
from zoo.formats.recordio import RecordFile
from zoo.machine import cores


def decoders() -> tuple[dict[str, Callable[[bytes], object]], dict[str, str]]:
    """Every decoder that can be used, each from JPEG bytes to an RGB array; and why the others cannot."""
    absent: dict[str, str] = {}

    def by_cv2(content: bytes) -> object:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)

    found: dict[str, Callable[[bytes], object]] = {
        "cv2": by_cv2,
        "zoo.formats.images.decode": lambda content: decode(content, "x"),
    }
    try:
        import simplejpeg

        found["simplejpeg"] = lambda content: simplejpeg.decode_jpeg(content, "RGB")
    except ImportError:
        absent["simplejpeg"] = "not installed"
    try:
        import turbojpeg

        codec = turbojpeg.TurboJPEG()
        found["PyTurboJPEG"] = lambda content: codec.decode(content, pixel_format=turbojpeg.TJPF_RGB)
    except ImportError:
        absent["PyTurboJPEG"] = "not installed"
    except (RuntimeError, OSError) as error:
        absent["PyTurboJPEG"] = f"installed, but: {str(error).splitlines()[0]}"
    try:
        import torch
        import torchvision.io

        mode = torchvision.io.ImageReadMode.RGB
        found["torchvision.io"] = lambda content: torchvision.io.decode_jpeg(
            torch.frombuffer(bytearray(content), dtype=torch.uint8), mode
        ).permute(1, 2, 0)
    except ImportError:
        absent["torchvision.io"] = "not installed"
    try:
        import PIL.Image

        found["Pillow"] = lambda content: np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))
    except ImportError:
        absent["Pillow"] = "not installed"
    return found, absent


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


def table(title: str, found: dict[str, float], base: str, absent: dict[str, str] | None = None) -> None:
    print(f"\n{title}")
    absent = absent or {}
    width = max(map(len, [*found, *absent]))
    for name, rate in sorted(found.items(), key=lambda item: -item[1]):
        print(f"  {name:<{width}}  {rate:>8,.0f} images/s  {rate / found[base]:>5.2f} of {base}")
    for name, reason in absent.items():
        print(f"  {name:<{width}}  {reason}")


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
    from zoo.data.loader import TrainLoader  # not above: the processes of `scan` import this file, without torch

    loader = TrainLoader(dataset, build_augmentation(preset), batch_size)
    numbers = iter(range(10**9))
    return lambda: sum(len(labels) for _, labels, _ in loader.epoch(next(numbers)))


def training(dataset: FaceDataset, batch_size: int, steps: int, repeats: int) -> None:
    """A training step with its batch at hand, and with the loader: images per second, and the share of waiting."""
    import torch

    from zoo.backbones import create_backbone
    from zoo.data.loader import TrainLoader
    from zoo.heads import MarginSoftmaxLoss, build_head

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = create_backbone("resnet18", stem="stock").to(device).train()
    loss = MarginSoftmaxLoss(build_head("recurricularface"), dataset.num_classes, 512).to(device)
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=1e-3, momentum=0.9)

    def step(crops: torch.Tensor, labels: torch.Tensor) -> None:
        pixels = crops.to(device, non_blocking=True).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            embeddings = model(pixels)
        loss(embeddings.float(), labels.to(device, non_blocking=True)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def learn(batches: Iterator[tuple[torch.Tensor, ...]]) -> tuple[float, float]:
        step(*next(batches)[:2])  # workers start with the first batch
        waited, start = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            crops, labels = next(batches)[:2]
            waited += time.perf_counter() - asked
            step(crops, labels)
        taken = time.perf_counter() - start
        return batch_size * steps / taken, waited / taken

    loaders = {
        (preset, workers): TrainLoader(dataset, build_augmentation(preset), batch_size, workers=workers)
        for preset, workers in (("flip", 0), ("flip", 1), ("flip", 2), ("adaface", 1), ("strong", 1), ("strong", 2))
    }

    def endless(loader: TrainLoader) -> Iterator[tuple[torch.Tensor, ...]]:
        for epoch in itertools.count():
            yield from loader.epoch(epoch)

    streams = {
        f"{preset}, {workers} worker{'s' * (workers != 1)}": endless(loader)
        for (preset, workers), loader in loaders.items()
    }
    streams = {"batch at hand": itertools.repeat(next(loaders["flip", 0].epoch(0))), **streams}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
    for _ in range(repeats):
        for name, batches in streams.items():
            found[name].append(learn(batches))
    print(
        f"\nTraining resnet18, stock stem, batch {batch_size} on {device.type} ({torch.get_num_threads()} threads,"
        f" {os.cpu_count()} cores)"
    )
    base = statistics.median(rate for rate, _ in found["batch at hand"])
    for name, measured in found.items():
        rate, waited = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"  {name:<20}  {rate:>8,.1f} images/s  {rate / base:>5.2f} of batch at hand  waits {waited:>6.2%}")


def scans(dataset: EncodedFaces, repeats: int) -> None:
    """`zoo data info` and the hashing of `zoo data check`, with one process and with one a core, by the clock."""
    print(f"\nLooking at every picture ({cores()} cores)")
    for images in (2_000, 20_000, 60_000):
        some = Selected(dataset, np.arange(images) % len(dataset))
        for what, views in (("info", 0), ("check", 1)):
            seconds: dict[int, list[float]] = {1: [], cores(): []}
            for _ in range(min(repeats, 3)):
                for workers, measured in seconds.items():
                    start = time.perf_counter()
                    collections.deque(scan(some, views=views, workers=workers), maxlen=0)
                    measured.append(time.perf_counter() - start)
            one, several = (statistics.median(measured) for measured in seconds.values())
            print(
                f"  {what:<5}  {images:>6,} images  one process {one:>6.2f} s  {cores()} processes {several:>6.2f} s"
                f"  {one / several:>5.2f} times as fast"
            )


COPIES: dict[str, Callable[[Image], Image]] = {
    "JPEG 50": lambda image: decode(encode_jpeg(image, 50), "x"),
    "JPEG 20": lambda image: decode(encode_jpeg(image, 20), "x"),
    "1/2 size": lambda image: resized(image, (image.shape[0] // 2, image.shape[1] // 2)),
    "1/4 size": lambda image: resized(image, (image.shape[0] // 4, image.shape[1] // 4)),
    "×0.7": lambda image: (image * 0.7).astype(np.uint8),
    "×1.3": lambda image: np.clip(image * 1.3, 0, 255).astype(np.uint8),
    "grey": lambda image: np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3, axis=-1).astype(np.uint8),
    "1 px": lambda image: np.roll(image, 1, axis=1),
    "2 px": lambda image: np.roll(image, 2, axis=1),
    "2 % crop": lambda image: image[1:-1, 1:-1],
}
"""What people do to a picture before it comes back as another: encoded, scaled, brightened, shifted, cropped anew."""


def near_limits(dataset: EncodedFaces, images: int) -> None:
    """For each limit of differing bits, the pairs of different people that match, and the copies that are found."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, images).astype(np.int64))
    pictures = [dataset.image(i) for i in chosen.tolist()]
    hashes = np.stack([perceptual_hash(picture) for picture in pictures])
    mirrored = np.stack([perceptual_hash(np.ascontiguousarray(picture[:, ::-1])) for picture in pictures])
    labels = dataset.labels[chosen]
    limits = (20, 30, 40, 50, 60, 65, 70)
    false = np.zeros(len(limits), np.int64)
    strangers = int((labels[:, None] != labels[None, :]).sum())  # each pair as it is and once mirrored
    for other in (hashes, mirrored):
        for i, j, bits in near_pairs(hashes, other, max(limits)):
            if labels[i] != labels[j] and i < j:
                false += bits <= np.array(limits)
    found = {}
    for name, change in COPIES.items():
        copies = np.stack([perceptual_hash(np.ascontiguousarray(change(picture))) for picture in pictures])
        bits = np.bitwise_count(copies ^ hashes).sum(axis=1)
        found[name] = [float((bits <= limit).mean()) for limit in limits]
    print(
        f"\nNear-duplicates: {len(pictures):,} pictures, {strangers:,} pairs of different people; the limit is {NEAR}"
    )
    print("  bits  false matches   a million  copies found: " + "".join(f"{name:>9}" for name in COPIES))
    for place, limit in enumerate(limits):
        shares = "".join(f"{found[name][place]:>9.1%}" for name in COPIES)
        print(f"  {limit:>4}  {false[place]:>13,}  {false[place] / strangers * 1e6:>10.2f}                {shares}")


SECTIONS = ("decode", "loader", "train", "scan", "near", "scale")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)} (decode loader)")
    parser.add_argument("--data", help="a .rec file or a folder with one (default: synthetic faces)")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--records", type=float, default=1e6, help="records of `scale` (1e6)")
    parser.add_argument("--folder", help="where `scale` makes its files: a disk with room (a temporary folder)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6, help="training steps of a round (6)")
    args = parser.parse_args()
    sections = args.sections or ["decode", "loader"]
    if unknown := set(sections) - set(SECTIONS):
        parser.error(f"no section is called {', '.join(sorted(unknown))}")
    if "scale" in sections:
        from scale import scale

        scale(int(args.records), args.folder)
    if sections == ["scale"]:
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    if args.data:
        file = RecordFile(args.data)
        count = min(args.images, len(file))
        contents, labels = [file.content(i) for i in range(count)], file.labels[:count].tolist()
    else:
        faces = open_dataset("synthetic")
        count = min(args.images, len(faces))
        contents, labels = [encode_jpeg(faces.image(i)) for i in range(count)], faces.labels[:count].tolist()
    height, width = decode(contents[0], "the first picture").shape[:2]
    print(f"{count:,} JPEG of {height}×{width}, {sum(map(len, contents)) / count:,.0f} bytes on average")

    def decoding(decoder: Callable[[bytes], object]) -> Callable[[], int]:
        def work() -> int:
            for content in contents:
                decoder(content)
            return len(contents)

        return work

    candidates, absent = decoders()
    if "decode" in sections:
        bare = rates({name: decoding(decoder) for name, decoder in candidates.items()}, args.repeats)
        table("Decoding, one core", bare, "cv2", absent)
    ours = "zoo.formats.images.decode"
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ZOO_CACHE"] = str(Path(temporary) / "cache")
        sources = write_sources(Path(temporary), contents, labels)
        if "loader" in sections:
            bare_name = "bare simplejpeg"
            work = {bare_name: decoding(candidates["simplejpeg"]), "bare " + ours: decoding(candidates[ours])}
            for name, address in sources.items():
                for preset in ("none", "flip", "adaface", "strong") if name == "RecordIO" else ("flip",):
                    work[f"{name}, {preset}"] = epoch_of(open_dataset(address), preset, args.batch_size)
            table("Read, decode, augment, collate: one core, no workers", rates(work, args.repeats), bare_name)
        encoded = open_people(args.data or sources["RecordIO"])
        if "scan" in sections:
            scans(encoded, args.repeats)
        if "near" in sections:
            near_limits(encoded, args.images)
        if "train" in sections:
            cv2.setNumThreads(threads)
            training(encoded, args.batch_size, args.steps, args.repeats)


if __name__ == "__main__":
    main()
