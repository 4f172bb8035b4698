"""What is put on a head: hair or a hat, which are shells around the skull, the mouth's inside, and glasses."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.data.rendered.draws import Draws
from zoo.data.rendered.facekit import FACE
from zoo.data.rendered.person import Person, tensor
from zoo.data.rendered.rig import CENTRE, COLUMNS, DEGREES, HAIRLINE, LANDMARKS, LOWEST, Rig, soft

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
    lift = (
        torch.lerp(side[..., None], top[..., None], high)
        * waved
        * (1 + curl[..., None] * (loose.uniform(ON_SKULL, COLUMNS) - 0.5) * 2)
    )
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
