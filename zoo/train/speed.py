"""What makes a run fast on its device: its arithmetic, torch's settings, and batches that are copied ahead."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch

from zoo.data.loader import Batch
from zoo.errors import InputError, first_line
from zoo.train.config import TrainConfig


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


def flips_on_device(config: TrainConfig, device: torch.device) -> bool:
    """Whether the device mirrors the pictures of a batch (the same ones), and not the loader's processes."""
    return config.augment == "flip" and device.type == "cuda"


@contextlib.contextmanager
def settings(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """torch's settings for the steps of a run, put back afterwards.

    On a GPU cuDNN measures which of its algorithms is the fastest, unless the run is to be `deterministic`: then only
    algorithms that add in a fixed order are allowed.
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
