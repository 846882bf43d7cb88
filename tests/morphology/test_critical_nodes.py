"""Branch points and tips: how they are counted, and matched one to one."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import Tree, tree_distance
from neuron_vit3d.morphology.critical_nodes import critical_nodes, match_points, shared_nodes


# A trunk along x with twigs at 30 and 60.
FORKED = Tree.from_parents(
    [[0.0, 0, 0], [30, 0, 0], [60, 0, 0], [90, 0, 0], [30, 20, 0], [60, 0, 20]], np.ones(6), [-1, 0, 1, 2, 1, 2]
)
POINTS = st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=0, max_size=5).map(
    lambda points: np.array(points, float).reshape(-1, 3)
)


def with_edge(tree: Tree, row: int, end) -> Tree:
    """The tree with a twig from one of its nodes."""
    rows = np.append(tree.parent_index, row)
    return Tree.from_parents(np.vstack([tree.xyz, end]), np.append(tree.radii, 1.0), rows)


def test_forks_and_ends_of_a_tree():
    branch_points, tips = critical_nodes(FORKED)
    assert branch_points[:, 0].tolist() == [30, 60]
    assert sorted(map(tuple, tips.tolist())) == [(0, 0, 0), (30, 20, 0), (60, 0, 20), (90, 0, 0)]


def test_the_place_of_the_root_does_not_matter():
    rerooted = Tree.from_parents(FORKED.xyz, FORKED.radii, [1, 2, -1, 2, 1, 2])
    for ours, theirs in zip(critical_nodes(rerooted), critical_nodes(FORKED), strict=True):
        assert {*map(tuple, ours)} == {*map(tuple, theirs)}
    assert set(shared_nodes(rerooted, FORKED).values()) == {1.0}


def test_a_fragments_root_is_a_tip_and_no_branch_point_and_a_lone_node_is_neither():
    fragments = Tree.from_parents(
        [[0.0, 0, 0], [90, 0, 0], [30, 0, 0], [30, 20, 0], [5, 5, 5]], np.ones(5), [-1, 0, -1, 2, -1]
    )
    branch_points, tips = critical_nodes(fragments)
    assert len(branch_points) == 0 and len(tips) == 4


def test_one_more_twig_costs_precision_alone():
    result = tree_distance(with_edge(FORKED, 1, [30, -20, 0]), FORKED)  # where there is a branch point already
    assert result["tips_precision"] == 4 / 5 and result["precision"] < 1
    for key in ("tips_recall", "branch_points_precision", "branch_points_recall", "recall", "recall_wide"):
        assert result[key] == 1, key
    result = shared_nodes(with_edge(FORKED, 3, [120, 0, 0]), FORKED)  # a longer end: its tip is another
    assert (result["tips_precision"], result["tips_recall"], result["branch_points_f1"]) == (3 / 4, 3 / 4, 1)


def test_two_forks_near_one_are_one():
    gold = Tree.from_parents([[0.0, 0, 0], [10, 0, 0], [20, 0, 0], [10, 10, 0]], np.ones(4), [-1, 0, 1, 1])
    near = Tree.from_parents(
        [[0.0, 0, 0], [9, 0, 0], [11, 0, 0], [20, 0, 0], [9, 10, 0], [11, -10, 0]], np.ones(6), [-1, 0, 1, 2, 1, 2]
    )
    result = shared_nodes(near, gold)
    assert (result["branch_points_precision"], result["branch_points_recall"]) == (0.5, 1)
    assert result["branch_points_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("shift", "expected"), [(4.99, 1), (5.01, 0)])
def test_five_voxels(shift, expected):
    moved = replace(FORKED, xyz=FORKED.xyz + np.array([0, 0, shift]))
    assert {*shared_nodes(moved, FORKED).values()} == {expected}


def test_trees_without_forks():
    straight = Tree.from_parents([[0.0, 0, 0], [90, 0, 0]], np.ones(2), [-1, 0])
    assert shared_nodes(straight, straight)["branch_points_f1"] == 1
    for predicted, gold in ((straight, FORKED), (FORKED, straight)):
        result = shared_nodes(predicted, gold)
        assert not any(result[f"branch_points_{kind}"] for kind in ("precision", "recall", "f1"))


@given(POINTS, POINTS, st.floats(0, 8))
@settings(max_examples=100, deadline=None)
def test_the_matching_is_the_largest_there_is(first, second, distance):
    short, long = sorted((first, second), key=len)
    near = np.linalg.norm(short[:, None] - long[None], axis=-1) <= distance
    best = max(
        sum(near[row, column] for row, column in enumerate(columns))
        for columns in permutations(range(len(long)), len(short))
    )
    assert match_points(first, second, distance) == match_points(second, first, distance) == best
