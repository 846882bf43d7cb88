"""Branches come least sure first, and a click finds the node that is meant."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.apps.napari.editing import Delete, Keep, apply, numbered
from neuron_vit3d.apps.napari.walking import Walk, nearest_node, nearest_to_ray, with_more_nodes
from neuron_vit3d.morphology import Tree, check_tree
from support.trees import FORKED, trees


SCORED = numbered(dataclasses.replace(FORKED, scores=np.array([1, 0.9, 0.8, 0.2, 0.6, 0.95])))


def test_the_least_sure_branch_comes_first():
    walk = Walk(SCORED)
    assert [walk[place].end for place in range(len(walk))] == [4, 5, 3, 2, 6]
    assert walk.num_doubtful == 2
    first = walk[0]
    assert (first.confidence, first.length) == (pytest.approx(0.2), 30) and first.rows.tolist() == [3]
    assert walk.place_of(5) == 1 and walk.place_of(1) is None
    assert walk.place_of_row(3) == 0 and walk.place_of_row(0) is None
    assert walk.confidence_of_nodes().tolist() == [1, 0.9, 0.8, 0.2, 0.6, 0.95]


def test_very_short_branches_come_last():
    twig = Tree.from_parents(
        np.concatenate([FORKED.xyz, [[31, 0, 0], [31, 2, 0]]]), np.ones(8), [-1, 6, 1, 2, 6, 2, 0, 6]
    )
    walk = Walk(numbered(dataclasses.replace(twig, scores=np.array([1, 0.9, 0.8, 0.2, 0.6, 0.95, 1, 0.0]))))
    assert (walk[len(walk) - 1].length, walk[len(walk) - 1].confidence) == (2, 0) and walk[0].length > 20


def test_what_was_looked_at_comes_last():
    walk = Walk(apply(SCORED, Keep(4)))
    assert walk[len(walk) - 1].end == 4 and walk.num_doubtful == 1
    assert Walk(apply(SCORED, Delete(4)))[0].end == 5


def test_of_a_tree_without_scores_the_longest_come_first():
    walk = Walk(numbered(FORKED))
    lengths = [walk[place].length for place in range(len(walk))]
    assert lengths == sorted(lengths, reverse=True) and walk.num_doubtful == len(walk)


@settings(max_examples=60, deadline=None)
@given(trees(), st.sampled_from([0.7, 2.0, 9.0]))
def test_more_nodes_are_the_same_lines(tree, step):
    more = with_more_nodes(tree, step)
    assert check_tree(more) == [] and more.length == pytest.approx(tree.length)
    child, parent = more.edges.T
    assert (np.linalg.norm(more.xyz[child] - more.xyz[parent], axis=1) <= step + 1e-9).all()
    assert more.num_components == tree.num_components and len(more.branches) == len(tree.branches)
    np.testing.assert_array_equal(more.xyz[: len(tree)], tree.xyz)
    assert with_more_nodes(tree, step, most=len(tree)) is tree


def test_the_nearest_node_is_found_in_units_of_the_image():
    point = np.array([40, 0, 18.0])
    assert nearest_node(SCORED, point, np.ones(3)) == 5
    assert nearest_node(SCORED, point, np.array([2, 1, 1])) == 1
    assert nearest_node(SCORED, point, np.ones(3), within=5) is None


def test_a_ray_meets_the_node_in_front():
    z = np.array([0, 0, 1.0])
    assert nearest_to_ray(SCORED, np.array([60.4, 0, -50]), z, np.ones(3), 2) == 2
    assert nearest_to_ray(SCORED, np.array([60.4, 0, 50]), -z, np.ones(3), 2) == 5
    assert nearest_to_ray(SCORED, np.array([45, 0, -50.0]), z, np.ones(3), 2) is None
