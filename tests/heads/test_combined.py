"""The combined margin contains ArcFace and CosFace."""

from __future__ import annotations

import torch

from zoo.heads import build_head


def test_combined_counts_all_three_margins_and_contains_arcface_and_cosface() -> None:
    cos, norm = torch.tensor([0.7, -0.2], dtype=torch.float64), torch.ones(2)
    arc = build_head("combined", m1=1.0, m2=0.5, m3=0.0).target(cos, norm)
    torch.testing.assert_close(arc, build_head("arcface", fallback="none").target(cos, norm))
    cosface = build_head("combined", m1=1.0, m2=0.0, m3=0.35).target(cos, norm)
    torch.testing.assert_close(cosface, build_head("cosface").target(cos, norm))
    both = build_head("combined", m1=1.2, m2=0.3, m3=0.2).target(cos, norm)
    torch.testing.assert_close(both, (1.2 * cos.acos() + 0.3).cos() - 0.2)
