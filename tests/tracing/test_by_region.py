"""Foreground too large for memory: traced region by region it gives nearly the tree that it gives as a whole."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from neuron_vit3d import synthetic_neuron
from neuron_vit3d.morphology import Tree, rasterize, tree_distance
from neuron_vit3d.tracing import TraceError, by_region, trace, trace_neurons
from neuron_vit3d.tracing import teasar as tracing
from support.readers import reader_of
from support.trees import assert_one_sound_tree, random_tree, tube


@pytest.fixture
def regions(monkeypatch):
    """Call it with a side: from then on all is traced by regions of that side."""

    def by(side: int) -> None:
        monkeypatch.setattr(tracing, "VOXELS_AT_ONCE", 1)
        monkeypatch.setattr(tracing, "MAX_SHARE", 1.0)
        for module in (tracing, by_region):
            monkeypatch.setattr(module, "REGION_SIDES", (side,))

    return by


def assert_sound(tree: Tree) -> None:
    assert_one_sound_tree(tree)
    edges = tree.xyz[tree.edges]
    assert (np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1) > 0).all()


def num_side_by_side(tree: Tree) -> int:
    """Nodes with another one at most 1.5 voxels away to which the way along the tree is long."""
    parents = tree.parent_index.tolist()

    def ancestors(node: int) -> set[int]:
        found = {node}
        while len(found) < 12 and parents[node] >= 0:
            node = parents[node]
            found.add(node)
        return found

    pairs = cKDTree(tree.xyz).query_pairs(1.5)
    return len({node for pair in pairs if not ancestors(pair[0]) & ancestors(pair[1]) for node in pair})


@pytest.mark.parametrize(
    ("seed", "side"),
    [(9000, 32), (9003, 50), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((9000, 50), (9003, 32)))],
)
def test_a_neuron_is_nearly_the_same_by_region_and_as_a_whole(seed, side, regions):
    gold = synthetic_neuron((128, 128, 128), seed=seed, quality="clean").tree
    mask = rasterize(gold, (128, 128, 128))
    whole = trace(mask)
    regions(side)
    tree = trace(mask)
    assert_sound(tree)
    assert (
        tree_distance(tree, whole)["f1"] >= 0.96
    )  # lines of regions are not moved to the middle of what is around them
    assert tree_distance(tree, gold)["f1"] >= tree_distance(whole, gold)["f1"] - 0.01
    np.testing.assert_array_equal(tree.xyz[0], whole.xyz[0])
    assert tree.radii[0] == whole.radii[0] and tree.types[0] == whole.types[0]
    assert tree.comments == whole.comments
    assert num_side_by_side(tree) <= num_side_by_side(whole)
    assert 0.94 < tree.length / whole.length < 1.05


@pytest.mark.parametrize("radius", [1.2, 3.0])
@pytest.mark.parametrize("off", [-2.0, -1.0, 0.0, 1.0, 3.0])
def test_no_lines_run_side_by_side_where_a_neurite_runs_along_the_plane_of_two_regions(radius, off, regions):
    shape = (64, 64, 120)
    x = np.arange(6.0, 114)
    along = np.stack([x, 32 + off + 1.5 * np.sin(x / 12), np.full(len(x), 32 + off)], axis=1)
    mask = rasterize(Tree.from_parents(along, np.full(len(x), radius), np.arange(len(x)) - 1), shape)
    for i, start in enumerate(range(25, 100, 25)):
        aside = (22 if i % 2 else -22, 10 if i % 3 else -10)
        mask |= tube((start, 32 + off, 32 + off), (start + 8, 32 + off + aside[0], 32 + off + aside[1]), shape, 1.2)
    whole = trace(mask)
    regions(32)
    tree = trace(mask)
    assert_sound(tree)
    assert num_side_by_side(tree) == 0
    assert tree.length < 1.03 * whole.length
    assert tree_distance(tree, whole)["f1"] > 0.98


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 20)] * 3), st.floats(0.02, 0.9), st.integers(3, 12))
def test_any_mask_gives_one_sound_tree_and_the_components_of_the_whole(seed, shape, density, side):
    mask = np.random.default_rng(seed).random(shape) < density
    mask[0, 0, 0] = True
    most = ndimage.label(mask, np.ones((3, 3, 3)))[1]
    options = {"min_component_voxels": 1, "bridge_distance": 0, "smoothing": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "VOXELS_AT_ONCE", 0)
        patch.setattr(tracing, "MAX_SHARE", 1.0)
        for module in (tracing, by_region):
            patch.setattr(module, "REGION_SIDES", (side,))
        trees = trace_neurons(mask, math.prod(shape), **options)
        assert len(trees) == most
        assert all(tree.comments == () for tree in trees)
        for tree in [*trees[:3], trace(mask, min_component_voxels=1)]:
            assert_sound(tree)


def test_what_is_left_out_is_counted_as_in_the_whole(regions):
    mask = tube((8, 8, 20), (70, 8, 20))
    mask[20, 35, 10:14] = True
    mask[20, 30, 40:70] = True
    whole = trace(mask)
    regions(16)
    assert trace(mask).comments == whole.comments and len(whole.comments) == 2


def test_faded_stretches_and_gaps_across_the_plane_of_two_regions_are_bridged(regions):
    scores = np.zeros((20, 40, 80), np.float32)
    scores[9:12, 14:17, 5:24] = scores[9:12, 14:17, 44:75] = 0.9
    for part in (np.s_[9:12, 14:28, 22:25], np.s_[9:12, 25:28, 22:45], np.s_[9:12, 14:28, 43:46]):
        scores[part] = np.maximum(scores[part], 0.3)
    whole = trace(scores, bridge_distance=24)
    regions(32)
    tree = trace(scores, bridge_distance=24)
    assert_sound(tree)
    assert tree.xyz[:, 1].max() > 24 and np.ptp(tree.xyz[:, 0]) > 60 and not tree.comments
    assert tree_distance(tree, whole)["f1"] > 0.98
    gap = tube((8, 20, 20), (70, 20, 20))
    gap[:, :, 28:36] = False
    tree = trace(gap)
    assert_sound(tree)
    assert np.ptp(tree.xyz[:, 0]) > 58 and not tree.comments


@pytest.mark.slow
def test_a_soma_thicker_than_a_region_and_its_halo_keeps_its_center_and_radius(regions):
    z, y, x = np.ogrid[:100, :100, :160]
    mask = (z - 47) ** 2 + (y - 52) ** 2 + (x - 60) ** 2 <= 25**2
    mask |= tube((60, 52, 47), (150, 60, 50), mask.shape)
    whole = trace(mask)
    regions(20)
    tree = trace(mask)
    assert_sound(tree)
    assert np.linalg.norm(tree.xyz[0] - (60, 52, 47)) < 2 and abs(tree.radii[0] - whole.radii[0]) < 0.01
    assert tree_distance(tree, whole)["f1"] > 0.98


def test_roots_and_voxel_sizes_and_readers_count_as_in_the_whole(regions):
    mask = rasterize(random_tree(5), (64, 64, 64)).astype(np.uint8)
    source = reader_of(mask, (10, 24, 17))  # slices are twice as thick
    root = tuple(random_tree(5).xyz[-1])
    whole = trace(source, root=root)
    regions(20)
    tree = trace(source, root=root)
    assert_sound(tree)
    assert np.linalg.norm(tree.xyz[0] - whole.xyz[0]) < 2.5
    assert tree_distance(tree, whole)["f1"] > 0.98
    assert abs(np.median(tree.radii) - np.median(whole.radii)) < 0.3


def test_ports_are_the_middles_of_what_crosses_a_plane():
    y, x = np.mgrid[:40, :60]
    plane = ((y - 12) ** 2 + (x - 15) ** 2 <= 25) | ((y >= 28) & (y < 31))
    voxels = np.argwhere(plane)
    reach = ndimage.distance_transform_edt(np.pad(plane, 9))[9:-9, 9:-9][plane]
    found = voxels[by_region.ports_in(voxels, reach, np.ones(2))]
    assert [12, 15] in found.tolist()
    strip = found[found[:, 0] > 25]
    assert (strip[:, 0] == 29).all() and 3 < len(strip) < 12
    assert len(found) == 1 + len(strip)
    assert len(by_region.ports_in(np.empty((0, 2), int), np.empty(0), np.ones(2))) == 0


@pytest.mark.parametrize(("shape", "most", "side"), [((600, 60, 60), 10**6, 512), ((600, 60, 60), 2000, 64)])
def test_regions_share_their_planes_and_are_as_large_as_memory_allows(shape, most, side, monkeypatch):
    monkeypatch.setattr(by_region, "VOXELS_OF_REGION", most)
    cells = np.full([-(-length // 64) for length in shape], 1000)
    cells[2] = 0
    boxes = dict(by_region.regions_of(shape, cells))
    assert boxes[0, 0, 0] == (slice(0, side + 1), slice(0, 60), slice(0, 60))
    assert all(number[0] * side == box[0].start for number, box in boxes.items())
    assert max(box[0].stop for box in boxes.values()) == 600
    if side == 64:
        assert (2, 0, 0) in boxes and (3, 0, 0) in boxes  # the third may hold some on the plane of the fourth
        cells[3] = 0
        assert (2, 0, 0) not in dict(by_region.regions_of(shape, cells))


def test_limits_are_told_in_one_line(regions, monkeypatch):
    regions(20)
    with pytest.raises(TraceError, match=r"none of the 1 components of the mask has 900 voxels .*the largest has 839"):
        trace(tube((8, 20, 20), (70, 20, 20)), min_component_voxels=900)
    monkeypatch.setattr(by_region, "MAX_LINE_VOXELS", 20)
    with pytest.raises(TraceError, match="center lines of the mask have more than 20 voxels") as caught:
        trace(tube((8, 20, 20), (70, 20, 20)))
    assert "\n" not in str(caught.value)


def test_a_large_volume_that_is_mostly_foreground_is_refused(monkeypatch):
    monkeypatch.setattr(tracing, "VOXELS_AT_ONCE", 1000)
    with pytest.raises(TraceError, match=r"mask has 8000 foreground voxels \(100% .*at most 1600 are traced"):
        trace(np.ones((20, 20, 20), bool))


def test_the_thickest_voxels_are_kept_when_there_are_too_many():
    voxels = by_region.Voxels()
    for at in (0, 50):
        voxels.add(np.arange(at, at + 50), np.arange(50.0) % 25, np.full(50, at, np.float32))
    voxels.keep_thickest(8)
    assert voxels.count == 8
    assert np.concatenate(voxels.indices).tolist() == [24, 49, 74, 99, 23, 48, 73, 98]
    assert np.concatenate(voxels.reach).tolist() == [24.0] * 4 + [23.0] * 4
    assert np.concatenate(voxels.scores).tolist() == [0, 0, 50, 50] * 2
