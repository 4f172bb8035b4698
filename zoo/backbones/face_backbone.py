"""Any timm model as a face backbone, with a stem and a neck for 112×112 crops."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, model_entrypoint, register_model
from torch import nn

from zoo.backbones.necks import FlatNeck, GapNeck, as_map
from zoo.backbones.stems import STEM_ARGUMENTS, drop_unused_children, features_of, halve_first_stride
from zoo.backbones.timm_model import FaceArchitecture, face_cfg
from zoo.errors import InputError, unknown_name

STEMS = ("face", "stock")


NECKS = ("flat", "gap", "native")


FLAT_LIMIT = 512 * 7 * 7
"""Largest map (channels × height × width) whose default neck is `flat`: its FC has 12.8 M weights at 512 dimensions."""


class FaceBackbone(nn.Module):
    """A timm model whose stem or neck is ours. x: float32 (batch, 3, H, W) → embedding (batch, embedding_dim).

    The embedding is not normalised: its length is data for the margin heads.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        neck: str | None = None,
        stem: str = "face",
        image_size: tuple[int, int] = (112, 112),
        dropout: float = 0.0,
        num_classes: int = 512,
        in_chans: int = 3,
        pretrained_backbone: bool = False,
    ) -> None:
        super().__init__()
        height, width = image_size
        body, features, self.halved = _stemmed(
            backbone,
            stem,
            (height, width),
            dropout,
            num_classes if neck == "native" else 0,
            in_chans,
            pretrained_backbone,
        )
        self.body = body
        self.prefix_tokens = int(getattr(body, "num_prefix_tokens", 0))
        self.channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        _, channels, rows, columns = as_map(features, self.prefix_tokens, self.channels_last).shape
        if neck is None:
            neck = "flat" if channels * rows * columns <= FLAT_LIMIT else "gap"
        self.neck: nn.Module
        if neck == "flat":
            self.neck = FlatNeck(channels, rows, columns, num_classes, dropout)
        elif neck == "gap":
            self.neck = GapNeck(channels, num_classes, dropout)
        else:
            self.neck = nn.Identity()
        if neck != "native":
            drop_unused_children(body, torch.zeros(1, in_chans, height, width))
        self.neck_name = neck
        self.stem_name = stem
        self.backbone_name = backbone
        self.image_size = (height, width)
        self.dropout = dropout
        self.num_classes = self.embedding_dim = num_classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (batch, 3, H, W) → (batch, embedding_dim)."""
        if self.neck_name == "native":
            embedding: torch.Tensor = self.body(x)
            return embedding
        features = self.body.forward_features(x)  # type: ignore[operator]
        embedding = self.neck(as_map(features, self.prefix_tokens, self.channels_last))
        return embedding


default_cfgs = generate_default_cfgs({"face_backbone.untrained": face_cfg(fixed_input_size=False)})


@register_model
def face_backbone(pretrained: bool = False, **options: Any) -> FaceBackbone:
    """A timm backbone with our stem and neck; `options` are FaceBackbone's arguments (config.json: model_args)."""
    options = {name: value for name, value in options.items() if name != "global_pool"}
    model: FaceBackbone = build_model_with_cfg(FaceBackbone, "face_backbone", pretrained, **options)
    return model


def create_backbone(
    name: str,
    embedding_dim: int = 512,
    neck: str | None = None,
    stem: str = "face",
    image_size: tuple[int, int] = (112, 112),
    dropout: float = 0.0,
    pretrained: bool = False,
) -> nn.Module:
    """A face backbone from any `timm.create_model` name: float32 (batch, 3, H, W) → (batch, embedding_dim).

    `stem`: "face" halves the stock stride, for a total of 16 and a 7×7 final map of a 112×112 crop (resnets,
    mobilenetv3, efficientnet: the first convolution gets stride 1; convnext, edgenext: a patch of 2; swin: a patch
    of 2; ViT: a patch of 8, 14×14 tokens; iresnet and mobilefacenet have it by nature). "stock" keeps timm's.

    `neck`: "flat" is BN–dropout–flatten–FC–BN, "gap" is pool–dropout–FC–BN, "native" is timm's own classifier with
    `embedding_dim` outputs. None chooses: iresnet and mobilefacenet keep their own (native); the others take flat
    where channels × height × width of the final map is at most 512 × 7 × 7, else gap: resnet50 (2048 channels) and
    ViT with patch 8 (196 tokens of 192) are gap, resnet18 and convnext_atto flat.

    `dropout` is a fraction; `pretrained` starts from timm's ImageNet weights (downloaded), with the stem adapted.

    A native neck over a stem that needs no surgery is the plain timm model, which timm loads without zoo.
    The module has `embedding_dim`, `neck_name`, `stem_name` and `backbone_name`. InputError: a name that timm does not
    know, a stem or neck that is none of these, and a family whose stride cannot be halved (use stem="stock").
    """
    check_options(name, embedding_dim, neck, stem, image_size, dropout)
    own = _family(name) in ("iresnet", "mobilefacenet")
    chosen = "native" if neck is None and own else neck
    if chosen == "native" and (stem == "stock" or own or _family(name) in STEM_ARGUMENTS):
        architecture, args = name, _stem_arguments(name, stem, image_size)
        if dropout:
            args["drop_rate"] = dropout
        model = build_timm(name, pretrained, num_classes=embedding_dim, **args)
        _embedding(model, torch.zeros(1, 3, *image_size), name)
    else:
        architecture = "face_backbone"
        model = FaceBackbone(name, chosen, stem, image_size, dropout, embedding_dim, pretrained_backbone=pretrained)
        args = {
            "backbone": name,
            "neck": model.neck_name,
            "stem": stem,
            "image_size": list(image_size),
            "dropout": dropout,
        }
    return described(model, architecture, args, name, stem, embedding_dim, image_size)


def check_options(
    name: str, embedding_dim: int, neck: str | None, stem: str, image_size: tuple[int, int], dropout: float
) -> None:
    if ":" in name or "/" in name:
        raise InputError(f"expected the name of a timm architecture such as resnet18, found the source {name!r}")
    if not timm.is_model(name) or name == "face_backbone":
        known = [model for model in timm.list_models() if model != "face_backbone"]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(close)}?" if close else ","
        raise InputError(f"timm has no model called {name!r}{hint} `zoo list backbones` shows the {len(known)} names")
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS)
    if neck is not None and neck not in NECKS:
        raise unknown_name("neck", neck, NECKS)
    if embedding_dim < 1:
        raise InputError(f"expected a positive embedding length, found {embedding_dim}")
    if len(image_size) != 2 or min(image_size) < 16:
        raise InputError(f"expected an image size (height, width) of at least 16 pixels, found {image_size}")
    if not 0 <= dropout < 1:
        raise InputError(f"expected a dropout between 0 and 1, found {dropout}")


def _family(name: str) -> str:
    """The timm module that a model belongs to, e.g. "resnet"."""
    return str(model_entrypoint(name.split(".")[0]).__module__).rsplit(".", 1)[-1]


def _stem_arguments(name: str, stem: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """What timm's constructor must be told: the image size where it fixes one, the patch where that is the stem."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    args: dict[str, Any] = {"img_size": list(image_size)} if cfg is not None and cfg.fixed_input_size else {}
    return {**args, **STEM_ARGUMENTS.get(_family(name), {})} if stem == "face" else args


def build_timm(name: str, pretrained: bool, **args: Any) -> nn.Module:
    """timm.create_model, with its refusals as InputError."""
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    if pretrained and not timm.models.is_model_pretrained(name):
        raise InputError(f"timm has no pretrained weights for {name}; leave pretrained off")
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"timm cannot build {name} with {args}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise InputError(f"cannot fetch the pretrained weights of {name} ({error})") from error
    _require_whole_patches(model, name, args.get("img_size"))
    return model


def _require_whole_patches(model: nn.Module, name: str, image_size: tuple[int, int] | None) -> None:
    """InputError where tokens do not tile the crop: timm would leave a margin of the face unseen."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if image_size is None or not isinstance(patch, tuple):
        return
    if image_size[0] % patch[0] or image_size[1] % patch[1]:
        raise InputError(
            f"expected an image size in multiples of {name}'s patch of {patch[0]}×{patch[1]}, found "
            f"{image_size[0]}×{image_size[1]}; choose another size or backbone"
        )


def _stemmed(
    name: str, stem: str, image_size: tuple[int, int], dropout: float, num_classes: int, in_chans: int, pretrained: bool
) -> tuple[nn.Module, torch.Tensor, list[str]]:
    """The timm model with its stem, its features of one black crop, and the convolutions that were changed."""
    args = _stem_arguments(name, stem, image_size)
    if num_classes and dropout:
        args["drop_rate"] = dropout
    if in_chans != 3:
        args["in_chans"] = in_chans
    body = build_timm(name, pretrained, num_classes=num_classes, **args)
    x = torch.zeros(1, in_chans, *image_size)
    features = _features(body, x, name, stem)
    if stem == "stock" or "patch_size" in args:
        return body, features, []
    wanted = tuple(-(-side // 16) for side in image_size)
    if _map_size(body, features) == wanted:  # made for small pictures, such as iresnet
        return body, features, []
    try:
        changed = halve_first_stride(body, x)
        features = features_of(body, x)
    except (RuntimeError, ValueError, AssertionError):
        changed = []
    if not changed or not isinstance(features, torch.Tensor) or _map_size(body, features) != wanted:
        raise InputError(
            f"the stem of {name} cannot be changed to a total stride of 16 ({wanted[0]}×{wanted[1]} final map); "
            'use stem="stock"'
        )
    return body, features, changed


def _features(body: nn.Module, x: torch.Tensor, name: str, stem: str) -> torch.Tensor:
    """The features of `x`, or what is wrong with this backbone."""
    size = f"{x.shape[2]}×{x.shape[3]}"
    try:
        features = features_of(body, x)
    except (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name} cannot process crops of {size} with stem={stem!r}: {reason}") from error
    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4) or 0 in features.shape:
        found = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f"expected a feature map or tokens from {name} at {size}, found {found}; choose another backbone"
        )
    return features


def _map_size(body: nn.Module, features: torch.Tensor) -> tuple[int, int] | None:
    """(height, width) of a feature map; None for tokens."""
    if features.ndim != 4:
        return None
    shape = as_map(features, 0, getattr(body, "output_fmt", "NCHW") == "NHWC").shape
    return shape[2], shape[3]


def _embedding(model: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    """One dry run of a whole model in evaluation mode."""
    training = model.training
    try:
        with torch.no_grad():
            embedding: torch.Tensor = model.eval()(x)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"{name} cannot process crops of {x.shape[2]}×{x.shape[3]}: {error}") from error
    model.train(training)
    return embedding


def described(
    model: nn.Module,
    architecture: str,
    args: dict[str, Any],
    name: str,
    stem: str,
    dim: int,
    image_size: tuple[int, int],
) -> nn.Module:
    """Writes on the module what `timm_config` and the run's records need to know about it."""
    model.timm_architecture = architecture  # type: ignore[assignment]
    model.timm_args = args  # type: ignore[assignment]
    model.timm_fixed_size = isinstance(model, FaceArchitecture) or "img_size" in args  # type: ignore[assignment]
    model.backbone_name = name  # type: ignore[assignment]
    model.stem_name = stem  # type: ignore[assignment]
    if not isinstance(model, FaceBackbone):
        model.neck_name = "native"  # type: ignore[assignment]
    model.embedding_dim = dim  # type: ignore[assignment]
    model.image_size = image_size  # type: ignore[assignment]
    return model
