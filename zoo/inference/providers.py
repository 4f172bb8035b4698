"""Where ONNX Runtime computes: the CPU, CUDA or TensorRT, and the options of each."""

import contextlib
import ctypes
import io
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from zoo.errors import InputError
from zoo.files import cache_folder

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PRECISIONS = ("float32", "float16")

Options = dict[str, str]  #: A provider's options, in its own spelling


@dataclass(frozen=True)
class Device:
    """One device of one kind."""

    kind: str  #: auto, cpu, cuda or tensorrt
    index: int = 0  #: Which GPU, counted from 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The device of `--device`, e.g. cuda:1; InputError for anything else."""
        kind, colon, index = text.strip().partition(":")
        if kind not in DEVICES or (colon and not index.isdigit()) or (colon and kind in ("auto", "cpu")):
            raise InputError(f"expected the device {', '.join(DEVICES)} or cuda:1, found {text!r}")
        return cls(kind, int(index or 0))


@dataclass(frozen=True)
class Engine:
    """What a TensorRT engine is built for."""

    model_sha256: str
    input_name: str
    image: tuple[int, int, int]  #: One image's shape as the model takes it: (3, height, width) or (height, width, 3)
    batch: int  #: The largest batch, which the engine is tuned for
    smallest: int = 1  #: The smallest batch; `batch` where the file's own batch is fixed

    def shapes(self, batch: int) -> str:
        """A batch's shape in TensorRT's spelling, e.g. input:64x3x112x112."""
        return f"{self.input_name}:" + "x".join(map(str, (batch, *self.image)))


def cuda_options(index: int, graph: bool = False) -> Options:
    """CUDA's options: full float32 convolutions chosen by exhaustive search, memory allocated only as needed.

    `graph` records the first inference and replays it: for one batch size, with fixed buffers.
    """
    return {
        "device_id": str(index),
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",  # TF32 moves a cosine by up to 1e-3, more than two models may differ by
        "enable_cuda_graph": str(int(graph)),
    }


def tensorrt_options(index: int, engine: Engine, precision: str = "float32", graph: bool = False) -> Options:
    """TensorRT's options: engines for every batch up to `engine.batch`, stored in the user's cache folder.

    Building one takes minutes. An engine is stored under the model's hash and everything that shapes it.
    """
    folder = engine_folder(engine.model_sha256)
    smallest = engine.batch if graph else engine.smallest
    return {
        "device_id": str(index),
        "trt_fp16_enable": str(int(precision == "float16")),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": f"{precision}-{smallest}-{engine.batch}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder.parent),
        "trt_profile_min_shapes": engine.shapes(smallest),
        "trt_profile_opt_shapes": engine.shapes(engine.batch),
        "trt_profile_max_shapes": engine.shapes(engine.batch),
        "trt_cuda_graph_enable": str(int(graph)),
    }


def engine_folder(model_sha256: str) -> Path:
    """The folder of a model's TensorRT engines: tensorrt/HASH in $ZOO_CACHE, else in zoo/ of the user's cache."""
    return cache_folder("tensorrt") / model_sha256[:32]


def choose(device: Device) -> tuple[list[str], str]:
    """The providers to request, in order, and why auto takes no GPU; InputError where a requested one is missing."""
    if device.kind == "cpu":
        return ["cpu"], ""
    name = "cuda" if device.kind == "auto" else device.kind
    why = ""
    if PROVIDERS[name] not in ort.get_available_providers():
        why = f"the installed onnxruntime is built without {PROVIDERS[name]}"
    elif (gpus := count_gpus()) <= device.index:
        why = "no CUDA GPU was found" if not gpus else f"only {gpus} CUDA GPU{'s were' if gpus > 1 else ' was'} found"
    if why and device.kind != "auto":
        raise InputError(f"expected to run on {name}:{device.index}, but {why}; use --device cpu or auto")
    return (["cpu"], why) if why else (["tensorrt", "cuda", "cpu"] if name == "tensorrt" else ["cuda", "cpu"], "")


def with_options(
    wanted: Sequence[str], index: int, engine: Engine | None, precision: str, graph: bool
) -> list[tuple[str, Options]]:
    options: dict[str, Options] = {"cpu": {}, "cuda": cuda_options(index, graph and wanted[0] == "cuda")}
    if engine is not None:
        options["tensorrt"] = tensorrt_options(index, engine, precision, graph)
    return [(PROVIDERS[name], options[name]) for name in wanted]


def driver() -> Any:
    """The CUDA driver's library; None if it is missing."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def count_gpus() -> int:
    """How many CUDA GPUs the driver reports; ONNX Runtime has no such query."""
    cuda, count = driver(), ctypes.c_int(0)
    if cuda is None or cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def lock_pages(array: npt.NDArray[Any]) -> bool:
    """Page-locks an array until it is garbage-collected, so that a GPU copies at full speed; whether that worked."""
    cuda, portable = driver(), 1
    address = ctypes.c_void_p(array.ctypes.data)
    if cuda is None or cuda.cuMemHostRegister_v2(address, ctypes.c_size_t(array.nbytes), portable) != 0:
        return False
    weakref.finalize(array, cuda.cuMemHostUnregister, address)
    return True


@contextlib.contextmanager
def quiet(wanted: Sequence[str]) -> Iterator[None]:
    """Loads the CUDA libraries that pip installed, and silences messages that are reported in one sentence instead."""
    ort.set_default_logger_severity(4)
    try:
        if wanted[0] != "cpu" and hasattr(ort, "preload_dlls"):
            with contextlib.redirect_stdout(io.StringIO()):
                ort.preload_dlls()
        yield
    finally:
        ort.set_default_logger_severity(2)


Port = tuple[str, Any]  #: The name and the element type of an input or output


class Binding:
    """Fixed buffers for the input and output of a batch, on the CPU or a GPU.

    Input is copied into a host buffer, page-locked for a GPU, and from there to the device; the embedding is written
    on the device and copied back. ONNX Runtime allocates nothing itself, and a CUDA graph, which contains the
    addresses, can be replayed. Each batch size has its own buffers; those of the last two sizes are kept: full batches
    and the rest.
    """

    def __init__(
        self, session: ort.InferenceSession, device: Device, given: Port, found: Port, shape: tuple[int, ...]
    ) -> None:
        """`shape` is that of one image's output."""
        self._session, self._input, self._output, self._shape = session, given, found, shape
        self._place = ("cpu", 0) if device.kind == "cpu" else ("cuda", device.index)
        self._buffers: dict[int, tuple[ort.IOBinding, npt.NDArray[Any], ort.OrtValue, ort.OrtValue]] = {}
        self.locked = True  #: Whether every host buffer of a GPU is page-locked

    def __call__(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The model's output (batch, …) for an input (batch, …), in memory of its own."""
        if (batch := len(tensor)) not in self._buffers:
            if len(self._buffers) == 2:
                del self._buffers[next(iter(self._buffers))]
            (input, dtype), (output, kind) = self._input, self._output
            host = np.zeros(tensor.shape, dtype)
            given = ort.OrtValue.ortvalue_from_numpy(host, *self._place)  # on the CPU, the host buffer itself
            found = ort.OrtValue.ortvalue_from_shape_and_type((batch, *self._shape), kind, *self._place)
            if self._place[0] != "cpu":
                self.locked &= lock_pages(host)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(input, given)
            binding.bind_ortvalue_output(output, found)
            self._buffers[batch] = binding, host, given, found
        binding, host, given, found = self._buffers[batch]
        np.copyto(host, tensor)
        if self._place[0] != "cpu":
            given.update_inplace(host)
        self._session.run_with_iobinding(binding)
        return np.array(found.numpy(), copy=True)
