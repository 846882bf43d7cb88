"""What a mask encloses belongs to it, and lines run along the axis of what is hollow."""

import numpy as np
import pytest
from scipy import ndimage

from neuron_vit3d.tracing import trace
from neuron_vit3d.tracing.cavities import cavities
from neuron_vit3d.tracing.foreground import Foreground
from support.trees import assert_one_sound_tree, tube


def hollow_tube(radius: float) -> np.ndarray:
    mask = tube((20, 30, 30), (90, 34, 27), (60, 64, 110), radius)
    return mask & (ndimage.distance_transform_edt(mask) <= 2)


def inside_of(mask: np.ndarray) -> np.ndarray:
    found = np.zeros(mask.shape, bool)
    found.flat[cavities(Foreground.from_mask(mask, np.ones(3)))] = True
    return found


@pytest.mark.parametrize("radius", [5.0, 9.0, 12.0])
def test_a_hollow_tube_is_filled_and_nothing_outside_of_it(radius):
    mask = hollow_tube(radius)
    whole = ndimage.binary_fill_holes(mask)
    found = inside_of(mask)
    assert not (found & mask).any()
    assert np.count_nonzero(found & ~whole) == 0
    assert np.count_nonzero(found) > 0.99 * np.count_nonzero(whole & ~mask)


def test_thin_lines_side_by_side_enclose_nothing():
    mask = tube((8, 18, 20), (70, 18, 20), radius=1) | tube((8, 22, 20), (70, 22, 20), radius=1)
    assert not inside_of(mask).any()


@pytest.mark.parametrize("radius", [1.0, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_neurites_of_a_tuft_enclose_nothing(seed, radius):
    rng = np.random.default_rng(seed)
    mask = np.zeros((60, 60, 60), bool)
    for _ in range(60):
        ends = rng.uniform(5, 55, (2, 3))
        mask |= tube(*ends, mask.shape, radius)
    assert mask[20:40, 20:40, 20:40].mean() > 0.05
    assert np.count_nonzero(inside_of(mask)) < 0.01 * np.count_nonzero(mask)


def test_a_notch_in_a_thick_neurite_is_filled():
    mask = tube((10, 30, 30), (80, 32, 28), (60, 60, 90), 5.0)
    notched = mask.copy()
    notched[:, 30:, 44:47] = False
    found = inside_of(notched)
    assert np.count_nonzero(found & mask) > 0.3 * np.count_nonzero(mask & ~notched)
    assert not (found & ~mask).any()


@pytest.mark.parametrize("radius", [5.0, 9.0])
def test_a_hollow_tube_is_one_line_along_its_axis(radius):
    tree = trace(hollow_tube(radius))
    assert_one_sound_tree(tree)
    assert 60 < tree.length < 100
    axis = np.array([20.0, 30, 30]), np.array([70.0, 4, -3]) / np.linalg.norm([70, 4, -3])
    off = tree.xyz - axis[0]
    off -= (off @ axis[1])[:, None] * axis[1]
    assert np.median(np.linalg.norm(off, axis=1)) < 1.5
