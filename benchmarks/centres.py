"""The cost of class centres: time and memory of a forward and backward, each form beside the bare matrix products.

    python benchmarks/centres.py                              # the whole table, about an hour on 2 cores
    python benchmarks/centres.py --classes 85742 --rounds 5   # one size
    python benchmarks/centres.py --write                      # also write each row into docs/heads.md

A round times the three products and then one form. A form's ratio is the median over rounds of its time divided by
that round's products, so that load on the machine affects both. The products, unit @ Wᵀ, G @ W and Gᵀ @ unit, use the
chunks of the chunked form and allocate the centres' gradient, as every form must. Each form runs in its own process;
its peak memory is the highest resident size during a step, less the size with the weights loaded and the gradient of
the weights. Compiled forms are compiled on few classes first, so that compilation is not counted.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import functional as F

from zoo.files import write_text
from zoo.heads import MarginSoftmaxLoss, build_head

BATCH, DIM = 512, 512
SIZES = (10_572, 85_742, 360_232, 1_000_000)
MATRIX_LIMIT = 2**30
"""Forms that store the (batch, classes) matrix several times are skipped where it is larger than this, in bytes."""
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "heads.md"
TITLE = "| classes | form | seconds | × products | peak beyond weights and gradient, MiB | process, MiB | rounds |"

FORMS: dict[str, dict[str, Any]] = {
    "dense recurricularface": {"head": "recurricularface", "chunk_size": None},
    "chunked softmax": {"head": "softmax"},
    "chunked recurricularface": {"head": "recurricularface"},
    "chunked, compiled softmax": {"head": "softmax", "compiled": True},
    "chunked, compiled recurricularface": {"head": "recurricularface", "compiled": True},
    "sampled 0.1 recurricularface": {"head": "recurricularface", "sample_rate": 0.1},
    "sharded over 2 recurricularface": {"head": "recurricularface", "ranks": 2},
    "torch F.linear_cross_entropy softmax": {"function": "linear_cross_entropy"},
    "pytorch-metric-learning ArcFaceLoss": {"library": "ArcFaceLoss"},
    "pytorch-metric-learning CosFaceLoss": {"library": "CosFaceLoss"},
}


def left_out(form: str, classes: int) -> str:
    """Why a form is skipped at a size; empty where it is measured."""
    whole = FORMS[form].get("library") or FORMS[form].get("chunk_size", "auto") is None
    if whole and BATCH * classes * 4 > MATRIX_LIMIT:
        return "the matrix alone is too large"
    if FORMS[form].get("library") and importlib.util.find_spec("pytorch_metric_learning") is None:
        return "not installed: pip install 'timm-face-zoo[benchmark]'"
    if not hasattr(F, FORMS[form].get("function", "linear")):
        return "this torch has none"
    return ""


def products(unit: torch.Tensor, weight: torch.Tensor, chunk: int) -> None:
    d_unit, d_weight = torch.zeros_like(unit), torch.empty_like(weight)
    for start in range(0, len(weight), chunk):
        part = weight[start : start + chunk]
        product = unit @ part.T
        d_unit.addmm_(product, part)
        torch.mm(product.T, unit, out=d_weight[start : start + chunk])


def make_step(form: str, classes: int, group: dist.ProcessGroup | None) -> tuple[Callable[[], None], torch.Tensor]:
    """A function that does one forward and backward, and the centres."""
    options = dict(FORMS[form])
    options.pop("ranks", None)
    ranks = dist.get_world_size(group) if group else 1
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(BATCH // ranks, DIM, generator=generator)).mul_(20).requires_grad_()
    labels = torch.randint(classes, (BATCH // ranks,), generator=generator)
    if "function" in options:
        weight = torch.nn.Parameter(0.01 * torch.randn(classes, DIM, generator=generator))
        return functools.partial(torchs_softmax, x, weight, labels), weight
    if "library" in options:
        from pytorch_metric_learning import losses

        module = getattr(losses, options["library"])(num_classes=classes, embedding_size=DIM)
        weight = module.W
    else:
        head = build_head(options.pop("head"))
        module = MarginSoftmaxLoss(head, classes, DIM, process_group=group, seed=0, **options)
        weight = module.weight

    def step() -> None:
        weight.grad = x.grad = None
        torch.autograd.backward(module(x, labels))

    return step, weight


def torchs_softmax(x: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> None:
    """The head softmax by torch's chunked cross-entropy of plain logits: the centres are normalised first."""
    weight.grad = x.grad = None
    unit, centres = 64 * F.normalize(x), F.normalize(weight)
    F.linear_cross_entropy(unit, centres, labels, options=torch.nn.LinearCrossEntropyOptions()).backward()  # type: ignore[no-untyped-call]


def measure(form: str, classes: int, rounds: int, rank: int, folder: str, cpu: bool) -> dict[str, float]:
    """The figures of one form, measured in this process: {seconds, ratio, products, peak_mib, whole_mib}."""
    ranks = FORMS[form].get("ranks", 1)
    group = None
    torch.set_num_threads(1 if cpu else max(1, (os.cpu_count() or 1) // ranks))
    clock = time.process_time if cpu else time.perf_counter
    if ranks > 1:
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
        group = dist.group.WORLD
    step, weight = make_step(form, classes, group)
    unit = torch.randn(BATCH, DIM)
    rows = weight.detach() if weight.shape[1] == DIM else weight.detach().T.contiguous()  # theirs is (dim, classes)
    products(unit, rows[:4096], 1024)  # the BLAS library allocates its own buffers before the measurement
    if FORMS[form].get("compiled"):
        make_step(form, 4096 + classes % 1024, group)[0]()  # the same chunk, and a last one of the same size
    before = resident_mib("VmRSS")
    step()
    gradient = weight.grad
    assert gradient is not None
    held = (gradient._values() if gradient.is_sparse else gradient).nbytes / 2**20
    peak = resident_mib("VmHWM") - before - held
    whole = resident_mib("VmHWM")
    weight.grad = None
    del gradient
    bare, seconds, ratios = [], [], []
    for _ in range(rounds):
        start = clock()
        products(unit, rows, 1024)
        middle = clock()
        step()
        end = clock()
        bare.append(middle - start)
        seconds.append(end - middle)
        ratios.append((end - middle) / (middle - start))
    if group:
        dist.barrier(group)
        dist.destroy_process_group()
    median = statistics.median
    return {
        "seconds": median(seconds),
        "products": median(bare),
        "ratio": median(ratios),
        "peak_mib": peak,
        "whole_mib": whole,
    }


def resident_mib(field: str) -> float:
    """VmRSS (the current) or VmHWM (the highest) resident size of this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux: only the highest is known
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def run_form(form: str, classes: int, rounds: int, cpu: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--form", form, "--classes", str(classes), "--rounds", str(rounds)]
        command += ["--cpu"] if cpu else []
        processes = [
            subprocess.Popen([*command, "--rank", str(rank), "--folder", folder], stdout=subprocess.PIPE, text=True)
            for rank in range(FORMS[form].get("ranks", 1))
        ]
        outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{form} at {classes} classes failed")
    result: dict[str, float] = json.loads(outputs[0].splitlines()[-1])
    return result


def with_row(text: str, row: str) -> str:
    """The document with one row of its table replaced, or inserted in order of size and form."""
    start, end = "<!-- centres: generated -->", "<!-- end of centres -->"
    before, _, rest = text.partition(start)
    table, _, after = rest.partition(end)
    rows = {tuple(line.split("|")[1:3]): line for line in [*table.strip().splitlines()[2:], row]}
    forms = list(FORMS)
    order = sorted(rows, key=lambda key: (int(key[0].replace(",", "")), forms.index(key[1].strip())))
    lines = "\n".join([TITLE, "|---" * 7 + "|", *(rows[key] for key in order)])
    return f"{before}{start}\n{lines}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(FORMS), choices=list(FORMS), metavar="FORM")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread, for a machine under load")
    parser.add_argument("--write", action="store_true", help="also write each row into docs/heads.md")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args.form, args.classes[0], args.rounds, args.rank, args.folder, args.cpu)))
        return
    how = "CPU seconds of one thread" if args.cpu else f"wall seconds on {os.cpu_count()} cores"
    print(f"batch {BATCH}, {DIM} dimensions, float32, {how}, median of {args.rounds} rounds, torch {torch.__version__}")
    print(f"{TITLE}\n{'|---' * 7}|")
    for classes in args.classes:
        for form in args.only:
            row = f"| {classes:,} | {form} | {left_out(form, classes)} | | | | |"
            if not left_out(form, classes):
                seen = run_form(form, classes, args.rounds, args.cpu)
                row = (
                    f"| {classes:,} | {form} | {seen['seconds']:.2f} | {seen['ratio']:.2f} "
                    f"| {seen['peak_mib']:.0f} | {seen['whole_mib']:.0f} | {args.rounds} |"
                )
            print(row, flush=True)
            if args.write:
                write_text(DOCUMENT, with_row(DOCUMENT.read_text(), row))


if __name__ == "__main__":
    main()
