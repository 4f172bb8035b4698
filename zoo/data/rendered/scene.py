"""One image of a person: expression, pose, light, what is worn, and the crop that a detector would give."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from zoo.data.rendered.camera import background, photograph
from zoo.data.rendered.draws import Draws
from zoo.data.rendered.extras import draw_glasses, draw_hair, draw_hat, mouth_inside
from zoo.data.rendered.facekit import HEAD
from zoo.data.rendered.person import Person, draw_people, paint, tensor
from zoo.data.rendered.raster import interpolated, rasterise
from zoo.data.rendered.rig import CENTRE, LANDMARKS, Rig, neighbours, normals, triangles_of
from zoo.faces.align import ARCFACE_TEMPLATE

LARGER = 1.5
"""Rendered this much larger than the crop, against jagged edges."""


def render(rig: Rig, seed: int, split: int, people: Tensor, shots: Tensor, size: int = 112) -> Tensor:
    """Image `shots[i]` of person `people[i]`, RGB uint8 (batch, size, size, 3): a function of these numbers alone."""
    who = Draws(seed, split, people)
    shot = Draws(seed, split, people, shots + 1)
    person = draw_people(rig, who)
    plane, colours, triangles, both = stage(rig, person, who, shot)
    large = round(size * LARGER)
    scale = torch.tensor([large / 112, large / 112, 1.0], device=rig.device)
    covered, corners, weights = rasterise(plane * scale, triangles, large, both)
    pixels = interpolated(colours, corners, weights)
    return photograph(pixels, covered, background(shot, large), shot, size)


def expression(rig: Rig, d: Draws) -> Tensor:
    """The weights of the expressions, (batch, expressions), 0 to 1."""

    def some(probability: float, high: float) -> Tensor:
        return d.chance(probability) * d.uniform() * high

    smile, jaw = some(0.6, 0.85), some(0.4, 0.22)
    jaw = torch.where(d.chance(0.04), jaw + 0.4 * d.uniform(), jaw)
    both = {
        "mouthSmile": smile,
        "mouthUpperUp": some(0.3, 0.6) + 0.3 * smile,
        "mouthLowerDown": some(0.2, 0.5) + 0.1 * smile,
        "cheekSquint": 0.5 * smile,
        "eyeSquint": some(0.4, 0.6),
        "eyeBlink": some(0.5, 0.45) + 0.5 * d.chance(0.04),
        "mouthFrown": some(0.15, 0.5),
        "mouthStretch": some(0.15, 0.6),
        "browInnerUp": some(0.25, 0.7),
        "browDown": some(0.25, 0.8),
    }
    weights = torch.zeros(len(jaw), len(rig.expressions), device=jaw.device)
    for name, at in rig.expressions.items():
        base, _, side = name.partition("_")
        if side:
            weights[:, at] = both[base] * (1 + d.normal(spread=0.12))
    weights[:, rig.expressions["jawOpen"]] = jaw
    weights[:, rig.expressions["mouthPucker"]] = some(0.1, 0.5)
    return weights.clamp(0, 1)


def stage(rig: Rig, person: Person, who: Draws, shot: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All meshes of a picture, as the camera sees them.

    Points (batch, vertices, 3) in pixels of a 112-pixel crop, and depth; linear colours (batch, vertices, 3) in their
    light; triangles (triangles, 3); and which of those (triangles,) are seen from both sides.
    """
    shape = person.shape + shot.normal(person.shape.shape[1], spread=0.08)
    points = rig.mean + (torch.cat([shape, expression(rig, shot)], 1) @ rig.basis).view(len(shape), -1, 3)
    other = shot.chance(0.2)  # another haircut
    style = Draws(torch.where(other, shot.key, who.key), 1)
    shaved = Draws(torch.where(shot.chance(0.15), shot.key, who.key), 2)
    hair, scalp = draw_hair(rig, person, points, style, shot)
    hat = draw_hat(rig, points, shot.chance(0.07), shot)
    often = Draws(who.key, 3).chance(0.16)
    worn = torch.where(often, shot.uniform() < 0.75, shot.uniform() < 0.04)
    parts = [hair, hat, mouth_inside(points), draw_glasses(points, worn, shot)]
    colours = torch.cat([paint(rig, person, scalp, shaved, shot), *(part.colours for part in parts)], 1)
    every, quads = points, [rig.quads]
    for part in parts:
        quads.append(part.quads + every.shape[1])
        every = torch.cat([every, part.points], 1)
    if rig.seams is None:
        joined = torch.cat(quads)
        rig.seams = joined, neighbours(joined.cpu(), every.shape[1]).to(rig.device)
    joined, around = rig.seams
    facing = normals(every, joined, around)
    lamps = draw_lamps(shot)
    lit = colours * light(rig, facing, lamps, shot) + gloss(rig, facing, lamps, shot)
    both = (torch.arange(len(joined), device=rig.device) >= len(rig.quads)).repeat(2)
    return project(every, points[:, LANDMARKS], shot), lit, triangles_of(joined), both


Lamps = tuple[Tensor, Tensor, Tensor]


def draw_lamps(d: Draws) -> Lamps:
    """Three lamps for each image: directions (batch, 3, 3), sharpness (batch, 3) and colours (batch, 3, 3)."""
    turn = d.normal(3, spread=0.9)
    rise = d.normal(3, spread=0.5) + 0.35
    direction = torch.stack([turn.sin() * rise.cos(), rise.sin(), turn.cos() * rise.cos()], 2)
    sharp = torch.exp(d.uniform(3, low=0.5, high=3.8))
    strength = d.uniform(3) ** 1.5 * torch.tensor([1.0, 0.6, 0.3], device=turn.device)
    warm = d.normal(3, 1, spread=0.15) * torch.tensor([1.0, 0.1, -1.0], device=turn.device)
    return direction, sharp, strength[..., None] * torch.exp(warm)


def light(rig: Rig, facing: Tensor, lamps: Lamps, d: Draws) -> Tensor:
    """The light that reaches each vertex, (batch, vertices, 3): a few soft sources and the sky, shaded by the head."""
    direction, sharp, colour = lamps
    lobes = torch.exp(sharp[..., None] * (direction @ rig.lights.T - 1)) * (sharp[..., None] + 0.5)
    sky = d.uniform(1, low=0.04, high=0.4) * (1 + d.uniform(1) * rig.lights[:, 1])
    sky = sky[..., None] * torch.exp(d.normal(1, 1, spread=0.1) * torch.tensor([1.0, 0, -1], device=rig.device))
    amount = sky + (lobes[..., None] * colour[:, :, None]).sum(1) * 1.2  # (batch, lights, 3)
    cosine = ((facing @ rig.lights.T + 0.12) / 1.12).clamp(min=0)
    cosine[:, : len(rig.mean)] *= rig.visible.T
    cosine[:, HEAD : len(rig.mean)] *= 0.6
    return cosine @ amount * (4 / len(rig.lights))


def gloss(rig: Rig, facing: Tensor, lamps: Lamps, d: Draws) -> Tensor:
    """What the skin and the eyes mirror, (batch, vertices, 1)."""
    direction, _, colour = lamps
    half = functional.normalize(direction + torch.tensor([0.0, 0, 1], device=rig.device), dim=2)
    near = (facing @ half.transpose(1, 2)).clamp(min=0)
    skin = near ** d.uniform(1, 1, low=8.0, high=30.0) * d.uniform(1, 1, high=0.16)
    eye = near**120 * 1.5
    wet = torch.zeros(facing.shape[1], 1, device=rig.device)
    wet[HEAD : len(rig.mean)] = 1
    return ((skin + (eye - skin) * wet) @ colour.mean(2, keepdim=True)).clamp(max=2)


def turns(d: Draws) -> Tensor:
    """Rotations (batch, 3, 3): to the side, then up or down, then leaning."""
    yaw, pitch = d.normal(spread=0.38).clamp(-1.1, 1.1), d.normal(spread=0.2).clamp(-0.6, 0.6)
    turn = torch.eye(3, device=yaw.device)
    for angle, i, j in ((yaw, 2, 0), (pitch, 1, 2), (d.normal(spread=0.1), 0, 1)):
        one = torch.eye(3, device=yaw.device).repeat(len(angle), 1, 1)
        one[:, i, i] = one[:, j, j] = angle.cos()
        one[:, j, i], one[:, i, j] = angle.sin(), -angle.sin()
        turn = one @ turn
    return turn


def project(points: Tensor, marks: Tensor, d: Draws) -> Tensor:
    """Points as a camera sees the turned head, aligned by five landmarks with a detector's error."""
    turn, far = turns(d), torch.exp(d.uniform(1, low=math.log(40.0), high=math.log(250.0)))

    def seen(place: Tensor) -> tuple[Tensor, Tensor]:
        """The picture's plane as complex numbers x + iy (batch, points), and the depth."""
        x, y, z = ((place - tensor(CENTRE, place)) @ turn.transpose(1, 2)).unbind(2)
        scale = far / (far - z).clamp(min=5)
        return torch.complex(x * scale, -y * scale), z

    marked, _ = seen(
        torch.stack([marks[:, 36:42].mean(1), marks[:, 42:48].mean(1), *marks[:, [30, 48, 54]].unbind(1)], 1)
    )
    template = torch.view_as_complex(tensor(ARCFACE_TEMPLATE.tolist(), points))
    target = template + torch.view_as_complex(d.normal(5, 2, spread=1.2))
    start, end = marked.mean(1, keepdim=True), target.mean(1, keepdim=True)
    z, w = marked - start, target - end
    a = (z.conj() * w).sum(1, keepdim=True) / (z.real**2 + z.imag**2).sum(1, keepdim=True)  # as zoo.faces.align does
    a = a * torch.polar(torch.exp(d.normal(1, spread=0.03)), d.normal(1, spread=0.03))
    plane, depth = seen(points)
    placed = (plane - start) * a + end + torch.view_as_complex(d.normal(1, 2, spread=1.0))
    return torch.stack([placed.real, placed.imag, depth], 2)
