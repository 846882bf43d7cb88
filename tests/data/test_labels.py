"""Trees to labels: the policy, the ignored edge, signal that nobody traced."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.data.labels import (
    THINNEST_WITHOUT_GAPS,
    UNTRACED_REACH,
    LabelPolicy,
    draw_labels,
    prepare_tree,
    signal_level,
)
from neuron_vit3d.morphology import Tree, rasterize
from support.tubes import line, picture_of


@st.composite
def trees(draw):
    n = draw(st.integers(1, 6))
    xyz = [[draw(st.floats(-3, 20)) for _ in range(3)] for _ in range(n)]
    radii = [draw(st.floats(0.2, 5)) for _ in range(n)]
    return Tree.from_parents(xyz, radii, [draw(st.integers(-1, row - 1)) for row in range(n)])


SHAPE = (14, 18, 16)


# The policy


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": "guess"}, "radius must be 'given' or 'image', got 'guess'"),
        ({"min_radius": -1}, "min_radius must be a number of voxels, 0 or more, got -1"),
        ({"min_radius": "1"}, "min_radius must be a number"),
        ({"max_radius": float("nan")}, "max_radius must be a number"),
        ({"edge_band": -0.5}, "edge_band must be a number"),
        ({"edge_band": None}, "edge_band must be a number"),
        ({"edge_band": float("inf")}, "edge_band must be a number"),
        ({"min_radius": 3, "max_radius": 2}, "min_radius must not exceed max_radius, got 3 and 2"),
        ({"ignore_untraced": "no"}, "ignore_untraced must be True or False, got 'no'"),
    ],
)
def test_a_policy_that_is_none_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LabelPolicy(**wrong)


def test_given_radii_are_clipped_and_nothing_else():
    tree = Tree.from_parents([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [0.2, 2, 9], [-1, 0, 1], types=[1, 2, 3])
    prepared = prepare_tree(tree, None, LabelPolicy(min_radius=1, max_radius=5))
    np.testing.assert_array_equal(prepared.radii, [1, 2, 5])
    for name in ("ids", "types", "xyz", "parents"):
        np.testing.assert_array_equal(getattr(prepared, name), getattr(tree, name))
    unclipped = prepare_tree(tree, None, LabelPolicy(min_radius=None))
    np.testing.assert_array_equal(unclipped.radii, tree.radii)


def test_radii_from_the_image_are_clipped_too():
    tree = line([4, 10, 8], [60, 40, 8], 3, steps=20)
    prepared = prepare_tree(tree, picture_of(tree, (16, 50, 64)), LabelPolicy(radius="image", max_radius=2))
    np.testing.assert_array_equal(prepared.radii, 2)


def test_radii_from_the_image_need_an_image():
    tree = line([1, 1, 1], [5, 5, 5], 1)
    with pytest.raises(ValueError, match="needs the image"):
        prepare_tree(tree, None, LabelPolicy(radius="image"))
    with pytest.raises(ValueError, match=r"expected an image \(z, y, x\), got shape"):
        signal_level(tree, np.zeros((2, 3, 4, 5)))


# The ignored edge


@given(trees(), st.sampled_from([(14, 18, 16), (1, 9, 30)]))
@settings(max_examples=50, deadline=None)
def test_without_band_labels_are_the_mask(tree, shape):
    labels = draw_labels(tree, shape, LabelPolicy())
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, rasterize(tree, shape).astype(np.uint8))


@given(trees(), st.floats(0.05, 3))
@settings(max_examples=60, deadline=None)
def test_the_band_is_where_the_surface_is_near(tree, band):
    """Against the mask of the same tree with wider and narrower radii; labels are 0, 1, 255 and nothing else."""
    labels = draw_labels(tree, SHAPE, LabelPolicy(edge_band=band))
    wide, mask = rasterize(replace(tree, radii=tree.radii + band), SHAPE), rasterize(tree, SHAPE)
    narrow = rasterize(replace(tree, radii=np.maximum(tree.radii - band, 0)), SHAPE)
    assert set(np.unique(labels)) <= {0, 1, 255}
    np.testing.assert_array_equal(labels == 0, ~wide)
    assert (labels[~mask] != 1).all() and (labels[mask] != 0).all()
    if (tree.radii - band >= THINNEST_WITHOUT_GAPS).all():
        np.testing.assert_array_equal(labels == 1, narrow)


@given(trees(), st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_wider_band_ignores_more_and_changes_no_label(tree, band, more):
    few, many = (draw_labels(tree, SHAPE, LabelPolicy(edge_band=width)) for width in (band, band + more))
    assert (many[few == 255] == 255).all()
    labelled = many != 255
    np.testing.assert_array_equal(many[labelled], few[labelled])


@given(trees(), st.floats(0, 3), st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=60, deadline=None)
def test_labels_of_a_window_are_those_of_the_whole(tree, band, origin, shape):
    policy = LabelPolicy(edge_band=band)
    whole = draw_labels(tree, (18, 18, 18), policy)
    window = whole[tuple(slice(o, o + n) for o, n in zip(origin, shape, strict=True))]
    moved = replace(tree, xyz=tree.xyz - np.array(origin[::-1]))
    np.testing.assert_array_equal(draw_labels(tree, shape, policy, origin=origin), window)
    np.testing.assert_array_equal(draw_labels(moved, shape, policy), window)


@given(st.integers(0, 2**32 - 1), st.floats(0, 4))
@settings(max_examples=25, deadline=None)
def test_the_center_line_stays_neuron_without_gaps(seed, band):
    from scipy.ndimage import label

    rng = np.random.default_rng(seed)
    tree = Tree.from_parents(rng.uniform(1, 17, (5, 3)), rng.uniform(0.87, 3, 5), [-1, 0, 1, 2, 1])
    labels = draw_labels(tree, (19, 19, 19), LabelPolicy(edge_band=band))
    assert label(labels == 1, np.ones((3, 3, 3)))[1] == 1


def test_the_edge_of_one_tube_does_not_make_the_inside_of_another_uncertain():
    thick, thin = line([4, 20, 8], [60, 20, 8], 6), line([30, 2, 8], [30, 20, 8], 1.5)
    both = Tree.from_parents(np.vstack([thick.xyz, thin.xyz]), [6, 6, 1.5, 1.5], [-1, 0, -1, 2])
    policy = LabelPolicy(edge_band=1.5)
    alone, together = (draw_labels(tree, (17, 40, 64), policy) for tree in (thick, both))
    assert (together[alone == 1] == 1).all()
    assert (together[8, 20, 4:61] == 1).all()


# Signal that nobody traced


@pytest.fixture(scope="module")
def two_neurites():
    """An image of two neurites of like brightness, of which one is traced, and bright specks."""
    traced, other = line([5, 20, 6], [115, 30, 6], 2.5, steps=40), line([5, 70, 6], [115, 80, 6], 2.5, steps=40)
    both = Tree.from_parents(
        np.vstack([traced.xyz, other.xyz]), np.full(82, 2.5), [*range(-1, 40), -1, *range(41, 81)]
    )
    image = picture_of(both, (12, 100, 120), noise=8)
    specks = np.random.default_rng(1).integers((0, 0, 0), image.shape, (300, 3))
    image[tuple(specks.T)] += 150
    return traced, other, image.clip(0, 255).astype(np.uint8)


UNTRACED = LabelPolicy(ignore_untraced=True)


def test_an_untraced_neurite_is_ignored_the_traced_one_and_specks_are_not(two_neurites):
    traced, other, image = two_neurites
    level = signal_level(traced, image)
    assert 40 < level < 120
    labels = draw_labels(traced, image.shape, UNTRACED, image=image, level=level)
    mask, core = rasterize(traced, image.shape), rasterize(replace(other, radii=other.radii * 0.6), image.shape)
    around = rasterize(replace(other, radii=other.radii + 8), image.shape)
    assert (labels[mask] == 1).all() and (labels[~mask] != 1).all()
    assert (labels[core] == 255).mean() > 0.95
    assert (labels[~around] == 255).mean() < 0.002


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_the_dtype_of_the_image_does_not_matter(two_neurites, dtype):
    traced, _, image = two_neurites
    level = signal_level(traced, image.astype(dtype))
    assert level == pytest.approx(signal_level(traced, image), rel=1e-6)
    labels = [draw_labels(traced, image.shape, UNTRACED, image=i, level=76.0) for i in (image, image.astype(dtype))]
    np.testing.assert_array_equal(*labels)


@given(st.tuples(st.integers(0, 8), st.integers(0, 60), st.integers(0, 70)), st.integers(20, 40), st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_untraced_signal_of_a_window_is_that_of_the_whole_away_from_its_sides(two_neurites, origin, size, band):
    traced, _, image = two_neurites
    policy = LabelPolicy(edge_band=band, ignore_untraced=True)
    whole = draw_labels(traced, image.shape, policy, image=image, level=76.0)
    window = tuple(slice(o, o + n) for o, n in zip(origin, (4, size, size), strict=True))
    part = draw_labels(traced, image[window].shape, policy, image=image[window], level=76.0, origin=origin)
    inner = (slice(None), *[slice(UNTRACED_REACH, -UNTRACED_REACH)] * 2)
    np.testing.assert_array_equal(part[inner], whole[window][inner])
    assert set(np.unique(part)) <= {0, 1, 255}


def test_a_lower_level_ignores_more_and_an_infinite_one_nothing(two_neurites):
    traced, _, image = two_neurites
    plain = draw_labels(traced, image.shape, LabelPolicy())
    ignored = None
    for level in (40.0, 80.0, np.inf):
        labels = draw_labels(traced, image.shape, UNTRACED, image=image, level=level)
        np.testing.assert_array_equal(labels[labels != 255], plain[labels != 255])
        assert ignored is None or not ((labels == 255) & ~ignored).any()
        ignored = labels == 255
    assert not ignored.any()


def test_a_tree_that_misses_the_image_says_nothing_of_its_brightness(two_neurites):
    traced, _, image = two_neurites
    assert signal_level(replace(traced, xyz=traced.xyz + 1000), image) == np.inf


def test_untraced_signal_needs_the_image_and_the_level(two_neurites):
    traced, _, image = two_neurites
    for missing in ({}, {"image": image}, {"level": 50.0}):
        with pytest.raises(ValueError, match="needs the image and its signal level"):
            draw_labels(traced, image.shape, UNTRACED, **missing)
    with pytest.raises(ValueError, match=r"image of the labels' shape \(5, 5, 5\), got"):
        draw_labels(traced, (5, 5, 5), UNTRACED, image=image, level=50.0)
