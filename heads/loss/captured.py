"""A training step of the loss as two CUDA graphs, so that its many small kernels cost the host two launches."""

from collections.abc import Sequence
from typing import Any
from weakref import ReferenceType, ref

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import InputError
from zoo.heads.base import constants_of
from zoo.heads.gpu import runs_kernels
from zoo.heads.loss.dense import Plan
from zoo.heads.loss.fused import unsuitable
from zoo.messages import log

REPEATS = 3  #: Equal steps before one is captured: the first ones compile the kernels and measure the chunk size
CARD = "cuda"  #: The kind of device that has graphs


class Graphs:
    """The forward and the backward pass of one step, and the memory that they read and write."""

    def __init__(self, loss: Any, embeddings: Tensor, labels: Tensor, precision: str) -> None:
        self.inputs = embeddings.detach().clone().requires_grad_(embeddings.requires_grad), labels.clone()
        self.wanted = [one for one in (self.inputs[0], *loss.parameters()) if one.requires_grad]
        self.passes = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # some libraries set themselves up at the first call on a stream
            value = loss.uncaptured(*self.inputs, None, precision)
            torch.autograd.grad(value, self.wanted, torch.ones_like(value), allow_unused=True)
        # other threads may go on with their work on the GPU meanwhile, as loaders do
        given: dict[str, Any] = {"stream": stream, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(self.passes[0], **given):
            self.value: Tensor = loss.uncaptured(*self.inputs, None, precision)
        self.seed = torch.ones_like(self.value)
        with torch.cuda.graph(self.passes[1], pool=self.passes[0].pool(), **given):
            found = torch.autograd.grad(self.value, self.wanted, self.seed, allow_unused=True)
        self.value, self.gradients = self.value.detach(), found
        self.left = left_behind(loss)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss, which the next pass overwrites."""
        with torch.no_grad():
            for static, given in zip(self.inputs, (embeddings, labels), strict=True):
                static.copy_(given)
        self.passes[0].replay()
        return self.value

    def backward(self, gradient: Tensor) -> Sequence[Tensor | None]:
        """Those of `wanted`, which the next pass overwrites."""
        self.seed.copy_(gradient)
        self.passes[1].replay()
        return self.gradients


class Token:
    """Lives as long as the autograd graph of one replay."""

    spent = False


class Replay(torch.autograd.Function):
    """A step by its graphs."""

    @staticmethod
    def forward(ctx: Any, graphs: Graphs, token: Token, embeddings: Tensor, labels: Tensor, *_: Tensor) -> Tensor:
        ctx.graphs, ctx.token = graphs, token
        return graphs.forward(embeddings, labels).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.token.spent:
            found = "found a second one: the memory of a CUDA graph holds the values of one pass"
            raise InputError(f"expected one backward pass per forward, {found}; build the loss with cuda_graph=False")
        ctx.token.spent = True
        found = iter(ctx.graphs.backward(grads[0]))
        given = [next(found) if wanted else None for wanted in ctx.needs_input_grad[2:]]
        return None, None, *(one if one is None else one.detach() for one in given)


class Captured:
    """The graphs of one loss, for steps like those that they were captured for while their memory is not in use."""

    def __init__(self) -> None:
        self.key, self.last, self.repeats = tuple[object, ...](), tuple[object, ...](), 0
        self.graphs: Graphs | None = None
        self.pending: ReferenceType[Token] | None = None

    def __reduce__(self) -> tuple[type["Captured"], tuple[()]]:  # a copied or pickled loss captures graphs of its own
        return Captured, ()

    def step(self, loss: Any, embeddings: Tensor, labels: Tensor, precision: str) -> Tensor | None:
        """The loss of a step, by its graphs; None where it has to run without them. Outside of an autocast."""
        token = self.pending() if self.pending else None  # of a pass whose backward may still come
        if (token and not token.spent) or any(parameter.grad is not None for parameter in loss.parameters()):
            return None
        key = (precision, *_key(loss, embeddings, labels))
        self.repeats = self.repeats + 1 if key == self.last else 1
        self.last = key
        if key != self.key:
            if self.repeats <= REPEATS:
                return None
            self.key, self.graphs = key, None  # their memory is free for the new ones
            self.graphs = self._capture(loss, embeddings, labels, precision)
        if self.graphs is None:
            return None
        token = Token()
        self.pending = ref(token)
        result: Tensor = Replay.apply(self.graphs, token, embeddings, labels, *loss.parameters())
        attributes, loss._watch.seen = self.graphs.left  # a step without the graphs has left its own
        vars(loss).update(attributes)
        return result

    def _capture(self, loss: Any, embeddings: Tensor, labels: Tensor, precision: str) -> Graphs | None:
        """The graphs of this step; the loss's state stays what it was."""
        before = [(buffer, buffer.clone()) for buffer in loss.buffers()]
        try:
            return Graphs(loss, embeddings, labels, precision)
        except RuntimeError as error:
            log.warning("the class centres' step runs without a CUDA graph: %s", str(error).partition("\n")[0])
            return None
        finally:
            for buffer, old in before:
                buffer.data.copy_(old)


def left_behind(loss: Any) -> tuple[dict[str, Any], Any]:
    """What a forward leaves for those who ask the loss, in memory that a replay writes: attributes, and the watch's."""
    return {name: vars(loss)[name] for name in ("finite", "mean_target_cosine", "_last")}, loss._watch.seen


def _key(loss: Any, embeddings: Tensor, labels: Tensor) -> tuple[object, ...]:
    """What a captured step depends on, beside the values in its tensors."""
    given = embeddings.shape, embeddings.dtype, embeddings.device, embeddings.requires_grad, labels.shape
    tensors = [(p.data_ptr(), p.requires_grad) for p in loss.parameters()]
    options = [(k, v) for k, v in vars(loss).items() if isinstance(v, int | float | str | None)]
    head = [(k, id(v) if isinstance(v, Tensor) else repr(v)) for k, v in constants_of(loss.head).items()]
    return (*given, *tensors, *options, *head, id(loss.head), loss.head.training)


def suits(loss: Any, embeddings: Tensor, weight: Tensor | None) -> bool:
    """Whether every step of this kind is the same sequence of kernels, which wait for nothing on the host."""
    device = embeddings.device
    if not (loss.cuda_graph and loss.training and torch.is_grad_enabled() and device.type == CARD):
        return False
    capturing = embeddings.is_cuda and torch.cuda.is_current_stream_capturing()
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if capturing or several or torch.are_deterministic_algorithms_enabled() or not runs_kernels(device):
        return False
    if weight is not None or loss.ignore_index is not None or loss.chunk_size is None:
        return False
    return unsuitable(loss.head, loss.weight, Plan(0, 0, smooth=loss.label_smoothing > 0)) is None
