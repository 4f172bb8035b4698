"""Any timm model as a face backbone, with a stem and a neck for 112×112 crops."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from zoo.backbones.necks import FLAT_LIMIT, NECKS, FlatNeck, GapNeck, as_map
from zoo.backbones.stems import STEM_ARGUMENTS, STEMS, drop_unused_children, features_of, fit_stem, stem_arguments
from zoo.backbones.timm_model import FaceArchitecture, WithNeck, build_timm, cannot_process, face_cfg, family, fit_neck
from zoo.errors import InputError, closest, unknown_name

OWN_FAMILIES = ("iresnet", "mobilefacenet", "face_vit")  #: Our own architectures, with a stem and a neck for crops


class FaceBackbone(WithNeck):
    """A timm model with our stem or neck. x: float32 (batch, 3, H, W) → embedding (batch, num_classes).

    The embedding is not normalised: the margin heads use its norm. `num_classes` is its dimension, as timm names it.
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
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        args = {**stem_arguments(backbone, stem, image_size), **(options or {})}
        if neck == "native" and dropout:
            args["drop_rate"] = dropout
        if in_chans != 3:
            args["in_chans"] = in_chans
        outputs, crop = num_classes if neck == "native" else 0, torch.zeros(1, in_chans, *image_size)
        self.body = body = build_timm(backbone, pretrained_backbone, num_classes=outputs, **args)
        features, self.halved = fit_stem(body, backbone, crop, keep=stem == "stock" or "patch_size" in args)
        self.prefix_tokens = int(getattr(body, "num_prefix_tokens", 0))
        self.channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        _, channels, rows, columns = as_map(features, self.prefix_tokens, self.channels_last).shape
        self.map_shape = channels, rows, columns
        self.num_features = self.head_hidden_size = channels
        self.dropout, self.num_classes = dropout, num_classes
        self.neck_name = neck or ("flat" if channels * rows * columns <= FLAT_LIMIT else "gap")
        self.neck = nn.Identity()
        if neck != "native":
            self.reset_classifier(num_classes)
            drop_unused_children(body, crop)

    def get_classifier(self) -> nn.Module:
        """The neck; for a native one timm's classifier."""
        native = self.neck_name == "native"
        return self.body.get_classifier() if native else self.neck  # type: ignore[operator]

    def make_neck(self, dim: int) -> nn.Module:
        flat = self.neck_name == "flat"
        return FlatNeck(*self.map_shape, dim, self.dropout) if flat else GapNeck(self.map_shape[0], dim, self.dropout)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new neck of the same kind with `num_classes` outputs, none for 0. `global_pool` has no effect."""
        if self.neck_name == "native":
            self.num_classes = num_classes
            self.body.reset_classifier(num_classes)  # type: ignore[operator]
        else:
            super().reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Computes the blocks of the body again in the backward pass, in place of keeping what they gave."""
        self.body.set_grad_checkpointing(enable)  # type: ignore[operator]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's order of the layers, for learning rates by layer: the body's own, then the neck."""
        return {
            name: _below_body(spec) if isinstance(spec, str) else [(_below_body(one), *more) for one, *more in spec]
            for name, spec in self.body.group_matcher(coarse).items()  # type: ignore[operator]
            if spec is not None
        }

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, in_chans, H, W) → (batch, num_features, h, w); for a native neck timm's own features."""
        features: torch.Tensor = self.body.forward_features(x)  # type: ignore[operator]
        return features if self.neck_name == "native" else as_map(features, self.prefix_tokens, self.channels_last)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        if self.neck_name != "native":
            return super().forward_head(x, pre_logits)
        return self.body.forward_head(x, pre_logits=pre_logits)  # type: ignore[operator, no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (batch, 3, H, W) → (batch, num_classes)."""
        native = self.neck_name == "native"
        embedding: torch.Tensor = self.body(x) if native else self.forward_head(self.forward_features(x))
        return embedding


def _below_body(pattern: str) -> str:
    return rf"body\.(?:{pattern.replace('^', '')})"


default_cfgs = generate_default_cfgs({"face_backbone.untrained": face_cfg(fixed_input_size=False)})


@register_model
def face_backbone(pretrained: bool = False, **options: Any) -> FaceBackbone:
    """A timm backbone with our stem and neck; `options` are FaceBackbone's arguments (config.json: model_args)."""
    if options.pop("features_only", False):
        raise InputError("expected no features_only: face_backbone has no stages of its own; take those of its `.body`")
    options = {name: value for name, value in options.items() if name not in ("global_pool", "out_indices")}
    model: FaceBackbone = build_model_with_cfg(
        FaceBackbone, "face_backbone", pretrained, pretrained_filter_fn=fit_neck, **options
    )
    return model


@dataclass(frozen=True)
class Blueprint:
    """How a backbone was built: what a run's records state of it, and what timm needs to build it again."""

    backbone: str  #: The timm name, e.g. resnet18.
    stem: str  #: face or stock
    neck: str  #: flat, gap or native
    embedding_dim: int
    image_size: tuple[int, int]  #: (height, width) in pixels
    architecture: str  #: The architecture registered with timm: `backbone` itself, or face_backbone
    args: dict[str, Any]  #: The arguments of `architecture`, fit for JSON: config.json's model_args
    fixed_size: bool  #: Whether the model accepts crops of `image_size` only


def blueprint_of(model: nn.Module) -> Blueprint:
    """How `model` was built; InputError unless it comes from `create_backbone` or `load_timm`."""
    blueprint = getattr(model, "blueprint", None)  # copies of the module keep it
    if not isinstance(blueprint, Blueprint):
        raise InputError(f"expected a model of create_backbone or load_timm, found a {type(model).__name__}")
    return blueprint


def with_blueprint(
    model: nn.Module, name: str, stem: str, dim: int, size: tuple[int, int], architecture: str, args: dict[str, Any]
) -> nn.Module:
    """`model` itself, which carries its Blueprint from now on."""
    neck = model.neck_name if isinstance(model, FaceBackbone) else "native"
    fixed_size = isinstance(model, FaceArchitecture) or "img_size" in args
    model.blueprint = Blueprint(name, stem, neck, dim, size, architecture, args, fixed_size)  # type: ignore[assignment]
    return model


def create_backbone(
    name: str,
    embedding_dim: int = 512,
    neck: str | None = None,
    stem: str = "face",
    image_size: tuple[int, int] = (112, 112),
    dropout: float = 0.0,
    pretrained: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A face backbone from any `timm.create_model` name: float32 (batch, 3, H, W) → (batch, embedding_dim).

    `stem`: "face" halves the stock stride, for a total of 16 and a 7×7 final map of a 112×112 crop (resnets,
    mobilenetv3, efficientnet: the first convolution gets stride 1; convnext, edgenext: a patch of 2; swin: a patch
    of 2; ViT: a patch of 8, 14×14 tokens; OWN_FAMILIES need no change). "stock" keeps timm's stem.

    `neck`: "flat" is BN–dropout–flatten–FC–BN, "gap" is pool–dropout–FC–BN, "native" is timm's own classifier with
    `embedding_dim` outputs. None chooses: OWN_FAMILIES keep their own (native); the others take flat
    where channels × height × width of the final map is at most 512 × 7 × 7, else gap: resnet50 (2048 channels) and
    ViT with patch 8 (196 tokens of 192) are gap, resnet18 and convnext_atto flat.

    `options` are further arguments of timm's constructor, such as drop_path_rate. `dropout` is a fraction; `pretrained`
    starts from timm's ImageNet weights (downloaded), with the stem adapted.

    A native neck on a stem without surgery (stock, or set by a constructor argument) is the plain timm model, which
    timm loads without zoo. `blueprint_of` tells how a model was built.

    InputError for an unknown name, stem or neck, and a stride that cannot be halved (use stem="stock").
    """
    check_options(name, embedding_dim, neck, stem, image_size, dropout)
    if ours := {"name", "pretrained", "num_classes", "in_chans", "img_size"} & (options or {}).keys():
        raise InputError(f"expected options of {name} beside those that zoo gives it, found {', '.join(sorted(ours))}")
    own = family(name) in OWN_FAMILIES
    chosen = "native" if neck is None and own else neck
    if chosen == "native" and (stem == "stock" or own or family(name) in STEM_ARGUMENTS):
        architecture, args = name, {**stem_arguments(name, stem, image_size), **(options or {})}
        if dropout:
            args["drop_rate"] = dropout
        model = build_timm(name, pretrained, num_classes=embedding_dim, **args)
        crop = torch.zeros(1, 3, *image_size)
        try:
            features_of(model, crop, call=model)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise cannot_process(name, crop, error) from error
    else:
        architecture = "face_backbone"
        model = FaceBackbone(name, chosen, stem, image_size, dropout, embedding_dim, 3, pretrained, options)
        size = list(image_size)
        args = {"backbone": name, "neck": model.neck_name, "stem": stem, "image_size": size, "dropout": dropout}
        args |= {"options": dict(options)} if options else {}
    return with_blueprint(model, name, stem, embedding_dim, image_size, architecture, args)


def check_options(
    name: str, embedding_dim: int, neck: str | None, stem: str, image_size: tuple[int, int], dropout: float
) -> None:
    """InputError where `create_backbone` cannot take these arguments."""
    if ":" in name or "/" in name:
        raise InputError(f"expected the name of a timm architecture such as resnet18, found the source {name!r}")
    if not timm.is_model(name) or name == "face_backbone":
        known = [model for model in timm.list_models() if model != "face_backbone"]
        close = closest(name, known)
        hint = f"; did you mean {' or '.join(close)}?" if close else ","
        raise InputError(f"timm has no model called {name!r}{hint} `zoo list backbones` shows the {len(known)} names")
    if stem not in STEMS:
        raise unknown_name("stem", stem, STEMS)
    if neck is not None and neck not in NECKS:
        raise unknown_name("neck", neck, NECKS)
    if embedding_dim < 1:
        raise InputError(f"expected a positive embedding dimension, found {embedding_dim}")
    if len(image_size) != 2 or min(image_size) < 16:
        raise InputError(f"expected an image size (height, width) of at least 16 pixels, found {image_size}")
    if not 0 <= dropout < 1:
        raise InputError(f"expected a dropout between 0 and 1, found {dropout}")
