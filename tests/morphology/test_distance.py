"""Tree against tree: laws, hand-made cases, and the definition computed the slow way."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import SWCError, Tree, distance, read_swc, tree_distance


EMPTY = Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int))


def line(begin, end) -> Tree:
    return Tree.from_parents([begin, end], [1.0, 1.0], [-1, 0])


def dots(*points) -> Tree:
    return Tree.from_parents(points, np.ones(len(points)), np.full(len(points), -1))


def moved(tree: Tree, by) -> Tree:
    return replace(tree, xyz=tree.xyz + np.asarray(by, dtype=float))


def slow_one_way(source: Tree, target: Tree) -> np.ndarray:
    """Sample by sample, segment by segment: distances."""
    return slow_samples(source, target)[0]


def slow_samples(source: Tree, target: Tree) -> np.ndarray:
    """(5, samples): distance, length that it stands for, radius at the sample, and the least and the largest radius of
    the target at the points that are nearest to it."""
    found = []
    for child, parent in source.segments:
        a, b = source.xyz[child], source.xyz[parent]
        length, radii = np.linalg.norm(b - a), source.radii[[child, parent]]
        count = int(1 + length + 0.5)
        for number in range(count):
            share = number / max(count - 1, 1)
            point = a + share * (b - a)
            near = []
            for other_child, other_parent in target.segments:
                c, d = target.xyz[other_child], target.xyz[other_parent]
                squared = (d - c) @ (d - c)
                t = min(max((point - c) @ (d - c) / squared, 0), 1) if squared else 0
                radius = (1 - t) * target.radii[other_child] + t * target.radii[other_parent]
                near.append((np.linalg.norm(point - c - t * (d - c)), radius))
            best = min(near)[0]
            at_best = [radius for other, radius in near if other < best + 1e-9]
            is_end = number in (0, count - 1)
            weight = 1.0 if child == parent else length / max(count - 1, 1) / (2 if is_end and count > 1 else 1)
            found.append((best, weight, (1 - share) * radii[0] + share * radii[1], min(at_best), max(at_best)))
    return np.array(found).T


@st.composite
def trees(draw):
    n = draw(st.integers(1, 6))
    coordinate = st.one_of(st.integers(0, 6).map(float), st.floats(-20, 20))
    xyz = [[draw(coordinate) for _ in range(3)] for _ in range(n)]
    radii = [draw(st.floats(0, 8)) for _ in range(n)]
    return Tree.from_parents(xyz, radii, [draw(st.integers(-1, row - 1)) for row in range(n)])


@given(trees(), trees())
@settings(max_examples=60, deadline=None)
def test_equals_the_definition(predicted, gold):
    result = tree_distance(predicted, gold)
    d12, d21 = slow_one_way(predicted, gold), slow_one_way(gold, predicted)
    assert result["esa12"] == pytest.approx(d12.mean(), abs=1e-9)
    assert result["esa21"] == pytest.approx(d21.mean(), abs=1e-9)
    assert result["esa"] == pytest.approx((d12.mean() + d21.mean()) / 2, abs=1e-9)
    if min(np.abs(d12 - 2).min(), np.abs(d21 - 2).min()) > 1e-9:
        different = [d[d >= 2].mean() for d in (d12, d21) if (d >= 2).any()]
        assert result["dsa"] == pytest.approx(np.mean(different) if different else 0, abs=1e-9)
        assert result["pds"] == pytest.approx(((d12 >= 2).mean() + (d21 >= 2).mean()) / 2)


@pytest.mark.slow
@given(trees(), trees())
@settings(max_examples=60, deadline=None)
def test_wide_figures_equal_the_definition(predicted, gold):
    result = tree_distance(predicted, gold)
    distance, weights, _, least, largest = slow_samples(predicted, gold)
    weights = weights if weights.any() else np.ones_like(weights)
    low, high = (np.maximum(radii, 2) for radii in (least, largest))  # two gold points may be equally near
    bounds = [(weights * (distance <= reach)).sum() / weights.sum() for reach in (low - 1e-9, high + 1e-9)]
    assert bounds[0] - 1e-9 <= result["precision_wide"] <= bounds[1] + 1e-9
    distance, weights, radii, *_ = slow_samples(gold, predicted)
    weights = weights if weights.any() else np.ones_like(weights)
    bounds = [(weights * (distance <= np.maximum(radii, 2) + slack)).sum() / weights.sum() for slack in (-1e-9, 1e-9)]
    assert bounds[0] - 1e-9 <= result["recall_wide"] <= bounds[1] + 1e-9
    p, r = result["precision_wide"], result["recall_wide"]
    assert result["f1_wide"] == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    assert p >= result["precision"] and r >= result["recall"]


@pytest.mark.slow
@given(trees(), trees(), st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_more_gold_radius_never_lowers_what_is_wide_and_changes_nothing_else(predicted, gold, more):
    thin, thick = (tree_distance(predicted, replace(gold, radii=gold.radii + by)) for by in (0, more))
    for key in thin:
        if key.endswith("_wide"):
            assert thick[key] >= thin[key] - 1e-12
        else:
            assert thick[key] == thin[key]
    fat = replace(predicted, radii=predicted.radii + more)
    assert tree_distance(fat, gold) == thin


def test_wide_is_within_the_gold_radius_there():
    thick_to_thin = Tree.from_parents([[0.0, 0, 0], [100, 0, 0]], [10.0, 0.0], [-1, 0])
    beside = line([0, 4.99, 0], [100, 4.99, 0])
    result = tree_distance(beside, thick_to_thin)
    assert result["f1"] == 0 and result["precision_wide"] == result["recall_wide"] == pytest.approx(0.5, abs=0.02)
    for nothing in (0.0, math.nan, math.inf):
        assert tree_distance(beside, replace(thick_to_thin, radii=np.full(2, nothing)))["f1_wide"] == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 50, 10**6]))
@settings(max_examples=25, deadline=None)
def test_the_search_is_exact_however_coarse_its_pieces(seed, max_pieces):
    rng = np.random.default_rng(seed)
    begin, end = rng.uniform(-60, 60, (2, 25, 3))
    points = rng.uniform(-100, 100, (40, 3))
    along, offset = end - begin, points[:, None] - begin
    position = np.clip((offset * along).sum(-1) / (along**2).sum(-1), 0, 1)
    expected = np.linalg.norm(offset - position[..., None] * along, axis=-1).min(axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance, "_MAX_PIECES", max_pieces)
        patch.setattr(distance, "_DISTANCES_AT_ONCE", 64)
        found, nearest = distance.nearest_segments(points, begin, end)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        to_nearest = offset - position[..., None] * along
        np.testing.assert_allclose(np.linalg.norm(to_nearest[np.arange(40), nearest], axis=1), expected, rtol=1e-12)


@given(trees())
@settings(max_examples=25, deadline=None)
def test_a_tree_is_at_no_distance_from_itself(tree):
    result = tree_distance(tree, tree)
    assert result["esa"] == pytest.approx(0, abs=1e-9)
    assert result["dsa"] == result["pds"] == 0
    assert result["precision"] == result["recall"] == result["f1"] == 1
    assert result["length_predicted"] == result["length_gold"] == tree.length
    for kind in ("precision", "recall", "f1"):
        assert result[f"{kind}_wide"] == result[f"branch_points_{kind}"] == result[f"tips_{kind}"] == 1
    assert result["length_ratio"] == 1


@given(trees(), trees())
@settings(max_examples=25, deadline=None)
def test_swapping_the_trees_swaps_the_directions(a, b):
    there, back = tree_distance(a, b), tree_distance(b, a)
    for name, other in (
        ("esa12", "esa21"),
        ("pds12", "pds21"),
        ("precision", "recall"),
        ("length_predicted", "length_gold"),
        ("branch_points_precision", "branch_points_recall"),
        ("tips_precision", "tips_recall"),
    ):
        assert there[name] == back[other]
    for name in ("esa", "dsa", "pds", "f1", "branch_points_f1", "tips_f1"):
        assert there[name] == pytest.approx(back[name])


@given(trees(), trees(), st.tuples(*[st.integers(-50, 50)] * 3))
@settings(max_examples=25, deadline=None)
def test_moving_both_trees_changes_nothing(a, b, by):
    assert tree_distance(moved(a, by), moved(b, by))["esa"] == pytest.approx(tree_distance(a, b)["esa"], abs=1e-6)


def test_a_line_moved_sideways_by_three():
    gold = line([0, 0, 0], [0, 0, 100])
    result = tree_distance(moved(gold, (3, 0, 0)), gold)
    assert result["esa"] == result["esa12"] == result["esa21"] == result["dsa"] == 3
    assert result["pds"] == 1 and result["f1"] == 0
    result = tree_distance(moved(gold, (3, 0, 0)), gold, threshold=4)
    assert result["dsa"] == 0 and result["pds"] == 0 and result["f1"] == 1 and result["threshold"] == 4


def test_the_threshold_itself_is_different_but_within():
    gold = line([0, 0, 0], [0, 0, 10])
    result = tree_distance(moved(gold, (2, 0, 0)), gold)
    assert result["pds"] == 1 and result["dsa"] == 2 and result["f1"] == 1


def test_half_of_a_line():
    result = tree_distance(line([0, 0, 0], [50, 0, 0]), line([0, 0, 0], [100, 0, 0]))
    assert result["esa12"] == pytest.approx(0, abs=1e-9) and result["precision"] == 1
    assert result["recall"] == pytest.approx(0.52, abs=0.01)  # and 2 voxels beyond its end
    assert result["esa21"] == pytest.approx(sum(range(51)) / 101)  # samples at 0, 1, ... 100
    assert result["f1"] == pytest.approx(2 * 0.525 / 1.525, abs=0.01)


def test_distance_is_to_segments_and_not_to_nodes():
    result = tree_distance(dots([500, 1, 0]), line([0, 0, 0], [1000, 0, 0]))
    assert result["esa12"] == pytest.approx(1, abs=1e-9)


def test_connections_do_not_matter_and_density_of_nodes_does_not_weigh():
    x = np.concatenate([np.linspace(0, 50, 1001), np.linspace(60, 100, 5)])
    dense = Tree.from_parents(np.c_[x, 0 * x, 0 * x], np.ones(len(x)), np.arange(-1, len(x) - 1))
    gold = line([60, 0, 0], [100, 0, 0])
    assert tree_distance(dense, gold)["precision"] == pytest.approx(0.42, abs=0.01)
    assert tree_distance(dense, line([0, 0, 0], [100, 0, 0]))["recall"] == 1
    flipped = line([100, 0, 0], [60, 0, 0])
    assert tree_distance(flipped, gold)["f1"] == 1


def test_single_nodes_and_several_roots():
    result = tree_distance(dots([0, 0, 0]), dots([0, 3, 4]))
    assert result["esa"] == 5 and result["f1"] == 0 and result["length_gold"] == 0
    result = tree_distance(dots([0, 0, 0], [0, 0, 9]), dots([0, 0, 0]))
    assert result["esa12"] == 4.5 and result["esa21"] == 0
    assert result["precision"] == 0.5 and result["recall"] == 1
    same_place = line([1, 1, 1], [1, 1, 1])
    assert tree_distance(same_place, same_place)["f1"] == 1


def test_an_empty_prediction_scores_nothing_and_an_empty_gold_is_refused():
    gold = line([0, 0, 0], [9, 0, 0])
    result = tree_distance(EMPTY, gold)
    assert result.keys() == tree_distance(gold, gold).keys()
    assert all(math.isnan(result[name]) for name in ("esa", "dsa", "esa12", "esa21"))
    kinds = [f"{what}{kind}" for what in ("branch_points_", "tips_", "") for kind in ("precision", "recall", "f1")]
    assert result["pds"] == 1 and not any(result[key] for key in (*kinds, "f1_wide", "length_ratio"))
    with pytest.raises(ValueError, match="gold tree has no node"):
        tree_distance(gold, EMPTY)


def test_the_ratio_of_the_lengths():
    gold, dot = line([0, 0, 0], [10, 0, 0]), dots([0, 0, 0])
    assert tree_distance(line([0, 0, 0], [15, 0, 0]), gold)["length_ratio"] == 1.5
    assert tree_distance(dot, dot)["length_ratio"] == 1 and tree_distance(gold, dot)["length_ratio"] == math.inf


def test_nonsense_is_refused():
    gold = line([0, 0, 0], [9, 0, 0])
    for threshold in (0, -1, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            tree_distance(gold, gold, threshold=threshold)
    with pytest.raises(SWCError, match="predicted tree has NaN"):
        tree_distance(line([0, math.nan, 0], [9, 0, 0]), gold)
    with pytest.raises(SWCError, match="cannot be in voxels"):
        tree_distance(gold, line([0, 0, 0], [1e12, 0, 0]))


def test_all_values_are_plain_numbers():
    gold = line([0, 0, 0], [9, 0, 0])
    assert {type(value) for value in tree_distance(moved(gold, (1, 5, 0)), gold).values()} == {float}


@pytest.mark.real_data
def test_real_consensus_trees_are_near_their_gold(shared):
    paths = sorted((shared / "data" / "gold166_mip").glob("*/consensus.swc"))[:12]
    f1 = [tree_distance(read_swc(path), read_swc(path.with_name("gold.swc")))["f1"] for path in paths]
    assert len(f1) == 12 and np.median(f1) > 0.5
