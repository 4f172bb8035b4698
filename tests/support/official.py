"""The networks of published checkpoints, restated from their papers and shapes: oracles for zoo.published.

Each has the parameter names of the project that it stands for, so that its state dict is a checkpoint of that project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)


def patches(count: int, seed: int = 0) -> torch.Tensor:
    """RGB crops (count, 112, 112, 3) of 4×4 patches in random colours: inputs that differ even after much pooling."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return torch.from_numpy(colours.repeat(28, axis=1).repeat(28, axis=2))


def draw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch statistics, so that nothing that a mapping forgets goes unnoticed.

    The statistics are those of an input, then shaken: with others the biases drown the picture, and any mapping
    would seem right.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor, spread: float) -> torch.Tensor:
        return (torch.rand(tensor.shape, generator=generator) * 2 - 1) * spread

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.copy_(noise(tensor, (3 / tensor[0].numel()) ** 0.5))
            else:
                tensor.copy_(noise(tensor, 0.2) + (0 if name.endswith("bias") else 0.6))
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
        model.train()((patches(8, seed).permute(0, 3, 1, 2).float() - 127.5) / 127.5)
        for norm in norms:
            norm.running_mean += noise(norm.running_mean, 0.2) * norm.running_var.sqrt()
            norm.running_var *= 1 + noise(norm.running_var, 0.4)
    return model.eval()


class ArcFaceBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int, eps: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in, eps)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps)
        self.downsample = None
        if stride == 2:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width, eps)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return residual + (x if self.downsample is None else self.downsample(x))


class ArcFaceNet(nn.Module):
    """insightface's arcface_torch; with eps 2e-5 MagFace's."""

    def __init__(self, depths: tuple[int, ...] = (2, 2, 2, 2), dim: int = 16, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps)
        self.prelu = nn.PReLU(64)
        width_in = 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            blocks = [ArcFaceBlock(width if i else width_in, width, 1 if i else 2, eps) for i in range(depth)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            width_in = width
        self.bn2 = nn.BatchNorm2d(512, eps)
        self.fc = nn.Linear(512 * 7 * 7, dim)
        self.features = nn.BatchNorm1d(dim, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class Gate(nn.Module):
    """Squeeze and excitation with a sixteenth of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(width // 16, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class IRBlock(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int, inner: bool, se: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if width_in != width:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.Conv2d(width_in, width, 3, padding=1, bias=False),
            *([nn.BatchNorm2d(width)] if inner else []),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        if se:  # AdaFace names the gate, CurricularFace numbers it
            self.res_layer.add_module("se_block" if inner else "5", Gate(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


class IRNet(nn.Module):
    """AdaFace's and CVLface's IR; without the `inner` norm CurricularFace's."""

    def __init__(
        self, depths: tuple[int, ...] = (2, 2, 2, 2), dim: int = 16, inner: bool = True, se: bool = False
    ) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        blocks, width_in = [], 64
        for width, depth in zip(WIDTHS, depths, strict=True):
            blocks += [IRBlock(width if i else width_in, width, 1 if i else 2, inner, se) for i in range(depth)]
            width_in = width
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, dim),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


class Layers(nn.Module):
    """A sequence whose keys begin with `layers`, as every module of insightface's MobileFaceNet has it."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def conv(width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> Layers:
    layer = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return Layers(layer, nn.BatchNorm2d(width), *([nn.PReLU(width)] if act else []))


def depthwise(width_in: int, width: int, hidden: int, stride: int = 2, residual: bool = False) -> Layers:
    parts = conv(width_in, hidden, 1), conv(hidden, hidden, 3, stride, hidden), conv(hidden, width, 1, act=False)
    return Layers(*parts, residual=residual)


class Mbf(nn.Module):
    """insightface's MobileFaceNet."""

    def __init__(self, blocks: tuple[int, ...] = (1, 4, 6, 2), scale: int = 2, dim: int = 16) -> None:
        super().__init__()
        a, b = 64 * scale, 128 * scale

        def repeated(width: int, hidden: int, times: int) -> Layers:
            return Layers(*(depthwise(width, width, hidden, 1, residual=True) for _ in range(times)))

        self.layers = nn.ModuleList(
            [
                conv(3, a, 3, 2),
                conv(a, a, 3, groups=64) if blocks[0] == 1 else repeated(a, 128, blocks[0]),
                depthwise(a, a, 128),
                repeated(a, 128, blocks[1]),
                depthwise(a, b, 256),
                repeated(b, 256, blocks[2]),
                depthwise(b, b, 512),
                repeated(b, 256, blocks[3]),
            ]
        )
        self.conv_sep = conv(b, 512, 1)
        whole = Layers(nn.Conv2d(512, 512, 7, groups=512, bias=False), nn.BatchNorm2d(512))
        self.features = Layers(whole, nn.Flatten(), nn.Linear(512, dim, bias=False), nn.BatchNorm1d(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / (width // self.heads) ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class ViTBlock(nn.Module):
    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, mlp * width), nn.Linear(mlp * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(nn.functional.relu6(self.mlp.fc1(self.norm2(x))))


class FaceTransformer(nn.Module):
    """The ViT of insightface, LVFace and CVLface."""

    def __init__(
        self, patch: int = 9, width: int = 256, depth: int = 12, heads: int = 8, mlp: int = 4, dim: int = 16
    ) -> None:
        super().__init__()
        tokens = (112 // patch) ** 2
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(ViTBlock(width, heads, mlp) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * tokens, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, dim, bias=False),
            nn.BatchNorm1d(dim, eps=2e-5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed.proj(x).flatten(2).mT + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.feature(self.norm(x).flatten(1))


class LowRank(nn.Module):
    """A linear layer as the product of two, as EdgeFace has it."""

    def __init__(self, linear: nn.Linear, ratio: float) -> None:
        super().__init__()
        rank = max(2, int(min(linear.in_features, linear.out_features) * ratio))
        self.linear1 = nn.Linear(linear.in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, linear.out_features, bias=linear.bias is not None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.linear1(x))


class EdgeFace(nn.Module):
    """timm's EdgeNeXt under the prefix `model`, its linear layers but the last of low rank where a `ratio` is given."""

    def __init__(self, name: str = "edgenext_xx_small", ratio: float | None = 0.5, dim: int = 16) -> None:
        super().__init__()
        self.model = timm.create_model(name, num_classes=dim)
        linears = [(key, module) for key, module in self.model.named_modules() if isinstance(module, nn.Linear)]
        for key, module in linears:
            if ratio is not None and "head" not in key:
                owner, _, leaf = key.rpartition(".")
                setattr(self.model.get_submodule(owner), leaf, LowRank(module, ratio))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@dataclass(frozen=True)
class Case:
    """One published family: its network, how its checkpoint is wrapped, and how it wants its pixels."""

    convention: str
    network: Callable[[], nn.Module]
    architecture: str
    wrap: Callable[[dict[str, torch.Tensor]], Any] = lambda state: state
    channel_order: str = "RGB"
    mean: float = 127.5
    std: float = 127.5

    def embed(self, network: nn.Module, crops: torch.Tensor) -> torch.Tensor:
        """What the official program makes of RGB crops (batch, H, W, 3) of 0 to 255."""
        ordered = crops.flip(3) if self.channel_order == "BGR" else crops
        with torch.inference_mode():
            return network((ordered.permute(0, 3, 1, 2).float() - self.mean) / self.std)


def prefixed(prefix: str, state: dict[str, torch.Tensor], **more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**{prefix + name: tensor for name, tensor in state.items()}, **more}


CENTRES = torch.ones(16, 5)

SMALL = {
    "arcface_torch": Case("arcface_torch", ArcFaceNet, "iresnet18"),
    "arcface_torch-training": Case(
        "arcface_torch",
        ArcFaceNet,
        "iresnet18",
        lambda state: {"epoch": 3, "state_dict_backbone": prefixed("module.", state), "state_optimizer": {"lr": 0.1}},
    ),
    "magface": Case(
        "magface",
        lambda: ArcFaceNet(eps=2e-5),
        "iresnet18",
        lambda state: {"state_dict": {**prefixed("features.module.", state), "module.fc.weight": CENTRES}},
        *("BGR", 0.0, 255.0),
    ),
    "topofr": Case("topofr", ArcFaceNet, "iresnet18", lambda state: {**state, "weight": CENTRES}),
    "adaface": Case(
        "adaface",
        IRNet,
        "iresnet18",
        lambda state: {"state_dict": {**prefixed("model.", state), "head.kernel": CENTRES, "head.t": CENTRES[0, :1]}},
        "BGR",
    ),
    "cvlface": Case("cvlface", IRNet, "iresnet18", lambda state: prefixed("model.net.", state)),
    "mbf": Case("arcface_torch", Mbf, "mbf"),
    "mbf_large": Case("arcface_torch", lambda: Mbf((2, 8, 12, 4), 4), "mbf_large"),
    "vit": Case("arcface_torch", FaceTransformer, "facevit_tiny_patch9", lambda state: prefixed("module.", state)),
    "edgeface": Case("edgeface", lambda: EdgeFace(ratio=None), "edgenext_xx_small"),
    "edgeface-low-rank": Case("edgeface", EdgeFace, "edgenext_xx_small"),
}
"""One of each family at the smallest size that was published, with embeddings of 16 numbers."""

R50, R100 = (3, 4, 14, 3), (3, 13, 30, 3)
FULL = {
    "arcface_torch-r50": Case("arcface_torch", lambda: ArcFaceNet(R50, 512), "iresnet50"),
    "arcface_torch-r100": Case("arcface_torch", lambda: ArcFaceNet(R100, 512), "iresnet100"),
    "topofr-r200": Case("topofr", lambda: ArcFaceNet((6, 26, 60, 6), 512), "iresnet200"),
    "magface-r100": Case(
        "magface", lambda: ArcFaceNet(R100, 512, 2e-5), "iresnet100", SMALL["magface"].wrap, "BGR", 0.0, 255.0
    ),
    "adaface-r100": Case("adaface", lambda: IRNet(R100, 512), "iresnet100", SMALL["adaface"].wrap, "BGR"),
    "adaface-se-r50": Case("adaface", lambda: IRNet(R50, 512, se=True), "iresnet50_se", SMALL["adaface"].wrap, "BGR"),
    "curricularface": Case("curricularface", lambda: IRNet(R100, 512, inner=False), "iresnet100"),
    "curricularface-se": Case("curricularface", lambda: IRNet(R50, 512, inner=False, se=True), "iresnet50_se"),
    "mbf_large": Case("arcface_torch", lambda: Mbf((2, 8, 12, 4), 4, 512), "mbf_large"),
    "lvface-s": Case("lvface", lambda: FaceTransformer(width=512, dim=512), "facevit_small_patch9"),
    "lvface-b": Case("lvface", lambda: FaceTransformer(width=512, depth=24, dim=512), "facevit_base_patch9"),
    "lvface-l": Case("lvface", lambda: FaceTransformer(width=768, depth=24, dim=512), "facevit_large_patch9"),
    "cvlface-vit-small": Case("cvlface", lambda: FaceTransformer(8, 512, 12, 8, 5, 512), "facevit_small_patch8"),
    "cvlface-vit-base": Case("cvlface", lambda: FaceTransformer(8, 512, 24, 16, 3, 512), "facevit_base_patch8"),
    "edgeface-base": Case("edgeface", lambda: EdgeFace("edgenext_base", None, 512), "edgenext_base"),
    "edgeface-s": Case("edgeface", lambda: EdgeFace("edgenext_small", 0.5, 512), "edgenext_small"),
    "edgeface-xs": Case("edgeface", lambda: EdgeFace("edgenext_x_small", 0.6, 512), "edgenext_x_small"),
}
"""Every size of the catalogue that is not among the small ones."""
