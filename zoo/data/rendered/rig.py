"""What follows from the mean head alone: where lips, brows, beard and hair are, how it shades itself, its seams."""

import copy
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zoo.data.rendered.facekit import HEAD, FaceKit
from zoo.data.rendered.raster import rasterise

LANDMARKS = (
    *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517),
    5966,
)
"""The vertices of Multi-PIE's 68 landmarks, as ICT-FaceKit's README lists them."""
CENTRE = (0.0, 5.5, 1.0)
"""The middle of the skull, around which hair is laid."""
HAIRLINE = ((0, 47), (25, 49), (50, 42), (65, 28), (78, 8), (90, -4), (105, -12), (140, -32), (180, -34))
"""Degrees around the head from the front, and degrees above the skull's middle at which hair begins there."""
COLUMNS, LOWEST, DEGREES = 160, -50, 2
"""Columns of hair around the head; the skull's radius is known from so low on, at every so many degrees."""
LIGHTS = 48
"""Directions from which light comes."""
WAVES = ((14.0, 24), (7.0, 40), (3.5, 56), (1.8, 64), (0.9, 64))
"""Wavelengths of the skin's texture in centimetres, and how many waves of each there are."""


class Rig:
    """Tables on one device, at first the CPU: a mask is (vertices,), from 0 to 1, and tells where something is."""

    def __init__(self, kit: FaceKit) -> None:
        self.mean, self.quads = torch.from_numpy(kit.vertices), torch.from_numpy(kit.quads)
        self.basis = torch.from_numpy(np.concatenate([kit.identity, kit.expression])).flatten(1)
        self.expressions = {name: i for i, name in enumerate(kit.expression_names)}
        self.head = torch.arange(len(self.mean)) < HEAD
        self._mask_face()
        self._lay_hair()
        self.lights = spiral(LIGHTS)
        self.visible = visibility(self.mean, self.quads, self.lights)
        self.crevice = (0.33 - self.visible.mean(0)).clamp(min=0) * self.head
        self.waves = texture_waves(self.mean)
        self.device = torch.device("cpu")
        self.seams: tuple[Tensor, Tensor] | None = None
        """The quads of a whole picture and those around each vertex, once they are known."""

    def to(self, device: torch.device) -> "Rig":
        """The same tables on another device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        moved.device, moved.seams = device, None
        return moved

    def _mask_face(self) -> None:
        x, y, z = self.mean.unbind(1)
        marks, across = self.mean[list(LANDMARKS)], x.abs()
        half, front = torch.stack([across, y, z], 1), z > 6.5

        def spot(right: float, up: float, wide: float, high: float) -> Tensor:
            return torch.exp(-(((across - right) / wide) ** 2) - ((y - up) / high) ** 2) * front

        def crease(width: float, *corners: tuple[float, float, float]) -> Tensor:
            return torch.exp(-((distance(half, torch.tensor(corners), closed=False) / width) ** 2))

        self.lips = soft(inside_polygon(self.mean, marks[48:60]), 0.08) * front
        self.lash = torch.maximum(*(soft(0.12 - distance(self.mean, marks[i : i + 6]), 0.05) for i in (36, 42)))
        self.brow_along = (across - 0.9) / (6.0 - 0.9)
        self.brow_above = torch.where(front, y - interpolate(across, marks[22:27, 0], marks[22:27, 1]), 99.0)
        self.fold = crease(0.28, (1.7, -0.6, 10.6), (2.3, -1.6, 10.3), (3.0, -2.9, 9.6), (3.3, -4.2, 9.0))
        self.bag = crease(0.5, (1.7, 2.6, 9.6), (2.6, 2.2, 9.5), (3.8, 2.3, 9.1))
        self.lid, self.cheek, self.nose = spot(3.2, 4.3, 1.5, 0.6), spot(4.6, 0.2, 2.0, 2.0), spot(0.0, 0.2, 1.4, 1.3)
        lines = (0.5 + 0.5 * torch.sin(y * 5.5 + 0.25 * across**2)) ** 4
        self.furrow = lines * soft(y - 7.2, 0.3) * soft(11.0 - y, 0.5) * soft(4.2 - across, 0.6) * front
        bare = (1 - self.lips) * self.head
        edge = -2.2 + (across - 5.5).clamp(min=0) * 4.2
        self.beard = soft(edge - y, 0.7) * soft(y + 9.5, 0.7) * soft(z - 1.0, 0.7) * bare
        self.goatee = soft(2.4 - across, 0.4) * self.beard
        self.moustache = soft(-1.55 - y, 0.12) * soft(3.2 - across, 0.4) * soft(y + 4.5, 0.4) * front * bare
        self.cloth = y + 0.35 * (z - 5).clamp(max=0)  # how low a vertex is, a collar being lower in front

    def _lay_hair(self) -> None:
        x, y, z = self.mean.unbind(1)
        ear = (x.abs() > 7.1) & (y < 6.5) & (y > -2.5) & (z < 4.5)
        self.scalp = self.head & ~ear
        away = functional.normalize(self.mean - torch.tensor(CENTRE), dim=1)
        self.up = torch.rad2deg(torch.asin(away[:, 1]))
        self.columns = (torch.arange(COLUMNS) / COLUMNS * 2 - 1) * math.pi
        self.knots_vertices = hat_weights(torch.atan2(away[:, 0], away[:, 2]))
        self.knots_columns = hat_weights(self.columns)
        up, around = torch.deg2rad(torch.arange(LOWEST, 91.0, DEGREES)), self.columns[:, None]
        rays = torch.stack([up.cos() * around.sin(), up.sin().expand(COLUMNS, -1), up.cos() * around.cos()], -1)
        bare = (self.scalp & (y > -8)).nonzero()[:, 0]
        self.skull = bare[(rays.flatten(0, 1) @ away[bare].T).argmax(1)].view(COLUMNS, -1)


def spiral(count: int) -> Tensor:
    """Directions (count, 3), evenly over the sphere but for what is behind the head."""
    number = torch.arange(count) + 0.5
    forward, turn = 1 - 1.45 * number / count, number * math.pi * (1 + 5**0.5)
    ring = (1 - forward**2).sqrt()
    return torch.stack([ring * turn.cos(), ring * turn.sin(), forward], 1)


def texture_waves(mean: Tensor) -> Tensor:
    """Waves over the skin, (waves, vertices), those of a wavelength about 1 in sum; most are the same on both sides."""
    generator, fields = torch.Generator().manual_seed(0), []
    half = mean * torch.tensor([0.0, 1.0, 1.0]) + mean.abs() * torch.tensor([1.0, 0.0, 0.0])
    for length, count in WAVES:
        direction = functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * (2 * math.pi / length)
        phase = torch.rand(count, generator=generator) * (2 * math.pi)
        place = torch.where(torch.arange(count)[:, None, None] % 3 > 0, half, mean)
        fields.append(torch.cos((place * direction[:, None]).sum(2) + phase[:, None]) * (2 / count) ** 0.5)
    return torch.cat(fields)


def soft(margin: Tensor, width: float) -> Tensor:
    """0 to 1 where `margin` goes from negative to positive, over about four widths."""
    return torch.sigmoid(margin / width)


def interpolate(x: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation of values (n,) at increasing places `known` (n,), constant beyond."""
    i = torch.searchsorted(known.contiguous(), x).clamp(1, len(known) - 1)
    share = ((x - known[i - 1]) / (known[i] - known[i - 1])).clamp(0, 1)
    return values[i - 1] + share * (values[i] - values[i - 1])


def distance(points: Tensor, line: Tensor, closed: bool = True) -> Tensor:
    """From each point (n, d) to the nearest place of a line through corners (m, d): (n,)."""
    ends = torch.roll(line, -1, 0)
    start, step = (line, ends - line) if closed else (line[:-1], (ends - line)[:-1])
    share = ((points[:, None] - start) * step).sum(2) / (step**2).sum(1)
    nearest = start + share.clamp(0, 1)[..., None] * step
    apart: Tensor = torch.linalg.vector_norm(points[:, None] - nearest, dim=2)
    return apart.amin(1)


def inside_polygon(points: Tensor, polygon: Tensor) -> Tensor:
    """The distance (n,) in the plane of x and y to a polygon's outline, negative outside."""
    p, a = points[:, None, :2], polygon[:, :2]
    b = torch.roll(a, -1, 0)
    crossed = (a[:, 1] > p[..., 1]) != (b[:, 1] > p[..., 1])
    x = a[:, 0] + (p[..., 1] - a[:, 1]) / (b[:, 1] - a[:, 1] + 1e-9) * (b[:, 0] - a[:, 0])
    within = (crossed & (p[..., 0] < x)).sum(1) % 2 == 1
    return distance(points[:, :2], a) * torch.where(within, 1.0, -1.0)


def hat_weights(around: Tensor) -> Tensor:
    """The weights (knots, n) of HAIRLINE's knots at angles (n,): linear between neighbours, the same on both sides."""
    degrees = around.abs() * (180 / math.pi)
    places = torch.tensor([float(place) for place, _ in HAIRLINE])
    return torch.stack([interpolate(degrees, places, row) for row in torch.eye(len(places))])


def neighbours(quads: Tensor, vertices: int) -> Tensor:
    """The quads around each vertex, (vertices, most), filled up with the number of one that is not there."""
    corner, quad = quads.flatten(), torch.arange(len(quads)).repeat_interleave(4)
    order = corner.argsort(stable=True)
    corner, quad = corner[order], quad[order]
    counts = torch.bincount(corner, minlength=vertices)
    rank = torch.arange(len(corner)) - (counts.cumsum(0) - counts)[corner]
    table = torch.full((vertices, int(counts.max())), len(quads))
    table[corner, rank] = quad
    return table


def normals(points: Tensor, quads: Tensor, around: Tensor) -> Tensor:
    """The unit normals (batch, vertices, 3) of a mesh of quads, outwards; `around` as `neighbours` gives it."""
    a, b, c, d = (points[:, quads[:, i]] for i in range(4))
    across = torch.linalg.cross(c - a, d - b)
    across = torch.cat([across, torch.zeros_like(across[:, :1])], 1)
    facing: Tensor = functional.normalize(across[:, around].sum(2), dim=2)
    return facing


def triangles_of(quads: Tensor) -> Tensor:
    """Two triangles (2 · quads, 3) for each quad (quads, 4), clockwise on a picture whose y points down."""
    return torch.cat([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]])


def visibility(mean: Tensor, quads: Tensor, lights: Tensor, size: int = 192) -> Tensor:
    """How much of each light reaches each vertex past the head itself: (lights, vertices) from 0 to 1."""
    seen, triangles = [], triangles_of(quads)
    for light in lights:
        right = functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.02]), light), dim=0)
        turned = (mean - torch.tensor(CENTRE)) @ torch.stack([right, torch.linalg.cross(right, light), light]).T
        pixels = turned * torch.tensor([size / 40, size / 40, 1.0]) + torch.tensor([size / 2, size / 2, 0.0])
        covered, corners, weights = rasterise(pixels[None], triangles, size, torch.zeros(len(triangles)).bool())
        depth = torch.where(covered, (turned[:, 2][corners] * weights).sum(3), -99.0)
        grid = (pixels[:, :2] / size * 2 - 1)[None, None]
        nearest = functional.grid_sample(depth[None], grid, "nearest", "border", False)[0, 0, 0]
        seen.append((turned[:, 2] > nearest - 0.35).float())
    shade, counts = torch.stack(seen), torch.bincount(quads.flatten(), minlength=len(mean))
    for _ in range(3):  # soft edges
        around = shade[:, quads].mean(2).repeat_interleave(4, 1)
        total = torch.zeros_like(shade).index_add_(1, quads.flatten(), around)
        shade = torch.where(counts > 1, total / counts.clamp(min=1), shade)
    return shade
