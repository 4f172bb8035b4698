"""The published layouts of checkpoints, recognised by their keys, mapped onto our architectures.

A layout is one function: it takes the tensors that it knows from a `Source` and returns them under our names. What it
does not take is refused by name, unless it is on the short list of known leftovers: a part that is dropped in silence
gives another embedding.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby

import torch

from zoo.backbones.face_vit import SIZES as FACEVITS
from zoo.backbones.iresnet import LAYERS
from zoo.errors import InputError, explained
from zoo.published.catalogue import Convention
from zoo.published.read import Described, Tensors

EPS = 1e-5  #: The epsilon of every batch norm of ours; another one is added to the variance, which is the same


@dataclass
class Source:
    """The tensors of a checkpoint, each taken once under the name that it has below `prefix`."""

    tensors: Tensors
    prefix: str = ""
    eps: float = EPS
    taken: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.tensors

    def names(self) -> list[str]:
        return [name.removeprefix(self.prefix) for name in self.tensors if name.startswith(self.prefix)]

    def count(self, pattern: str) -> int:
        """One more than the largest number where `pattern` has its group; 0 where no name begins so."""
        return max([int(match[1]) for name in self.names() if (match := re.match(pattern, name))], default=-1) + 1

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._found(name).shape)

    def take(self, name: str) -> torch.Tensor:
        """The tensor in float32, without the denormal numbers that slow every CPU; InputError where it is not there."""
        found = self._found(name)
        self.taken.add(self.prefix + name)
        tensor = found.read() if isinstance(found, Described) else found
        if not tensor.is_floating_point():
            return tensor
        if not bool(tensor.isfinite().all()):
            raise InputError(f"expected finite weights, found others in {name}; fetch the file again")
        tensor = tensor.float()
        return torch.where(tensor.abs() < torch.finfo(torch.float32).tiny, 0.0, tensor)

    def renamed(self, rules: Sequence[tuple[str, str]]) -> dict[str, torch.Tensor]:
        """The tensors of the modules that a rule names, by our names: a pattern of a module's whole name, and ours.

        A batch norm gets the scale and shift that it may lack, and our epsilon.
        """
        patterns = [(re.compile(theirs), ours) for theirs, ours in rules]
        found: dict[str, torch.Tensor] = {}
        for name in self.names():
            module, _, leaf = name.rpartition(".")
            match = next(((m, ours) for pattern, ours in patterns if (m := pattern.fullmatch(module))), None)
            if match is not None:
                found[f"{match[0].expand(match[1])}.{leaf}"] = self.take(name)
        for name in [name for name in found if name.endswith(".running_var")]:
            ours, var = name.removesuffix(".running_var"), found[name]
            found[name] = var + (self.eps - EPS)
            found = {**identity_norm(ours, len(var)), **found}
        return found

    def _found(self, name: str) -> torch.Tensor | Described:
        try:
            return self.tensors[self.prefix + name]
        except KeyError:
            raise InputError(f"expected the tensor {self.prefix}{name} in the checkpoint, found none") from None


def identity_norm(ours: str, channels: int) -> dict[str, torch.Tensor]:
    """A batch norm that changes nothing: √(variance + ε) is one."""
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1 - EPS}
    tensors = {f"{ours}.{name}": torch.full((channels,), value) for name, value in values.items()}
    return {**tensors, f"{ours}.num_batches_tracked": torch.tensor(0)}


@dataclass(frozen=True)
class Mapped:
    """A checkpoint in terms of an architecture that timm knows."""

    architecture: str
    tensors: dict[str, torch.Tensor]
    first_conv: str  #: The weight whose second dimension is the colour
    last: str  #: The weight whose first dimension is the embedding's
    image_size: tuple[int, int] = (112, 112)


LEFTOVERS = (
    *("weight", "module.weight", "fc.weight", "module.fc.weight", "head.*", "module.head.*"),  # class centres
    *("mask_token", "*.mask_token"),  # what a ViT's training puts in place of dropped patches
)  #: Whole keys that may be left: parts of the training that have no share in the embedding


def recognise(tensors: Tensors) -> tuple[str, str]:
    """(name of the layout, prefix of its keys) of a checkpoint; InputError, with some of its keys, for none."""
    for name in LAYOUTS:
        marker = re.compile(rf"(.*\.)?{LAYOUTS[name][0]}")
        prefixes = [match[1] or "" for key in tensors if (match := marker.fullmatch(key))]
        if prefixes:
            return name, min(prefixes, key=len)
    some = ", ".join(sorted(tensors)[:3])
    found = f"found others ({some[:200]}, …); no architecture of zoo fits them"
    raise InputError(f"expected the keys of one of the layouts {', '.join(LAYOUTS)}, {found}")


def map_tensors(tensors: Tensors, convention: Convention) -> tuple[Mapped, tuple[str, ...]]:
    """The checkpoint in terms of our architectures, and the known leftovers that were not taken.

    BGR is folded into the first convolution, so that the result takes RGB and computes the same. InputError for a
    checkpoint of another layout than the convention's, and, naming three, for keys that are neither taken nor known.
    """
    found, prefix = recognise(tensors)
    if found != convention.layout:
        told = f"found those of {found}; choose another --as"
        raise InputError(f"expected the keys of the layout {convention.layout} for {convention.name}, {told}")
    source = Source(tensors, prefix, convention.eps)
    wrong = RuntimeError, ValueError, IndexError, ZeroDivisionError  # shapes that do not go together
    with explained(f"expected the shapes of the layout {found}, found others", *wrong):
        mapped = LAYOUTS[found][1](source, convention)
    left = [name for name in tensors if name not in source.taken]
    unknown = [name for name in left if not any(fnmatchcase(name, pattern) for pattern in LEFTOVERS)]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        found = f"{', '.join(unknown[:3])[:200]}{more}: parts of another architecture"
        without = "without which the embedding would be another"
        raise InputError(f"expected no other tensors than {mapped.architecture} has, found {found}, {without}")
    if convention.channel_order == "BGR":
        mapped.tensors[mapped.first_conv] = mapped.tensors[mapped.first_conv].flip(1)
    return mapped, tuple(left)


def _iresnet_of(depths: list[int], se: bool, kind: str) -> str:
    depth = next((depth for depth, layers in LAYERS.items() if list(layers) == depths), None)
    if depth is None:
        known = ", ".join(map(str, LAYERS.values()))
        found = f"found {tuple(depths)}; zoo has no such size"
        raise InputError(f"expected {kind} of {known} blocks in its stages, {found}")
    return f"iresnet{depth}" + ("_se" if se else "")


def _crop_of(source: Source, fc: str, channels: int = 512, stride: int = 16) -> tuple[int, int]:
    """The side of the square crop that a flattened FC was made for."""
    side = round(math.sqrt(source.shape(fc)[1] / channels)) * stride
    return side, side


def arcface_torch(source: Source, convention: Convention) -> Mapped:
    """insightface's recognition/arcface_torch, and all that began as a copy of it."""
    depths = [source.count(rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    rules = [("conv1", "stem.0"), ("bn1", "stem.1"), ("prelu", "stem.2")]
    for stage in range(4):
        for place, part in enumerate(("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")):
            rules.append((rf"layer{stage + 1}\.(\d+)\.{part}", rf"stages.{stage}.\1.residual.{place}"))
        rules.append((rf"layer{stage + 1}\.0\.downsample\.([01])", rf"stages.{stage}.0.shortcut.\1"))
    tensors = source.renamed([*rules, ("bn2", "neck.0"), ("fc", "neck.3"), ("features", "neck.4")])
    name = _iresnet_of(depths, False, "an IResNet")
    return Mapped(name, tensors, "stem.0.weight", "neck.3.weight", _crop_of(source, "fc.weight"))


def ir(source: Source, convention: Convention) -> Mapped:
    """IR and IR-SE of AdaFace and CVLface, and of CurricularFace, which has no norm between conv and PReLU."""
    widths = [source.shape(f"body.{i}.res_layer.1.weight")[0] for i in range(source.count(r"body\.(\d+)\."))]
    depths = [len(list(blocks)) for _, blocks in groupby(widths)]
    inner = "body.0.res_layer.2.running_mean" in source
    se = next((n for n in ("se_block", "5") if f"body.0.res_layer.{n}.fc1.weight" in source), None)
    name = _iresnet_of(depths, se is not None, "an IR network")
    parts = ("0", "1", *(["2"] if inner else []), str(2 + inner), str(3 + inner), str(4 + inner))
    places = (0, 1, *([2] if inner else []), 3, 4, 5)
    rules = [(r"input_layer\.([012])", r"stem.\1"), *((f"output_layer\\.{n}", f"neck.{n}") for n in (0, 3, 4))]
    missing: dict[str, torch.Tensor] = {}
    for index, (stage, block) in enumerate((s, b) for s, depth in enumerate(depths) for b in range(depth)):
        theirs, ours = f"body\\.{index}", f"stages.{stage}.{block}"
        rules += [(rf"{theirs}\.res_layer\.{n}", f"{ours}.residual.{m}") for n, m in zip(parts, places, strict=True)]
        rules += [(rf"{theirs}\.res_layer\.{se}\.(fc[12])", rf"{ours}.residual.6.\1")] if se else []
        rules += [(rf"{theirs}\.shortcut_layer\.([01])", rf"{ours}.shortcut.\1")] if block == 0 else []
        if not inner:
            missing |= identity_norm(f"{ours}.residual.2", widths[index])
        if block == 0 and f"body.{index}.shortcut_layer.0.weight" not in source:  # picks every second pixel
            missing |= {f"{ours}.shortcut.0.weight": torch.eye(widths[index])[..., None, None]}
            missing |= identity_norm(f"{ours}.shortcut.1", widths[index])
    size = _crop_of(source, "output_layer.3.weight")
    return Mapped(name, {**source.renamed(rules), **missing}, "stem.0.weight", "neck.3.weight", size)


def mbf(source: Source, convention: Convention) -> Mapped:
    """insightface's MobileFaceNet."""
    width = source.shape("layers.0.layers.0.weight")[0]
    name = {128: "mbf", 256: "mbf_large"}.get(width)
    if name is None:
        raise InputError(f"expected a MobileFaceNet that begins with 128 or 256 channels, found {width}")
    rules, block = [(r"conv_sep\.layers\.(\d)", r"conv_head.\1")], 0
    for index in range(source.count(r"layers\.(\d+)\.")):
        theirs = rf"layers\.{index}"
        rules.append((rf"{theirs}\.layers\.(\d)", rf"stem.{index}.\1"))  # a convolution; blocks have one name more
        if f"layers.{index}.layers.0.weight" in source:
            continue
        repeated = f"layers.{index}.layers.0.layers.0.layers.0.weight" in source
        for repeat in range(source.count(rf"{theirs}\.layers\.(\d+)\.") if repeated else 1):
            inside = rf"{theirs}\.layers\.{repeat}" if repeated else theirs
            rules.append((rf"{inside}\.layers\.(\d)\.layers\.(\d)", rf"blocks.{block}.residual.\1.\2"))
            block += 1
    rules += [(rf"features\.layers\.{theirs}", ours) for theirs, ours in MBF_NECK.items()]
    return Mapped(name, source.renamed(rules), "stem.0.0.weight", "neck.4.weight")


MBF_NECK = {r"0\.layers\.0": "neck.0", r"0\.layers\.1": "neck.1", "2": "neck.4", "3": "neck.5"}


def vit(source: Source, convention: Convention) -> Mapped:
    """The ViT of insightface's arcface_torch, LVFace and CVLface."""
    width, _, patch, _ = source.shape("patch_embed.proj.weight")
    mlp = source.shape("blocks.0.mlp.fc1.weight")[0] / width
    found = {"patch_size": patch, "embed_dim": width, "depth": source.count(r"blocks\.(\d+)\."), "mlp_ratio": mlp}
    sizes = {name: FACEVITS[name][1] for name in convention.sizes}
    name = next((name for name, size in sizes.items() if found.items() <= size.items()), None)
    if name is None:
        raise InputError(f"expected a ViT of {convention.name} ({', '.join(sizes)}), found one of {found}")
    same = (r"patch_embed\.proj|norm|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])", r"\g<0>")
    tensors = source.renamed([same, *((f"feature\\.{n}", f"neck.{n + 2}") for n in range(4))])
    return Mapped(name, {**tensors, "pos_embed": source.take("pos_embed")}, "patch_embed.proj.weight", "neck.4.weight")


EDGENEXT = {24: "edgenext_xx_small", 32: "edgenext_x_small", 48: "edgenext_small", 80: "edgenext_base"}  #: By the stem


def edgeface(source: Source, convention: Convention) -> Mapped:
    """EdgeFace: timm's EdgeNeXt; linear layers that are pairs of low rank become one again."""
    width = source.shape("stem.0.weight")[0]
    if width not in EDGENEXT:
        found = f"found {width}"
        raise InputError(f"expected an EdgeNeXt that begins with {', '.join(map(str, EDGENEXT))} channels, {found}")
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


LAYOUTS: dict[str, tuple[str, Callable[[Source, Convention], Mapped]]] = {
    "arcface_torch": (r"layer1\.0\.prelu\.weight", arcface_torch),
    "ir": (r"body\.0\.res_layer\.1\.weight", ir),
    "mbf": (r"conv_sep\.layers\.0\.weight", mbf),
    "vit": (r"feature\.0\.weight", vit),
    "edgeface": (r"stages\.1\.blocks\.\d+\.norm_xca\.weight", edgeface),
}  #: A pattern of a key that every checkpoint of the family has and no other, without its prefix, and the function
