"""What is put on a head: hair and hats, which are shells around the skull, the mouth's inside, and glasses."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.data.rendered.draws import Draws
from zoo.data.rendered.person import Person, each, shade
from zoo.data.rendered.rig import CENTRE, COLUMNS, HAIRLINE, LANDMARKS, LOWEST, Rig, soft

ON_SKULL, HANGING = 14, 9
ROWS = ON_SKULL + HANGING
HAT_ROWS = 8


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


def skull(rig: Rig, points: Tensor, up: Tensor, lift: Tensor) -> Tensor:
    """Places `lift` (batch, rows, COLUMNS) above the skull, `up` degrees over its middle: (batch, rows, COLUMNS, 3)."""
    radius = (points[:, rig.skull] - shade(CENTRE, points)).norm(dim=3)  # (batch, COLUMNS, degrees)
    at = (up - LOWEST).clamp(0, 89 - LOWEST).transpose(1, 2)
    low = at.floor().long()
    near, far = radius.gather(2, low), radius.gather(2, low + 1)
    reach = (near + (far - near) * (at - low)).transpose(1, 2) + lift
    angle, round_ = torch.deg2rad(up), rig.columns
    flat = angle.cos() * reach
    return torch.stack([flat * round_.sin(), angle.sin() * reach, flat * round_.cos()], 3) + shade(CENTRE, points)


def ripple(d: Draws, angles: Tensor, low: int, high: int) -> Tensor:
    """Random waves around the head, (batch, angles), about 1 in size."""
    orders = torch.arange(low, high, device=angles.device)
    phase, weight = d.uniform(high - low, high=2 * math.pi), d.normal(high - low)
    waves = torch.cos(angles[:, None] * orders + phase[:, None])
    return (waves * weight[:, None]).sum(2) * (2 / (high - low)) ** 0.5


def draw_hair(rig: Rig, who: Person, points: Tensor, d: Draws, loose: Draws) -> tuple[Part, Tensor]:
    """The hair, and the share of it on the scalp (batch, vertices). `d` draws the style, `loose` its disorder."""
    knots = torch.tensor([float(up) for _, up in HAIRLINE], device=points.device)
    front = torch.tensor([1.0, 1.0, 0.8, 0.3, 0, 0, 0, 0, 0], device=points.device)
    temples = torch.tensor([0.0, 0.6, 1.0, 0.3, 0, 0, 0, 0, 0], device=points.device)
    male = (~who.female).float()
    bald = (d.uniform() < 0.08) & ~who.female
    hairline = knots + front * each(d.uniform(low=-10.0, high=8.0)) + temples * each(
        male * d.uniform() ** 2 * 22
    )
    hairline = hairline + torch.where(bald, 60.0, 0.0)[:, None] * torch.tensor(
        [1.0, 1, 1, 1, 0.6, 0.5, 0.4, 0, 0], device=points.device
    )
    hairline = hairline.clamp(max=88)
    scalp = soft(rig.up - hairline @ rig.knots_vertices, 2.0) * rig.scalp * each(d.uniform(low=0.75, high=1.0))

    long = torch.where(who.female, d.uniform() < 0.75, d.uniform() < 0.1)
    length = torch.where(long, d.uniform(low=3.0, high=17.0), 0.0)
    top = torch.where(who.female, 0.5, 0.12) + d.uniform() ** 2 * 2.6
    side = 0.12 + d.uniform() ** 2 * torch.where(who.female, 1.6, 0.9) + torch.where(long, 1.1, 0.0)
    opening = d.uniform(low=0.75, high=1.5)
    has_fringe, deep = d.uniform() < 0.35, d.uniform(low=8.0, high=34.0)
    fringe = torch.where(has_fringe, deep, 0.0)
    tilt = d.normal(spread=0.5)
    columns = rig.columns
    ends = hairline @ rig.knots_columns
    sweep = (columns * 0.9).cos().clamp(min=0) ** 0.5 * (1 + each(tilt) * columns.sin()).clamp(0, 2)
    strands = ripple(loose, columns, 20, 60) + 1.5 * (loose.uniform(COLUMNS) - 0.5)
    jagged = (strands + ripple(d, columns, 2, 8)) * each(d.uniform(low=0.2, high=1.5) * (0.4 + has_fringe))
    ends = ends - each(fringe) * sweep - jagged.clamp(-5, 5)

    t = torch.linspace(0, 1, ON_SKULL, device=points.device)[:, None]
    up = 89.5 - (89.5 - ends[:, None]) * t
    high = soft(up - 28, 9.0)
    lift = each(side)[..., None] * (1 - high) + each(top)[..., None] * high
    lift = lift * (1 + 0.3 * ripple(d, columns, 1, 5)[:, None]).clamp(0.3, 2)
    curl = each(d.uniform() ** 3 * 0.5)[..., None]
    lift = lift * (1 + curl * (loose.uniform(ON_SKULL, COLUMNS) - 0.5) * 2)
    hangs = soft(columns.abs() - each(opening), 0.08) * each(length > 0)
    edge = torch.maximum(torch.maximum(hangs, (each(fringe) > 0) * (columns.cos() > 0.3) * 0.7), each(curl[:, 0, 0]))
    lift = lift * (1 - t**4 * (1 - edge[:, None])) + 0.06
    lift = torch.where(bald[:, None, None] & (up > -90), lift * 0.0 - 0.3, lift)
    on = skull(rig, points, up, lift)

    s = torch.linspace(0, 1, HANGING + 1, device=points.device)[1:, None]
    tip = on[:, -1:]
    fall = each(length)[..., None] * hangs[:, None] * s * (1 + 0.06 * ripple(loose, columns, 8, 30)[:, None])
    spread = 1 + hangs[:, None] * s * (each(d.uniform(low=-0.15, high=0.3))[..., None]) + 0.03 * hangs[:, None]
    below = torch.stack([tip[..., 0] * spread, tip[..., 1] - fall, (tip[..., 2] - 0.5) * spread + 0.5], 3)
    shell = torch.cat([on, below], 1)

    strands = 0.35 * ripple(loose, columns, 12, 48) + 0.2 * ripple(d, columns, 3, 12)
    fine = 0.25 * (loose.uniform(ROWS, COLUMNS) - 0.5)
    down = torch.linspace(0, 1, ROWS, device=points.device)[:, None]
    tone = torch.exp(strands[:, None] * 1.2 * each(d.uniform(low=0.3, high=1.0))[..., None] + fine + 0.3 * (down - 0.5))
    colours = who.hair[:, None, None] * tone[..., None]
    return Part(shell.flatten(1, 2), grid(COLUMNS, ROWS, points.device, closed=True), colours.flatten(1, 2)), scalp


def draw_hat(rig: Rig, points: Tensor, worn: Tensor, d: Draws) -> Part:
    """A cap, hat or hood where `worn` (batch,) says so."""
    edge = each(d.uniform(low=12.0, high=40.0)) - 14 * (1 - rig.columns.cos()) * each(d.uniform())
    t = torch.linspace(0, 1, HAT_ROWS - 1, device=points.device)[:, None]
    up = 89.5 - (89.5 - edge[:, None]) * t
    lift = 1.0 + d.uniform(1, 1, high=1.6) + d.uniform(1, 1, high=2.0) * soft(up - 45, 8.0)
    on = skull(rig, points, up, lift)
    brim = torch.where(each(d.uniform() < 0.5), rig.columns.cos().clamp(min=0) ** 2, torch.ones_like(edge))
    brim = brim * each(d.uniform(high=6.0) * (d.uniform() < 0.7))
    last = on[:, -1]
    outward = torch.stack([rig.columns.sin(), torch.full_like(rig.columns, -0.25), rig.columns.cos()], 1)
    shell = torch.cat([on, (last + outward * brim[..., None])[:, None]], 1).flatten(1, 2)
    tone = d.uniform(1, 3) ** 1.5 * 0.8 * (1 + 0.3 * ripple(d, rig.columns, 1, 30)[..., None] * d.uniform(1, 1))
    colours = tone.clamp(min=0.004)[:, None].expand(-1, HAT_ROWS, -1, -1).flatten(1, 2)
    return Part(absent(shell, worn), grid(COLUMNS, HAT_ROWS, points.device, closed=True), colours)


def absent(points: Tensor, there: Tensor) -> Tensor:
    """The points, or one far behind the head where a thing is not `there` (batch,): no triangle of it has an area."""
    return torch.where(there[:, None, None], points, torch.full_like(points, -40.0))


def mouth_inside(rig: Rig, points: Tensor) -> Part:
    """Teeth and the dark behind them, between the lips."""
    marks = list(LANDMARKS)
    top, bottom = points[:, marks[60:65]], points[:, [marks[60], *marks[67:63:-1]]]
    share = torch.linspace(0, 4, 13, device=points.device)
    low = share.long().clamp(max=3)
    part = (share - low)[:, None]
    top, bottom = (line[:, low] + (line[:, low + 1] - line[:, low]) * part for line in (top, bottom))
    behind = torch.tensor([0.0, 0.0, -0.75], device=points.device)
    heights = torch.tensor([0.5, -0.1, -0.62, -0.7], device=points.device)
    rows = [top + behind + height * torch.tensor([0.0, 1, 0], device=points.device) for height in heights]
    rows += [bottom + behind + height * torch.tensor([0.0, 1, 0], device=points.device) for height in (0.15, -0.6)]
    tooth, dark = (0.55, 0.52, 0.45), (0.03, 0.012, 0.011)
    colours = torch.tensor([tooth, tooth, tooth, dark, dark, (0.12, 0.04, 0.04)], device=points.device)
    colours = colours[:, None].expand(-1, 13, -1).flatten(0, 1).expand(len(points), -1, -1)
    return Part(torch.cat(rows, 1), grid(13, 6, points.device), colours)


def draw_glasses(rig: Rig, points: Tensor, worn: Tensor, d: Draws) -> Part:
    """Rims, bridge and temples, and dark lenses for some, where `worn` (batch,) says so."""
    marks = list(LANDMARKS)
    turn = torch.arange(32, device=points.device) / 32 * 2 * math.pi
    wide, high = each(d.uniform(low=2.1, high=2.9)), each(d.uniform(low=1.3, high=2.4))
    square = each(d.uniform(low=0.45, high=1.0))
    thick = each(d.uniform(low=0.1, high=0.45))
    x = turn.cos().sign() * turn.cos().abs() ** square
    y = turn.sin().sign() * turn.sin().abs() ** square
    y = torch.where(y > 0, y * each(d.uniform(low=0.75, high=1.0)), y)
    front = points[:, marks[27], 2] + d.uniform(low=0.3, high=0.9)
    pieces, kinds = [], []
    dark = (d.uniform() < 0.15)[:, None, None]
    for side, eye in ((-1, marks[36:42]), (1, marks[42:48])):
        middle = points[:, eye].mean(1) + torch.tensor([side * 0.25, 0.0, 0.0], device=points.device)
        for size, kind in ((thick, 0), (0 * thick, 0), (0 * thick, 1), (0 * thick - 99, 1)):
            reach_x, reach_y = (wide + size).clamp(min=0), (high + size).clamp(min=0)
            ring = torch.stack([each(middle[:, 0]) + reach_x * x, each(middle[:, 1]) + reach_y * y - 0.2], 2)
            bend = each(front) - 0.05 * (ring[..., 0].abs() - 3).clamp(min=0) ** 2 - kind * 0.02
            ring = torch.cat([ring, bend[..., None]], 2)
            if kind == 1:
                ring = torch.where(dark, ring, torch.full_like(ring, -40.0))
            pieces.append(ring)
            kinds += [kind] * 32
        hinge = torch.stack([middle[:, 0] + side * (wide + thick)[:, 0], middle[:, 1] + 0.4, front - 0.4], 1)
        ear = torch.stack([side * (points[:, :9409, 0].abs().amax(1) - 1.2), middle[:, 1] + 0.2, 0 * front], 1)
        rise = torch.stack([0 * front, d.uniform(low=0.12, high=0.35), 0 * front], 1)
        pieces += [one[:, None] for one in (hinge + rise, ear + rise, hinge - rise, ear - rise)]
        kinds += [0] * 4
    inner = [points[:, eye].mean(1)[:, 0] + side * 0.25 - side * wide[:, 0] for side, eye in
             ((-1, marks[36:42]), (1, marks[42:48]))]  # fmt: skip
    level = points[:, marks[27], 1] + d.uniform(low=-0.6, high=0.4)
    for rise in (thick[:, 0] * 0.7 + 0.08, -thick[:, 0] * 0.3):
        pieces += [torch.stack([x_, level + rise, front + 0.02], 1)[:, None] for x_ in inner]
        kinds += [0] * 2
    ring = torch.arange(32, device=points.device)
    after = (ring + 1) % 32
    loop = torch.stack([ring, after, after + 32, ring + 32], 1)
    flat = torch.tensor([[0, 1, 3, 2]], device=points.device)
    quads = torch.cat([part + start for start in (0, 132) for part in (loop, loop + 64, flat + 128)] + [flat + 264])
    of_lens = torch.tensor(kinds, device=points.device)[:, None] == 1
    rim = d.uniform(1, 1) ** 3 * 0.4 + d.uniform(1, 3) ** 6 * 0.3
    lens = d.uniform(1, 3, low=0.004, high=0.03)
    return Part(absent(torch.cat(pieces, 1), worn), quads, torch.where(of_lens, lens, rim))
