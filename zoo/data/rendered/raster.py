"""A rasteriser in plain torch for many small pictures of dense meshes; the same on a CPU and on a GPU.

Triangles that cover no pixel's centre or face away, which are most, are dropped; the rest is tested in classes by the
size of the bounding box. The nearest wins by an atomic maximum over depth and number in one integer, in any order.
"""

import torch
from torch import Tensor

BOXES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 64, 128, 256, 512)  #: Sides, in pixels, of the classes of bounding boxes
AT_ONCE = 2**24  #: Pixels of bounding boxes that are tested together, for the memory's sake
NUMBER_BITS = 20
FARTHEST, DEPTH_STEPS = 256.0, 2**16
"""Depths are whole numbers of steps from this distance behind the origin on; what is farther counts as being there."""


def rasterise(points: Tensor, values: Tensor, quads: Tensor, size: int, both: Tensor) -> tuple[Tensor, Tensor]:
    """What is seen in the centre of each pixel: whether anything, and the values of the vertices, interpolated.

    points: (batch, vertices, 3), x to the right and y down in pixels, z the larger the nearer. values: (batch,
    vertices, channels). quads: (quads, 4), anticlockwise on the picture where seen from the front; both: (quads,) bool,
    seen from behind too. Returns bool (batch, size, size) and (batch, size, size, channels).
    """
    triangles, both = torch.cat([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]]), both.repeat(2)
    device, (x, y, z) = points.device, points.unbind(2)
    corners = x[:, triangles.T], y[:, triangles.T]
    # the first and the last pixel, across and down, whose centre lies between the corners
    left, top = (torch.ceil(one.amin(1) - 0.5).clamp(min=0) for one in corners)
    right, bottom = (torch.floor(one.amax(1) - 0.5).clamp(max=size - 1) for one in corners)
    (ax, bx, cx), (ay, by, cy) = (one.unbind(1) for one in corners)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    seen = (right >= left) & (bottom >= top) & ((area > 1e-6) | (both & (area < -1e-6)))
    image, number = seen.nonzero(as_tuple=True)
    left, top, right, bottom = (one[image, number].long() for one in (left, top, right, bottom))
    box = torch.bucketize(torch.maximum(right - left, bottom - top) + 1, torch.tensor(BOXES, device=device))
    counts = torch.bincount(box, minlength=len(BOXES)).tolist()
    nearest = torch.full((len(points) * size * size,), -1, device=device)
    for largest, members in zip(BOXES, torch.split(box.argsort(), counts), strict=True):
        grid = torch.arange(largest, device=device)
        for chosen in torch.split(members, max(1, AT_ONCE // largest**2)):
            of, which = image[chosen], number[chosen]
            vertices = of[:, None], triangles[which]
            b, c = planes(x[vertices], y[vertices])
            za, zb, zc = z[vertices][..., None, None].unbind(1)
            column, row = left[chosen, None, None] + grid, top[chosen, None, None] + grid[:, None]
            at_b, at_c = (one[:, :1, None] + one[:, 1:2, None] * column + one[:, 2:, None] * row for one in (b, c))
            hit = (at_b >= 0) & (at_c >= 0) & (at_b + at_c <= 1) & (column < size) & (row < size)
            depth = za + FARTHEST + at_b * (zb - za) + at_c * (zc - za)
            packed = (depth * DEPTH_STEPS).clamp(min=0).long() << NUMBER_BITS | which[:, None, None]
            place, found = (of[:, None, None] * size + row) * size + column, hit.flatten().nonzero()[:, 0]
            nearest.scatter_reduce_(0, place.flatten()[found], packed.flatten()[found], "amax")
    nearest, grid = nearest.view(-1, size, size), torch.arange(size, device=device)
    corner = triangles[(nearest & (2**NUMBER_BITS - 1)) % len(triangles)]
    vertices = torch.arange(len(points), device=device)[:, None, None, None], corner
    b, c = planes(x[vertices], y[vertices])
    at_b, at_c = (one[..., 0] + one[..., 1] * grid + one[..., 2] * grid[:, None] for one in (b, c))
    weights = torch.stack([1 - at_b - at_c, at_b, at_c], 3)
    each = (values[vertices[0][..., 0], corner[..., i]] * weights[..., i, None] for i in range(3))
    return nearest >= 0, sum(each, torch.zeros((), device=device))


def planes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of a triangle's second and third corner, each (…, 3): in pixel (0, 0), per pixel right, and down."""
    (ax, bx, cx), (ay, by, cy) = (x - 0.5).unbind(-1), (y - 0.5).unbind(-1)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    one = 1 / torch.where(area.abs() < 1e-6, 1.0, area)
    b_x, b_y, c_x, c_y = (cy - ay) * one, (ax - cx) * one, (ay - by) * one, (bx - ax) * one
    return torch.stack([-b_x * ax - b_y * ay, b_x, b_y], -1), torch.stack([-c_x * ax - c_y * ay, c_x, c_y], -1)
