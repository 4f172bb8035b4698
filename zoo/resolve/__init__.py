"""A model by name, as torch module or as ONNX embedder: `zoo.load` and `zoo.load_onnx`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.hub.pull import resolve_folder, resolve_model

if TYPE_CHECKING:
    from torch import nn

    from zoo.inference.session import OnnxEmbedder


def load(model: str) -> nn.Module:
    """The torch model that `model` names, with its weights, in evaluation mode.

    `model` is a folder in timm's layout or a model on the Hub: owner/name, owner/name@revision, hf-hub:owner/name.
    x: float32 (batch, 3, H, W), RGB, (x − 127.5) / 127.5 → (batch, dim), not normalised. InputError for a model
    that is not there, is not what its hash says, or names an architecture or argument that is not known.
    """
    from zoo.backbones import load_timm

    return load_timm(resolve_folder(model))


def load_onnx(model: str, **options: Any) -> OnnxEmbedder:
    """The embedder that `model` names, without torch: RGB uint8 crops (batch, H, W, 3) → float32 (batch, dim).

    `model` is an ONNX file, a folder with model.onnx or a model on the Hub; `options` are OnnxEmbedder's (device,
    threads, input). InputError as for `load`.
    """
    from zoo.inference.session import OnnxEmbedder

    return OnnxEmbedder(resolve_model(model), **options)
