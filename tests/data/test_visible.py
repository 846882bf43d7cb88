"""Labels as wide as what is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from neuron_vit3d.data import synthetic_neuron, visible_labels
from neuron_vit3d.data.visible import label_points, paint, points_along
from neuron_vit3d.morphology import Tree, rasterize


SHAPE = (25, 41, 61)


def a_tube(radius, shape=SHAPE):
    x = np.arange(0, shape[2], 2.0)
    xyz = np.stack([x, np.full_like(x, shape[1] // 2), np.full_like(x, shape[0] // 2)], axis=1)
    return Tree.from_parents(xyz, np.full(len(x), radius), np.arange(len(x)) - 1)


def width(labels, axis):
    """The number of voxels labelled 1 across the middle of a tube along x."""
    middle = labels[:, :, labels.shape[2] // 2] == 1
    return int(middle.any(axis=1 - axis).sum())


@pytest.mark.parametrize("radius", [1.0, 2.0, 4.0, 7.0])
@pytest.mark.parametrize("sigma", [0.6, 1.2, 2.2])
def test_a_tube_is_labelled_to_its_half_maximum(radius, sigma):
    """Across the tube the label ends where the light of a solid tube, blurred, falls to half of its peak."""
    labels = visible_labels(a_tube(radius), SHAPE, (sigma, sigma, sigma))
    y = np.arange(-30, 31)
    disc = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(y, y)), 0, 1)
    profile = gaussian_filter(disc, sigma)[30]
    seen = (profile >= 0.5 * profile.max()) | (disc[30] >= 0.5)  # and never less than the tube
    assert abs(width(labels, axis=1) - int(seen.sum())) <= 1


def test_blur_widens_thin_tubes_more_than_thick_ones():
    thin, thick = (
        [width(visible_labels(a_tube(r), SHAPE, (s, s, s)), axis=1) for s in (0.0, 2.0)] for r in (1.0, 6.0)
    )
    assert thin[1] >= thin[0] + 2
    assert abs(thick[1] - thick[0]) <= 1


def test_a_label_is_little_thicker_along_z_than_its_tube():
    """A blur of ten voxels along z is not labelled, but ignored."""
    labels = visible_labels(a_tube(2.0), SHAPE, (4.5, 1.0, 1.0))
    assert width(labels, axis=0) <= 5 + 2 * 2
    column = labels[:, SHAPE[1] // 2, SHAPE[2] // 2]
    assert (column == 255).any()


def test_a_dim_twig_beside_a_trunk_is_labelled_by_its_own_peak():
    trunk, twig = a_tube(6.0, (25, 61, 61)), a_tube(1.0, (25, 61, 61))
    far = twig.xyz + np.array([0, 18, 0])
    both = Tree.from_parents(
        np.vstack([trunk.xyz, far]),
        np.concatenate([trunk.radii, twig.radii]),
        np.concatenate([trunk.parent_index, np.where(twig.parent_index < 0, -1, twig.parent_index + len(trunk))]),
    )
    labels = visible_labels(both, (25, 61, 61), (1.5, 1.5, 1.5))
    alone = visible_labels(twig, (25, 61, 61), (1.5, 1.5, 1.5))
    np.testing.assert_array_equal(labels[:, 42:54, 30], alone[:, 24:36, 30])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_labels_of_synthetic_neurons_hold_the_tube(seed):
    """The true tube is labelled but for the voxels whose center lies right at its surface."""
    neuron = synthetic_neuron((10, 64, 64), seed=seed)
    labels = neuron.visible_labels()
    inner = rasterize(neuron.tree, (10, 64, 64), radius_scale=0.85)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1, 255}
    assert (labels[inner] == 1).mean() > 0.99
    assert (labels == 1).sum() >= 0.95 * neuron.mask.sum()
    z, y, x = np.rint(neuron.tree.xyz[:, ::-1]).astype(int).T
    assert (labels[z, y, x] == 1).all()


@given(
    squeeze=st.sampled_from([1.0, 2.5, 6.0]),
    radius=st.floats(0.6, 9.0),
    place=st.tuples(st.floats(-4, 44), st.floats(-4, 34), st.floats(-4, 16)),
)
@settings(max_examples=40, deadline=None)
def test_a_ball_is_painted_where_it_is(squeeze, radius, place):
    """Small and large balls obey one formula, also at the border of the volume."""
    light, depth = (np.zeros((12, 30, 40), dtype=np.float32) for _ in range(2))
    paint(light, np.array([place]), np.array([radius]), np.array([2.0]), squeeze=squeeze, depth=depth)
    z, y, x = np.indices(light.shape)
    flatter = max(min(squeeze, radius + 0.5), 1.0)
    inside = radius + 0.5 - np.sqrt((flatter * (z - place[2])) ** 2 + (y - place[1]) ** 2 + (x - place[0]) ** 2)
    np.testing.assert_allclose(depth, np.maximum(inside, 0), atol=1e-3)
    np.testing.assert_allclose(light, 2 * np.clip(inside, 0, 1), atol=2e-3)


def test_nothing_gives_nothing():
    empty = np.zeros((0, 3))
    assert not label_points(empty, np.zeros(0), (4, 5, 6), (1, 1, 1)).any()


def test_points_are_denser_on_thin_tubes():
    thin, thick = (points_along(a_tube(r))[0] for r in (1.0, 8.0))
    assert len(thin) > 1.5 * len(thick)
