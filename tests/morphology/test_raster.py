"""Tree to mask, held against the definition voxel by voxel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import SWCError, Tree, raster, rasterize, read_swc


def signed_gap(tree: Tree, radii: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The definition, slowly: min over segments of (distance to the nearest point - radius there) at every voxel."""
    z, y, x = np.indices(shape)
    centers = np.stack([x, y, z], axis=-1).astype(float)
    gap = np.full(shape, np.inf)
    for child, parent in tree.segments:
        a, b, ra, rb = tree.xyz[child], tree.xyz[parent], radii[child], radii[parent]
        if not (b - a) @ (b - a):  # none, or so short that its square is none
            ra = rb = max(ra, rb)
            t = np.zeros(shape)
        else:
            t = np.clip((centers - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        nearest = a + t[..., None] * (b - a)
        gap = np.minimum(gap, np.linalg.norm(centers - nearest, axis=-1) - (ra + t * (rb - ra)))
    return gap


def assert_as_defined(mask: np.ndarray, gap: np.ndarray) -> None:
    """Equal voxel by voxel; exactly on the surface, rounding may have it either way."""
    clear = np.abs(gap) > 1e-6
    np.testing.assert_array_equal(mask[clear], gap[clear] <= 0)


def line(begin, end, radius, end_radius=None) -> Tree:
    return Tree.from_parents([begin, end], [radius, radius if end_radius is None else end_radius], [-1, 0])


@st.composite
def trees(draw):
    """Up to 6 nodes: on voxels and between them, inside, around and far away; fragments, lone nodes, edges of no
    length; radii from far below a voxel to more than the volume."""
    n = draw(st.integers(1, 6))
    coordinate = st.one_of(st.integers(-4, 14).map(float), st.floats(-3, 15), st.floats(-40, 55), st.floats(-1e4, 1e4))
    xyz = [[draw(coordinate) for _ in range(3)] for _ in range(n)]
    radii = [draw(st.one_of(st.just(0.1), st.integers(1, 6).map(float), st.floats(0.3, 6))) for _ in range(n)]
    parents = [draw(st.integers(-1, row - 1)) for row in range(n)]
    for row in range(1, n):
        if parents[row] >= 0 and draw(st.integers(0, 4)) == 0:
            xyz[row] = list(xyz[parents[row]])
    return Tree.from_parents(xyz, radii, parents)


@given(trees(), st.tuples(*[st.integers(1, 13)] * 3))
@settings(max_examples=100, deadline=None)
def test_equals_the_definition(tree, shape):
    assert_as_defined(rasterize(tree, shape), signed_gap(tree, tree.radii, shape))


@given(trees())
@settings(max_examples=40, deadline=None)
def test_how_the_work_is_cut_changes_nothing(tree):
    limits = ("_MAX_BOX", "_VOXELS_AT_ONCE", "_BOXES_AT_ONCE")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(limits, (3, 50, 4), strict=True):
            patch.setattr(raster, name, value)
        in_crumbs = rasterize(tree, (9, 11, 10))
    assert_as_defined(in_crumbs, signed_gap(tree, tree.radii, (9, 11, 10)))


@given(trees(), st.tuples(*[st.integers(-3, 9)] * 3), st.tuples(*[st.integers(1, 8)] * 3))
@settings(max_examples=100, deadline=None)
def test_a_window_is_that_part_of_the_whole(tree, origin, shape):
    """By the definition, and by the tree moved; where the window lies in the volume, by the whole mask."""
    window = rasterize(tree, shape, origin=origin)
    moved = replace(tree, xyz=tree.xyz - np.array(origin[::-1]))
    gap = signed_gap(moved, tree.radii, shape)
    assert_as_defined(window, gap)
    np.testing.assert_array_equal(window, rasterize(moved, shape))
    whole = rasterize(tree, (18, 18, 18))
    first = np.maximum(origin, 0)
    part = whole[tuple(slice(a, o + n) for a, o, n in zip(first, origin, shape, strict=True))]
    inside = tuple(slice(a - o, a - o + n) for a, o, n in zip(first, origin, part.shape, strict=True))
    clear = np.abs(gap[inside]) > 1e-6
    np.testing.assert_array_equal(window[inside][clear], part[clear])


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_crowds_of_short_edges_and_steep_tapers_are_as_defined(seed):
    """As trees are drawn by programs, a node a voxel, in a volume that is larger than a box."""
    rng = np.random.default_rng(seed)
    n, shape = 40, (21, 34, 38)
    steps = rng.normal(0, 1, (n, 3)) * rng.choice([0.0, 0.01, 0.7, 6.0], (n, 1), p=[0.1, 0.1, 0.6, 0.2])
    xyz = np.array([19, 17, 10]) + steps.cumsum(axis=0)
    tree = Tree.from_parents(xyz, rng.uniform(0.1, 1, n) * rng.choice([1, 3, 9], n), np.arange(-1, n - 1))
    assert_as_defined(rasterize(tree, shape), signed_gap(tree, tree.radii, shape))


@given(trees(), st.floats(0, 3), st.floats(0, 3), st.floats(0.2, 3))
@settings(max_examples=25, deadline=None)
def test_radii_are_scaled_then_clipped(tree, low, more, scale):
    mask = rasterize(tree, (8, 9, 7), min_radius=low, max_radius=low + more, radius_scale=scale)
    assert_as_defined(mask, signed_gap(tree, np.clip(tree.radii * scale, low, low + more), (8, 9, 7)))


def test_large_and_long_tubes_are_as_defined():
    # Larger than a box of the implementation, tapered, oblique, and partly outside.
    tree = Tree.from_parents([[-40, 10, 5], [90, 60, 40], [35, 35, 20], [35, 80, 300]], [2, 9, 30, 1], [-1, 0, -1, 2])
    shape = (50, 70, 80)
    assert_as_defined(rasterize(tree, shape), signed_gap(tree, tree.radii, shape))


def test_axes_are_z_y_x():
    mask = rasterize(line([1, 2, 3], [6, 2, 3], 0.5), (5, 7, 9))
    assert mask.dtype == bool and mask.shape == (5, 7, 9)
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(3, 2, x) for x in range(1, 7)]


def test_a_lone_node_is_a_ball_and_its_surface_is_inside():
    mask = rasterize(Tree.from_parents([[5, 5, 5]], [3], [-1]), (11, 11, 11))
    z, y, x = np.indices(mask.shape)
    np.testing.assert_array_equal(mask, (z - 5) ** 2 + (y - 5) ** 2 + (x - 5) ** 2 <= 9)


def test_a_line_without_thickness_takes_the_voxels_that_it_meets():
    flat = rasterize(line([1, 2, 3], [6, 2, 3], 0), (5, 7, 9))
    assert flat.sum() == 6 and flat[3, 2, 1:7].all()
    diagonal = rasterize(line([1, 1, 1], [5, 5, 5], 0), (7, 7, 7))
    assert diagonal.sum() == 5 and diagonal[range(1, 6), range(1, 6), range(1, 6)].all()
    assert rasterize(Tree.from_parents([[2, 3, 1]], [0], [-1]), (5, 5, 5)).sum() == 1


def test_an_edge_of_length_zero_takes_the_larger_radius():
    ball = rasterize(Tree.from_parents([[5, 5, 5]], [3], [-1]), (11, 11, 11))
    for radii in ((1, 3), (3, 1)):
        np.testing.assert_array_equal(rasterize(line([5, 5, 5], [5, 5, 5], *radii), (11, 11, 11)), ball)


def test_direction_of_an_edge_does_not_matter():
    there, back = line([2.3, 3.1, 4.7], [17.2, 9.8, 6.1], 1.3, 4.1), line([17.2, 9.8, 6.1], [2.3, 3.1, 4.7], 4.1, 1.3)
    np.testing.assert_array_equal(rasterize(there, (12, 15, 22)), rasterize(back, (12, 15, 22)))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_half_a_diagonal_leaves_no_gap(seed):
    from scipy.ndimage import label

    rng = np.random.default_rng(seed)
    tree = Tree.from_parents(rng.uniform(0, 19, (6, 3)), np.full(6, 0.01), [-1, 0, 0, 1, 2, 3])
    assert label(rasterize(tree, (20, 20, 20), min_radius=0.87), np.ones((3, 3, 3)))[1] == 1


def test_what_is_outside_is_cut_off_and_cheap():
    far = [[1e15, -1e15, 1e15], [1e15, 1e15, -1e15], [-1e15, 0, 4], [1e15, 1, 4]]
    assert not rasterize(Tree.from_parents(far[:2], [1, 2], [-1, 0]), (4, 5, 6)).any()
    through = rasterize(line([-1e7, 2, 1], [1e7, 2, 1], 0.5), (4, 5, 6))
    assert through[1, 2].all() and through.sum() == 6
    assert rasterize(Tree.from_parents(far[2:], [9, 9], [-1, 0]), (4, 5, 6)).all()
    assert rasterize(Tree.from_parents([[0, 0, 0]], [1e12], [-1]), (4, 5, 6)).all()


def test_a_tree_without_nodes_draws_nothing():
    empty = Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int))
    assert not rasterize(empty, (3, 4, 5)).any()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 7), (4, 0, 5), (4, -1, 5)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="three positive sizes"):
        rasterize(line([0, 0, 0], [1, 1, 1], 1), shape)


@pytest.mark.parametrize("origin", [(1, 2), (0, 0, np.nan), (0, np.inf, 0)])
def test_an_origin_that_is_none_is_refused(origin):
    with pytest.raises(ValueError, match="origin must be three positions"):
        rasterize(line([0, 0, 0], [1, 1, 1], 1), (3, 3, 3), origin=origin)


@pytest.mark.parametrize(
    "limits", [{"min_radius": 3, "max_radius": 2}, {"min_radius": -1}, {"radius_scale": 0}, {"radius_scale": np.nan}]
)
def test_radius_limits_that_are_no_interval_are_refused(limits):
    with pytest.raises(ValueError, match="min_radius <= max_radius"):
        rasterize(line([0, 0, 0], [1, 1, 1], 1), (3, 3, 3), **limits)


def test_positions_that_are_no_numbers_are_refused():
    with pytest.raises(SWCError, match="NaN"):
        rasterize(line([0, np.nan, 0], [1, 1, 1], 1), (3, 3, 3))


@pytest.mark.slow
def test_two_hundred_thousand_nodes_take_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    n, size = 200_000, 256
    walk = rng.uniform(0, size, (200, 1, 3)) + rng.normal(0, 1.2, (200, n // 200, 3)).cumsum(axis=1)
    parents = np.arange(-1, n - 1)
    parents[:: n // 200] = -1
    tree = Tree.from_parents(np.abs((walk + size) % (2 * size) - size).reshape(-1, 3), rng.uniform(1, 2, n), parents)
    tracemalloc.start()
    mask = rasterize(tree, (size, size, size))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask[tuple(np.round(tree.xyz[:, ::-1]).astype(int).clip(0, size - 1).T)].all()
    # The scratch does not grow with the volume: the same tree in 512^3 stays within twice its mask of 128 MiB.
    assert peak - mask.nbytes < 128 * 2**20


@pytest.mark.real_data
def test_a_real_gold_tree_covers_its_own_nodes(shared):
    tree = read_swc(shared / "data" / "gold166_mip" / "100" / "gold.swc")
    shape = tuple(np.ceil(tree.xyz.max(axis=0)).astype(int)[::-1] + 2)
    mask = rasterize(tree, shape, min_radius=1)
    inside = (tree.xyz >= 0).all(axis=1)
    z, y, x = np.round(tree.xyz[inside, ::-1]).astype(int).T
    assert mask[z, y, x].all()
    assert tree.length * 0.5 < mask.sum() < 0.5 * mask.size
