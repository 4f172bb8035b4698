"""From light to a picture: background, things in front, exposure, blur, low resolution, noise, compression, grey."""

import torch
from torch import Tensor

from zoo.data.rendered.draws import Draws


def background(d: Draws, size: int) -> Tensor:
    """Blurred patches of several sizes, (batch, size, size, 3), as shown: 0 to 1."""
    total = d.uniform(1, 1, 1) + d.normal(1, 1, 3) * 0.1
    rough = d.uniform(1, 1, 1)
    for cells in (2, 4, 9, 23):
        patch = (d.normal(cells, cells, 3) * 0.2 + d.normal(cells, cells, 1) * 0.8) * d.uniform(1, 1, 1) ** 2
        patch = patch * (0.25 * (0.2 + rough))
        place = torch.arange(size, device=rough.device)[:, None] * (cells / size) - torch.arange(
            cells, device=rough.device
        )
        bumps = torch.exp(-1.5 * place**2)
        bumps = bumps / bumps.sum(1, keepdim=True)
        total = total + both_ways(bumps, patch, bumps)
    return total.clamp(0, 1)


def photograph(pixels: Tensor, covered: Tensor, around: Tensor, d: Draws, size: int) -> Tensor:
    """uint8 (batch, size, size, 3) of linear light (batch, large, large, 3), where `covered`, before a background."""
    face = covered[..., None]
    mean = (pixels * face).sum((1, 2, 3)) / (face.sum((1, 2, 3)) * 3).clamp(min=1)
    exposed = pixels * (torch.exp(d.normal(spread=0.35)) * 0.25 / mean.clamp(min=1e-3))[:, None, None, None]
    shown = (1 - torch.exp(-1.4 * exposed)).clamp(min=1e-5) ** (1 / 2.2) * 1.05
    picture = torch.where(face, shown, around)
    picture = occluded(picture, d)
    contrast, gamma = d.normal(1, 1, 1, spread=0.2).exp(), d.normal(1, 1, 1, spread=0.2).exp()
    picture = ((picture.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + d.normal(1, 1, 1, spread=0.06)) * (
        1 + d.normal(1, 1, 3, spread=0.05)
    )
    faded = d.uniform(1, 1, 1) * (d.uniform(1, 1, 1) < 0.5)
    faded = torch.where(d.uniform(1, 1, 1) < 0.55, 1.0, faded * 0.7)
    grey = (picture * torch.tensor([0.299, 0.587, 0.114], device=picture.device)).sum(3, keepdim=True)
    picture = picture + (grey - picture) * faded
    across, down = optics(d, picture.shape[1], size), optics(d, picture.shape[1], size)
    stretched = d.chance(0.3)[:, None, None]  # blur that differs across and down: motion
    down = torch.where(stretched, down, across)
    small = both_ways(down, picture, across)
    grain = (d.uniform(size, size, 3) - 0.5) * 3
    grain = grain + (grain.mean(3, keepdim=True) * 1.6 - grain) * faded
    small = small + grain * d.uniform(1, 1, 1) ** 3 * 0.045
    small = torch.where(d.chance(0.4)[:, None, None, None], compressed(small, d), small)
    return (small.clamp(0, 1) * 255).round().to(torch.uint8)


def occluded(picture: Tensor, d: Draws) -> Tensor:
    """Something in front of a tenth of the faces: a rounded bar of any direction, from the border inwards."""
    size = picture.shape[1]
    place = torch.arange(size, device=picture.device) / size - 0.5
    turn, start = d.uniform(high=6.2832), d.uniform(low=0.12, high=0.6)
    inward = place[None, None] * turn.cos()[:, None, None] + place[None, :, None] * turn.sin()[:, None, None]
    along = place[None, :, None] * turn.cos()[:, None, None] - place[None, None] * turn.sin()[:, None, None]
    wide = d.uniform(1, 1, low=0.05, high=0.5)
    depth = inward - start[:, None, None] - ((along - d.uniform(1, 1, low=-0.5, high=0.5)) / wide) ** 2 * 0.3
    colour = d.uniform(1, 1, 3) + 0.3 * d.normal(1, 1, 3) * depth[..., None]
    shown = (depth > 0) & d.chance(0.15)[:, None, None]
    return torch.where(shown[..., None], colour.clamp(0, 1), picture)


def optics(d: Draws, large: int, size: int) -> Tensor:
    """What blur and a low resolution do along one axis: (batch, size, large), a row for each pixel of the crop.

    The picture is blurred, sampled at 14 to `size` places and interpolated again.
    """
    poor = d.uniform()
    cells = torch.where(d.chance(0.35), (20 + (size - 20) * poor).round(), float(size))[:, None, None]
    blur = large / size * (0.35 + 1.6 * d.uniform(1, 1) ** 3)
    source = (torch.arange(large, device=poor.device) + 0.5) * (size / large)  # in pixels of the crop
    cell = torch.arange(size, device=poor.device)
    middle = (cell[:, None] + 0.5) * (size / cells)
    wide = ((blur * size / large) ** 2 + (0.45 * size / cells) ** 2 - 0.2).clamp(min=0.2)
    taken = torch.exp(-0.5 * (source - middle) ** 2 / wide)
    taken = taken / taken.sum(2, keepdim=True).clamp(min=1e-6)
    place = (cell[:, None] + 0.5) * (cells / size) - 0.5
    place = torch.minimum(place.clamp(min=0), cells - 1)
    spread = (1 - (place - cell[None, None]).abs()).clamp(min=0) * (cell < cells)
    return spread / spread.sum(2, keepdim=True).clamp(min=1e-6) @ taken


def compressed(picture: Tensor, d: Draws) -> Tensor:
    """JPEG's loss: cosines of blocks of 8×8, rounded to steps that grow with the frequency."""
    place = torch.arange(8, device=picture.device)
    cosines = torch.cos((place + 0.5) * place[:, None] * (torch.pi / 8)) * 0.5
    cosines[0] *= 0.5**0.5
    batch, size = picture.shape[:2]
    steps = (1 + place[:, None] + place) * torch.exp(d.uniform(1, low=-5.0, high=-2.7))[..., None]
    steps = steps[:, None, :, :, None]
    blocks = picture.reshape(batch, size // 8, 8, size // 8, 8, 3).permute(0, 1, 3, 2, 4, 5).flatten(0, 2)
    frequencies = both_ways(cosines, blocks, cosines).view(batch, -1, 8, 8, 3)
    kept = ((frequencies / steps).round() * steps).flatten(0, 1)
    shown = both_ways(cosines.T, kept, cosines.T).view(batch, size // 8, size // 8, 8, 8, 3)
    return shown.permute(0, 1, 3, 2, 4, 5).reshape(picture.shape)


def both_ways(down: Tensor, picture: Tensor, across: Tensor) -> Tensor:
    """A picture (batch, height, width, channels) with `down` (…, rows, height) and `across` (…, columns, width)."""
    down, across = (one if one.dim() == 2 else one[:, None] for one in (down, across))
    return (down @ picture.permute(0, 3, 1, 2) @ across.transpose(-1, -2)).permute(0, 2, 3, 1)
