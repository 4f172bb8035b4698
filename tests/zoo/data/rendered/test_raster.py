"""The rasteriser against every triangle tested in every pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from zoo.data.rendered import raster

Floats = npt.NDArray[np.float64]


def brute(points: Floats, values: Floats, triangles: list[list[int]], size: int, both: list[bool]) -> list[object]:
    """(row, column) → None, or the values of the nearest triangle there."""
    out: list[object] = []
    for row in range(size):
        for column in range(size):
            best, found = -np.inf, None
            for number, corners in enumerate(triangles):
                (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[corners]
                area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
                if area <= 1e-6 and not (both[number] and area < -1e-6):
                    continue
                px, py = column + 0.5, row + 0.5
                b = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                c = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                depth = az + b * (bz - az) + c * (cz - az)
                if b >= 0 and c >= 0 and b + c <= 1 and depth > best:
                    weights = np.array([1 - b - c, b, c])
                    best, found = depth, weights @ values[corners]
            out.append(found)
    return out


def as_quads(triangles: list[list[int]]) -> torch.Tensor:
    """Quads with a corner twice, whose other half has no area."""
    return torch.tensor(triangles)[:, [0, 2, 1, 1]]


@pytest.fixture(params=[0, 1, 2])
def soup(request: pytest.FixtureRequest) -> tuple[Floats, Floats, list[list[int]], list[bool]]:
    """Triangles of all sizes, many beyond the picture's border, facing both ways."""
    draws = np.random.default_rng(request.param)
    points = np.concatenate([draws.uniform(-6, 26, (12, 2)), draws.uniform(-9, 9, (12, 1))], 1)
    points[8:, :2] = 9 + draws.uniform(0, 3, (4, 2))  # small ones
    triangles = [draws.choice(12, 3, replace=False).tolist() for _ in range(12)]
    triangles += [draws.choice(np.arange(8, 12), 3, replace=False).tolist() for _ in range(4)]
    return points, draws.uniform(0, 1, (12, 2)), triangles, (draws.uniform(size=16) < 0.3).tolist()


def test_pixels_are_those_of_the_nearest_triangle_by_brute_force(soup) -> None:
    points, values, triangles, both = soup
    size = 20
    shifted = points + np.array([3.0, -2.0, 0.0])
    batch = torch.tensor(np.stack([points, shifted]), dtype=torch.float32)
    inputs = torch.tensor(np.stack([values, values]), dtype=torch.float32)
    covered, pixels = raster.rasterise(batch, inputs, as_quads(triangles), size, torch.tensor(both))
    for image, place in enumerate((points, shifted)):
        expected = brute(place, values, triangles, size, both)
        assert covered[image].flatten().tolist() == [one is not None for one in expected]
        for found, one in zip(pixels[image].reshape(-1, 2).numpy(), expected, strict=True):
            if one is not None:
                np.testing.assert_allclose(found, one, atol=2e-3)


def test_little_memory_gives_the_same_picture(soup, monkeypatch: pytest.MonkeyPatch) -> None:
    points, values, triangles, both = soup
    arguments = torch.tensor(points[None]).float(), torch.tensor(values[None]).float(), as_quads(triangles)
    covered, pixels = raster.rasterise(*arguments, 20, torch.tensor(both))
    monkeypatch.setattr(raster, "AT_ONCE", 1)
    assert torch.equal(raster.rasterise(*arguments, 20, torch.tensor(both))[1][covered], pixels[covered])


def test_values_are_interpolated_linearly() -> None:
    points = torch.tensor([[[0.0, 0, 0], [16, 0, 0], [16, 16, 0], [0, 16, 0]]])
    values = torch.stack([points[..., 0] / 16, points[..., 1] / 16], 2)
    covered, pixels = raster.rasterise(points, values, torch.tensor([[0, 3, 2, 1]]), 16, torch.zeros(1).bool())
    centres = (torch.arange(16) + 0.5) / 16
    assert covered.all()
    torch.testing.assert_close(pixels[0, :, :, 0], centres.expand(16, -1))
    torch.testing.assert_close(pixels[0, :, :, 1], centres[:, None].expand(-1, 16))


def test_the_back_of_a_triangle_is_seen_only_where_both_sides_are() -> None:
    points, quads = torch.tensor([[[0.0, 0, 0], [0, 8, 0], [8, 0, 0]]]), as_quads([[0, 1, 2]])
    one, two = (raster.rasterise(points, points, quads, 8, torch.tensor([both]))[0].any() for both in (False, True))
    assert (one.item(), two.item()) == (False, True)
