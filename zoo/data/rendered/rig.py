"""What follows from the mean head alone: where lips, brows, beard and hair are, how it shades itself, its seams."""

import copy
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zoo.data.rendered.facekit import HEAD, FaceKit
from zoo.data.rendered.raster import rasterise

LANDMARKS = (1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268,
             493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
             1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200,
             6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966)  # fmt: skip
"""The vertices of Multi-PIE's 68 landmarks, as ICT-FaceKit's README lists them."""
CENTRE = (0.0, 5.5, 1.0)  #: The middle of the skull, around which hair is laid
HAIRLINE = ((0, 47), (25, 49), (50, 42), (65, 28), (78, 8), (90, -4), (105, -12), (140, -32), (180, -34))
"""Degrees around the head from the front, and degrees above the skull's middle at which hair begins there."""
COLUMNS = 160  #: Of hair, around the head
LOWEST, DEGREES = -50, 2  #: The skull's radius is known from so low on, at every so many degrees
LIGHTS = 48  #: Directions from which light comes, evenly over the sphere but for what is behind the head
WAVES = ((14.0, 24), (7.0, 40), (3.5, 56), (1.8, 64), (0.9, 64))  #: Centimetres of the skin's waves; how many of each


class Rig:
    """Tables on one device, at first the CPU: a mask is (vertices,), from 0 to 1, and tells where something is."""

    def __init__(self, kit: FaceKit) -> None:
        self.mean, self.quads = torch.from_numpy(kit.vertices), torch.from_numpy(kit.quads)
        self.basis = torch.cat([torch.from_numpy(kit.identity), torch.from_numpy(kit.expression)]).flatten(1)
        self.expressions = {name: i for i, name in enumerate(kit.expression_names)}
        self.head = torch.arange(len(self.mean)) < HEAD
        x, y, z = self.mean.unbind(1)
        marks, across = self.mean[LANDMARKS, :2].tolist(), x.abs()
        half, plane, front = torch.stack([across, y], 1), self.mean[:, :2], z > 6.5

        def spot(right: float, up: float, wide: float, high: float) -> Tensor:
            return torch.exp(-(((across - right) / wide) ** 2) - ((y - up) / high) ** 2) * front

        self.lips = soft(signed_distance(plane, *marks[48:60]), 0.08) * front
        self.lash = soft(0.12 - signed_distance(half, *marks[42:48]).abs(), 0.05) * front
        self.brow_along = (across - 0.9) / (6.0 - 0.9)
        brow = np.interp(across.numpy(), [x for x, _ in marks[22:27]], [y for _, y in marks[22:27]])
        self.brow_above = torch.where(front, y - torch.from_numpy(brow).float(), 99.0)
        there = ((1.7, -0.6), (2.3, -1.6), (3.0, -2.9), (3.3, -4.2))
        self.fold = torch.exp(-((signed_distance(half, *there, *there[-2:0:-1]) / 0.28) ** 2)) * front
        self.lid, self.bag = spot(3.2, 4.3, 1.5, 0.6), spot(2.8, 2.3, 1.3, 0.5)
        self.cheek, self.nose = spot(4.6, 0.2, 2.0, 2.0), spot(0.0, 0.2, 1.4, 1.3)
        bare = (1 - self.lips) * self.head
        edge = -2.2 + (across - 5.5).clamp(min=0) * 4.2
        self.beard = soft(edge - y, 0.7) * soft(y + 9.5, 0.7) * soft(z - 1.0, 0.7) * bare
        self.goatee = soft(2.4 - across, 0.4) * self.beard
        self.moustache = soft(-1.55 - y, 0.12) * soft(3.2 - across, 0.4) * soft(y + 4.5, 0.4) * front * bare
        self.cloth = y + 0.35 * (z - 5).clamp(max=0)  # how low a vertex is, a collar being lower in front
        self.scalp = self.head & ~((x.abs() > 7.1) & (y < 6.5) & (y > -2.5) & (z < 4.5))  # without the ears
        away = functional.normalize(self.mean - torch.tensor(CENTRE), dim=1)
        self.up = torch.rad2deg(torch.asin(away[:, 1]))
        self.columns = (torch.arange(COLUMNS) / COLUMNS * 2 - 1) * math.pi
        self.knots_vertices, self.knots_columns = map(hat_weights, (torch.atan2(away[:, 0], away[:, 2]), self.columns))
        up, around = torch.deg2rad(torch.arange(LOWEST, 91.0, DEGREES)), self.columns[:, None]
        rays = torch.stack([up.cos() * around.sin(), up.sin().expand(COLUMNS, -1), up.cos() * around.cos()], -1)
        bare = (self.scalp & (y > -8)).nonzero()[:, 0]
        self.skull = bare[(rays.flatten(0, 1) @ away[bare].T).argmax(1)].view(COLUMNS, -1)
        number = torch.arange(LIGHTS) + 0.5
        forward, turn = 1 - 1.45 * number / LIGHTS, number * math.pi * (1 + 5**0.5)
        ring = (1 - forward**2).sqrt()
        self.lights = torch.stack([ring * turn.cos(), ring * turn.sin(), forward], 1)
        self.visible = visibility(self.mean, self.quads, self.lights)
        self.crevice = (0.33 - self.visible.mean(0)).clamp(min=0) * self.head
        self.waves = texture_waves(self.mean)
        self.around: Tensor | None = None  #: The quads around each vertex of a whole picture, once they are known

    def to(self, device: torch.device) -> "Rig":
        """The same tables on another device."""
        moved = copy.copy(self)
        vars(moved).update({name: one.to(device) for name, one in vars(self).items() if isinstance(one, Tensor)})
        return moved


def texture_waves(mean: Tensor) -> Tensor:
    """Waves over the skin, (waves, vertices), those of a wavelength about 1 in sum; most are the same on both sides."""
    generator, fields = torch.Generator().manual_seed(0), []
    half = torch.cat([mean[:, :1].abs(), mean[:, 1:]], 1)
    for length, count in WAVES:
        direction = functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * (2 * math.pi / length)
        phase = torch.rand(count, generator=generator) * (2 * math.pi)
        place = torch.where(torch.arange(count)[:, None, None] % 3 > 0, half, mean)
        fields.append(torch.cos((place * direction[:, None]).sum(2) + phase[:, None]) * (2 / count) ** 0.5)
    return torch.cat(fields)


def soft(margin: Tensor, width: float) -> Tensor:
    """0 to 1 where `margin` goes from negative to positive, over about four widths."""
    return torch.sigmoid(margin / width)


def signed_distance(points: Tensor, *outline: Sequence[float]) -> Tensor:
    """From points (n, 2) to an outline through corners (m, 2), or to a line there and back: (n,), negative outside."""
    corners = np.array(outline, np.float32)
    return torch.tensor([cv2.pointPolygonTest(corners, point, True) for point in points.tolist()], dtype=torch.float32)


def hat_weights(around: Tensor) -> Tensor:
    """The weights (knots, n) of HAIRLINE's knots at angles (n,): linear between neighbours, the same on both sides."""
    degrees, places = np.rad2deg(around.abs().numpy()), [place for place, _ in HAIRLINE]
    return torch.tensor(np.stack([np.interp(degrees, places, row) for row in np.eye(len(places))]), dtype=torch.float32)


def neighbours(quads: Tensor, vertices: int) -> Tensor:
    """The quads around each vertex, (vertices, most), filled up with the number of one that is not there."""
    corner, order = quads.flatten().sort(stable=True)
    counts = torch.bincount(corner, minlength=vertices)
    table = torch.full((vertices, int(counts.max())), len(quads))
    table[corner, torch.arange(len(corner)) - (counts.cumsum(0) - counts)[corner]] = order // 4
    return table


def normals(points: Tensor, quads: Tensor, around: Tensor) -> Tensor:
    """The unit normals (batch, vertices, 3) of a mesh of quads, outwards; `around` as `neighbours` gives it."""
    a, b, c, d = (points[:, quads[:, i]] for i in range(4))
    return functional.normalize(functional.pad(torch.linalg.cross(c - a, d - b), (0, 0, 0, 1))[:, around].sum(2), dim=2)


def visibility(mean: Tensor, quads: Tensor, lights: Tensor, size: int = 192) -> Tensor:
    """How much of each light reaches each vertex past the head itself: (lights, vertices) from 0 to 1."""
    right = functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.02]).expand_as(lights), lights), dim=1)
    frames = torch.stack([right, torch.linalg.cross(right, lights), lights], 2)
    seen, one_sided = [], torch.zeros(len(quads)).bool()
    for frame in frames:
        turned = (mean - torch.tensor(CENTRE)) @ frame
        pixels = turned * torch.tensor([size / 40, size / 40, 1.0]) + torch.tensor([size / 2, size / 2, 0.0])
        covered, depth = rasterise(pixels[None], turned[None, :, 2:], quads, size, one_sided)
        depth = torch.where(covered, depth[..., 0], -99.0)
        grid = (pixels[:, :2] / size * 2 - 1)[None, None]
        nearest = functional.grid_sample(depth[None], grid, "nearest", "border", False)[0, 0, 0]
        seen.append((turned[:, 2] > nearest - 0.35).float())
    shade, around = torch.stack(seen), neighbours(quads, len(mean))
    counts = (around < len(quads)).sum(1).clamp(min=1)
    for _ in range(3):  # soft edges
        shade = functional.pad(shade[:, quads].mean(2), (0, 1))[:, around].sum(2) / counts
    return shade
