"""Any face model in an ONNX file, ours or a third party's, as a callable from crops to embeddings."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from zoo.errors import InputError, first_line
from zoo.formats.images import resized_crops
from zoo.inference import metadata, providers
from zoo.inference.convention import FLOATS, TYPES, GivenInput, choose_output, decide
from zoo.inference.providers import PRECISIONS, PROVIDERS, Binding, Device, Engine
from zoo.machine import cores
from zoo.modelinfo import Crops, InputSpec

REFUSALS: tuple[type[Exception], ...] = (errors.Fail, errors.EPFail, errors.InvalidArgument, errors.InvalidGraph)
REFUSALS += (errors.InvalidProtobuf, errors.NotImplemented, errors.RuntimeException)
"""What onnxruntime raises for a file that it cannot load or run."""


class OnnxEmbedder:
    """A face model: RGB uint8 crops (batch, H, W, 3) → raw float32 embeddings (batch, dim), not normalised.

    `device` is auto, cpu, cuda or tensorrt; cuda:1 is the second GPU. A requested GPU that is missing is an InputError;
    auto falls back to the CPU and says so in `notes`, which collects what a reader of the results should know.
    `threads` is the number of CPU threads of one inference (default: `zoo.machine.cores`); with `spin` they busy-wait
    for the next inference, which takes the cores from whatever runs in between. `input` overrides what the file states
    or its graph shows, in whole or in part (`zoo.inference.convention` decides). `strict` refuses crops of another size
    instead of resizing them. `batch_size` is the largest batch that TensorRT builds an engine for; `precision` float16
    is TensorRT's. `graph` records a CUDA graph of one batch of `batch_size` and replays it; smaller batches are padded.
    `bound` keeps input and output in fixed buffers (default: on a GPU). `raw` copies the crops to the device as they
    are, which normalises them (default: with CUDA); the embeddings are the same.

    InputError for a file that is no ONNX model or no face embedder: one image input, one output that is an embedding.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "auto",
        threads: int | None = None,
        input: InputSpec | GivenInput | None = None,
        strict: bool = False,
        spin: bool = True,
        batch_size: int = 64,
        precision: str = "float32",
        graph: bool = False,
        bound: bool | None = None,
        raw: bool | None = None,
    ) -> None:
        self._given = {name: value for name, value in locals().items() if name != "self"}
        self.path, self.strict = Path(path), strict
        self.notes: list[str] = []
        self._batch_size = batch_size
        if not self.path.is_file():
            raise InputError(f"expected an ONNX model at {self.path}, found no such file; check the path")
        self.device = Device.parse(device)
        _refuse_contradictions(self.device, precision, graph, batch_size)
        self.raw = False
        self._open(self.path, threads, spin, graph=False)
        self.device = replace(self.device, kind=next(k for k, name in PROVIDERS.items() if name == self.provider))
        facts = self.session.get_modelmeta().custom_metadata_map.get(metadata.METADATA_KEY)
        self.info = metadata.parse_facts(facts, self.path)
        node = self._only_input()
        self._name = node.name
        self._dtype = TYPES[node.type]
        self.precision = precision if precision != "float32" else np.dtype(self._dtype).name
        """The arithmetic: that of the input (float32, float16 or float64), or the one that TensorRT was asked for."""
        self._channels_last = node.shape[3] == 3 and node.shape[1] != 3
        size = node.shape[1:3] if self._channels_last else node.shape[2:4]
        self.input, self.stated, self.why_input = decide(self.path, node.name, node.type, size, self.info, input)
        self._note(self.why_input)
        self.batch: int | None = node.shape[0] if isinstance(node.shape[0], int) else None
        """The only batch size that the file takes; None where it takes any."""
        self._binding: Binding | None = None
        self.output = self._embedding(input.output if isinstance(input, GivenInput) else None)
        """The name of the output that is the embedding."""
        output = self._probe()
        self.embedding_dim = int(np.prod(output))
        if graph and self.device.kind != "cpu":
            self.batch = self.batch or batch_size
        given: np.dtype[Any] = np.dtype(self._dtype)
        wanted = given.kind == "f" and (raw if raw is not None else self.device.kind == "cuda")
        file = metadata.with_raw_input(self.path, self.input, self._channels_last) if wanted else None
        if file is not None:
            self.raw, self._name, given = True, metadata.CROPS, np.dtype(np.uint8)
        if self.raw or (graph and self.device.kind != "cpu"):
            self._open(file or self.path, threads, spin, graph)
        if bound or (bound is None and self.device.kind != "cpu"):
            found = self.output, FLOATS[self._outputs[self.output].type]
            self._binding = Binding(self.session, self.device, (self._name, given), found, output)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return partial(type(self), **self._given), ()

    def _open(self, file: Path | bytes, threads: int | None, spin: bool, graph: bool) -> None:
        """Makes a session of `file` on the device that was asked for."""
        if threads is not None and threads < 1:
            raise InputError(f"expected at least one thread, found {threads}")
        device = self.device
        wanted, why = providers.choose(device)
        options = ort.SessionOptions()
        options.log_severity_level = 4  # every failure is raised as well, and becomes one sentence
        if threads or cores() < (os.cpu_count() or 1):  # else ONNX Runtime takes the machine's
            options.intra_op_num_threads = threads or cores()
        if not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        engine = _engine(self.path, self._batch_size) if wanted[0] == "tensorrt" else None
        chosen = providers.with_options(wanted, device.index, engine, self._given["precision"], graph)
        with providers.quiet(wanted):
            try:
                self.session = ort.InferenceSession(file, options, providers=chosen)
            except REFUSALS as error:
                why = f"but ONNX Runtime cannot load it: {_reason(error)}"
                raise InputError(f"expected an ONNX model at {self.path}, {why}") from None
        self.provider = str(self.session.get_providers()[0])
        if self.provider != PROVIDERS[wanted[0]]:
            why = f"ONNX Runtime could not load {PROVIDERS[wanted[0]]} (missing or mismatching CUDA libraries)"
        if device.kind in ("cuda", "tensorrt") and self.provider != PROVIDERS[device.kind]:
            told = f"but {why}; use --device cpu or auto, or install them"
            raise InputError(f"expected to run on {device.kind}:{device.index}, {told}")
        if device.kind == "auto":
            self._note(why and f"{why}: computed on the CPU")

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        """Raw embeddings (batch, dim) of RGB uint8 crops (batch, H, W, 3); other sizes are resized and noted."""
        tensor = self._tensor(crops)
        most = self.batch or (self._batch_size if self.provider == PROVIDERS["tensorrt"] else len(tensor))
        parts = []
        for start in range(0, len(tensor), most or 1):
            part = tensor[start : start + most]
            spare = most - len(part) if self.batch else 0
            filled = np.concatenate([part, np.repeat(part[-1:], spare, axis=0)]) if spare else part
            parts.append(self._infer(filled)[: len(part)])
        return np.concatenate(parts) if parts else np.empty((0, self.embedding_dim), np.float32)

    @cached_property
    def model_sha256(self) -> str:
        """The hash of graph and weights without the metadata, so that writing facts does not change it."""
        return metadata.model_sha256(self.path)

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)

    @property
    def _outputs(self) -> dict[str, Any]:
        return {node.name: node for node in self.session.get_outputs()}

    def _only_input(self) -> Any:
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(node.name for node in inputs)
            found = f"found {len(inputs)} ({names}); cut the graph down to the embedding of a picture"
            raise InputError(f"expected an embedder with one input in {self.path}, {found}")
        node = inputs[0]
        if node.type not in TYPES or len(node.shape) != 4 or 3 not in (node.shape[1], node.shape[3]):
            found = f"found {node.name!r} of {node.type} {node.shape}; export the model with a picture as its input"
            raise InputError(f"expected an image input (batch, 3, height, width) in {self.path}, {found}")
        return node

    def _embedding(self, wanted: str | None) -> str:
        """The output that is the embedding; where there are several, by what they give for a grey picture."""
        floats = [name for name, node in self._outputs.items() if node.type in FLOATS]
        if not floats:
            found = ", ".join(f"{name!r} of {node.type}" for name, node in self._outputs.items())
            told = f"found {found}; cut the graph down to it"
            raise InputError(f"expected a float embedding as output of {self.path}, {told}")
        sizes = dict.fromkeys(floats, 0)
        if len(floats) > 1:
            found = self._tried(lambda: self.session.run(floats, {self._name: self._tensor(self._grey())}))
            sizes = {name: array[:1].size if array.ndim else 1 for name, array in zip(floats, found, strict=True)}
        name, why = choose_output(self.path, sizes, wanted)
        self._note(why)
        return name

    def _tensor(self, crops: Crops) -> npt.NDArray[Any]:
        crops, note = resized_crops(crops, self.input.size, self.path, self.strict)
        self._note(note)
        if self.raw:
            return np.ascontiguousarray(crops)
        tensor = self.input.to_input(crops)
        if self._channels_last:
            tensor = np.ascontiguousarray(tensor.transpose(0, 2, 3, 1))
        return tensor.astype(self._dtype, copy=False)

    def _infer(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if self._binding is not None:
            output = self._binding(tensor)
            if not self._binding.locked:
                self._note("the driver did not page-lock the host's buffers: copies to the GPU are slower")
        else:
            (output,) = self.session.run([self.output], {self._name: tensor})
        if output.shape[:1] != (len(tensor),):
            found = f"found shape {output.shape} for a batch of {len(tensor)}; cut the graph down to the embedding"
            raise InputError(f"expected an output (batch, dim) from {self.path}, {found}")
        return np.asarray(output.reshape(len(tensor), -1), np.float32)

    def _probe(self) -> tuple[int, ...]:
        """One image's output shape, from an inference of a grey picture: a file that cannot run fails here."""
        grey = self._grey()
        dim = self._tried(lambda: self._infer(self._tensor(grey))).shape[1]
        if self.batch is None:
            try:  # a graph may declare its batch dynamic and still reshape to one image
                works = self._tried(lambda: self._infer(self._tensor(np.repeat(grey, 2, axis=0)))).shape == (2, dim)
            except InputError:
                works = False
            if not works:
                self.batch = 1
        if self.batch is not None:
            many = "one image" if self.batch == 1 else f"{self.batch} images"
            self._note(f"the file has a fixed batch: it is fed {many} at a time, which is slower")
        declared = self._outputs[self.output].shape[1:]
        whole = all(isinstance(side, int) for side in declared) and np.prod(declared, dtype=int) == dim
        return tuple(declared) if whole else (dim,)

    def _grey(self) -> Crops:
        return np.full((self.batch or 1, *self.input.size, 3), 128, np.uint8)

    def _tried(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except REFUSALS as error:
            height, width = self.input.size
            why = f"ONNX Runtime says: {_reason(error)}; check the model with onnx.checker"
            raise InputError(f"expected {self.path} to embed a {width}×{height} crop, but {why}") from None


def _engine(path: Path, batch_size: int) -> Engine:
    """What TensorRT must know before it opens the file: its input, read from the file."""
    proto = metadata.load_proto(path)
    weights = {tensor.name for tensor in proto.graph.initializer}
    node = next((value for value in proto.graph.input if value.name not in weights), None)
    dims = [dim.dim_value for dim in node.type.tensor_type.shape.dim] if node else []  # 0 where the size is dynamic
    info = metadata.parse_facts(metadata.facts_text(proto), path)
    height, width = (info.input if info else InputSpec()).size
    default = (height, width, 3) if dims[3:] == [3] and dims[1:2] != [3] else (3, height, width)
    shape = dims[1:] if len(dims) == 4 else default  # what is no picture is refused when it is opened
    sides = [side or known for side, known in zip(shape, default, strict=True)]
    fixed, name = dims[0] if dims else 0, node.name if node else ""
    engine = Engine(metadata.model_sha256(path), name, (sides[0], sides[1], sides[2]), fixed or batch_size, fixed or 1)
    providers.engine_folder(engine.model_sha256).mkdir(parents=True, exist_ok=True, mode=0o700)
    return engine


def _refuse_contradictions(device: Device, precision: str, graph: bool, batch_size: int) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"expected the precision {' or '.join(PRECISIONS)}, found {precision!r}")
    if precision == "float16" and device.kind != "tensorrt":
        advice = "elsewhere a model computes as it was exported: `zoo export --onnx --fp16` writes one in float16"
        raise InputError(f"expected --device tensorrt for --precision float16, found {device.kind}; {advice}")
    if graph and device.kind in ("cpu", "auto"):
        raise InputError(f"expected --device cuda or tensorrt for --cuda-graph, found {device.kind}; leave one out")
    if batch_size < 1:
        raise InputError(f"expected a batch size of at least 1, found {batch_size}")


def _reason(error: BaseException) -> str:
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error)).rstrip(".")
