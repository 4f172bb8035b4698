"""timm's side of a backbone: building one of its models, and the interface that our own architectures implement."""

import sys
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, model_entrypoint, register_model
from torch import nn

from zoo.errors import InputError
from zoo.modelinfo import Scale


def pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """(height, width) of a size given as one number, a tuple, or a list from JSON."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def face_cfg(**overrides: Any) -> dict[str, Any]:
    """timm's `pretrained_cfg` of a face model: 112×112 RGB in [−1, 1], 512 outputs, no weights, no license."""
    crops = {"input_size": (3, 112, 112), "fixed_input_size": True, "crop_pct": 1.0, "interpolation": "bilinear"}
    return {**crops, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "num_classes": 512, **overrides}


Sizes = dict[str, tuple[str, dict[str, Any]]]  #: A summary and the arguments of every size of an architecture, by name


def register_sizes(
    architecture: type[nn.Module], sizes: Sizes, first_conv: str, classifier: str, features: dict[str, Any]
) -> None:
    """Registers every size with timm, whose names of two layers and whose `feature_cfg` the others are."""
    module = sys.modules[architecture.__module__]
    cfg = face_cfg(first_conv=first_conv, classifier=classifier)
    vars(module)["default_cfgs"] = generate_default_cfgs({f"{name}.untrained": cfg for name in sizes})
    for name, (summary, own) in sizes.items():
        fixed = {"pretrained_filter_fn": fit_neck, "feature_cfg": features, **own}

        def entry(pretrained: bool = False, _size: tuple[str, Any] = (name, fixed), **options: Any) -> nn.Module:
            model: nn.Module = build_model_with_cfg(architecture, _size[0], pretrained, **{**_size[1], **options})
            return model

        entry.__name__, entry.__doc__, entry.__module__ = name, summary, module.__name__
        setattr(module, name, register_model(entry))


def fit_neck(tensors: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """timm's filter of stored weights: leaves out those of a neck with another number of outputs."""
    sizes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return {n: one for n, one in tensors.items() if not n.startswith("neck.") or sizes.get(n) == one.shape}


class WithNeck(nn.Module):
    """The methods that timm expects of a model whose classifier is a neck."""

    neck: nn.Module
    num_classes: int
    pooled: tuple[int, ...] = (2, 3)  #: The axes of the features over which they are averaged where there is no neck

    def make_neck(self, dim: int) -> nn.Module:
        """The architecture's own neck: features → (batch, dim)."""
        raise NotImplementedError

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features → (batch, num_classes), or the pooled features where there are no classes."""
        embedding: torch.Tensor = x.mean(self.pooled) if pre_logits or self.num_classes == 0 else self.neck(x)
        return embedding

    def get_classifier(self) -> nn.Module:
        return self.neck

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new neck with `num_classes` outputs, none for 0. `global_pool` has no effect: the neck pools."""
        self.num_classes = num_classes
        self.neck = self.make_neck(num_classes) if num_classes else nn.Identity()


class FaceArchitecture(WithNeck):
    """An architecture of ours, from (batch, in_chans, H, W) to (batch, num_classes); `img_size` is (height, width)."""

    num_features: int
    head_hidden_size: int
    total_stride = 16

    def __init__(
        self, num_classes: int = 512, in_chans: int = 3, img_size: int | tuple[int, int] = 112, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.img_size = num_classes, in_chans, pair(img_size)
        self.drop_rate = drop_rate

    @property
    def map_size(self) -> tuple[int, int]:
        """(height, width) of the final feature map; every stride-2 convolution here rounds up."""
        height, width = self.img_size
        return -(-height // self.total_stride), -(-width // self.total_stride)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_chans, H, W) → (batch, num_features, h, w)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def family(name: str) -> str:
    """The timm module that a model belongs to, e.g. "resnet"."""
    return str(model_entrypoint(name.split(".")[0]).__module__).rsplit(".", 1)[-1]


def build_timm(name: str, pretrained: bool, **args: Any) -> nn.Module:
    """timm.create_model, with its errors as InputError."""
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    if pretrained and not timm.models.is_model_pretrained(name):
        raise InputError(f"timm has no pretrained weights for {name}; leave pretrained off")
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"timm cannot build {name} with {args}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise InputError(f"cannot fetch the pretrained weights of {name} ({error})") from error
    size: tuple[int, ...] = args.get("img_size") or ()
    patch: Any = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    tiled = size and isinstance(patch, tuple) and getattr(model, "whole_patches", True)
    if tiled and (size[0] % patch[0] or size[1] % patch[1]):  # timm would ignore a margin of the face
        found = f"found {size[0]}×{size[1]}; choose another size or backbone"
        raise InputError(f"expected an image size in multiples of {name}'s patch of {patch[0]}×{patch[1]}, {found}")
    return model


def pretrained_scale(name: str) -> tuple[Scale, Scale]:
    """Mean and std of the pixels, from 0 to 255, that timm's pretrained weights of a model expect."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return (127.5, 127.5) if cfg is None else (scale(cfg.mean), scale(cfg.std))


def scale(fractions: Sequence[float]) -> Scale:
    """timm's mean or std, of values from 0 to 1, as ours of values from 0 to 255."""
    scaled = [255 * fraction for fraction in fractions]
    return scaled[0] if len({*scaled}) == 1 else (scaled[0], scaled[1], scaled[2])


def cannot_process(name: str, x: torch.Tensor, error: Exception) -> InputError:
    """The error for a model that has no features of crops of this size: what it is made for, and what to do."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    reason = " ".join(str(error).split())
    own = f"{cfg.input_size[1]}×{cfg.input_size[2]}" if cfg is not None else "another size"
    advice = f"give --image-size {cfg.input_size[1]} or " if cfg is not None else ""
    found = f"{name} cannot process crops of {x.shape[2]}×{x.shape[3]}: its layers fit pictures of {own}"
    advice += f"choose another backbone, such as convnext_atto or vit_tiny_patch16_224 ({reason[:120]})"
    return InputError(f"{found} and not every other size; {advice}")
