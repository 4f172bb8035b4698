"""The face stem: how any timm backbone is made to see a 112×112 crop at half its stock stride.

A stock ImageNet stem divides by 32 and leaves 4×4 of a 112×112 crop, which costs accuracy; the face stem
divides by 16 and leaves 7×7, as the face papers' IResNet does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

STEM_ARGUMENTS: dict[str, dict[str, Any]] = {
    "vision_transformer": {"patch_size": 8},
    "deit": {"patch_size": 8},
    "beit": {"patch_size": 8},
    "eva": {"patch_size": 8},
    "swin_transformer": {"patch_size": 2},
    "swin_transformer_v2": {"patch_size": 2},
}
"""Families (timm modules) whose face stem is an argument of the constructor: ViT-like ones see patches of 8
(14×14 tokens of a 112×112 crop), windowed ones patches of 2 (7×7 in the last stage)."""


def halve_first_stride(body: nn.Module, x: torch.Tensor) -> list[str]:
    """Halves the stride of the first strided convolution that meets `x`, in place, and returns what was changed.

    Convolutions that read the same tensor (the parallel branches of a re-parametrisable stem) change together.
    resnet, mobilenetv3, efficientnet: the first convolution gets stride 1. convnext, edgenext: the patch of 4
    becomes a patch of 2, its kernel summed over 2×2, so that the new stem sees `x` as the old one would see `x`
    enlarged twofold. Empty where no convolution has a stride.
    """
    strided: list[tuple[str, nn.Conv2d, torch.Tensor]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            assert isinstance(module, nn.Conv2d)
            if max(module.stride) > 1:
                strided.append((name, module, inputs[0]))

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in body.named_modules() if isinstance(m, nn.Conv2d)]
    try:
        features_of(body, x)
    finally:
        for handle in hooks:
            handle.remove()
    changed = [(name, module) for name, module, source in strided if source is strided[0][2]]
    for _, module in changed:
        if module.kernel_size == module.stride and min(module.kernel_size) > 1 and _is_even(module.kernel_size):
            kernel = nn.functional.avg_pool2d(module.weight.detach(), 2) * 4
            module.weight = nn.Parameter(kernel)
            module.kernel_size = (kernel.shape[2], kernel.shape[3])
        module.stride = (max(1, module.stride[0] // 2), max(1, module.stride[1] // 2))
    return [name for name, _ in changed]


def _is_even(size: tuple[int, ...]) -> bool:
    return all(side % 2 == 0 for side in size)


@torch.no_grad()
def features_of(body: nn.Module, x: torch.Tensor) -> Any:
    """The body's features of `x` in evaluation mode, without gradients and without moving any statistics."""
    training = body.training
    body.eval()
    try:
        return body.forward_features(x)  # type: ignore[operator]
    finally:
        body.train(training)


def drop_unused_children(body: nn.Module, x: torch.Tensor) -> None:
    """Replaces the direct children of `body` that `forward_features` never calls by identities.

    They belong to timm's classifier (mobilenetv3's conv_head, ViT's fc_norm): dead weight in a model with a neck
    of its own, and parameters without a gradient, on which distributed training would stumble.
    """
    called: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, _inputs, _output: called.add(module)) for m in body.modules()]
    try:
        features_of(body, x)
    finally:
        for handle in hooks:
            handle.remove()
    for name, child in list(body.named_children()):
        read_not_called = (
            isinstance(child, (nn.ParameterList, nn.ParameterDict)) or next(child.parameters(), None) is None
        )
        if not read_not_called and called.isdisjoint(child.modules()):
            setattr(body, name, nn.Identity())
