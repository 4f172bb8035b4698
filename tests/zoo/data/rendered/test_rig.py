"""Tables of a head, on small meshes."""

from __future__ import annotations

import math

import numpy as np
import torch

from zoo.data.rendered import RenderedFaces
from zoo.data.rendered.rig import HAIRLINE, hat_weights, neighbours, normals, signed_distance

CUBE = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
SIDES = torch.tensor([[4, 6, 7, 5], [0, 1, 3, 2], [2, 3, 7, 6], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]])


def test_normals_of_a_cubes_corners_point_along_its_diagonals() -> None:
    found = normals(CUBE[None] * 3, SIDES, neighbours(SIDES, 8))
    torch.testing.assert_close(found[0], (CUBE - 0.5) * 2 / 3**0.5)


def test_neighbours_are_the_quads_that_name_a_vertex() -> None:
    table = neighbours(SIDES, 9)  # the ninth vertex is in none
    for vertex in range(9):
        expected = sorted(n for n, side in enumerate(SIDES.tolist()) if vertex in side)
        assert [n for n in table[vertex].tolist() if n < len(SIDES)] == expected


def test_the_distance_to_an_outline_is_negative_outside() -> None:
    square = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))
    points = torch.tensor([[2.0, 2.0], [2.0, 3.5], [6.0, 2.0], [7.0, 8.0], [4.0, 1.0]])
    torch.testing.assert_close(signed_distance(points, *square), torch.tensor([2.0, 0.5, -2.0, -5.0, 0.0]))


def test_weights_of_the_hairline_interpolate_it() -> None:
    around = torch.tensor([-3.1, -1.0, 0.0, 0.3, 1.0, 3.1])
    places, heights = zip(*HAIRLINE, strict=True)
    expected = np.interp([math.degrees(abs(angle)) for angle in around.tolist()], places, heights)
    np.testing.assert_allclose(torch.tensor(heights).float() @ hat_weights(around), expected, rtol=1e-5, atol=1e-4)


def test_a_head_shades_its_back_from_a_light_in_front_and_masks_lie_where_they_should(faces: RenderedFaces) -> None:
    rig = faces.rig
    assert all(mask.min() >= 0 and mask.max() <= 1 for mask in (rig.lips, rig.lash, rig.beard, rig.visible))
    ahead = rig.visible[rig.lights[:, 2].argmax()]
    _, y, z = rig.mean.unbind(1)
    assert ahead[(z > 9) & rig.head].mean() > 0.7 > 0.2 > ahead[z < -4].mean()
    for mask, low, high in ((rig.lips, -5.0, -1.0), (rig.beard, -10.0, 7.0)):
        assert low < y[mask > 0.6].min() and y[mask > 0.6].max() < high
