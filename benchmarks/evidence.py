"""The heads beside one another: many small trainings at once on one device, on real and on synthetic faces.

    python benchmarks/evidence.py --real lfw_rec --output evidence --pilot 0.4 0.2 0.1 0.05 0.025 0.0125 --seconds 300

It stops after --seconds, and the same call goes on with the cells that are missing. A cell is a head and a seed: the
steps of `zoo train` on crops that the device holds, without checkpoints, and the scores of the model after its last
step. Real faces: the RecordIO folder --real, scored on the pairs of its lfw_dev.bin, which choose nothing. Synthetic
faces: --people × --images for training; other people for the test, all images of whom are compared with one another.
Each cell leaves OUTPUT/PART/NAME-seedN/ with config.yaml, metrics.jsonl and report.json, of which
`zoo reproduce --gather OUTPUT/PART -o TABLES` makes the tables, and a line in OUTPUT/results.jsonl.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from zoo.data.synthetic import SyntheticFaces
from zoo.files import json_safe, write_text

if TYPE_CHECKING:
    import torch

    from zoo.evaluate.results import Evaluation
    from zoo.train.build import Training
    from zoo.train.config import TrainConfig

MAIN = ("arcface", "curricularface", "recurricularface")
OTHERS = (
    *("cosface", "adaface", "recurricularface+constants=derived", "recurricularface+modulate=all"),
    "recurricularface+constants=derived+b=0.5166",
)
"""The last one is equation (6) of the paper as printed, for 941 classes and 512 dimensions (`zoo.heads.printed_b`)."""
MILD = tuple(f"{head}+scale=32+margin=0.3" for head in MAIN)
PLAN = (
    ("real", MAIN, range(8)),
    ("synthetic", MAIN, range(3)),
    ("real", MAIN, range(8, 10)),
    ("synthetic", MAIN, range(3, 6)),
    ("real", OTHERS, range(4)),
    ("real", MILD, range(4)),
    ("synthetic", MAIN, range(6, 10)),
    ("real", (*OTHERS, *MILD), range(4, 10)),
)
"""The order of the cells; all names of a seed come before its next seed."""

COMMON: dict[str, Any] = {
    **{"backbone": "resnet18", "stem": "stock", "neck": "flat", "embedding_dim": 512, "validation": "none"},
    "centres": {"chunk_size": None, "precision": "fp32"},  # the whole matrix of cosines: exact, and small here
}
"""What all cells share; the rest is what TrainConfig has: SGD, flip, and the paper's three falls in proportion."""
FARS = (1e-3, 1e-4, 1e-5, 1e-6)
"""The rates of false accepts on synthetic faces."""
NEAREST = 50_000
"""The impostor pairs of the highest scores that a draw of people may move across a threshold."""
SPLITS = ("train", "test")
Crops = npt.NDArray[np.uint8]
Embed = Callable[[Crops], npt.NDArray[np.float32]]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """One training."""

    part: str
    name: str
    seed: int

    def folder(self, output: Path) -> Path:
        return output / self.part / f"{self.name}-seed{self.seed}"  # as `zoo reproduce` calls it

    def done(self, output: Path) -> bool:
        return (self.folder(output) / "metrics.jsonl").exists()


def planned(args: argparse.Namespace) -> list[Cell]:
    """The cells in their order."""
    blocks = [block for block in PLAN if block[0] in args.parts]
    rows = [(part, names, seed) for part, names, span in blocks for seed in span if seed < args.seeds]
    cells = [Cell(part, name, seed) for part, names, seed in rows for name in names if part != "real" or args.real]
    return [cell for cell in cells if not args.names or cell.name in args.names]


def configured(cell: Cell, args: argparse.Namespace, rate: float) -> TrainConfig:
    """The options of `zoo train` for a cell at the learning rate of all cells."""
    from zoo.reproduce.grid import variant
    from zoo.train.config import build

    if cell.part != "synthetic":
        own = {"data": args.real, "epochs": args.epochs, "batch_size": args.batch_size}
    else:
        own = {"data": f"synthetic:{args.people}x{args.images}", "epochs": args.synthetic_epochs}
        own["batch_size"] = args.synthetic_batch_size
    head, options = variant(cell.name)
    own |= {"lr": rate, "image_size": args.image_size, "head": head, "seed": cell.seed}
    return build({**COMMON, **own, **options})


class Faces:
    """Training crops in memory, and a test."""

    name: str
    crops: Crops
    """(images, height, width, 3)."""
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def image(self, i: int) -> npt.NDArray[np.uint8]:
        return np.asarray(self.crops[i])

    def describe(self) -> str:
        return f"{len(self):,} images of {self.num_classes:,} identities in memory"

    def score(self, embed: Embed) -> Evaluation:
        """The figures of a model."""
        raise NotImplementedError


class Real(Faces):
    """The people of a RecordIO folder, and the pairs of the lfw_dev.bin in it."""

    def __init__(self, args: argparse.Namespace) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        from zoo.data.open import open_dataset
        from zoo.evaluate.protocols.pairs import PairsProtocol
        from zoo.files import sha256
        from zoo.formats.bins import read_bin
        from zoo.formats.images import resized

        size, file = (args.image_size, args.image_size), Path(args.real) / "lfw_dev.bin"
        faces = open_dataset(args.real, size)
        kept = np.flatnonzero(faces.labels < (args.most_people or faces.num_classes))
        self.name, self.labels = "lfw_rec", faces.labels[kept]
        self.crops = np.stack([faces.image(int(i)) for i in kept])
        images, same = read_bin(file)
        _, place = np.unique([hashlib.sha256(image).hexdigest() for image in images], return_inverse=True)
        left, right = place[0::2], place[1::2]
        # who is shown is not on record: pictures that pairs of one person link are one person's
        links = coo_array((np.ones(int(same.sum())), (left[same], right[same])), (place.max() + 1,) * 2)
        person = connected_components(links, directed=False)[1].astype(str)
        self.pairs = PairsProtocol(images, same, file.name, sha256(file), (person[left], person[right]))
        self.pairs.stratified = True
        self.test = np.stack([resized(cast(Crops, self.pairs.image(i)), size) for i in range(len(self.pairs))])

    def score(self, embed: Embed) -> Evaluation:
        return self.pairs.score(embed(self.test))


class Synthetic(Faces):
    """Synthetic faces that the first process has drawn; all test images are compared with one another."""

    name = "synthetic"

    def __init__(self, args: argparse.Namespace, drawn: Path) -> None:
        self.crops, self.test = np.load(drawn / "train.npy", mmap_mode="r"), np.load(drawn / "test.npy")
        self.labels = np.repeat(np.arange(args.people), args.images)
        self.person = np.repeat(np.arange(args.test_people), args.test_images)

    def score(self, embed: Embed) -> Evaluation:
        from zoo.evaluate.metrics import unit
        from zoo.evaluate.results import Evaluation

        rows = unit(embed(self.test)).astype(np.float32)
        one, other = np.triu_indices(len(rows), 1)
        same = self.person[one] == self.person[other]
        cosines = np.clip((rows @ rows.T)[one, other], -1, 1)
        return Evaluation(
            protocol="pairs",
            data="synthetic, all pairs",
            data_sha256=hashlib.sha256(self.test.data).hexdigest(),
            compat=None,
            flip=True,
            images=len(self.test),
            **verification(cosines, same, self.person[one], self.person[other], int(self.person[-1]) + 1),
        )


def verification(
    cosines: npt.NDArray[np.float32], same: npt.NDArray[np.bool_], one: Labels, other: Labels, people: int
) -> dict[str, Any]:
    """Fields of an Evaluation of all pairs (pairs,) of the images of `people`; TARs also in each draw of people.

    As `zoo evaluate`, but for millions of pairs: no threshold of a draw lies beyond the NEAREST impostors. All people
    have equally many images.
    """
    from zoo.evaluate import metrics
    from zoo.evaluate.intervals import Estimate, Resampling
    from zoo.evaluate.results import Curves, RocPoints

    scores = metrics.SortedScores.of(cosines, same)
    points = [metrics.tar_at_far(scores, far) for far in FARS]
    draws, impostors = Resampling.of(people, len(same)), np.flatnonzero(~same)
    nearest = min(NEAREST, len(impostors))
    top = impostors[np.argpartition(cosines[impostors], -nearest)[-nearest:]]
    top = top[np.argsort(cosines[top])[::-1]]
    weights = draws.weights.astype(np.float64)
    accepted = np.cumsum(weights[one[top]] * weights[other[top]], axis=0)  # (nearest, replicates)
    whole = (people**2 - (weights**2).sum(axis=0)) / (people**2 - people) * len(impostors)  # pairs in each draw
    genuine = np.flatnonzero(same)
    genuine = genuine[np.argsort(cosines[genuine])[::-1]]
    reached, own = cosines[genuine], np.cumsum(weights[one[genuine]], axis=0)
    estimates = {}
    for point in points:
        if point.measurable:
            beyond = (accepted <= point.far_target * whole * (1 + 1e-9)).sum(axis=0)  # so many lie above the threshold
            thresholds = cosines[top][np.minimum(beyond, nearest - 1)]
            passed = np.searchsorted(-reached, -thresholds, side="left")
            accepts = np.where(passed > 0, own[np.maximum(passed, 1) - 1, np.arange(len(passed))], 0)
            estimates[f"TAR@FAR {point.far_target:g}"] = Estimate(point.tar, accepts / own[-1], people)
    return {
        "people": people,
        "pairs": len(same),
        "positives": int(same.sum()),
        "negatives": len(impostors),
        "auc": metrics.auc(scores),
        "tar_at_far": {point.far_target: point.tar for point in points},
        "not_measurable": tuple(point.why_not for point in points if not point.measurable),
        "intervals": f"bootstrap of {people:,} people, {draws.replicates:,} replicates",
        "curves": Curves(roc=RocPoints.of(scores), estimates=estimates),
    }


FACES: dict[bool, tuple[Faces, torch.Tensor]] = {}
"""The real and the synthetic faces of this process, and their training crops on the device."""


def faces_of(real: bool, args: argparse.Namespace, drawn: Path) -> tuple[Faces, torch.Tensor]:
    """What FACES holds, opened at the first call."""
    import torch

    if real not in FACES:
        faces = Real(args) if real else Synthetic(args, drawn)
        FACES[real] = faces, torch.from_numpy(np.array(faces.crops)).to("cuda" if torch.cuda.is_available() else "cpu")
    return FACES[real]


def steps_of(
    config: TrainConfig, faces: Faces, crops: torch.Tensor, training: Training, until: float
) -> Iterator[dict[str, float]]:
    """Trains, and tells of each epoch; ends early at the time `until`."""
    import torch

    from zoo.backbones.timm_folder import normalise
    from zoo.data.augment import Flip, build_augmentation
    from zoo.data.loader import Batch, TrainLoader
    from zoo.train.build import build_schedule
    from zoo.train.distributed import Rank
    from zoo.train.step import Stepper, settings

    device = crops.device
    loader = TrainLoader(faces, build_augmentation("none"), config.batch_size, config.seed)  # for its order alone
    labels = torch.from_numpy(faces.labels).to(device)
    schedules = [build_schedule(config, one, len(loader)) for one in (training.optimizer, training.centre_optimizer)]
    take_step = Stepper(config, training, Rank(), device)
    kept = torch.channels_last if config.channels_last else torch.contiguous_format

    def batches(epoch: int) -> Iterator[Batch]:
        order = loader.order(epoch)[:, 0]
        mirrored = torch.from_numpy(Flip.mirrored(config.seed, epoch, order.reshape(-1)).reshape(order.shape)).to(
            device
        )
        chosen = torch.from_numpy(order)
        for here, there, flips in zip(chosen, chosen.to(device), mirrored, strict=True):
            pictures = crops[there]
            pictures = torch.where(flips[:, None, None, None], pictures.flip(2), pictures)
            yield normalise(pictures, config.input).contiguous(memory_format=kept), labels[there], here

    with settings(config, device):
        for epoch in range(config.epochs):
            made = batches(epoch)
            for step in range(epoch * len(loader), (epoch + 1) * len(loader)):
                for schedule in schedules:
                    schedule(step)
                take_step(made, step)
            take_step.nonfinite.judge(faces)
            yield {"epoch": epoch + 1, "step": step + 1, **take_step.meter.read(training.criterion)}
            if time.time() > until:
                return


def run_cell(cell: Cell, args: argparse.Namespace, rate: float, drawn: Path, until: float) -> dict[str, Any] | None:
    """Trains and scores a cell, in a process of the pool; None where time was up before."""
    import torch

    from zoo.evaluate.report.record import ModelFacts, Report
    from zoo.train.build import build
    from zoo.train.config import save_config
    from zoo.train.step import settled

    torch.set_num_threads(1)
    began = time.time()
    faces, crops = faces_of(cell.part != "synthetic", args, drawn)
    config = settled(configured(cell, args, rate), crops.device)
    torch.manual_seed(config.seed)
    training = build(config, faces.num_classes, crops.device)
    started = time.time()
    epochs = list(steps_of(config, faces, crops, training, until))
    if len(epochs) < config.epochs:
        return None
    trained = time.time()
    folder = cell.folder(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder / "config.yaml")
    name, scores = torch.cuda.get_device_name() if crops.is_cuda else "CPU", {}
    if cell.part != "pilot":  # whose test nobody shall see
        result = faces.score(functools.partial(embed, training.model, config, crops.device))
        by = f"torch {torch.__version__}, {name}"
        facts = ModelFacts(cell.name, embedding_dim=config.embedding_dim, provider=by, notes=(f"computed by {by}",))
        Report(facts, (result,)).save(folder / "report.json")
        scores = {"accuracy": result.accuracy, "auc": result.auc}
        scores |= {f"tar@{far:g}": tar for far, tar in result.tar_at_far.items()}
    write_text(folder / "metrics.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in epochs))  # the cell is finished
    seconds = {"start": started - began, "training": trained - started, "scoring": time.time() - trained}
    losses = [epoch["loss"] for epoch in epochs]
    told: dict[str, Any] = {"epochs": len(losses), "lr": config.lr, "first loss": losses[0], "loss": losses[-1]}
    told["fall in the last fifth"] = 1 - losses[-1] / losses[-1 - len(losses) // 5]
    return {**asdict(cell), **scores, **told, "device": name, "seconds": seconds}


def embed(model: torch.nn.Module, config: TrainConfig, device: torch.device, crops: Crops) -> npt.NDArray[np.float32]:
    """(images, height, width, 3) → the sums of embeddings over picture and mirror image (images, dim), in float32."""
    from zoo.backbones.timm_folder import TorchEmbedder

    embedder = TorchEmbedder(model, config.input, device)
    parts = [crops[start : start + 256] for start in range(0, len(crops), 256)]
    return np.concatenate([embedder(part) + embedder(part[:, :, ::-1]) for part in parts])


def draw(faces: SyntheticFaces, path: Path, people: range) -> None:
    """Draws all images of some people into the file."""
    images = np.lib.format.open_memmap(path, mode="r+")
    each = faces.images_per_identity
    for i in range(people.start * each, people.stop * each):
        images[i] = faces.image(i)


def stand_back() -> None:
    """Leaves the cores to the trainings."""
    import cv2

    os.nice(19)
    cv2.setNumThreads(1)


def draw_all(args: argparse.Namespace, folder: Path) -> Any:
    """Begins to draw both sets with all cores, at the lowest priority; returns what is ready when they are drawn."""
    work = []
    for split, people, images in zip(
        SPLITS, (args.people, args.test_people), (args.images, args.test_images), strict=True
    ):
        faces = SyntheticFaces(people, images, args.data_seed, split, args.image_size)
        path, shape = folder / f"{split}.npy", (len(faces), args.image_size, args.image_size, 3)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        work += [(faces, path, range(first, min(first + 8, people))) for first in range(0, people, 8)]
    pool = multiprocessing.get_context("fork").Pool(initializer=stand_back)
    done = pool.starmap_async(draw, work, chunksize=1)
    pool.close()
    return done


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--real", help="RecordIO folder with lfw_dev.bin; without it, synthetic faces alone")
    add("--output", type=Path, default=Path("evidence"))
    add("--parts", nargs="+", default=["real", "synthetic"], choices=["real", "synthetic"])
    add("--names", nargs="+", metavar="NAME", help="of the plan; all if not set")
    add("--seeds", type=int, default=10)
    add("--seconds", type=float, default=300)
    add("--jobs", type=int, default=6, help="cells at once")
    add("--epochs", type=int, default=34, help="of real faces")
    add("--batch-size", type=int, default=64, help="of real faces")
    add("--lr", type=float, default=0.1, help="of all cells, where no --pilot chooses it")
    pilot = "learning rates of which that with ArcFace's lowest last training loss is taken for all cells"
    add("--pilot", type=float, nargs="*", default=[], metavar="LR", help=pilot)
    add("--most-people", type=int, help="of the real ones, to train on; all if not set")
    add("--synthetic-epochs", type=int, default=8)
    add("--synthetic-batch-size", type=int, default=128)
    add("--people", type=int, default=4000, help="synthetic ones to train on")
    add("--images", type=int, default=12, help="of each")
    add("--test-people", type=int, default=2000)
    add("--test-images", type=int, default=4)
    add("--data-seed", type=int, default=18)
    add("--image-size", type=int, default=112)
    return found


def pilots(args: argparse.Namespace) -> dict[Cell, float]:
    """The trainings that choose the learning rate of all cells, and the last loss of each that is finished."""
    found = {}
    for rate in args.pilot if args.real else []:
        cell = Cell("pilot", f"arcface+lr={rate:g}", 1000)
        log = cell.folder(args.output) / "metrics.jsonl"
        found[cell] = json.loads(log.read_text().splitlines()[-1])["loss"] if cell.done(args.output) else math.inf
    return found


def chosen_rate(args: argparse.Namespace) -> float:
    """The learning rate of all cells."""
    losses = pilots(args)
    return float(min(losses, key=losses.__getitem__).name.partition("=")[2]) if losses else args.lr


def able(missing: list[Cell], running: Iterable[Cell], drawn: bool) -> list[Cell]:
    """The cells that may begin: the pilots, then the real ones, then those whose faces are drawn."""
    waits = any(cell.part == "pilot" for cell in (*missing, *running))
    ready = [cell for cell in missing if drawn or cell.part != "synthetic"]
    return [cell for cell in ready if cell.part == "pilot"] if waits else ready


def main() -> None:
    began, args = time.time(), parser().parse_args()
    until = began + args.seconds
    args.output.mkdir(parents=True, exist_ok=True)
    cells = [*pilots(args), *planned(args)]
    missing = [cell for cell in cells if not cell.done(args.output)]
    print(f"{len(cells)} cells, {len(missing)} to do", flush=True)
    with tempfile.TemporaryDirectory() as name:
        drawing = draw_all(args, Path(name)) if any(cell.part == "synthetic" for cell in missing) else None
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.jobs, context) as pool, open(args.output / "results.jsonl", "a") as lines:
            running: dict[Future[dict[str, Any] | None], Cell] = {}
            longest: dict[str, float] = {}
            errors = 0
            while errors < 3:
                drawn = drawing is None or drawing.ready()
                for cell in able(missing, running.values(), drawn)[: args.jobs - len(running)]:
                    share = min(1.0, 1.3 * (len(running) + 1) / args.jobs)  # of a full device's time for a cell
                    if time.time() + longest.get(cell.part, 0) * share < until:
                        future = pool.submit(run_cell, cell, args, chosen_rate(args), Path(name), until)
                        running[future] = cell
                        missing.remove(cell)
                if not running and (drawn or time.time() > until):
                    break
                if not running:
                    time.sleep(0.2)
                for future in wait(running, 0.2, FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    try:
                        found = future.result()
                    except Exception as error:
                        errors += cell.part != "pilot"  # whose loss may overflow
                        print(f"{cell}: {error!r} {error.__cause__}", flush=True)
                        continue
                    if found is not None:
                        longest[cell.part] = sum(found["seconds"].values())
                        line = json.dumps({**json_safe(found), "at": round(time.time() - began, 1)})
                        lines.write(line + "\n")
                        lines.flush()
                        print(line, flush=True)
    left = sum(not cell.done(args.output) for cell in cells)
    print(f"{left} of {len(cells)} cells left after {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
