"""SphereFace: its target decreases over the whole range of angles."""

from __future__ import annotations

import torch

from zoo.heads import build_head


def test_sphereface_falls_all_the_way_and_allows_four() -> None:
    for margin in (1.0, 1.5, 4.0):
        cos = torch.linspace(0.999, -0.999, 301, dtype=torch.float64)
        target = build_head("sphereface", margin=margin).target(cos, torch.ones(301))
        assert (target.diff() < 0).all()
