"""A rasteriser in plain torch for many small pictures of dense meshes; the same on a CPU and on a GPU.

Most triangles of a face are smaller than a pixel. So those that cover no pixel's centre or face away are dropped
first, and the rest is tested in classes by the size of its bounding box. The nearest triangle wins by an atomic
maximum over depth and number in one integer, whose result does not depend on the order of writing.
"""

import torch
from torch import Tensor

BOXES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 64, 128, 256, 512)
"""Sides, in pixels, of the classes of bounding boxes."""
AT_ONCE = 2**24
"""Pixels of bounding boxes that are tested together, for the memory's sake."""
NUMBER_BITS = 20
FARTHEST, DEPTH_STEPS = 256.0, 2**16
"""Depths are whole numbers of steps from this distance behind the origin on; what is farther counts as being there."""


def rasterise(points: Tensor, triangles: Tensor, size: int, both_sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is seen in the centre of each pixel: whether anything, and which vertices around it with which weights.

    points: (batch, vertices, 3), x to the right and y down in pixels, z the larger the nearer. triangles: (triangles,
    3), clockwise on the picture where seen from the front; both_sides: (triangles,) bool, seen from behind too.
    Returns bool (batch, size, size), int64 (batch, size, size, 3) and (batch, size, size, 3), whose sum is 1; where
    nothing is seen, the vertices are those of some triangle.
    """
    batch = len(points)
    x, y, z = points.unbind(2)
    corner_x, corner_y = x[:, triangles], y[:, triangles]
    left, right = first_and_last(corner_x, size)
    top, bottom = first_and_last(corner_y, size)
    side = torch.maximum(right - left, bottom - top) + 1
    (ax, bx, cx), (ay, by, cy) = corner_x.unbind(2), corner_y.unbind(2)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    seen = (right >= left) & (bottom >= top) & ((area > 1e-6) | (both_sides & (area < -1e-6)))
    nearest = torch.full((batch * size * size,), -1, dtype=torch.int64, device=points.device)
    image, number = seen.nonzero(as_tuple=True)
    side, left, top = side[image, number], left[image, number].long(), top[image, number].long()
    box = torch.bucketize(side, torch.tensor(BOXES, dtype=side.dtype, device=side.device))
    counts = torch.bincount(box, minlength=len(BOXES)).tolist()
    for largest, members in zip(BOXES, box.argsort().split(counts), strict=True):
        for chosen in members.split(max(1, AT_ONCE // largest**2)):
            of, which = image[chosen], number[chosen]
            corners = triangles[which]
            b, c = planes(*(values[of[:, None], corners].unbind(1) for values in (x, y)))
            za, zb, zc = z[of[:, None], corners].unbind(1)
            grid = torch.arange(largest, device=points.device)
            column, row = left[chosen, None, None] + grid, top[chosen, None, None] + grid[:, None]
            at_b, at_c = (one[:, :1, None] + one[:, 1:2, None] * column + one[:, 2:, None] * row for one in (b, c))
            hit = (at_b >= 0) & (at_c >= 0) & (at_b + at_c <= 1) & (column < size) & (row < size)
            depth = (za + FARTHEST)[:, None, None] + at_b * (zb - za)[:, None, None] + at_c * (zc - za)[:, None, None]
            packed = (depth * DEPTH_STEPS).clamp(min=0).long() << NUMBER_BITS | which[:, None, None]
            place = (of[:, None, None] * size + row) * size + column
            found = hit.flatten().nonzero()[:, 0]
            nearest.scatter_reduce_(0, place.flatten()[found], packed.flatten()[found], "amax")
    nearest = nearest.view(batch, size, size)
    corners = triangles[(nearest & (2**NUMBER_BITS - 1)) % len(triangles)]
    every = torch.arange(batch, device=points.device)[:, None, None, None]
    b, c = planes(*(values[every, corners].unbind(3) for values in (x, y)))
    grid = torch.arange(size, device=points.device)
    at_b, at_c = (one[..., 0] + one[..., 1] * grid + one[..., 2] * grid[:, None] for one in (b, c))
    return nearest >= 0, corners, torch.stack([1 - at_b - at_c, at_b, at_c], 3)


def first_and_last(corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first and the last pixel whose centre lies between the corners (…, 3) of a triangle, along one axis."""
    a, b, c = corners.unbind(-1)
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    return torch.ceil(low - 0.5).clamp(min=0), torch.floor(high - 0.5).clamp(max=size - 1)


def planes(x: tuple[Tensor, ...], y: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The weights of a triangle's second and third corner, each (…, 3): in pixel (0, 0), per pixel right, and down."""
    (ax, bx, cx), (ay, by, cy) = (tuple(value - 0.5 for value in axis) for axis in (x, y))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    one = 1 / torch.where(area.abs() < 1e-6, torch.ones_like(area), area)
    b_x, b_y, c_x, c_y = (cy - ay) * one, (ax - cx) * one, (ay - by) * one, (bx - ax) * one
    return torch.stack([-b_x * ax - b_y * ay, b_x, b_y], -1), torch.stack([-c_x * ax - c_y * ay, c_x, c_y], -1)


def interpolated(values: Tensor, corners: Tensor, weights: Tensor) -> Tensor:
    """Values (batch, vertices, channels) in each pixel, from `rasterise`: (batch, size, size, channels)."""
    every = torch.arange(len(values), device=values.device)[:, None, None]
    a, b, c = (values[every, corners[..., i]] * weights[..., i, None] for i in range(3))
    return a + b + c
