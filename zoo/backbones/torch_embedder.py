"""Embeddings from a torch model: for validation during training, and for runs without an ONNX export."""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo.backbones.timm_folder import WEIGHTS, load_timm, model_info
from zoo.errors import InputError
from zoo.files import sha256
from zoo.formats.images import resized_crops
from zoo.modelinfo import Crops, InputSpec, ModelInfo


def normalise(crops: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """The model's input for RGB crops: (batch, H, W, 3) uint8 → (batch, 3, H, W) float32, on the crops' device."""
    planes = crops.permute(0, 3, 1, 2).float()
    if spec.channel_order == "BGR":
        planes = planes.flip(1)
    return planes.sub_(_per_channel(spec.mean, planes.device)).div_(_per_channel(spec.std, planes.device))


@functools.lru_cache(maxsize=8)
def _per_channel(scale: float | tuple[float, ...], device: torch.device) -> torch.Tensor:
    """A mean or deviation over (batch, 3, H, W); kept, because the host would wait for the copy of it."""
    return torch.tensor(scale, device=device).reshape(-1, 1, 1)


class TorchEmbedder:
    """Crops → embeddings by a torch model in evaluation mode: the counterpart of zoo.inference's OnnxEmbedder."""

    def __init__(self, model: nn.Module, spec: InputSpec, device: torch.device | str = "cpu") -> None:
        self.model = model
        self.input = spec
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        """(batch, H, W, 3) RGB uint8 → (batch, dim) float32, not normalised. The model's mode stays as it was."""
        training = self.model.training
        self.model.eval()
        try:
            pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
            embeddings: npt.NDArray[np.float32] = self.model(normalise(pixels, self.input)).float().cpu().numpy()
        finally:
            self.model.train(training)
        return embeddings


class TorchFolder(TorchEmbedder):
    """A model folder in timm's layout as an embedder: the twin of `zoo.inference.session.OnnxEmbedder`.

    `device` is auto, cpu, cuda or cuda:N; `threads` the number of CPU threads (default: torch's own). Crops of another
    size are resized and noted, unless `strict` refuses them. InputError for a GPU that torch does not find.
    """

    precision = "float32"
    stated = True

    def __init__(
        self, folder: str | Path, device: str = "auto", threads: int | None = None, strict: bool = False
    ) -> None:
        if device not in ("auto", "cpu") and not device.startswith("cuda"):
            raise InputError(f"expected the device auto, cpu, cuda or cuda:1 for PyTorch, found {device!r}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"expected to run on {device}, but PyTorch finds no CUDA GPU; use --device cpu or auto")
        if threads:
            torch.set_num_threads(threads)
        self.path = Path(folder) / WEIGHTS
        self.info: ModelInfo | None = model_info(folder)
        self.strict = strict
        chosen = device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
        super().__init__(load_timm(folder).to(chosen), self.info.input, chosen)
        self.embedding_dim = self.info.embedding_dim
        self.model_sha256 = sha256(self.path)
        self.provider = f"torch {torch.__version__} {chosen}"
        self.notes = [f"computed by PyTorch {torch.__version__} on {chosen}"]

    def __call__(self, crops: Crops) -> npt.NDArray[np.float32]:
        """Raw embeddings (batch, dim) of RGB uint8 crops (batch, H, W, 3); other sizes are resized and noted."""
        crops, note = resized_crops(crops, self.input.size, self.path.parent, self.strict)
        if note and note not in self.notes:
            self.notes.append(note)
        return super().__call__(crops)
