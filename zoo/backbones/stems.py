"""The face stem: a timm backbone changed to process 112×112 crops at half its stock stride.

An ImageNet model has a total stride of 32, which leaves a 4×4 map of a 112×112 crop and costs accuracy; the face stem
gives a stride of 16 and a 7×7 map, as the IResNet of the face papers has it.
"""

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from zoo.backbones.necks import as_map
from zoo.backbones.timm_model import cannot_process, family
from zoo.errors import InputError

STEMS = ("face", "stock")
PATCHES = {8: ("vision_transformer", "deit", "beit", "eva"), 2: ("swin_transformer", "swin_transformer_v2")}
STEM_ARGUMENTS = {family: {"patch_size": size} for size, families in PATCHES.items() for family in families}
"""Families (timm modules) whose face stem is a constructor argument: a patch of 8 for ViT-like ones (14×14 tokens of a
112×112 crop), a patch of 2 for windowed ones (7×7 in the last stage)."""


def stem_arguments(name: str, stem: str, image_size: tuple[int, int]) -> dict[str, Any]:
    """Arguments of timm's constructor: the image size where the model fixes one, the patch where that is the stem."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    args: dict[str, Any] = {"img_size": list(image_size)} if cfg is not None and cfg.fixed_input_size else {}
    return {**args, **STEM_ARGUMENTS.get(family(name), {})} if stem == "face" else args


def fit_stem(body: nn.Module, name: str, x: torch.Tensor, keep: bool) -> tuple[torch.Tensor, list[str]]:
    """The features of a black crop and the convolutions changed for a stride of 16, unless `keep`; or InputError."""
    height, width = x.shape[2:]
    try:
        features = features_of(body, x)
    except (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, TypeError) as error:
        raise cannot_process(name, x, error) from error
    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4) or 0 in features.shape:
        found = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        told = f"found {found}; choose another backbone"
        raise InputError(f"expected a feature map or tokens of {height}×{width} from {name}, {told}")
    wanted = -(-height // 16), -(-width // 16)
    if keep or _map_size(body, features) == wanted:  # designed for small crops, such as iresnet
        return features, []
    try:
        changed = halve_first_stride(body, x)
        features = features_of(body, x)
    except (RuntimeError, ValueError, AssertionError):
        changed = []
    if not changed or not isinstance(features, torch.Tensor) or _map_size(body, features) != wanted:
        stride = f"a total stride of 16 ({wanted[0]}×{wanted[1]} final map)"
        raise InputError(f'the stem of {name} cannot be changed to {stride}; use stem="stock"')
    return features, changed


def _map_size(body: nn.Module, features: torch.Tensor) -> tuple[int, int] | None:
    """(height, width) of a feature map; None for tokens."""
    if features.ndim != 4:
        return None
    shape = as_map(features, 0, getattr(body, "output_fmt", "NCHW") == "NHWC").shape
    return shape[2], shape[3]


def halve_first_stride(body: nn.Module, x: torch.Tensor) -> list[str]:
    """Halves the stride of the first strided convolution that `x` passes, in place; returns the names of what changed.

    Convolutions that read the same tensor (the parallel branches of a re-parametrisable stem) change together. A patch
    becomes one of half its side whose kernel is the old one summed over 2×2, so that the new stem gives for `x` what
    the old one gives for `x` enlarged twofold. Empty where no convolution has a stride.
    """
    strided: list[tuple[str, nn.Conv2d, torch.Tensor]] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
            strided.append((names[module], module, inputs[0]))

    names = {module: name for name, module in body.named_modules()}
    features_of(body, x, note)
    changed = [(name, module) for name, module, source in strided if source is strided[0][2]]
    for _, module in changed:
        if module.kernel_size == module.stride and not any(side % 2 for side in module.kernel_size):
            kernel = nn.functional.avg_pool2d(module.weight.detach(), 2) * 4
            module.weight = nn.Parameter(kernel)
            module.kernel_size = (kernel.shape[2], kernel.shape[3])
        module.stride = (max(1, module.stride[0] // 2), max(1, module.stride[1] // 2))
    return [name for name, _ in changed]


@torch.no_grad()
def features_of(
    body: nn.Module, x: torch.Tensor, hook: Callable[..., None] | None = None, call: Callable[..., Any] | None = None
) -> Any:
    """The features of `x` by `call` or `forward_features`, in evaluation mode; `hook` is called after each module."""
    training, hooks = body.training, [module.register_forward_hook(hook) for module in body.modules() if hook]
    body.eval()
    try:
        return (call or body.forward_features)(x)  # type: ignore[operator]
    finally:
        body.train(training)
        for handle in hooks:
            handle.remove()


def drop_unused_children(body: nn.Module, x: torch.Tensor) -> None:
    """Replaces the direct children of `body` that `forward_features` never calls by identities.

    They belong to timm's classifier (mobilenetv3's conv_head, ViT's fc_norm). In a model with our neck they are unused,
    and distributed training fails on parameters without a gradient.
    """
    called: set[nn.Module] = set()
    features_of(body, x, lambda module, _inputs, _output: called.add(module))
    for name, child in list(body.named_children()):
        # a list of parameters is read, not called; a child without parameters costs nothing
        kept = isinstance(child, (nn.ParameterList, nn.ParameterDict)) or next(child.parameters(), None) is None
        if not kept and called.isdisjoint(child.modules()):
            setattr(body, name, nn.Identity())
