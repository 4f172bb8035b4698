"""Embeddings from a torch model: for validation during training, and for runs without an ONNX export."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from zoo.modelinfo import Crops, InputSpec


def normalise(crops: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """The model's input for RGB crops: (batch, H, W, 3) uint8 → (batch, 3, H, W) float32, on the crops' device."""
    planes = crops.permute(0, 3, 1, 2).float()
    if spec.channel_order == "BGR":
        planes = planes.flip(1)
    return planes.sub_(spec.mean).div_(spec.std)


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
