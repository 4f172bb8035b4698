"""The steps of a run and what makes them fast: arithmetic, torch's settings, batches copied ahead, and each update."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from zoo.backbones.timm_folder import normalise
from zoo.data.augment import Flip
from zoo.data.base import FaceDataset
from zoo.data.loader import Batch
from zoo.errors import InputError, first_line
from zoo.heads import clip_grad_norm
from zoo.train import distributed
from zoo.train.build import Training, flips_on_device, head_steps
from zoo.train.config import TrainConfig
from zoo.train.finetune import Teacher
from zoo.train.log import Meter


def settled(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with "auto" replaced by the arithmetic that is fast here: bf16 where `multiplies_bf16`, else fp32."""
    if config.precision != "auto":
        return config
    return replace(config, precision="bf16" if multiplies_bf16(device) else "fp32")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; elsewhere they are slower than float32's.

    On a GPU from compute capability 8.0 on; on a CPU those of AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, and absent for other architectures
    return any(getattr(torch.cpu, ask, lambda: False)() for ask in asks)


@contextlib.contextmanager
def settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """torch's settings for the steps of a run, put back afterwards.

    On a GPU cuDNN measures which algorithm is fastest; `deterministic` allows only those with a fixed order of sums.
    """
    cudnn, filler = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    before = cudnn.benchmark, torch.are_deterministic_algorithms_enabled(), filler.fill_uninitialized_memory
    cudnn.benchmark = device.type == "cuda" and not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        filler.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as trouble:
        if not config.deterministic or "deterministic" not in str(trouble):
            raise
        found = f"found {first_line(trouble)}; train without it, or choose another --backbone"
        raise InputError(f"expected operations with a fixed order of sums for --deterministic, {found}") from None
    finally:
        cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])
        filler.fill_uninitialized_memory = before[2]


def ahead(batches: Iterator[Batch], device: torch.device, prepare: Callable[[Batch], Batch]) -> Iterator[Batch]:
    """`prepare` of each batch; on CUDA that of the next one runs on a stream of its own beside the current step."""
    if device.type != "cuda":
        yield from map(prepare, batches)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin() -> Batch | None:
        batch = next(batches, None)
        with torch.cuda.stream(stream):
            return None if batch is None else prepare(batch)

    current = begin()
    while current is not None:
        using = torch.cuda.current_stream(device)
        using.wait_stream(stream)
        for tensor in current:
            if tensor.device.type == "cuda":
                tensor.record_stream(using)
        following = begin()
        yield current
        current = following


class NonfiniteSteps:
    """Withholds the update of a step whose loss or gradient is not finite, without making the host wait."""

    def __init__(self, tolerated: int, device: torch.device, bad_steps: int) -> None:
        """`bad_steps`: how many there were before a restart."""
        self.tolerated = tolerated
        self.bad_steps = torch.tensor(float(bad_steps), device=device)
        self.first_bad = torch.full((), -1, device=device)
        self.seen: dict[int, list[torch.Tensor]] = {}
        """The samples of the first bad step, and of the steps that were not judged yet, on the host."""

    def remember(self, *modules: nn.Module) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
        """The running statistics (batch norm's, the head's) and their values before a forward pass, by their types."""
        kept = [b for module in modules for b in module.buffers() if b.numel()]
        groups = [[b for b in kept if b.dtype == dtype] for dtype in {b.dtype for b in kept}]
        return [(group, joined(group)) for group in groups]

    def check(
        self, loss: torch.Tensor, norm: torch.Tensor, step: int, seen: list[torch.Tensor], overflow_is_normal: bool
    ) -> torch.Tensor:
        """Whether this step must be withheld, as a bool scalar on the device.

        With fp16's scaler, gradients overflow while it searches for its scale: a bad step is one without finite loss.
        """
        good_loss = torch.isfinite(loss.detach())
        good = good_loss & torch.isfinite(norm)
        bad = ~good_loss if overflow_is_normal else ~good
        self.first_bad = torch.where(bad & (self.first_bad < 0), step, self.first_bad)
        self.seen[step] = seen
        self.bad_steps += bad
        return ~good

    def put_back(self, statistics: list[tuple[list[torch.Tensor], torch.Tensor]], withhold: torch.Tensor) -> None:
        for buffers, before in statistics:
            right = torch.split(torch.where(withhold, before, joined(buffers)), [b.numel() for b in buffers])
            torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(right, buffers, strict=True)])

    def judge(self, dataset: FaceDataset) -> int:
        """How many steps were withheld so far; InputError naming the first where more were than are tolerated.

        This is the only place that waits for the device.
        """
        bad_steps, first_bad = int(self.bad_steps), int(self.first_bad)
        self.seen = {step: seen for step, seen in self.seen.items() if step == first_bad}
        if bad_steps > self.tolerated:
            first = "all before the run was resumed"
            if first_bad in self.seen:
                samples = ", ".join(map(str, torch.cat(self.seen[first_bad])[:8].tolist()))
                first = f"the first after step {first_bad} (samples {samples}, … of {dataset.name})"
            mends = "a lower --lr, --clip-norm or --precision bf16, or tolerate some with --skip-nonfinite"
            found = f"found {bad_steps} step(s) without, {first}; the update was withheld: --resume with {mends}"
            raise InputError(f"expected finite losses and gradients, {found}")
        return bad_steps


def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Their elements in one row: an operation on each alone would cost a GPU a launch."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@dataclass
class Stepper:
    """Takes the steps of a run on `device`, in the process `rank`."""

    config: TrainConfig
    training: Training
    rank: distributed.Rank
    device: torch.device
    steps_per_epoch: int = 0  #: By which the steps are counted in which centres learn alone, or the margin grows
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        config, training, device = self.config, self.training, self.device
        self.head_steps = head_steps(config, self.steps_per_epoch)
        self.margin_steps = round(config.margin_epochs * self.steps_per_epoch)
        self.replica = distributed.replicate(training.model, self.rank, device)
        mode = "reduce-overhead" if config.cuda_graphs else None
        self.forward = torch.compile(self.replica, mode=mode) if config.compile else self.replica
        low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
        self.precision = torch.autocast(device.type, low) if low else contextlib.nullcontext()
        self.meter = Meter(device)
        self.nonfinite = NonfiniteSteps(config.skip_nonfinite, device, training.progress["bad_steps"])
        self.margin = training.criterion.head.options.get("margin", 0.0)
        norms = [one for one in training.model.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]
        # statistics that moved would change what is frozen; of a neck's last norm the scale alone is fixed
        self.frozen_norms = [norm for norm in norms if norm.bias is not None and not norm.bias.requires_grad]
        training.criterion.train()

    def __call__(self, batches: Iterator[Batch], step: int) -> None:
        """Takes step number `step`, counted from 0, on the next `accumulate` of the batches."""
        training, scaler = self.training, self.training.scaler
        optimizers = (training.optimizer, training.centre_optimizer)
        if 0 < self.margin_steps >= step:
            head = training.criterion.head
            head.configure(margin=head.no_margin + (self.margin - head.no_margin) * step / self.margin_steps)
        statistics = self.nonfinite.remember(training.model, training.criterion)
        training.model.train(step >= self.head_steps)  # its batch norms stay as they are while it does not learn
        for frozen in self.frozen_norms:
            frozen.eval()
        passes = [self.backward(batches, step, part) for part in range(self.config.accumulate)]
        loss, seen = passes[-1][0], [indices for _, indices in passes]
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        limit = self.config.clip_norm or math.inf
        backbone = [*training.model.parameters(), *training.criterion.head.parameters()]
        shards = [training.criterion.weight, *(p for p in backbone if isinstance(p, DTensor))]
        norm = clip_grad_norm([p for p in backbone if not isinstance(p, DTensor)], shards, limit, distributed.group())
        withhold = self.nonfinite.check(loss, norm, step, seen, overflow_is_normal=scaler.is_enabled())
        if scaler.is_enabled():  # one scale for all processes, whichever of them holds the centres that overflowed
            for overflow in (one for given in optimizers for one in scaler._found_inf_per_device(given).values()):
                overflow.copy_(withhold)
        training.optimizer.found_inf = withhold.float()  # type: ignore[attr-defined]  # the fused step heeds it
        training.optimizer.step()
        training.centre_optimizer.step(finite=~withhold)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        self.nonfinite.put_back(statistics, withhold)
        if training.average:
            training.average.update(training.model)

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """A batch of the loader on the device, its crops as the model's input; the indices stay where they are."""
        crops, labels, indices = batch
        crops = self.sent(crops)
        if flips_on_device(self.config, self.device):
            mirrored = self.sent(torch.from_numpy(Flip.mirrored(self.config.seed, epoch, indices.numpy())))
            crops = torch.where(mirrored[:, None, None, None], crops.flip(2), crops)
        pixels = normalise(crops, self.config.input).to(self.training.criterion.weight.dtype)
        kept = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return pixels.contiguous(memory_format=kept), self.sent(labels), indices

    def sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` on the device; a GPU copies it from page-locked memory, for which the host need not wait."""
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)

    def backward(self, batches: Iterator[Batch], step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One forward and backward pass; the mean loss, a scalar, and the indices of its images."""
        config, number = self.config, self.training.criterion.weight.dtype
        with self.meter.waiting():
            pixels, labels, indices = next(batches)
        torch.manual_seed(dropout_seed(config.seed, step * config.accumulate + part, self.rank.number))
        if config.cuda_graphs:  # what the pass before has put out may be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with distributed.local_gradients(self.replica, last=part == config.accumulate - 1):
            with self.precision, torch.set_grad_enabled(step >= self.head_steps):
                embeddings = self.forward(pixels)
            loss = self.loss(embeddings.to(number), labels, indices)
            scaled: torch.Tensor = self.training.scaler.scale(loss / config.accumulate)
            scaled.backward()  # type: ignore[no-untyped-call]
        self.meter.add(loss, len(labels) * self.rank.world)
        return loss, indices

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """The loss against the labels and, where there is one, against the teacher."""
        criterion, config = self.training.criterion, self.config
        with torch.set_grad_enabled(config.label_weight > 0):  # without, what the log shows of the labels
            by_labels: torch.Tensor = config.label_weight * criterion(embeddings, labels)
        if self.teacher is None:
            return by_labels
        factor = config.teacher_weight or (float(criterion.head.scale) if config.teacher_loss == "cosine" else 1.0)
        by_teacher = factor * self.teacher.loss(embeddings, indices, criterion)
        return by_labels + by_teacher if config.label_weight else by_teacher


def dropout_seed(seed: int, forward_pass: int, rank: int) -> int:
    """What dropout and stochastic depth draw from in a pass: a function of its number, so a restart needs no state."""
    return (seed * 1_000_003 + forward_pass) * 65_537 + rank
