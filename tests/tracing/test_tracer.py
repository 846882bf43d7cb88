"""Tracing: what comes out is one sound tree along the middle of the mask, and what is left out is said."""

import itertools
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from neuron_vit3d.morphology import Tree, rasterize, read_swc, tree_distance
from neuron_vit3d.tracing import TraceError, TraceOptions, bridging, trace, trace_neurons
from neuron_vit3d.tracing.foreground import Foreground
from neuron_vit3d.tracing.methods import METHODS
from neuron_vit3d.tracing.skeleton import Skeleton
from support.trees import assert_one_sound_tree, random_tree, tube


def in_mask(tree: Tree, mask: np.ndarray) -> np.ndarray:
    return mask[tuple(np.rint(tree.xyz[:, ::-1]).astype(int).T)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_rasterized_tree_is_found_again(seed):
    gold = random_tree(seed)
    mask = rasterize(gold, (64, 64, 64))
    tree = trace(mask)
    assert_one_sound_tree(tree)
    assert in_mask(tree, ndimage.binary_dilation(mask)).all()  # smoothing fills its pores
    scores = tree_distance(tree, gold)
    # Branches of these trees run into one another, and what lies side by side without background between it is one
    # neurite.
    assert scores["precision"] > 0.93 and scores["recall"] > 0.7


def test_most_of_many_trees_is_found():
    found = [tree_distance(trace(rasterize(gold, (64, 64, 64))), gold)["f1"] for gold in map(random_tree, range(20))]
    assert np.mean(found) > 0.975


def test_most_of_a_tuft_of_thin_neurites_is_found_though_they_touch():
    rng = np.random.default_rng(0)
    ends, bends = rng.uniform(5, 43, (80, 3)), rng.uniform(15, 33, (80, 3))
    points = np.concatenate([[[24.0, 24, 24]], bends, ends])
    gold = Tree.from_parents(points, np.ones(161), np.concatenate([[-1], np.zeros(80, int), 1 + np.arange(80)]))
    scores = tree_distance(trace(rasterize(gold, (48, 48, 48))), gold)
    assert scores["precision"] > 0.98 and scores["recall"] > 0.85


def test_of_a_loop_both_sides_are_traced():
    mask = np.zeros((12, 60, 80), bool)
    corners = [(10, 30, 6), (25, 30, 6), (40, 15, 6), (55, 30, 6), (40, 45, 6), (25, 30, 6)]
    for a, b in itertools.pairwise([*corners, (10, 30, 6)]):
        mask |= tube(a, b, radius=1.5, shape=mask.shape)
    mask |= tube((55, 30, 6), (75, 30, 6), radius=1.5, shape=mask.shape)
    tree = trace(mask)
    assert_one_sound_tree(tree)
    for side in (40, 15), (40, 45), (32, 22), (48, 38):
        assert np.linalg.norm(tree.xyz[:, :2] - side, axis=1).min() < 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 12)] * 3), st.floats(0.02, 1.0))
@example(181, (5, 9, 6), 0.125)  # a node was moved 0.009 voxels out of the volume
def test_any_mask_gives_one_sound_tree(seed, shape, density):
    mask = np.random.default_rng(seed).random(shape) < density
    mask[0, 0, 0] = True
    tree = trace(mask, min_component_voxels=1)
    assert_one_sound_tree(tree)
    assert (tree.xyz >= 0).all() and (tree.xyz <= np.array(shape[::-1]) - 1).all()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([(1.0, 1.0, 1.0), (2.5, 1.0, 1.3)]),
    st.floats(0.3, 0.98),
)
def test_boundary_distance_is_the_distance_transform_of_scipy(seed, shape, spacing, density):
    mask = np.random.default_rng(seed).random(shape) < density
    mask[0, 0, 0], mask[-1, -1, -1] = True, np.prod(shape) == 1
    distance = Foreground.from_mask(mask, np.array(spacing)).boundary_distance()
    if mask.all():  # without background the volume ends at its faces
        np.testing.assert_allclose(
            distance, ndimage.distance_transform_edt(np.pad(mask, 1), spacing)[1:-1, 1:-1, 1:-1][mask]
        )
    else:
        np.testing.assert_allclose(distance, ndimage.distance_transform_edt(mask, spacing)[mask])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 6)] * 3))
def test_edges_are_all_pairs_of_26_neighbours(seed, shape):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    mask[0, 0, 0] = True
    foreground = Foreground.from_mask(mask, np.array([2.0, 1.0, 1.0]))
    rows, neighbours, lengths = foreground.edges()
    steps = np.abs(foreground.voxels[:, None] - foreground.voxels[None])
    assert {tuple(sorted(pair)) for pair in zip(rows.tolist(), neighbours.tolist(), strict=True)} == {
        (i, j) for i, j in np.argwhere(steps.max(axis=2) == 1).tolist() if i < j
    }
    np.testing.assert_allclose(lengths, np.linalg.norm(steps[rows, neighbours] * [2, 1, 1], axis=1), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 9)] * 3), st.floats(0.05, 0.6))
def test_components_are_those_of_scipy_in_the_order_of_their_first_voxels(seed, shape, density):
    mask = np.random.default_rng(seed).random(shape) < density
    mask[0, 0, 0] = True
    labels = ndimage.label(mask, np.ones((3, 3, 3)))[0][mask]
    first = np.unique(labels, return_index=True)[1]
    number = np.argsort(np.argsort(first))[labels - 1]
    np.testing.assert_array_equal(Foreground.from_mask(mask, np.ones(3)).components(), number)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 20))
def test_the_candidates_of_links_are_all_that_are_cheap_enough(seed, bridge_distance):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, 8)
    component = np.repeat(np.arange(8), lengths)
    starts = rng.uniform(0, 30, (8, 3))
    points = np.concatenate(
        [at + np.cumsum(rng.normal(0, 1, (n, 3)), axis=0) for at, n in zip(starts, lengths, strict=True)]
    )
    parents = np.where(np.diff(component, prepend=-1) != 0, -1, np.arange(len(points)) - 1)
    reach = rng.uniform(1, 5, len(points))
    skeleton = Skeleton(points, reach, parents, component, np.ones(3))
    cheapest = {}
    direction = bridging._end_directions(skeleton, skeleton.degree <= 1)
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            along = points[b] - points[a]
            gap = max(np.linalg.norm(along) - reach[a] - reach[b] + 1, 1)
            turned = 2 - (direction[a] - direction[b]) @ along / np.linalg.norm(along)
            cost, pair = gap * (1 + turned), (component[a], component[b])
            if pair[0] != pair[1] and gap <= bridge_distance and cost <= 1.5 * bridge_distance:
                cheapest[pair] = min(cost, cheapest.get(pair, np.inf))
    links = bridging._cheapest_per_pair(bridging._candidates(skeleton, bridge_distance), component)
    found = dict(zip(map(tuple, component[links.nodes].tolist()), links.cost.tolist(), strict=True))
    assert found == pytest.approx(cheapest)


def test_specks_that_smoothing_takes_are_nothing_to_trace():
    scores = np.zeros((20, 20, 20), np.float32)
    scores[5, 5, 5] = scores[12, 12, 12:14] = 0.9
    with pytest.raises(TraceError, match="nothing to trace"):
        trace(scores)


@pytest.mark.parametrize("radius", [1.5, 2.0, 3.0, 5.0])
def test_a_tree_drawn_again_is_as_thick_as_its_mask(radius):
    rng = np.random.default_rng(0)
    found, again = [], []
    for _ in range(5):
        middle, direction = rng.uniform(39, 41, 3), rng.normal(size=3)
        way = 28 * direction / np.linalg.norm(direction)
        mask = tube(middle - way, middle + way, (80, 80, 80), radius)
        tree = trace(mask)
        drawn = rasterize(tree, mask.shape)
        found.append(np.median(tree.radii) / radius)
        again.append(2 * np.count_nonzero(mask & drawn) / (np.count_nonzero(mask) + np.count_nonzero(drawn)))
    assert 0.9 < np.mean(found) < 1.05
    assert np.mean(again) > 0.85


@pytest.mark.parametrize("radius", [1.5, 3.0, 5.0])
def test_a_straight_tube_keeps_its_ends_its_middle_and_its_radius(radius):
    tree = trace(tube((12, 20, 20), (67, 20, 20), radius=radius))
    assert np.abs(tree.xyz[:, 1:] - 20).max() <= 1
    assert abs(tree.xyz[:, 0].min() - 12) <= 1.5 and abs(tree.xyz[:, 0].max() - 67) <= 1.5
    assert abs(np.median(tree.radii) - radius) <= 0.5
    assert np.linalg.norm(np.diff(tree.xyz[tree.edges], axis=1), axis=2).max() < 2


def test_a_tube_cut_by_the_face_of_the_volume_reaches_it():
    tree = trace(tube((-10, 20, 20), (60, 20, 20)))
    assert tree.xyz[:, 0].min() < 1


def test_a_rough_surface_grows_no_hairs():
    mask = tube((10, 20, 20), (70, 20, 20), radius=4)
    rough = mask | (ndimage.binary_dilation(mask) & (np.random.default_rng(0).random(mask.shape) < 0.3))
    tree = trace(rough)
    assert np.bincount(tree.parent_index[1:]).max() == 1 or tree.length < 1.1 * 60


def test_the_gap_between_ends_is_bridged_up_to_the_limit():
    mask = tube((8, 20, 20), (70, 20, 20))
    mask[:, :, 35:45] = False
    tree = trace(mask, bridge_distance=12)
    assert_one_sound_tree(tree)
    assert tree_distance(tree, trace(tube((8, 20, 20), (70, 20, 20))))["f1"] > 0.98
    assert tree.comments == ()

    apart = trace(mask, bridge_distance=8)
    assert_one_sound_tree(apart)
    assert len(apart.comments) == 1 and "dropped 1 components" in apart.comments[0]


def test_an_end_is_joined_to_the_one_it_points_at():
    """The piece beside is nearer to both than they are to one another, yet the gap between the facing ends is
    bridged."""
    mask = tube((8, 20, 20), (34, 20, 20)) | tube((46, 20, 20), (72, 20, 20)) | tube((38, 28, 20), (72, 28, 20))
    tree = trace(mask)
    assert (np.abs(tree.xyz - [40, 20, 20]).max(axis=1) < 1.5).any()
    assert tree.comments == ()


def test_specks_and_far_pieces_are_dropped_and_reported(caplog):
    mask = tube((8, 8, 20), (70, 8, 20))
    mask[20, 35, 10:14] = True  # 4 voxels
    mask[20, 30, 40:70] = True  # 30 voxels, 20 voxels away
    with caplog.at_level(logging.WARNING, "neuron_vit3d"):
        tree = trace(mask)
    assert tree.xyz[:, 1].max() < 12
    assert len(tree.comments) == 2
    assert tree.comments[0].startswith("dropped 1 components, 4 voxels")
    assert tree.comments[1].startswith("dropped 1 components, 30 voxels")
    assert [record.getMessage() for record in caplog.records] == list(tree.comments)


def test_a_speck_at_the_end_of_a_bridge_is_noise_and_between_two_bridges_a_remnant():
    mask = tube((8, 20, 20), (30, 20, 20)) | tube((52, 20, 20), (72, 20, 20))
    mask[19:22, 19:22, 40:43] = True
    mask[19:22, 30:33, 10:13] = True
    tree = trace(mask, bridge_distance=12)
    assert tree_distance(tree, trace(tube((8, 20, 20), (72, 20, 20))))["f1"] > 0.95
    assert len(tree.comments) == 1 and "dropped 1 components, 27 voxels" in tree.comments[0]


def test_the_root_is_the_soma_or_the_node_nearest_to_the_given_point():
    mask = tube((8, 20, 20), (70, 20, 20)) | (np.linalg.norm(np.indices((40, 40, 80)).T - [20, 20, 50], axis=3).T < 8)
    assert np.linalg.norm(trace(mask).xyz[0] - [50, 20, 20]) <= 2
    assert np.linalg.norm(trace(mask, root=(9, 21, 20)).xyz[0] - [9, 20, 20]) <= 2


def test_the_root_chooses_among_trees_that_cannot_be_joined():
    mask = tube((8, 8, 20), (70, 8, 20)) | tube((20, 35, 20), (50, 35, 20))
    assert trace(mask).xyz[:, 1].max() < 12
    tree = trace(mask, root=(20, 35, 20))
    assert tree.xyz[:, 1].min() > 30
    assert_one_sound_tree(tree)


def test_voxel_size_sets_lengths_and_radii_and_not_coordinates():
    """A gap of 7 slices is 7 voxels wide, but 21 smallest voxel sides when a slice is three times as thick."""
    mask = tube((20, 20, 6), (20, 20, 60), shape=(70, 40, 40), radius=3)
    mask[30:37] = False
    assert trace(mask).comments == ()
    apart = trace(mask, voxel_size=(3.0, 1.0, 1.0))
    assert len(apart.comments) == 1
    volume = SimpleNamespace(array=mask, voxel_size=(0.6, 0.2, 0.2))
    of_volume = trace(volume)
    np.testing.assert_allclose(of_volume.xyz, apart.xyz, rtol=0, atol=1e-9)  # 0.6 / 0.2 is not quite 3
    assert np.abs(of_volume.xyz[:, :2] - 20).max() <= 1
    assert abs(np.median(of_volume.radii) - 3) <= 0.5
    assert trace(volume, voxel_size=(1, 1, 1)).comments == ()


def test_scores_are_cut_at_the_threshold_and_guide_the_path():
    """Where two ways are equally wide and long, the one of the higher scores is taken."""
    mask = tube((8, 20, 20), (70, 20, 20), radius=4)
    scores = np.where(mask, 0.6, 0.1).astype(np.float32)
    np.testing.assert_array_equal(trace(scores, smoothing=0).xyz, trace(mask).xyz)
    with pytest.raises(TraceError, match="empty"):
        trace(scores, threshold=0.7, smoothing=0)
    with pytest.raises(TraceError, match="empty"):
        trace(scores, threshold=0.7)
    # A loop: two ways from end to end, the one at greater y the surer.
    ring = tube((8, 20, 20), (22, 20, 20)) | tube((58, 20, 20), (72, 20, 20))
    for y in (8, 32):
        ring |= tube((22, 20, 20), (30, y, 20)) | tube((30, y, 20), (50, y, 20)) | tube((50, y, 20), (58, 20, 20))
    scores = np.where(ring, 0.6, 0.0)
    scores[:, 22:] = np.where(ring[:, 22:], 0.9, 0.0)
    tree = trace(scores, root=(8, 20, 20))
    path = [int(np.argmax(tree.xyz[:, 0]))]
    while path[-1] != tree.roots[0]:
        path.append(int(tree.parent_index[path[-1]]))
    assert tree.xyz[path, 1].max() > 28 and tree.xyz[path, 1].min() > 18


def test_rough_scores_are_smoothed_and_what_is_not_sure_is_no_neuron():
    rng = np.random.default_rng(0)
    mask = tube((8, 20, 20), (70, 20, 20), radius=4)
    scores = np.where(mask, rng.choice([0.2, 0.95], mask.shape, p=[0.3, 0.7]), 0.02).astype(np.float32)
    smooth, rough = trace(scores), trace(scores, smoothing=0)
    assert smooth.length < 66 < rough.length
    assert np.abs(smooth.xyz[:, 1:] - 20).max() < 1.5
    scores[5:8, 3:6, 5:40] = 0.45  # as much as smoothing would be content with
    np.testing.assert_array_equal(trace(scores).xyz, smooth.xyz)


def test_a_faded_stretch_is_bridged_along_its_signal_and_background_is_not():
    scores = np.zeros((20, 30, 80), np.float32)
    scores[9:12, 14:17, 5:30] = scores[9:12, 14:17, 50:75] = 0.9
    apart = trace(scores)
    assert np.ptp(apart.xyz[:, 0]) < 30 and "not to be bridged" in apart.comments[0]
    faded = scores.copy()
    faded[9:12, 14:17, 30:50] = 0.25
    together = trace(faded)
    assert np.ptp(together.xyz[:, 0]) > 60 and not together.comments
    assert_one_sound_tree(together)
    bent = scores.copy()
    for part in (np.s_[9:12, 14:26, 29:32], np.s_[9:12, 23:26, 29:52], np.s_[9:12, 14:26, 49:52]):
        bent[part] = np.maximum(bent[part], 0.3)
    around = trace(bent, bridge_distance=24)
    assert np.ptp(around.xyz[:, 0]) > 60 and around.xyz[:, 1].max() > 22


def test_integer_masks_are_masks():
    mask = random_tree(1)
    mask = rasterize(mask, (64, 64, 64))
    for other in (mask.astype(np.uint8) * 255, mask.astype(np.int16)):
        np.testing.assert_array_equal(trace(other).xyz, trace(mask).xyz)
    np.testing.assert_allclose(trace(mask.astype(np.float64), smoothing=0).xyz, trace(mask, smoothing=0).xyz, atol=0.1)


def test_the_same_mask_gives_the_same_tree_and_is_not_changed():
    mask = rasterize(random_tree(3), (64, 64, 64))
    mask &= np.random.default_rng(0).random(mask.shape) < 0.9
    before = mask.copy()
    first, second = trace(mask), trace(np.asfortranarray(mask))
    np.testing.assert_array_equal(mask, before)
    for name in ("ids", "xyz", "radii", "parents"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_traced_tree_survives_the_file(tmp_path):
    mask = rasterize(random_tree(5), (64, 64, 64))
    mask[0, 0, 0] = True
    tree = trace(mask)
    again = read_swc(tree.write(tmp_path / "tree.swc"))
    np.testing.assert_array_equal(again.xyz, tree.xyz)
    assert any("dropped 1 components, 1 voxels" in comment for comment in again.comments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 5, 6), bool), "mask is empty: nothing to trace"),
        (np.zeros((4, 5, 6), np.float32), "mask is empty: nothing to trace, all scores are 0"),
        (np.full((4, 5, 6), 0.31), "no score reaches the threshold 0.5; the highest is 0.31: try a lower .*, such as"),
        (np.ones((17, 17, 17), np.uint8), "every voxel of the mask is set.*background must be 0"),
        (np.ones((17, 17, 17), np.float32), "every score reaches 0.5.*raise the threshold"),
        (np.ones((5, 6), bool), r"axes \(z, y, x\).*\(5, 6\)"),
        (np.ones((2, 4, 5, 6), bool), r"axes \(z, y, x\).*\(2, 4, 5, 6\)"),
        (np.ones((0, 5, 6), bool), r"no empty axis.*\(0, 5, 6\)"),
        (np.full((4, 5, 6), np.nan), r"scores must lie in \[0, 1\], got nan"),
        (np.where(np.arange(60).reshape(3, 4, 5) == 7, np.nan, 0.9), r"got nan at z 0, y 1, x 2"),
        (np.full((4, 5, 6), 1.5), r"scores must lie in \[0, 1\], got 1.5"),
        (np.full((4, 5, 6), -0.5), r"scores must lie in \[0, 1\], got -0.5"),
        (np.full((4, 5, 6), "a"), "got dtype <U1"),
        (np.eye(3, dtype=bool)[None], "none of the 1 components of the mask has 10 voxels.*the largest has 3"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(given, message):
    with pytest.raises(TraceError, match=message) as caught:
        trace(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"threshold": 0},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"voxel_size": (1, 1)},
        {"voxel_size": (1, 0, 1)},
        {"voxel_size": (1, float("inf"), 1)},
        {"bridge_distance": -1},
        {"bridge_distance": float("inf")},
        {"min_branch_length": float("nan")},
        {"min_component_voxels": -1},
        {"root": (1, 2)},
        {"root": (3, 3, 40)},
        {"root": (float("nan"), 3, 3)},
    ],
)
def test_parameters_out_of_range_are_named(parameters):
    with pytest.raises(TraceError, match=next(iter(parameters))):
        trace(np.ones((4, 5, 6), bool), **parameters)


def test_options_are_a_record_or_keywords():
    mask = tube((8, 20, 20), (70, 20, 20))
    record = TraceOptions(bridge_distance=8, min_branch_length=4)
    for tree in (trace(mask, record), trace(mask, TraceOptions(bridge_distance=8), min_branch_length=4)):
        np.testing.assert_array_equal(tree.xyz, trace(mask, bridge_distance=8, min_branch_length=4).xyz)
    np.testing.assert_array_equal(trace_neurons(mask, 1, record)[0].xyz, trace(mask, record).xyz)
    with pytest.raises(TypeError, match=r"trace\(\): no such option: bridge_distnace; the nearest is bridge_distance"):
        trace(mask, bridge_distnace=8)
    with pytest.raises(TraceError, match=f"method: expected {' or '.join(METHODS)}, got 'magic'"):
        trace(mask, method="magic")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_lines(name):
    assert_one_sound_tree(trace(tube((8, 20, 20), (70, 20, 20)), method=name))


def test_too_much_foreground_is_refused(monkeypatch):
    monkeypatch.setattr("neuron_vit3d.tracing.teasar.MAX_FOREGROUND_VOXELS", 100)
    with pytest.raises(TraceError, match=r"mask has 120 foreground voxels.*raise the threshold"):
        trace(np.ones((4, 5, 6), bool))


def test_the_largest_of_too_many_components_are_taken(monkeypatch):
    monkeypatch.setattr("neuron_vit3d.tracing.center_lines.MAX_COMPONENTS", 2)
    mask = np.zeros((30, 30, 60), bool)
    for i, length in enumerate((12, 40, 30, 11)):
        mask[15, 4 + 5 * i, 5 : 5 + length] = True
    tree = trace(mask)
    assert tree.comments[0].startswith("dropped 2 components, 23 voxels")


def test_one_voxel_is_a_tree_of_one_node():
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 2, 3] = True
    tree = trace(mask, min_component_voxels=1)
    np.testing.assert_array_equal(tree.xyz, [[3, 2, 1]])
    assert_one_sound_tree(tree)


@pytest.mark.slow
def test_masks_that_are_no_neuron_take_bounded_work():
    nearly_full = np.ones((48, 48, 48), bool)
    nearly_full[0, 0, 0] = False
    assert_one_sound_tree(trace(nearly_full))
    salt = np.zeros((120, 300, 300), bool)
    salt[::2, ::3, ::3] = True
    with pytest.raises(TraceError, match="none of the 600000 components"):
        trace(salt)
    assert_one_sound_tree(trace(salt, min_component_voxels=1))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["rr30a_tp0", "rivulet_test"])
def test_a_real_tree_is_found_in_its_own_mask(shared, name):
    gold = read_swc(shared / "data" / "neurons" / name / "trace.swc")
    shape = np.ceil(gold.xyz.max(axis=0)).astype(int)[::-1] + 5
    scores = tree_distance(trace(rasterize(gold, tuple(shape), min_radius=1.0)), gold)
    assert scores["f1"] > 0.97


# -- several neurons --------------------------------------------------------------------------------------------------


def two_neurons() -> np.ndarray:
    """A thick one along x at y 10 and a thin one at y 30, joined by nothing."""
    return tube((5, 10, 15), (75, 10, 15), radius=3, shape=(30, 40, 80)) | tube(
        (5, 30, 15), (75, 30, 15), radius=2, shape=(30, 40, 80)
    )


def test_several_neurons_are_traced_the_largest_first():
    mask = two_neurons()
    trees = trace_neurons(mask, 3, bridge_distance=4)
    assert [round(tree.xyz[:, 1].mean()) for tree in trees] == [10, 30]
    for tree in trees:
        assert_one_sound_tree(tree)
    (first,) = trace_neurons(mask, 1, bridge_distance=4)
    np.testing.assert_array_equal(first.xyz, trace(mask, bridge_distance=4).xyz)
    assert "dropped 1 components" in first.comments[0] and not trees[0].comments


def test_neurons_begin_at_the_roots_given_in_their_order():
    trees = trace_neurons(two_neurons(), [(6, 30, 15), (74, 10, 15)], bridge_distance=4)
    assert [round(tree.xyz[:, 1].mean()) for tree in trees] == [30, 10]
    assert trees[0].xyz[0, 0] < 12 and trees[1].xyz[0, 0] > 68


def test_neurons_that_touch_are_cut_apart_half_way():
    mask = tube((5, 10, 15), (75, 10, 15), radius=2, shape=(30, 40, 80))
    left, right = trace_neurons(mask, [(12, 10, 15), (68, 10, 15)])
    assert abs(left.xyz[:, 0].max() - 40) < 3 and abs(right.xyz[:, 0].min() - 40) < 3
    whole = trace(mask)
    assert len(left) + len(right) == len(whole)
    for tree in (left, right):
        assert_one_sound_tree(tree)
    with pytest.raises(TraceError, match="got two at the same place"):
        trace_neurons(mask, [(8, 10, 15), (8, 10, 15)])
    for none in (0, []):
        with pytest.raises(TraceError, match="expected at least one neuron"):
            trace_neurons(mask, none)


def test_a_soma_is_marked_and_a_thick_neurite_is_none():
    mask = tube((5, 20, 15), (75, 20, 15), radius=2, shape=(30, 40, 80))
    assert not trace(mask).types.any()
    z, y, x = np.ogrid[:30, :40, :80]
    mask |= (z - 15) ** 2 + (y - 20) ** 2 + (x - 40) ** 2 <= 9**2
    tree = trace(mask)
    assert tree.types.tolist() == [1] + [0] * (len(tree) - 1)
    assert np.linalg.norm(tree.xyz[0] - (40, 20, 15)) < 2 and tree.radii[0] > 7


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
@pytest.mark.parametrize("seed", range(6))
def test_a_straight_tube_is_one_line(seed, spacing):
    """However it lies between the voxels: no second line along its middle, and no twigs to its side."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    radius, length = rng.uniform(1.5, 7), 50.0
    center = 35 * np.array(spacing) + rng.uniform(-0.5, 0.5, 3)
    voxels = np.stack(np.meshgrid(*[np.arange(70) * side for side in spacing], indexing="ij"), axis=-1) - center
    along = np.clip(voxels @ direction, -length / 2, length / 2)
    tree = trace(np.sum((voxels - along[..., None] * direction) ** 2, axis=-1) <= radius**2, voxel_size=spacing)
    rows = {number: row for row, number in enumerate(tree.ids.tolist())}
    parents = np.array([rows.get(parent, -1) for parent in tree.parents.tolist()])
    inner = parents >= 0
    edges = (tree.xyz[inner] - tree.xyz[parents[inner]]) * spacing[::-1]
    assert np.linalg.norm(edges, axis=1).sum() == pytest.approx(length, rel=0.2)
    neighbours = np.bincount(parents[inner], minlength=len(tree)) + inner
    assert np.count_nonzero(neighbours == 1) == 2 and neighbours.max() == 2
