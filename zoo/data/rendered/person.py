"""Who is rendered: the shape of a head, its skin, brows, beard, eyes and hair."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.data.rendered.facekit import FACE, HEAD, IDENTITIES
from zoo.data.rendered.rig import WAVES, Rig, soft

GOLDEN = -0x61C8864680B583EB  #: 2⁶⁴ over the golden ratio, as a signed number; so are the factors below
AHEAD = 1024  #: Numbers that a stream makes at once: a GPU takes longer to be told what to do than to do it
SKIN = (0.70, 0.52, 0.43)  #: Skin without melanin and blood, linear red, green and blue; so are all colours here
MELANIN, BLOOD = (1.9, 2.4, 2.75), (0.15, 0.75, 0.65)  #: How much of each colour they take away, as exponents
HAIR = ((0.012, 0.010, 0.009), (0.035, 0.02, 0.013), (0.09, 0.05, 0.028), (0.20, 0.12, 0.06), (0.38, 0.27, 0.15),
        (0.16, 0.05, 0.02), (0.30, 0.29, 0.28), (0.60, 0.59, 0.57))  # fmt: skip
"""Black, two browns, two blonds, red, grey, white."""
IRIS = ((0.06, 0.03, 0.015), (0.12, 0.07, 0.03), (0.14, 0.13, 0.06), (0.10, 0.16, 0.21), (0.14, 0.16, 0.17))


class Draws:
    """A stream of random numbers for each image of a batch: word n of a key is SplitMix64's, of key + n · golden.

    `parts`, integers and tensors (batch,) of them, are the key. Source: Steele et al., OOPSLA 2014, SplittableRandom.
    """

    def __init__(self, *parts: int | Tensor) -> None:
        device = next(part.device for part in parts if isinstance(part, Tensor))
        self.key = torch.zeros((), dtype=torch.int64, device=device)
        for part in parts:
            self.key = stirred(self.key ^ part)
        self.made, self.ahead = 0, torch.empty(len(self.key), 0, device=device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(batch, *shape) from [low, high)."""
        count = math.prod(shape)
        if self.ahead.shape[1] < count:
            number = torch.arange(1, max(count, AHEAD) + 1, device=self.key.device) + self.made
            words = stirred(self.key[:, None] + number * GOLDEN)
            self.ahead = torch.cat([self.ahead, (words >> 40 & (1 << 24) - 1).float() * 2.0**-24], 1)
            self.made += len(number)
        share, self.ahead = self.ahead[:, :count], self.ahead[:, count:]
        return low + (high - low) * share.reshape(-1, *shape)

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        """(batch, *shape), nearly normal: the sum of four uniform ones, so that none is beyond 3.5 deviations."""
        return (self.uniform(4, *shape).sum(1) - 2) * (spread * 3**0.5)


def stirred(word: Tensor) -> Tensor:
    """SplitMix64's output function, in int64, whose products wrap."""
    word = word + GOLDEN
    word = (word ^ (word >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    word = (word ^ (word >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return word ^ (word >> 31 & (1 << 33) - 1)


@dataclass(frozen=True)
class Person:
    """A batch of people."""

    shape: Tensor  #: (batch, 100)
    female: Tensor  #: (batch, 1) bool
    hair: Tensor  #: (batch, 3)
    iris: Tensor  #: (batch, 3)
    skin: Tensor  #: (batch, vertices, 3): without hair
    brow: Tensor  #: (batch, vertices): share of hair


def tensor(values: Sequence[Any], like: Tensor) -> Tensor:
    """Numbers in float32 on the device of `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)


def choose(d: Draws, table: Sequence[Sequence[float]], *weights: Tensor) -> Tensor:
    """A row of `table` for each image, (batch, 3), a little lighter or darker, as often as weights (batch, 1) say."""
    steps = torch.cat(weights, 1).cumsum(1)
    row = (d.uniform(1) * steps[:, -1:] > steps).sum(1).clamp(max=len(table) - 1)
    return tensor(table, steps)[row] * d.uniform(1, low=0.65, high=1.25)


def draw_people(rig: Rig, d: Draws) -> Person:
    """People from their draws."""
    shape = d.normal(IDENTITIES, spread=1.1)
    female, age = d.uniform(1) < 0.42, d.uniform(1) ** 1.3
    melanin, blood = d.uniform(1) ** 1.7, d.uniform(1, low=0.1, high=0.5)
    dark, old, one = soft(melanin - 0.45, 0.06), soft(age - 0.75, 0.08), torch.ones_like(age)
    fair = (1 - dark) * (1 - old)
    hair = choose(d, HAIR, 0.5 + dark * 3, one, fair, fair * 0.8, fair * 0.6, fair * 0.3, old * 2, old)
    iris = choose(d, IRIS, 1 + 3 * dark, one, fair, fair, fair)
    amplitudes = d.uniform(3, len(WAVES)) ** 2 * tensor([0.2, 0.12, 0.08, 0.05, 0.06], age)
    counts = torch.tensor([count for _, count in WAVES], device=age.device)
    waves = d.normal(3, len(rig.waves)) * amplitudes.repeat_interleave(counts, 2, output_size=len(rig.waves))
    patches, flush, tone = (waves @ rig.waves).unbind(1)
    freckles = d.uniform(1) ** 4 * 1.2 * soft(d.normal(64) @ rig.waves[-64:] * 0.7 - 0.9, 0.15)
    tan = melanin * (1 + 0.9 * patches) + freckles * (rig.cheek + rig.nose).clamp(max=1) * 0.4
    red = blood * (1 + 1.5 * flush) + rig.cheek * d.uniform(1, high=0.5) + rig.nose * d.uniform(1, high=0.4)
    red = red + rig.lips * d.uniform(1, low=0.5, high=2.0)
    deep = 0.9 * tone + rig.lips * d.uniform(1, high=0.5) + rig.lid * d.uniform(1, high=0.4)
    deep = deep + rig.fold * age * d.uniform(1, high=0.9) + rig.bag * d.uniform(1) ** 2 * 0.7 * (0.4 + age)
    deep = deep + rig.lash * d.uniform(1, low=0.9, high=2.6) + rig.crevice * d.uniform(1, low=2.0, high=5.0)
    apart = torch.cdist(rig.mean[(d.uniform(4) * FACE).long()], rig.mean[None]) / d.uniform(4, 1, low=0.08, high=0.2)
    moles = (d.uniform(4, 1) < 0.35) * d.uniform(4, 1, low=0.3, high=1.5)
    deep = deep + (torch.exp(-0.5 * apart**2) * moles).sum(1)
    taken = tan[..., None] * tensor(MELANIN, tan) + red[..., None] * tensor(BLOOD, red) + deep[..., None]
    along = rig.brow_along
    arched = d.uniform(1, low=-0.1, high=0.4) * (1 - ((along - 0.6) / 0.6) ** 2)
    middle = d.uniform(1, low=-0.25, high=0.35) + d.uniform(1, low=-0.5, high=0.3) * (along - 0.5) + arched
    width = d.uniform(1, low=0.26, high=0.75) * torch.where(female, 0.75, 1.0) * (1.15 - 0.65 * along.clamp(0, 1))
    within = soft(along - d.uniform(1, low=-0.06, high=0.08), 0.03)
    within = within * soft(d.uniform(1, low=0.85, high=1.05) - along, 0.04) * d.uniform(1, low=0.6, high=1.0)
    rough = 0.9 + 0.15 * (d.normal(64) @ rig.waves[-64:])
    brow = soft(width - (rig.brow_above - middle).abs(), 0.085) * within * rough
    return Person(shape, female, hair, iris, tensor(SKIN, deep) * torch.exp(-taken), brow.clamp(0, 1))


def paint(rig: Rig, who: Person, scalp: Tensor, beards: Draws, shot: Draws) -> Tensor:
    """The colour of each vertex in an image, (batch, vertices, 3). `scalp`: the share of hair there, without brows."""
    coarse = len(rig.waves) - 128  # what changes from day to day: a tan, powder, a flush, dirt
    passing = shot.normal(3, coarse, spread=0.1) @ rig.waves[:coarse] * shot.uniform(1, 1)
    colour = who.skin * torch.exp(passing.mean(1)[..., None] + 0.3 * passing.transpose(1, 2))
    kind, dense = beards.uniform(1), beards.uniform(1, low=0.4, high=1.0)
    full = torch.where(kind < 0.16, dense, torch.where(kind < 0.45, dense * 0.4 * beards.uniform(1), 0.0))
    goatee = torch.where((kind > 0.45) & (kind < 0.55), dense, full)
    moustache = torch.where((kind > 0.55) & (kind < 0.65), dense, goatee) * beards.uniform(1, low=0.5, high=1.0)
    beard = torch.maximum(torch.maximum(rig.beard * full, rig.goatee * goatee), rig.moustache * moustache)
    beard = (beard * ~who.female * (0.9 + 0.12 * (beards.normal(64) @ rig.waves[-64:]))).clamp(0, 1)
    share = torch.maximum(torch.maximum(who.brow, beard), scalp)[..., None]
    colour = torch.lerp(colour, who.hair[:, None] * 0.45, share)
    lipstick = (shot.uniform(1) * (shot.uniform(1) < 0.3) * who.female * rig.lips)[..., None]
    colour = torch.lerp(colour, shot.uniform(1, 3) * tensor((0.5, 0.1, 0.12), colour), lipstick)
    collar = soft(-12.0 - shot.uniform(1, high=3.0) - rig.cloth, 0.1)[..., None]
    return torch.cat([torch.lerp(colour, shot.uniform(1, 3) ** 2 * 0.7, collar)[:, :HEAD], eyes(rig, who, shot)], 1)


def eyes(rig: Rig, who: Person, shot: Draws) -> Tensor:
    """The colour of each vertex of the eyeballs, (batch, vertices of eyeballs, 3)."""
    balls = rig.mean[HEAD:].view(2, -1, 3)
    away = functional.normalize(balls - balls.mean(1, keepdim=True), dim=2).flatten(0, 1)
    yaw, pitch = shot.normal(spread=0.18), shot.normal(spread=0.1)
    gaze = torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], 1)
    angle = torch.acos((gaze @ away.T).clamp(-1, 1)) / shot.uniform(1, low=0.5, high=0.56)  # in radii of the iris
    white = tensor((0.42, 0.38, 0.36), angle) * shot.uniform(1, 1, low=0.6, high=1.1)
    tint = who.iris[:, None] * (1 - 0.75 * soft(angle - 0.8, 0.06)[..., None])
    pupil = soft(angle - shot.uniform(1, low=0.3, high=0.55), 0.04)[..., None]
    return torch.lerp(tint * pupil, white, soft(angle - 1, 0.04)[..., None])
