"""The published layouts of checkpoints, recognised by their keys, mapped onto our architectures.

A layout is one function: it takes the tensors that it knows from a `Source` and returns them under our names. What it
does not take is refused by name, unless it is on the short list of known leftovers: a part that is dropped in silence
gives another embedding.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby

import torch

from zoo.backbones.face_vit import SIZES as FACEVITS
from zoo.backbones.iresnet import LAYERS
from zoo.errors import InputError
from zoo.published.catalogue import Convention
from zoo.published.read import Tensors
from zoo.published.source import Source, identity_norm
from zoo.registry import Registry


@dataclass(frozen=True)
class Mapped:
    """A checkpoint in terms of an architecture that timm knows."""

    architecture: str
    tensors: dict[str, torch.Tensor]
    first_conv: str
    """The weight whose second dimension is the colour."""
    last: str
    """The weight whose first dimension is the embedding's."""
    image_size: tuple[int, int] = (112, 112)


@dataclass(frozen=True)
class Layout:
    """One family of keys."""

    marker: str
    """A pattern of a key, without its prefix, that every checkpoint of the family has and no other."""
    map: Callable[[Source, Convention], Mapped]


LAYOUTS: Registry[Layout] = Registry("layout")
LEFTOVERS = (
    *("weight", "module.weight", "fc.weight", "module.fc.weight", "head.*", "module.head.*"),  # class centres
    *("mask_token", "*.mask_token"),  # what a ViT's training puts in place of dropped patches
)
"""Whole keys that may be left: parts of the training that have no share in the embedding."""


def layout(name: str, marker: str) -> Callable[[Callable[[Source, Convention], Mapped]], Callable[..., Mapped]]:
    """Decorator that files a function of LAYOUTS."""

    def file(function: Callable[[Source, Convention], Mapped]) -> Callable[..., Mapped]:
        LAYOUTS.register(name)(Layout(marker, function))
        return function

    return file


def recognise(tensors: Tensors) -> tuple[str, str]:
    """(name of the layout, prefix of its keys) of a checkpoint; InputError, with some of its keys, for none."""
    for name in LAYOUTS:
        marker = re.compile(rf"(.*\.)?{LAYOUTS[name].marker}")
        prefixes = [match[1] or "" for key in tensors if (match := marker.fullmatch(key))]
        if prefixes:
            return name, min(prefixes, key=len)
    some = ", ".join(sorted(tensors)[:3])
    raise InputError(
        f"expected the keys of one of the layouts {', '.join(LAYOUTS)}, found others ({some[:200]}, …); no architecture"
        " of zoo fits them"
    )


def map_tensors(tensors: Tensors, convention: Convention) -> tuple[Mapped, tuple[str, ...]]:
    """The checkpoint in terms of our architectures, and the known leftovers that were not taken.

    BGR is folded into the first convolution, so that the result takes RGB and computes the same. InputError for a
    checkpoint of another layout than the convention's, and, naming three, for keys that are neither taken nor known.
    """
    found, prefix = recognise(tensors)
    if found != convention.layout:
        raise InputError(
            f"expected the keys of the layout {convention.layout} for {convention.name}, found those of {found}; choose"
            " another --as"
        )
    source = Source(tensors, prefix, convention.eps)
    try:
        mapped = LAYOUTS[found].map(source, convention)
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:  # shapes that do not go together
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"expected the shapes of the layout {found}, found others ({reason})") from None
    left = [name for name in tensors if name not in source.taken]
    unknown = [name for name in left if not any(fnmatchcase(name, pattern) for pattern in LEFTOVERS)]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise InputError(
            f"expected no other tensors than {mapped.architecture} has, found {', '.join(unknown[:3])[:200]}{more}:"
            " parts of another architecture, without which the embedding would be another"
        )
    if convention.channel_order == "BGR":
        mapped.tensors[mapped.first_conv] = mapped.tensors[mapped.first_conv].flip(1)
    return mapped, tuple(left)


def _iresnet_of(depths: list[int], se: bool, kind: str) -> str:
    name = next((size for size, layers in LAYERS.items() if list(layers) == depths), None)
    if name is None:
        known = ", ".join(map(str, LAYERS.values()))
        raise InputError(
            f"expected {kind} of {known} blocks in its stages, found {tuple(depths)}; zoo has no such size"
        )
    return f"{name}_se" if se else name


def _crop_of(source: Source, fc: str, channels: int = 512, stride: int = 16) -> tuple[int, int]:
    """The side of the square crop that a flattened FC was made for."""
    side = round(math.sqrt(source.shape(fc)[1] / channels)) * stride
    return side, side


@layout("arcface_torch", marker=r"layer1\.0\.prelu\.weight")
def arcface_torch(source: Source, convention: Convention) -> Mapped:
    """insightface's recognition/arcface_torch, and all that began as a copy of it."""
    depths = [source.count(rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    name = _iresnet_of(depths, False, "an IResNet")
    tensors = {**source.pair("conv1", "stem.0"), **source.norm("bn1", "stem.1"), **source.pair("prelu", "stem.2")}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, ours = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for place, part in enumerate(("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")):
                take = source.norm if part.startswith("bn") else source.pair
                tensors |= take(f"{theirs}.{part}", f"{ours}.residual.{place}")
        first = f"layer{stage + 1}.0.downsample"
        tensors |= source.pair(f"{first}.0", f"stages.{stage}.0.shortcut.0")
        tensors |= source.norm(f"{first}.1", f"stages.{stage}.0.shortcut.1")
    size = _crop_of(source, "fc.weight")
    tensors |= {**source.norm("bn2", "neck.0"), **source.linear("fc", "neck.3"), **source.norm("features", "neck.4")}
    return Mapped(name, tensors, "stem.0.weight", "neck.3.weight", size)


@layout("ir", marker=r"body\.0\.res_layer\.1\.weight")
def ir(source: Source, convention: Convention) -> Mapped:
    """IR and IR-SE of AdaFace and CVLface, and of CurricularFace, which has no norm between conv and PReLU."""
    widths = [source.shape(f"body.{i}.res_layer.1.weight")[0] for i in range(source.count(r"body\.(\d+)\."))]
    depths = [len(list(blocks)) for _, blocks in groupby(widths)]
    inner = "body.0.res_layer.2.running_mean" in source
    se = next((n for n in ("se_block", "5") if f"body.0.res_layer.{n}.fc1.weight" in source), None)
    name = _iresnet_of(depths, se is not None, "an IR network")
    tensors = {f"stem.{n}.weight": source.take(f"input_layer.{n}.weight") for n in (0, 2)}
    tensors |= source.norm("input_layer.1", "stem.1")
    for index, (stage, block) in enumerate((s, b) for s, depth in enumerate(depths) for b in range(depth)):
        theirs, ours = f"body.{index}.res_layer", f"stages.{stage}.{block}"
        tensors |= {
            **source.norm(f"{theirs}.0", f"{ours}.residual.0"),
            **source.pair(f"{theirs}.1", f"{ours}.residual.1"),
        }
        norm = f"{ours}.residual.2"
        tensors |= source.norm(f"{theirs}.2", norm) if inner else identity_norm(norm, widths[index])
        tensors |= source.pair(f"{theirs}.{2 + inner}", f"{ours}.residual.3")
        tensors |= source.pair(f"{theirs}.{3 + inner}", f"{ours}.residual.4")
        tensors |= source.norm(f"{theirs}.{4 + inner}", f"{ours}.residual.5")
        if se is not None:
            tensors |= source.pair(f"{theirs}.{se}", f"{ours}.residual.6", ("fc1.weight", "fc2.weight"))
        if block == 0:
            tensors |= _shortcut(source, f"body.{index}.shortcut_layer", f"{ours}.shortcut", widths[index])
    size = _crop_of(source, "output_layer.3.weight")
    tensors |= {**source.norm("output_layer.0", "neck.0"), **source.linear("output_layer.3", "neck.3")}
    tensors |= source.norm("output_layer.4", "neck.4")
    return Mapped(name, tensors, "stem.0.weight", "neck.3.weight", size)


def _shortcut(source: Source, theirs: str, ours: str, channels: int) -> dict[str, torch.Tensor]:
    """A stage's first shortcut; where the channels stay, theirs picks every second pixel, as an identity does."""
    if f"{theirs}.0.weight" in source:
        return {**source.pair(f"{theirs}.0", f"{ours}.0"), **source.norm(f"{theirs}.1", f"{ours}.1")}
    return {f"{ours}.0.weight": torch.eye(channels)[..., None, None], **identity_norm(f"{ours}.1", channels)}


@layout("mbf", marker=r"conv_sep\.layers\.0\.weight")
def mbf(source: Source, convention: Convention) -> Mapped:
    """insightface's MobileFaceNet."""
    width = source.shape("layers.0.layers.0.weight")[0]
    name = {128: "mbf", 256: "mbf_large"}.get(width)
    if name is None:
        raise InputError(f"expected a MobileFaceNet that begins with 128 or 256 channels, found {width}")
    tensors, ours = _conv(source, "layers.0", "stem.0"), 0
    for index in range(1, source.count(r"layers\.(\d+)\.")):
        theirs = f"layers.{index}"
        if f"{theirs}.layers.0.weight" in source:
            tensors |= _conv(source, theirs, f"stem.{index}")
            continue
        repeated = f"{theirs}.layers.0.layers.0.layers.0.weight" in source
        repeats = source.count(rf"layers\.{index}\.layers\.(\d+)\.") if repeated else 1
        for repeat in range(repeats):
            block = f"{theirs}.layers.{repeat}" if repeated else theirs
            for place in range(3):
                tensors |= _conv(source, f"{block}.layers.{place}", f"blocks.{ours}.residual.{place}", act=place < 2)
            ours += 1
    tensors |= {**_conv(source, "conv_sep", "conv_head"), **source.pair("features.layers.0.layers.0", "neck.0")}
    tensors |= {**source.norm("features.layers.0.layers.1", "neck.1"), **source.pair("features.layers.2", "neck.4")}
    tensors |= source.norm("features.layers.3", "neck.5")
    return Mapped(name, tensors, "stem.0.0.weight", "neck.4.weight")


def _conv(source: Source, theirs: str, ours: str, act: bool = True) -> dict[str, torch.Tensor]:
    """A convolution, its norm and, unless linear, its PReLU."""
    tensors = {**source.pair(f"{theirs}.layers.0", f"{ours}.0"), **source.norm(f"{theirs}.layers.1", f"{ours}.1")}
    return {**tensors, **source.pair(f"{theirs}.layers.2", f"{ours}.2")} if act else tensors


@layout("vit", marker=r"feature\.0\.weight")
def vit(source: Source, convention: Convention) -> Mapped:
    """The ViT of insightface's arcface_torch, LVFace and CVLface."""
    width, _, patch, _ = source.shape("patch_embed.proj.weight")
    depth = source.count(r"blocks\.(\d+)\.")
    mlp = source.shape("blocks.0.mlp.fc1.weight")[0] / width
    found = {"patch_size": patch, "embed_dim": width, "depth": depth, "mlp_ratio": mlp}
    sizes = {name: {"mlp_ratio": 4.0, **FACEVITS[name]} for name in convention.sizes}
    name = next((name for name, size in sizes.items() if found.items() <= size.items()), None)
    if name is None:
        raise InputError(f"expected a ViT of {convention.name} ({', '.join(sizes)}), found one of {found}")
    tensors = {"pos_embed": source.take("pos_embed"), **source.linear("patch_embed.proj", "patch_embed.proj")}
    for block in (f"blocks.{index}" for index in range(depth)):
        for part in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            tensors |= source.linear(f"{block}.{part}", f"{block}.{part}")
        tensors |= source.pair(f"{block}.attn.qkv", f"{block}.attn.qkv")
    tensors |= {
        **source.linear("norm", "norm"),
        **source.pair("feature.0", "neck.2"),
        **source.norm("feature.1", "neck.3"),
    }
    tensors |= {**source.pair("feature.2", "neck.4"), **source.norm("feature.3", "neck.5")}
    return Mapped(name, tensors, "patch_embed.proj.weight", "neck.4.weight")


EDGENEXT = {24: "edgenext_xx_small", 32: "edgenext_x_small", 48: "edgenext_small", 80: "edgenext_base"}
"""By the width of the stem."""


@layout("edgeface", marker=r"stages\.1\.blocks\.\d+\.norm_xca\.weight")
def edgeface(source: Source, convention: Convention) -> Mapped:
    """EdgeFace: timm's EdgeNeXt; linear layers that are pairs of low rank become one again."""
    width = source.shape("stem.0.weight")[0]
    if width not in EDGENEXT:
        raise InputError(
            f"expected an EdgeNeXt that begins with {', '.join(map(str, EDGENEXT))} channels, found {width}"
        )
    tensors = {}
    for name in source.names():
        if name.endswith(".linear1.weight"):
            base = name.removesuffix(".linear1.weight")
            tensors[f"{base}.weight"] = source.take(f"{base}.linear2.weight") @ source.take(name)
        elif name.endswith(".linear2.bias"):
            tensors[f"{name.removesuffix('.linear2.bias')}.bias"] = source.take(name)
        elif not name.endswith(".linear2.weight"):
            tensors[name] = source.take(name)
    return Mapped(EDGENEXT[width], tensors, "stem.0.weight", "head.fc.weight")
