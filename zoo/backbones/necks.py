"""Necks: modules that turn a backbone's last feature map into one embedding, not normalised."""

import torch
from torch import nn

NECKS = ("flat", "gap", "native")
FLAT_LIMIT = 512 * 7 * 7  #: The largest map whose default neck is `flat`: its FC has 12.8 M weights at 512 dimensions


def embedding_norm(dim: int) -> nn.BatchNorm1d:
    """The batch norm that ends a neck: its scale stays at one, as in ArcFace's code (`fix_gamma`).

    A learnt scale would weigh the embedding's coordinates twice, here and in the FC before it.
    """
    norm = nn.BatchNorm1d(dim)
    norm.weight.requires_grad_(False)
    return norm


class FlatNeck(nn.Sequential):
    """BN–dropout–flatten–FC–BN, the "E" neck of ArcFace (Deng et al. 2019): (batch, channels, h, w) → (batch, dim)."""

    def __init__(self, channels: int, height: int, width: int, dim: int, dropout: float = 0.0) -> None:
        norm, linear = nn.BatchNorm2d(channels), nn.Linear(channels * height * width, dim)
        super().__init__(norm, nn.Dropout(dropout), nn.Flatten(), linear, embedding_norm(dim))


class GapNeck(nn.Sequential):
    """Average pool–dropout–FC–BN, where a flattened FC would be too large: (batch, channels, h, w) → (batch, dim)."""

    def __init__(self, channels: int, dim: int, dropout: float = 0.0) -> None:
        linear = nn.Linear(channels, dim)
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), linear, embedding_norm(dim))


class GdcNeck(nn.Sequential):
    """MobileFaceNet's global depthwise convolution (Chen et al. 2018, 3.2): (batch, channels, h, w) → (batch, dim)."""

    def __init__(self, channels: int, height: int, width: int, dim: int, dropout: float = 0.0) -> None:
        pool = nn.Conv2d(channels, channels, (height, width), groups=channels, bias=False), nn.BatchNorm2d(channels)
        linear = nn.Linear(channels, dim, bias=False), nn.BatchNorm1d(dim)
        super().__init__(*pool, nn.Flatten(), nn.Dropout(dropout), *linear)


def as_map(features: torch.Tensor, prefix_tokens: int, channels_last: bool) -> torch.Tensor:
    """Any timm feature output as (batch, channels, h, w).

    Tokens (batch, tokens, channels) lose their `prefix_tokens` (class, distillation, registers) and become
    (batch, channels, tokens, 1); channels-last maps (batch, h, w, channels) are permuted.
    """
    if features.ndim == 3:
        return features[:, prefix_tokens:].transpose(1, 2).unsqueeze(-1)
    return features.permute(0, 3, 1, 2) if channels_last else features
