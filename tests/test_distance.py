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
    return Tree.from_parents([begin, end], [1, 1], [-1, 0])


def dots(*points) -> Tree:
    return Tree.from_parents(points, np.ones(len(points)), np.full(len(points), -1))


def moved(tree: Tree, by) -> Tree:
    return replace(tree, xyz=tree.xyz + np.asarray(by, dtype=float))


def slow_one_way(source: Tree, target: Tree) -> np.ndarray:
    """Sample by sample, segment by segment."""
    found = []
    for child, parent in source.segments:
        a, b = source.xyz[child], source.xyz[parent]
        count = int(1 + np.linalg.norm(b - a) + 0.5)
        for point in np.linspace(a, b, count):
            best = math.inf
            for other_child, other_parent in target.segments:
                c, d = target.xyz[other_child], target.xyz[other_parent]
                squared = (d - c) @ (d - c)
                t = min(max((point - c) @ (d - c) / squared, 0), 1) if squared else 0
                best = min(best, np.linalg.norm(point - c - t * (d - c)))
            found.append(best)
    return np.array(found)


@st.composite
def trees(draw):
    n = draw(st.integers(1, 6))
    coordinate = st.one_of(st.integers(0, 6).map(float), st.floats(-20, 20))
    xyz = [[draw(coordinate) for _ in range(3)] for _ in range(n)]
    return Tree.from_parents(xyz, np.ones(n), [draw(st.integers(-1, row - 1)) for row in range(n)])


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
        np.testing.assert_allclose(distance._distance_to_segments(points, begin, end), expected, rtol=1e-12)


@given(trees())
@settings(max_examples=25, deadline=None)
def test_a_tree_is_at_no_distance_from_itself(tree):
    result = tree_distance(tree, tree)
    assert result["esa"] == pytest.approx(0, abs=1e-9)
    assert result["dsa"] == result["pds"] == 0
    assert result["precision"] == result["recall"] == result["f1"] == 1
    assert result["length_predicted"] == result["length_gold"] == tree.length


@given(trees(), trees())
@settings(max_examples=25, deadline=None)
def test_swapping_the_trees_swaps_the_directions(a, b):
    there, back = tree_distance(a, b), tree_distance(b, a)
    for name, other in (
        ("esa12", "esa21"),
        ("pds12", "pds21"),
        ("precision", "recall"),
        ("length_predicted", "length_gold"),
    ):
        assert there[name] == back[other]
    for name in ("esa", "dsa", "pds", "f1"):
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
    assert result["pds"] == 1 and result["precision"] == result["recall"] == result["f1"] == 0
    with pytest.raises(ValueError, match="gold tree has no node"):
        tree_distance(gold, EMPTY)


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
