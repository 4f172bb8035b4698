"""What is put on a head: hair and hats, which are shells around the skull, the mouth's inside, and glasses."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.data.rendered.draws import Draws
from zoo.data.rendered.facekit import FACE
from zoo.data.rendered.person import Person, each, tensor
from zoo.data.rendered.rig import CENTRE, COLUMNS, DEGREES, HAIRLINE, LANDMARKS, LOWEST, Rig, soft

ON_SKULL, HANGING, HAT_ROWS, RIM = 14, 9, 8, 32
"""Rows of hair on the skull and below, rows of a hat, and corners of the rim of glasses."""
ABSENT = -40.0
"""All coordinates of what is not worn: far behind the head, and without an area."""


@dataclass(frozen=True)
class Part:
    """A mesh of quads: points (batch, vertices, 3), quads (quads, 4), linear colours (batch, vertices, 3)."""

    points: Tensor
    quads: Tensor
    colours: Tensor


def grid(columns: int, rows: int, device: torch.device, closed: bool = False) -> Tensor:
    """The quads between vertices that are numbered row by row: (quads, 4)."""
    row = torch.arange(rows - 1, device=device)[:, None] * columns
    column = torch.arange(columns if closed else columns - 1, device=device)
    after = (column + 1) % columns
    corners = [row + column, row + after, row + columns + after, row + columns + column]
    return torch.stack(corners, -1).flatten(0, 1)


def on_skull(rig: Rig, points: Tensor, ends: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows from the crown down to `ends` (batch, COLUMNS), in degrees over the skull's middle.

    The degrees and the skull's radius there, (batch, rows, COLUMNS), and how far down each row is, (rows, 1).
    """
    far = (points[:, : len(rig.up)] - tensor(CENTRE, points)).norm(dim=2)[:, rig.skull]  # (batch, COLUMNS, heights)
    down = torch.linspace(0, 1, rows, device=points.device)[:, None]
    up = 89.5 - (89.5 - ends[:, None]) * down
    at = ((up - LOWEST) / DEGREES).clamp(0, far.shape[2] - 1.01).transpose(1, 2)
    low = at.floor().long()
    below, above = far.gather(2, low), far.gather(2, low + 1)
    return up, torch.lerp(below, above, at - low).transpose(1, 2), down


def placed(rig: Rig, up: Tensor, radius: Tensor) -> Tensor:
    """Points (batch, rows, COLUMNS, 3) from degrees and distances around the skull's middle."""
    angle, around = torch.deg2rad(up), rig.columns
    flat = angle.cos() * radius
    return torch.stack([flat * around.sin(), angle.sin() * radius, flat * around.cos()], 3) + tensor(CENTRE, up)


def ripple(d: Draws, angles: Tensor, low: int, high: int) -> Tensor:
    """Random waves around the head, (batch, angles), about 1 in size."""
    orders = torch.arange(low, high, device=angles.device)
    phase, weight = d.uniform(high - low, high=2 * math.pi), d.normal(high - low)
    waves = torch.cos(angles[:, None] * orders + phase[:, None])
    return (waves * weight[:, None]).sum(2) * math.sqrt(2 / (high - low))


def draw_hair(rig: Rig, who: Person, points: Tensor, d: Draws, loose: Draws) -> tuple[Part, Tensor]:
    """The hair, and the share of it on the scalp (batch, vertices). `d` draws the style, `loose` its disorder."""
    columns, male = rig.columns, ~who.female
    bald, receding = d.chance(0.08) & male, male * d.uniform() ** 2 * 22
    hairline = tensor([up for _, up in HAIRLINE], points) + each(d.uniform(low=-10.0, high=8.0)) * tensor(
        (1.0, 1.0, 0.8, 0.3, 0, 0, 0, 0, 0), points
    )
    hairline = hairline + each(receding) * tensor((0.0, 0.6, 1.0, 0.3, 0, 0, 0, 0, 0), points)
    hairline = hairline + each(bald * 60.0) * tensor((1.0, 1, 1, 1, 0.6, 0.5, 0.4, 0, 0), points)
    hairline = hairline.clamp(max=88)
    scalp = soft(rig.up - hairline @ rig.knots_vertices, 2.0) * rig.scalp * each(d.uniform(low=0.75, high=1.0))

    long = torch.where(male, d.uniform() < 0.1, d.uniform() < 0.75)
    length = long * d.uniform(low=3.0, high=17.0)
    top = torch.where(male, 0.12, 0.5) + d.uniform() ** 2 * 2.6
    side = 0.12 + d.uniform() ** 2 * torch.where(male, 0.9, 1.6) + long * 1.1
    fringed = d.chance(0.35)
    fringe = each(fringed * d.uniform(low=8.0, high=34.0))
    sweep = (columns * 0.9).cos().clamp(min=0) ** 0.5 * (1 + each(d.normal(spread=0.5)) * columns.sin()).clamp(0, 2)
    strands = ripple(loose, columns, 20, 60) + 1.5 * (loose.uniform(COLUMNS) - 0.5)
    jagged = (strands + ripple(d, columns, 2, 8)) * each(d.uniform(low=0.2, high=1.5) * (0.4 + fringed * 1.0))
    ends = hairline @ rig.knots_columns - fringe * sweep - jagged.clamp(-5, 5)

    up, radius, down = on_skull(rig, points, ends, ON_SKULL)
    high = soft(up - 28, 9.0)
    lift = side[:, None, None] * (1 - high) + top[:, None, None] * high
    lift = lift * (1 + 0.3 * ripple(d, columns, 1, 5)[:, None]).clamp(0.3, 2)
    curl = each(d.uniform() ** 3 * 0.5)
    lift = lift * (1 + curl[..., None] * (loose.uniform(ON_SKULL, COLUMNS) - 0.5) * 2)
    hangs = soft(columns.abs() - each(d.uniform(low=0.75, high=1.5)), 0.08) * each(long)
    edge = torch.maximum(torch.maximum(hangs, (fringe > 0) * (columns.cos() > 0.3) * 0.7), curl)
    lift = lift * (1 - down**4 * (1 - edge[:, None])) + 0.06
    shell = placed(rig, up, radius + torch.where(bald[:, None, None], -0.3, lift))

    further = torch.linspace(0, 1, HANGING + 1, device=points.device)[1:, None]
    x, y, z = shell[:, -1:].unbind(3)
    fall = each(length)[..., None] * hangs[:, None] * further * (1 + 0.06 * ripple(loose, columns, 8, 30)[:, None])
    spread = 1 + hangs[:, None] * (further * d.uniform(1, 1, low=-0.15, high=0.3) + 0.03)
    shell = torch.cat([shell, torch.stack([x * spread, y - fall, (z - 0.5) * spread + 0.5], 3)], 1)

    rows = shell.shape[1]
    tone = 0.35 * ripple(loose, columns, 12, 48) + 0.2 * ripple(d, columns, 3, 12)
    tone = tone[:, None] * d.uniform(1, 1, low=0.36, high=1.2) + 0.25 * (loose.uniform(rows, COLUMNS) - 0.5)
    tone = torch.exp(tone + torch.linspace(-0.15, 0.15, rows, device=points.device)[:, None])
    colours = (who.hair[:, None, None] * tone[..., None]).flatten(1, 2)
    return Part(shell.flatten(1, 2), grid(COLUMNS, rows, points.device, closed=True), colours), scalp


def draw_hat(rig: Rig, points: Tensor, worn: Tensor, d: Draws) -> Part:
    """A cap, hat or hood where `worn` (batch,) says so."""
    turned = rig.columns.cos()
    edge = each(d.uniform(low=12.0, high=40.0)) - 14 * (1 - turned) * each(d.uniform())
    up, radius, _ = on_skull(rig, points, edge, HAT_ROWS - 1)
    crown = d.uniform(1, 1, high=2.0) * soft(up - 45, 8.0)
    shell = placed(rig, up, radius + 1.0 + d.uniform(1, 1, high=1.6) + crown)
    reach = torch.where(each(d.chance(0.5)), turned.clamp(min=0) ** 2, 1.0) * each(d.uniform(high=6.0) * d.chance(0.7))
    outward = torch.stack([rig.columns.sin(), torch.full_like(turned, -0.25), turned], 1)
    shell = torch.cat([shell, shell[:, -1:] + (outward * reach[..., None])[:, None]], 1).flatten(1, 2)
    tone = d.uniform(1, 3) ** 1.5 * 0.8 * (1 + 0.3 * ripple(d, rig.columns, 1, 30)[..., None] * d.uniform(1, 1))
    colours = tone.clamp(min=0.004).repeat(1, HAT_ROWS, 1)
    shell = torch.where(worn[:, None, None], shell, ABSENT)
    return Part(shell, grid(COLUMNS, HAT_ROWS, points.device, closed=True), colours)


def mouth_inside(points: Tensor) -> Part:
    """Teeth and the dark behind them, between the lips."""
    top, bottom = points[:, LANDMARKS[60:65]], points[:, [LANDMARKS[60], *LANDMARKS[67:63:-1]]]
    share = torch.linspace(0, 3.999, 13, device=points.device)
    low = share.long()
    part = (share - low)[:, None]
    top, bottom = (line[:, low] + (line[:, low + 1] - line[:, low]) * part for line in (top, bottom))
    lines = [top + tensor((0, up, -0.75), points) for up in (0.5, -0.1, -0.62, -0.7)]
    lines += [bottom + tensor((0, up, -0.75), points) for up in (0.15, -0.6)]
    tooth, dark, tongue = (0.55, 0.52, 0.45), (0.03, 0.012, 0.011), (0.12, 0.04, 0.04)
    colours = tensor((tooth, tooth, tooth, dark, dark, tongue), points).repeat_interleave(13, 0)
    return Part(torch.cat(lines, 1), grid(13, 6, points.device), colours.expand(len(points), -1, -1))


def draw_glasses(points: Tensor, worn: Tensor, d: Draws) -> Part:
    """Rims, bridge and temples, and dark lenses for some, where `worn` (batch,) says so."""
    turn = torch.arange(RIM, device=points.device) * (2 * math.pi / RIM)
    wide, high = each(d.uniform(low=2.1, high=2.9)), each(d.uniform(low=1.3, high=2.4))
    square, thick = each(d.uniform(low=0.45, high=1.0)), each(d.uniform(low=0.1, high=0.45))
    x, y = (turned.sign() * turned.abs() ** square for turned in (turn.cos(), turn.sin()))
    y = torch.where(y > 0, y * each(d.uniform(low=0.75, high=1.0)), y)
    nose = points[:, LANDMARKS[27]]
    front, level = nose[:, 2:] + each(d.uniform(low=0.3, high=0.9)), nose[:, 1:2] + each(d.uniform(low=-0.6, high=0.4))
    dark, leg = d.chance(0.15)[:, None, None], each(d.uniform(low=0.12, high=0.35))
    temple = points[:, :FACE, 0].abs().amax(1, keepdim=True) - 1.2
    sides, bridge = [], []
    for side, eye in ((-1, LANDMARKS[36:42]), (1, LANDMARKS[42:48])):
        middle = points[:, eye].mean(1)
        eye_x, eye_y = middle[:, :1] + side * 0.25, middle[:, 1:2]

        def ring(
            wider: Tensor, behind: float, eye_x: Tensor = eye_x, eye_y: Tensor = eye_y, shrunk: float = 1.0
        ) -> Tensor:
            across = eye_x + (wide + wider) * x * shrunk
            bent = front - 0.05 * (across.abs() - 3).clamp(min=0) ** 2 - behind
            return torch.stack([across, eye_y - 0.2 + (high + wider) * y * shrunk, bent], 2)

        lens = torch.cat([ring(0 * thick, 0.02), ring(0 * thick, 0.02, shrunk=0.0)], 1)
        hinge = torch.cat([eye_x + side * (wide + thick), eye_y + 0.4, front - 0.4], 1)
        ear = torch.cat([side * temple, eye_y + 0.2, 0 * front], 1)
        legs = torch.stack(
            [end + sign * leg * tensor((0.0, 1, 0), points) for sign in (1, -1) for end in (hinge, ear)], 1
        )
        sides.append(torch.cat([ring(thick, 0.0), ring(0 * thick, 0.0), torch.where(dark, lens, ABSENT), legs], 1))
        bridge.append(eye_x + side * -1 * wide)
    heights = (level + thick * 0.7 + 0.08, level - thick * 0.3)
    span = torch.stack([torch.cat([end, up, front + 0.02], 1) for up in heights for end in bridge], 1)
    ends = grid(2, 2, points.device)
    loop = grid(RIM, 2, points.device, closed=True)
    one = torch.cat([loop, loop + 2 * RIM, ends + 4 * RIM])
    quads = torch.cat([one, one + 4 * RIM + 4, ends + 2 * (4 * RIM + 4)])
    rim = d.uniform(1, 1) ** 3 * 0.4 + d.uniform(1, 3) ** 6 * 0.3
    lens = torch.arange(4 * RIM + 4, device=points.device) // RIM
    of_lens = torch.cat([*[(lens == 2) | (lens == 3)] * 2, lens[:4] < 0])[:, None]
    shown = torch.where(worn[:, None, None], torch.cat([*sides, span], 1), ABSENT)
    return Part(shown, quads, torch.where(of_lens, d.uniform(1, 3, low=0.004, high=0.03), rim))
