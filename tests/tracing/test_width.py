"""Tests of `tracing/width.py`: how wide a neurite is where a part of it is missing."""

import numpy as np

from neuron_vit3d.tracing.foreground import Foreground
from neuron_vit3d.tracing.width import AROUND, THICK, radius_along, radius_nearby


def nearby(mask: np.ndarray, spacing: tuple = (1.0, 1.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """The radius nearby and the distance from the boundary, as volumes."""
    foreground = Foreground.from_mask(mask, np.array(spacing))
    reach = foreground.boundary_distance()
    result = np.zeros((2, *mask.shape))
    result[:, *foreground.voxels.T] = radius_nearby(foreground, reach), reach
    return result[0], result[1]


def tube(radius: float, length: int = 90, side: int = 25) -> np.ndarray:
    z, y = np.mgrid[:side, :side] - side // 2
    return np.repeat((z**2 + y**2 <= radius**2)[:, :, None], length, axis=2)


def test_beside_a_cut_a_neurite_is_as_wide_as_where_it_is_whole():
    mask = tube(5.0)
    mask[:, :, 44:47] = False
    radius, reach = nearby(mask)

    assert reach[12, 12, 43] == 1
    assert radius[12, 12, 43] == reach[12, 12, 30] >= 5


def test_nothing_is_said_where_a_thin_branch_is_around():
    mask = tube(5.0, length=140, side=61)
    mask[30, 36:, 110] = True  # a branch that goes on beyond what is near
    radius, reach = nearby(mask)

    assert radius[30, 33, 110] == 0
    assert radius[30, 30, 110 - int(AROUND) - 16] == reach[30, 30, 30]


def test_a_twig_is_no_thin_branch():
    mask = tube(5.0, side=41)
    mask[20, 26:32, 40] = True
    radius, _ = nearby(mask)

    assert radius[20, 20, 40] >= 5


def test_a_thin_neurite_has_none():
    assert not nearby(tube(THICK - 1.5))[0].any()


def test_voxels_that_are_longer_along_z_are_as_wide_as_they_are():
    mask = tube(6.0).transpose(2, 0, 1)  # runs along z
    mask[44] = False
    radius, _ = nearby(mask, spacing=(2.0, 1.0, 1.0))

    assert radius[43, 12, 12] >= 6


def test_along_a_line_the_widest_node_nearby_counts():
    reach = np.full(100, 4.0)
    reach[50:53] = 1.0
    parents = np.arange(-1, 99)

    assert np.array_equal(radius_along(reach, parents), np.full(100, 4.0))
    assert not radius_along(np.full(100, 2.0), parents).any()
