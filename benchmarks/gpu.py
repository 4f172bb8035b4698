"""Everything that zoo does on a GPU, measured on the card that is there; docs/gpu.md holds the tables.

    python benchmarks/gpu.py                        # all parts, under 8 minutes on one H100
    python benchmarks/gpu.py --only accuracy --write  # one part, also written into docs/gpu.md

Parts: `accuracy` of the centres' precisions against float64 (on any device), `arithmetic` of training (on any device),
`centres` beside other libraries, `step` of the centres' optimizer, `training` against the bare loop, and `evaluation`
against a bare ONNX Runtime session. A part that needs a GPU or a library that is not there is named and left out.
Times are medians; both sides of a ratio are measured in turn, in one process.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from train import InMemory

from zoo.files import write_text
from zoo.heads import HEADS, MarginSoftmaxLoss, RowwiseAdamW, RowwiseSGD
from zoo.heads.loss import margin_softmax
from zoo.modelinfo import ModelInfo
from zoo.train import build as parts
from zoo.train import loop, people
from zoo.train.config import TrainConfig, build, save_config
from zoo.train.distributed import Rank
from zoo.train.step import Stepper, ahead, settings, settled

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "gpu.md"
CARD = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DEVICE = CARD.type
"""As OnnxEmbedder has it."""
DIM = 512
SIZES = ((85_742, 512), (360_232, 512), (1_000_000, 512), (1_000_000, 4096), (2_059_906, 4096))
ROUNDS = 12
BATCH = 256
"""Crops of a batch in the evaluation."""
Row = list[str]


class LeftOut(Exception):
    """A part that cannot be measured here, and why."""


def need_card() -> None:
    if CARD.type != "cuda":
        raise LeftOut("no CUDA GPU")


def milliseconds(calls: list[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """The median time on the card of each call, in turn, after two of each."""
    found: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for k, call in enumerate(calls):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            end.synchronize()
            if number >= 2:
                found[k].append(start.elapsed_time(end))
    return [statistics.median(times) for times in found]


def settle() -> None:
    """Waits until the card has done what it was given."""
    if CARD.type == "cuda":
        torch.cuda.synchronize()


def batch_of(size: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 20 * F.normalize(torch.randn(size, DIM, generator=generator))
    return x.to(CARD), torch.randint(classes, (size,), generator=generator).to(CARD)


def accuracy() -> Iterator[Row]:
    """Relative errors against float64 at scale 64, as norms: 64 embeddings, 20,000 random centres, 512 dimensions.

    At the start embeddings are random; later cos θ_y is about 0.7.
    """
    x, labels = batch_of(64, 20_000)
    yield ["head", "state", "precision", "loss", "embeddings' gradient", "centres' gradient"]
    for head in ("recurricularface", "softmax", "uniface"):
        losses = [
            MarginSoftmaxLoss(head, 20_000, DIM, seed=0, precision=precision).to(CARD)
            for precision in ("fp32", "tf32", "bf16")
        ]
        exact = MarginSoftmaxLoss(head, 20_000, DIM, seed=0, chunk_size=None).to(CARD, torch.float64)
        for state, near in (("start", x), ("later", x + 20 * F.normalize(losses[0].weight.detach()[labels]))):
            truth = gradients(exact, near, labels)
            for loss in losses:
                pairs = zip(gradients(loss, near, labels), truth, strict=True)
                errors = [float(torch.linalg.norm(a - b) / torch.linalg.norm(b)) for a, b in pairs]
                yield [head, state, loss.precision, *(f"{error:.0e}" for error in errors)]


def gradients(loss: MarginSoftmaxLoss, x: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss and the gradients of embeddings and centres, in float64."""
    inputs = x.to(loss.weight.dtype).requires_grad_()
    loss.eval()  # the running state stays at its start
    value = loss(inputs, labels)
    return [t.detach().double() for t in (value, *torch.autograd.grad(value, (inputs, loss.weight)))]


def arithmetic() -> Iterator[Row]:
    """Steps of `zoo train` with resnet18 and 400 classes: images per second; on a CPU per CPU second of one thread."""
    torch.set_num_threads(1 if CARD.type == "cpu" else torch.get_num_threads())
    size = 16 if CARD.type == "cpu" else 512
    clock = time.process_time if CARD.type == "cpu" else time.perf_counter
    forms: dict[str, dict[str, Any]] = {
        "fp32, channels first": {"precision": "fp32", "channels_last": False},
        "fp32": {"precision": "fp32"},
        "auto": {},
    }
    yield ["stem", "arithmetic", "images per second", "ratio"]
    for stem in ("stock", "face"):
        steps = {name: stepper(stem, size, options) for name, options in forms.items()}
        seen: dict[str, list[float]] = {name: [] for name in forms}
        with settings(TrainConfig(), CARD):
            for _ in range(5):
                for name, (step, _) in steps.items():
                    start = clock()
                    step()
                    settle()
                    seen[name].append(size / (clock() - start))
        first = statistics.median(seen["fp32, channels first"][1:])
        for name, rates in seen.items():
            rate = statistics.median(rates[1:])
            told = f"auto ({steps[name][1]})" if name == "auto" else name
            yield [stem, told, f"{rate:.1f}", f"{rate / first:.2f}"]


def stepper(stem: str, size: int, options: dict[str, Any]) -> tuple[Callable[[], None], str]:
    """One training step on crops of noise, and the precision that it takes."""
    given = {"backbone": "resnet18", "stem": stem, "neck": "flat", "embedding_dim": 256, "batch_size": size}
    config = settled(build({**given, "data": "noise", **options}), CARD)
    take = Stepper(config, parts.build(config, 400, CARD), Rank(), CARD)
    labels, crops = torch.arange(size) % 400, torch.randint(256, (size, 112, 112, 3), dtype=torch.uint8)
    crops = crops.pin_memory() if CARD.type == "cuda" else crops

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        while True:
            yield crops, labels, torch.arange(size)

    endless = ahead(batches(), CARD, functools.partial(take.prepare, epoch=0))
    return lambda: take(endless, 0), config.precision


class PlainTorch(nn.Module):
    """Partial FC's formula in plain torch, with every class and ArcFace's margin."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(classes, DIM))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        cosines = F.linear(F.normalize(x), F.normalize(self.weight)).float().clamp(-1, 1)
        own = cosines.gather(1, labels[:, None])
        moved = (own.clamp(-1 + 1e-7, 1 - 1e-7).acos() + 0.5).cos()
        return F.cross_entropy(64 * cosines.scatter(1, labels[:, None], moved), labels)


class TorchsOwn(PlainTorch):
    """The head softmax by torch's chunked cross-entropy of plain logits."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        unit, centres = (F.normalize(rows).to(torch.bfloat16) for rows in (x, self.weight))
        return F.linear_cross_entropy(64 * unit, centres, labels)


def forms_of_centres(classes: int, size: int) -> dict[str, Callable[[], nn.Module]]:
    """The modules to measure at a size, by what the table calls them."""

    def ours(head: str, **options: Any) -> Callable[[], nn.Module]:
        return lambda: MarginSoftmaxLoss(head, classes, DIM, seed=0, **{"precision": "bf16", **options})

    forms = {"zoo recurricularface": ours("recurricularface"), "zoo softmax": ours("softmax")}
    forms["zoo recurricularface, sampled 0.1"] = ours("recurricularface", sample_rate=0.1)
    if classes * size < 6e8:
        forms["zoo recurricularface, without CUDA graphs"] = ours("recurricularface", cuda_graph=False)
        forms["the same, sampled 0.1"] = ours("recurricularface", cuda_graph=False, sample_rate=0.1)
    if (classes, size) == SIZES[1]:
        forms |= {f"zoo {name}": ours(name) for name in HEADS}
    if classes * size < 1e9:
        forms["zoo recurricularface, tf32"] = ours("recurricularface", precision="tf32")
        forms["Partial FC's formula in plain torch"] = lambda: PlainTorch(classes)
        if hasattr(F, "linear_cross_entropy"):
            forms["torch F.linear_cross_entropy (softmax)"] = lambda: TorchsOwn(classes)
        if importlib.util.find_spec("pytorch_metric_learning"):
            from pytorch_metric_learning import losses

            forms["pytorch-metric-learning ArcFaceLoss"] = lambda: losses.ArcFaceLoss(classes, DIM)
    return forms


def centres() -> Iterator[Row]:
    """Forward and backward, bf16 or under its autocast where nothing else is said; MiB beyond centres and gradient."""
    need_card()

    def drawn(classes: range, shape: tuple[int, ...], *_: object) -> Tensor:
        return 0.01 * torch.randn(len(classes), *shape, device=CARD)  # in no time, where the CPU takes minutes

    on_card = mock.patch.object(margin_softmax, "initial_centres", drawn)
    yield ["classes × batch", "form", "ms", "× softmax", "peak MiB"]
    for classes, size in SIZES:
        x, labels = batch_of(size, classes)
        label, softmax = f"{classes:,} × {size}", float("nan")
        unit, rows = x.bfloat16(), torch.randn(classes, DIM, device=CARD, dtype=torch.bfloat16)

        def products(unit: Tensor = unit, rows: Tensor = rows) -> None:
            for part in torch.split(rows, 65_536):
                product = unit @ part.T
                product @ part, product.T @ unit

        yield [label, "the three products alone", f"{milliseconds([products])[0]:.2f}", "", ""]
        del rows
        measured: dict[str, tuple[float, float]] = {}
        for name, make in forms_of_centres(classes, size).items():
            try:
                with torch.device(CARD), on_card:
                    module = make()
                measured[name] = one_form(module, x, labels)
                del module
            except torch.OutOfMemoryError:
                measured[name] = float("nan"), float("nan")
            torch.cuda.empty_cache()
        softmax = measured["zoo softmax"][0]
        for name, (taken, peak) in measured.items():
            yield [label, name, f"{taken:.2f}", f"{taken / softmax:.2f}", f"{peak:.0f}"]


def one_form(module: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, float]:
    """(ms, peak MiB) of a forward and backward."""
    leaf = x.clone().requires_grad_()

    def step() -> None:
        module.zero_grad(set_to_none=True)
        leaf.grad = None
        with torch.autocast(CARD.type, torch.bfloat16):
            loss = module(leaf, labels)
        loss.backward()

    step()
    step()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    held = sum((g._values() if g.is_sparse else g).nbytes for g in gradients)
    del gradients
    module.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    peak = (torch.cuda.max_memory_allocated() - before - held) / 2**20
    return milliseconds([step])[0], peak


def step() -> Iterator[Row]:
    """A step of the centres' optimizer over every row of 1,000,000 × 512."""
    need_card()
    yield ["optimizer", "ms", "torch's own, fused, ms"]
    weights = [nn.Parameter(torch.randn(1_000_000, DIM, device=CARD)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    ours, theirs = weights
    for name, pair in {
        "SGD": (RowwiseSGD([ours], 0.1, 0.9, 5e-4), torch.optim.SGD([theirs], 0.1, 0.9, weight_decay=5e-4, fused=True)),
        "AdamW": (RowwiseAdamW([ours]), torch.optim.AdamW([theirs], fused=True)),
    }.items():
        yield [name, *(f"{taken:.2f}" for taken in milliseconds([optimizer.step for optimizer in pair]))]


def training() -> Iterator[Row]:
    """`zoo train` against forward, backward and step alone; resnet18, face stem, bf16, batch 512, 2,000 classes."""
    need_card()
    yield ["", "bare, images per second", "zoo train", "ratio"]
    dataset = InMemory(512 * 60)
    dataset.num_classes, dataset.labels = 2000, np.arange(len(dataset), dtype=np.int64) % 2000
    held = mock.patch.object(people, "open_dataset", lambda *_, **__: dataset)
    for compiled in (False, True):
        given = {"backbone": "resnet18", "batch_size": 512, "data": "noise", "validation": "none", "compile": compiled}
        config = build({**given, "precision": "bf16", "epochs": 2, "curves": False})
        with held, tempfile.TemporaryDirectory() as folder, settings(config, CARD):
            save_config(config, Path(folder) / "config.yaml")
            loop.train(config, Path(folder))
            lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
            rate = statistics.median(line["images_per_second"] for line in lines if line["epoch"] == 2)
            alone = bare(config)
        yield ["compiled" if compiled else "eager", f"{alone:.0f}", f"{rate:.0f}", f"{rate / alone:.2f}"]


def bare(config: TrainConfig) -> float:
    """Images per second of the same model, head and precision on one batch that stays on the card."""
    made = parts.build(config, 2000, CARD)
    forward = torch.compile(made.model) if config.compile else made.model
    optimizer = torch.optim.SGD([*made.model.parameters(), made.criterion.weight], 0.1, 0.9, fused=True)
    pixels = torch.randn(config.batch_size, 3, 112, 112, device=CARD).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(2000, (config.batch_size,), device=CARD)

    def step() -> None:
        with torch.autocast(CARD.type, torch.bfloat16):
            embeddings = forward(pixels)
        made.criterion(embeddings.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        settle()
        return time.perf_counter() - start

    seconds(10)
    return config.batch_size * 10 / statistics.median(seconds(10) for _ in range(5))


def evaluation() -> Iterator[Row]:
    """Embedding crops as `zoo evaluate` does against a session whose tensors stay on the card; batch 256, float32."""
    need_card()
    import onnxruntime

    from zoo.backbones import create_backbone
    from zoo.export.onnx import write_onnx
    from zoo.inference.session import OnnxEmbedder

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise LeftOut("this onnxruntime has no CUDAExecutionProvider: pip install onnxruntime-gpu")
    yield ["model", "bare session, images per second", "zoo", "ratio", "zoo with a CUDA graph"]
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 112, 112, 3), dtype=np.uint8)
    for name in ("resnet18", "mobilefacenet"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(create_backbone(name, embedding_dim=512), path, ModelInfo(512, backbone=name), batches=(1, 2))
            plain, graph = (OnnxEmbedder(path, DEVICE, batch_size=BATCH, graph=on) for on in (False, True))
            alone = OnnxEmbedder(path, DEVICE, bound=True, raw=False)
            assert alone._binding is not None
            alone(crops)
            session, binding = alone._binding._session, alone._binding._buffers[BATCH][0]
            taken = [wall(session.run_with_iobinding, binding), wall(plain, crops), wall(graph, crops)]
        rates = [BATCH / seconds for seconds in taken]
        yield [name, f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{rates[1] / rates[0]:.2f}", f"{rates[2]:.0f}"]


def wall(call: Callable[[Any], object], given: object, rounds: int = 30) -> float:
    """Median seconds of a call that waits for the card itself."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        call(given)
        found.append(time.perf_counter() - start)
    return statistics.median(found[3:])


PARTS = {part.__name__: part for part in (accuracy, arithmetic, centres, step, training, evaluation)}


def device_name() -> str:
    if CARD.type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    known = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return f"CPU{' with ' + ', '.join(known) if known else ''}, torch {torch.__version__}"


def with_part(text: str, name: str, table: str) -> str:
    """The document with a part's table replaced."""
    start, end = f"<!-- {name}: generated -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--write", action="store_true", help="also write each table into docs/gpu.md")
    args = parser.parse_args()
    failed: list[str] = []
    for name in args.only:
        lines = [f"{' '.join((PARTS[name].__doc__ or '').split())} {device_name()}.", ""]
        print(f"\n## {name}\n{lines[0]}", flush=True)
        try:
            for number, row in enumerate(PARTS[name]()):
                lines += [f"| {' | '.join(row)} |", *([f"|{'---|' * len(row)}"] if number == 0 else [])]
                print(lines[-1 if number else -2], flush=True)
        except (LeftOut, ImportError) as reason:
            print(f"left out: {reason}")
            continue
        except Exception:  # the other parts are measured all the same
            traceback.print_exc()
            failed.append(name)
            continue
        if args.write:
            write_text(DOCUMENT, with_part(DOCUMENT.read_text(), name, "\n".join(lines)))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
