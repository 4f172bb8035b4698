"""One image of a person: expression, pose, light, hair and what is worn, a detector's crop, and a camera's faults."""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from zoo.data.rendered.facekit import FACE, HEAD
from zoo.data.rendered.person import Draws, Person, draw_people, paint, tensor
from zoo.data.rendered.raster import rasterise
from zoo.data.rendered.rig import CENTRE, COLUMNS, DEGREES, HAIRLINE, LANDMARKS, LOWEST, Rig, neighbours, normals, soft
from zoo.faces.align import ARCFACE_TEMPLATE

ON_SKULL, HANGING, RIM = 14, 9, 32  #: Rows of hair on the skull and below, and corners of the rim of glasses
ABSENT = -40.0  #: All coordinates of what is not worn: far behind the head, and without an area
Part = tuple[Tensor, Tensor, Tensor]
"""A mesh of quads: points (batch, vertices, 3), quads (quads, 4), linear colours (batch, vertices, 3)."""


def grid(columns: int, rows: int, like: Tensor, closed: bool = False) -> Tensor:
    """The quads between vertices that are numbered row by row: (quads, 4)."""
    row = torch.arange(rows - 1, device=like.device)[:, None] * columns
    column = torch.arange(columns if closed else columns - 1, device=like.device)
    here, after = row + column, row + (column + 1) % columns
    return torch.stack([here, after, after + columns, here + columns], -1).flatten(0, 1)


def ripple(d: Draws, angles: Tensor, low: int, high: int) -> Tensor:
    """Random waves around the head, (batch, angles), about 1 in size."""
    orders = torch.arange(low, high, device=angles.device)
    phase, weight = d.uniform(1, high - low, high=2 * math.pi), d.normal(1, high - low)
    return (torch.cos(angles[:, None] * orders + phase) * weight).sum(2) * math.sqrt(2 / (high - low))


def draw_hair(rig: Rig, who: Person, points: Tensor, d: Draws, loose: Draws) -> tuple[Part, Tensor]:
    """Hair or a hat, and the share of hair on the scalp (batch, vertices). `loose` draws disorder and hats."""
    columns, male = rig.columns, ~who.female
    bald = (d.uniform(1) < 0.08) & male
    hairline = tensor([up for _, up in HAIRLINE], points)
    hairline = hairline + male * d.uniform(1) ** 2 * tensor((0, 13, 22, 7, 0, 0, 0, 0, 0), points)  # receding
    hairline = hairline + bald * tensor((60, 60, 60, 60, 36, 30, 24, 0, 0), points)
    hairline = hairline + d.uniform(1, low=-10.0, high=8.0) * tensor((1, 1, 0.8, 0.3, 0, 0, 0, 0, 0), points)
    hairline = hairline.clamp(max=88)
    scalp = soft(rig.up - hairline @ rig.knots_vertices, 2.0) * rig.scalp * d.uniform(1, low=0.75, high=1.0)
    long = torch.where(male, d.uniform(1) < 0.1, d.uniform(1) < 0.75)
    length, fringed = long * d.uniform(1, low=3.0, high=17.0), d.uniform(1) < 0.35
    top = torch.where(male, 0.12, 0.5) + d.uniform(1) ** 2 * 2.6
    side = 0.12 + d.uniform(1) ** 2 * torch.where(male, 0.9, 1.6) + long * 1.1
    sweep = (columns * 0.9).cos().clamp(min=0) ** 0.5 * (1 + d.normal(1, spread=0.5) * columns.sin()).clamp(0, 2)
    strands = ripple(loose, columns, 20, 60) + 1.5 * (loose.uniform(COLUMNS) - 0.5)
    jagged = (strands + ripple(d, columns, 2, 8)) * d.uniform(1, low=0.2, high=1.5) * (0.4 + fringed * 1.0)
    ends = hairline @ rig.knots_columns - fringed * d.uniform(1, low=8.0, high=34.0) * sweep - jagged.clamp(-5, 5)
    hat, front = loose.uniform(1) < 0.07, columns.cos()
    rim = loose.uniform(1, low=12.0, high=40.0) - 14 * (1 - front) * loose.uniform(1)
    away = (points[:, : len(rig.up)] - tensor(CENTRE, points)).norm(dim=2)[:, rig.skull]  # (batch, COLUMNS, heights)
    down = torch.linspace(0, 1, ON_SKULL, device=points.device)[:, None]
    up = 89.5 - (89.5 - torch.where(hat, rim, ends)[:, None]) * down  # degrees: from the crown down
    at = ((up - LOWEST) / DEGREES).clamp(0, away.shape[2] - 1.01).transpose(1, 2)
    low = at.floor().long()
    radius = torch.lerp(away.gather(2, low), away.gather(2, low + 1), at - low).transpose(1, 2)
    high, curl = soft(up - 28, 9.0), d.uniform(1) ** 3 * 0.5
    waved = (1 + 0.3 * ripple(d, columns, 1, 5)[:, None]).clamp(0.3, 2)
    curled = 1 + curl[..., None] * (loose.uniform(ON_SKULL, COLUMNS) - 0.5) * 2
    lift = torch.lerp(side[..., None], top[..., None], high) * waved * curled
    hangs = soft(columns.abs() - d.uniform(1, low=0.75, high=1.5), 0.08) * long
    edge = torch.maximum(torch.maximum(hangs, fringed * (front > 0.3) * 0.7), curl)
    lift = torch.where(bald[..., None], -0.3, lift * (1 - down**4 * (1 - edge[:, None])) + 0.06)
    brim = loose.uniform(1, low=-2.0, high=6.0).clamp(min=0)
    brim = brim * torch.where(loose.uniform(1) < 0.5, front.clamp(min=0) ** 2, 1.0)
    stiff = loose.uniform(1, 1, low=1.0, high=2.6) + loose.uniform(1, 1, high=2.0) * high + brim[:, None] * down**16
    angle, far = torch.deg2rad(up), radius + torch.where(hat[..., None], stiff, lift)
    flat = angle.cos() * far
    shell = torch.stack([flat * columns.sin(), angle.sin() * far, flat * front], 3) + tensor(CENTRE, points)
    further = torch.linspace(0, 1, HANGING + 1, device=points.device)[1:, None]
    x, y, z = shell[:, -1:].unbind(3)
    hangs = hangs * ~hat
    fall = (length * hangs * (1 + 0.06 * ripple(loose, columns, 8, 30)))[:, None] * further
    spread = 1 + hangs[:, None] * (further * d.uniform(1, 1, low=-0.15, high=0.3) + 0.03)
    shell = torch.cat([shell, torch.stack([x * spread, y - fall, (z - 0.5) * spread + 0.5], 3)], 1)
    tone = 0.35 * ripple(loose, columns, 12, 48) + 0.2 * ripple(d, columns, 3, 12)
    tone = tone[:, None] * d.uniform(1, 1, low=0.36, high=1.2) + 0.25 * (loose.uniform(len(shell[0]), COLUMNS) - 0.5)
    tone = torch.exp(tone + torch.linspace(-0.15, 0.15, len(shell[0]), device=points.device)[:, None])
    dyed = torch.where(hat, loose.uniform(3) ** 1.5 * 0.8 + 0.004, who.hair)
    colours = (dyed[:, None, None] * tone[..., None]).flatten(1, 2)
    return (shell.flatten(1, 2), grid(COLUMNS, ON_SKULL + HANGING, points, closed=True), colours), scalp


def mouth_inside(points: Tensor) -> Part:
    """Teeth and the dark behind them, between the lips."""
    top, bottom = points[:, LANDMARKS[60:65]], points[:, (LANDMARKS[60], *LANDMARKS[67:63:-1])]
    lines = [top + tensor((0, up, -0.75), points) for up in (0.5, -0.1, -0.62, -0.7)]
    lines += [bottom + tensor((0, up, -0.75), points) for up in (0.15, -0.6)]
    tooth, dark, tongue = (0.55, 0.52, 0.45), (0.03, 0.012, 0.011), (0.12, 0.04, 0.04)
    colours = tensor((tooth, tooth, tooth, dark, dark, tongue), points).repeat_interleave(5, 0)
    return (torch.cat(lines, 1), grid(5, 6, points), colours.expand(len(points), -1, -1))


def draw_glasses(points: Tensor, worn: Tensor, d: Draws) -> Part:
    """Rims, bridge and legs, and dark lenses for some, where `worn` (batch,) says so."""
    turn = torch.arange(RIM, device=points.device) * (2 * math.pi / RIM)
    wide, high = d.uniform(1, low=2.1, high=2.9), d.uniform(1, low=1.3, high=2.4)
    square, thick = d.uniform(1, low=0.45, high=1.0), d.uniform(1, low=0.1, high=0.45)
    x, y = (turned.sign() * turned.abs() ** square for turned in (turn.cos(), turn.sin()))
    y = torch.where(y > 0, y * d.uniform(1, low=0.75, high=1.0), y)
    nose = points[:, LANDMARKS[27]]
    front, level = nose[:, 2:] + d.uniform(1, low=0.3, high=0.9), nose[:, 1:2] + d.uniform(1, low=-0.6, high=0.4)
    dark, leg = d.uniform(1, 1) < 0.15, d.uniform(1, low=0.12, high=0.35)
    temple = points[:, :FACE, 0].abs().amax(1, keepdim=True) - 1.2

    def ring(eye: Tensor, size: Tensor | float, behind: float = 0.0) -> Tensor:
        across, up = eye[:, :1] + (wide + size).clamp(min=0) * x, eye[:, 1:2] + (high + size).clamp(min=0) * y - 0.2
        return torch.stack([across, up, front - 0.05 * (across.abs() - 3).clamp(min=0) ** 2 - behind], 2)

    def bar(ends: Sequence[Tensor], up: Tensor, depths: Sequence[Tensor], high: Tensor) -> Tensor:
        corners = [(x, up + sign * high, z) for sign in (1, -1) for x, z in zip(ends, depths, strict=True)]
        return torch.stack([torch.cat(corner, 1) for corner in corners], 1)

    pieces, ends = [], []
    for side, eye in ((-1, LANDMARKS[36:42]), (1, LANDMARKS[42:48])):
        middle = points[:, eye].mean(1) + tensor((side * 0.25, 0, 0), points)
        lens = torch.cat([ring(middle, 0.0, 0.02), ring(middle, -99.0, 0.02)], 1)
        hinge = middle[:, :1] + side * (wide + thick)
        legs = bar((hinge, side * temple), middle[:, 1:2] + 0.3, (front - 0.4, 0 * front), leg)
        pieces += [ring(middle, thick), ring(middle, 0.0), torch.where(dark, lens, ABSENT), legs]
        ends.append(middle[:, :1] - side * wide)
    pieces.append(bar(ends, level + thick * 0.2 + 0.04, (front + 0.02, front + 0.02), thick * 0.5 + 0.04))
    loop, flat, half = grid(RIM, 2, points, closed=True), grid(2, 2, points), 4 * RIM + 4
    one = torch.cat([loop, loop + 2 * RIM, flat + 4 * RIM])
    quads = torch.cat([one, one + half, flat + 2 * half])
    number = torch.arange(2 * half + 4, device=points.device)
    of_lens = (number % half // (2 * RIM) == 1)[:, None] & (number < 2 * half)[:, None]
    rim = d.uniform(1, 1) ** 3 * 0.4 + d.uniform(1, 3) ** 6 * 0.3
    shown = torch.where(worn[:, None, None], torch.cat(pieces, 1), ABSENT)
    return (shown, quads, torch.where(of_lens, d.uniform(1, 3, low=0.004, high=0.03), rim))


def render(rig: Rig, seed: int, people: Tensor, shots: Tensor, size: int = 112) -> Tensor:
    """Image `shots[i]` of person `people[i]`, RGB uint8 (batch, size, size, 3): a function of these numbers alone."""
    who, shot = Draws(seed, people), Draws(seed, people, shots + 1)
    plane, colours, quads, both = stage(rig, draw_people(rig, who), who, shot)
    large = round(size * 1.5)  # against jagged edges
    covered, pixels = rasterise(plane * tensor((large / 112, large / 112, 1), plane), colours, quads, large, both)
    return photograph(pixels, covered, background(shot, large), shot, size)


def expression(rig: Rig, d: Draws) -> Tensor:
    """The weights of the expressions, (batch, expressions), 0 to 1."""

    def some(probability: float, high: float) -> Tensor:
        return (d.uniform() < probability) * d.uniform(high=high)

    smile = some(0.6, 0.85)
    both = {"jawOpen": some(0.4, 0.22) + some(0.04, 0.4), "mouthPucker": some(0.1, 0.5), "mouthSmile": smile,
            "mouthUpperUp": some(0.3, 0.6) + 0.3 * smile, "mouthLowerDown": some(0.2, 0.5) + 0.1 * smile,
            "cheekSquint": 0.5 * smile, "eyeSquint": some(0.4, 0.6), "eyeBlink": some(0.5, 0.45) + some(0.04, 0.5),
            "mouthFrown": some(0.15, 0.5), "mouthStretch": some(0.15, 0.6), "browInnerUp": some(0.25, 0.7),
            "browDown": some(0.25, 0.8)}  # fmt: skip
    weights = torch.stack([both[name.partition("_")[0]] for name in rig.expressions], 1)
    return (weights * (1 + d.normal(len(rig.expressions), spread=0.12))).clamp(0, 1)


def stage(rig: Rig, person: Person, who: Draws, shot: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All meshes as the camera sees them: points (batch, vertices, 3) in pixels of a 112-pixel crop, and depth; linear
    colours (batch, vertices, 3) in their light; quads (quads, 4); which of those are seen from both sides.
    """
    shape = person.shape + shot.normal(person.shape.shape[1], spread=0.08)
    points = rig.mean + (torch.cat([shape, expression(rig, shot)], 1) @ rig.basis).view(len(shape), -1, 3)
    style = Draws(torch.where(shot.uniform() < 0.2, shot.key, who.key), 1)  # some have had another haircut, or a shave
    shaved = Draws(torch.where(shot.uniform() < 0.15, shot.key, who.key), 2)
    hair, scalp = draw_hair(rig, person, points, style, shot)
    glasses = shot.uniform() < torch.where(Draws(who.key, 3).uniform() < 0.16, 0.75, 0.04)
    skin = points, rig.quads, paint(rig, person, scalp, shaved, shot)
    every, quads, colours = zip(skin, hair, mouth_inside(points), draw_glasses(points, glasses, shot), strict=True)
    starts = accumulate((mesh.shape[1] for mesh in every), initial=0)
    joined, vertices = torch.cat([one + start for one, start in zip(quads, starts, strict=False)]), torch.cat(every, 1)
    if rig.around is None:
        rig.around = neighbours(joined.cpu(), vertices.shape[1]).to(joined.device)
    lit = shaded(rig, torch.cat(colours, 1), normals(vertices, joined, rig.around), shot)
    both = torch.arange(len(joined), device=joined.device) >= len(rig.quads)
    return project(vertices, points[:, LANDMARKS], shot), lit, joined, both


def shaded(rig: Rig, colours: Tensor, facing: Tensor, d: Draws) -> Tensor:
    """Colours, by the normals (both batch, vertices, 3), in the light of three lamps and the sky, with a gloss."""
    turn, rise = d.normal(3, spread=0.9), d.normal(3, spread=0.5) + 0.35
    lamps = torch.stack([turn.sin() * rise.cos(), rise.sin(), turn.cos() * rise.cos()], 2)
    sharp = torch.exp(d.uniform(3, 1, low=0.5, high=3.8))
    warm = torch.exp(d.normal(3, 1, spread=0.15) * tensor((1, 0.1, -1), turn))
    lamp = d.uniform(3, 1) ** 1.5 * tensor([[1], [0.6], [0.3]], turn) * warm
    lobes = torch.exp(sharp * (lamps @ rig.lights.T - 1)) * (sharp + 0.5)
    sky = d.uniform(1, low=0.04, high=0.4) * (1 + d.uniform(1) * rig.lights[:, 1])
    sky = sky[..., None] * torch.exp(d.normal(1, 1, spread=0.1) * tensor((1, 0, -1), turn))
    amount = sky + (lobes[..., None] * lamp[:, :, None]).sum(1) * 1.2  # (batch, lights, 3)
    cosine = ((facing @ rig.lights.T + 0.12) / 1.12).clamp(min=0)
    cosine[:, : len(rig.mean)] *= rig.visible.T
    cosine[:, HEAD : len(rig.mean)] *= 0.6  # lids shade the eyes
    near = (facing @ functional.normalize(lamps + tensor((0, 0, 1), turn), dim=2).transpose(1, 2)).clamp(min=0)
    mirrored = near ** d.uniform(1, 1, low=8.0, high=30.0) * d.uniform(1, 1, high=0.16)
    mirrored[:, HEAD : len(rig.mean)] = near[:, HEAD : len(rig.mean)] ** 120 * 1.5
    return colours * (cosine @ amount * (4 / len(rig.lights))) + (mirrored @ lamp.mean(2, keepdim=True)).clamp(max=2)


def project(points: Tensor, marks: Tensor, d: Draws) -> Tensor:
    """Points as a camera sees the turned head, aligned by five landmarks with a detector's error."""
    spreads = (0.38, 1.1), (0.2, 0.6), (0.1, 1.0)  # how much, and the most, to the side, up or down, leaning
    angles = [d.normal(1, spread=spread).clamp(-most, most) for spread, most in spreads]
    far = torch.exp(d.uniform(1, low=math.log(40.0), high=math.log(250.0)))

    def seen(place: Tensor) -> tuple[Tensor, Tensor]:
        """The picture's plane as complex numbers x + iy (batch, points), and the depth."""
        turned = list((place - tensor(CENTRE, place)).unbind(2))
        for angle, i, j in zip(angles, (2, 1, 0), (0, 2, 1), strict=True):
            p, q, cos, sin = turned[i], turned[j], angle.cos(), angle.sin()
            turned[i], turned[j] = p * cos - q * sin, p * sin + q * cos
        x, y, z = turned
        scale = far / (far - z).clamp(min=5)
        return torch.complex(x * scale, -y * scale), z

    five = [marks[:, 36:42].mean(1), marks[:, 42:48].mean(1), *marks[:, [30, 48, 54]].unbind(1)]
    marked, _ = seen(torch.stack(five, 1))
    template = torch.view_as_complex(tensor(ARCFACE_TEMPLATE.tolist(), points))
    target = template + torch.view_as_complex(d.normal(5, 2, spread=1.2))
    start, end = marked.mean(1, keepdim=True), target.mean(1, keepdim=True)
    z, w = marked - start, target - end
    a = (z.conj() * w).sum(1, keepdim=True) / (z.real**2 + z.imag**2).sum(1, keepdim=True)  # as zoo.faces.align does
    a = a * torch.polar(torch.exp(d.normal(1, spread=0.03)), d.normal(1, spread=0.03))
    plane, depth = seen(points)
    placed = (plane - start) * a + end + torch.view_as_complex(d.normal(1, 2, spread=1.0))
    return torch.stack([placed.real, placed.imag, depth], 2)


def background(d: Draws, size: int) -> Tensor:
    """Blurred patches of several sizes, (batch, size, size, 3), as shown: 0 to 1."""
    total, rough = d.uniform(1, 1, 1) + d.normal(1, 1, 3) * 0.1, d.uniform(1, 1, 1)
    for cells in (2, 4, 9, 23):
        patch = d.normal(cells, cells, 3) * 0.2 + d.normal(cells, cells, 1) * 0.8
        row, column = (torch.arange(many, device=rough.device) for many in (size, cells))
        bumps = torch.exp(-1.5 * (row[:, None] * (cells / size) - column) ** 2)
        bumps = bumps / bumps.sum(1, keepdim=True)
        total = total + both_ways(bumps, patch, bumps) * d.uniform(1, 1, 1) ** 2 * (0.05 + 0.25 * rough)
    return total.clamp(0, 1)


def photograph(pixels: Tensor, covered: Tensor, around: Tensor, d: Draws, size: int) -> Tensor:
    """uint8 (batch, size, size, 3) of linear light (batch, large, large, 3), where `covered`, before a background."""
    face = covered[..., None]
    mean = (pixels * face).mean((1, 2, 3), keepdim=True) / face.float().mean((1, 2, 3), keepdim=True).clamp(min=1e-6)
    exposed = pixels * torch.exp(d.normal(1, 1, 1, spread=0.35)) * 0.25 / mean.clamp(min=1e-3)
    shown = (1 - torch.exp(-1.4 * exposed)).clamp(min=1e-5) ** (1 / 2.2) * 1.05
    picture = torch.where(face, shown, around)
    # something in front of some faces: a rounded bar of any direction, from the border inwards
    place = torch.arange(picture.shape[1], device=picture.device) / picture.shape[1] - 0.5
    turn, x, y = d.uniform(1, 1, high=6.2832), place, place[:, None]
    inward, along = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    bend = ((along - d.uniform(1, 1, low=-0.5, high=0.5)) / d.uniform(1, 1, low=0.05, high=0.5)) ** 2 * 0.3
    depth = (inward - d.uniform(1, 1, low=0.12, high=0.6) - bend)[..., None]
    colour = (d.uniform(1, 1, 3) + 0.3 * d.normal(1, 1, 3) * depth).clamp(0, 1)
    picture = torch.where((depth > 0) & (d.uniform(1, 1, 1) < 0.15), colour, picture)
    gamma, contrast = d.normal(1, 1, 1, spread=0.2).exp(), d.normal(1, 1, 1, spread=0.2).exp()
    picture = (picture.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + d.normal(1, 1, 1, spread=0.06)
    picture = picture * (1 + d.normal(1, 1, 3, spread=0.05))
    faded = d.uniform(1, 1, 1) * (d.uniform(1, 1, 1) < 0.5) * 0.7
    faded = torch.where(d.uniform(1, 1, 1) < 0.55, 1.0, faded)  # more than half are grey
    picture = torch.lerp(picture, (picture * tensor((0.299, 0.587, 0.114), picture)).sum(3, keepdim=True), faded)
    across, down = (optics(d, picture.shape[1], size) for _ in range(2))
    moved = d.uniform(1, 1) < 0.3  # blur that differs across and down
    small = both_ways(torch.where(moved, down, across), picture, across)
    grain = (d.uniform(size, size, 3) - 0.5) * 3
    small = small + torch.lerp(grain, grain.mean(3, keepdim=True) * 1.6, faded) * d.uniform(1, 1, 1) ** 3 * 0.045
    return (small.clamp(0, 1) * 255).round().to(torch.uint8)


def optics(d: Draws, large: int, size: int) -> Tensor:
    """What blur and a low resolution do along one axis: (batch, size, large), a row for each pixel of the crop."""
    coarse = torch.where(d.uniform(1, 1) < 0.35, d.uniform(1, 1, low=1.0, high=size / 20), 1.0)
    wide = ((0.35 + 1.6 * d.uniform(1, 1) ** 3) ** 2 + (0.45 * coarse) ** 2 - 0.2).clamp(min=0.2)
    source, cell = (torch.arange(many, device=wide.device) + 0.5 for many in (large, size))
    taken = torch.exp(-0.5 * (source * (size / large) - cell[:, None]) ** 2 / wide)
    return taken / taken.sum(2, keepdim=True)


def both_ways(down: Tensor, picture: Tensor, across: Tensor) -> Tensor:
    """A picture (batch, height, width, channels) with `down` (…, rows, height) and `across` (…, columns, width)."""
    down, across = (one if one.dim() == 2 else one[:, None] for one in (down, across))
    return (down @ picture.permute(0, 3, 1, 2) @ across.transpose(-1, -2)).permute(0, 2, 3, 1)
