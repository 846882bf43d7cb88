"""Points along a tree."""

import numpy as np

from neuron_vit3d.morphology import Tree, moved, points_along


def tree(*points, parents) -> Tree:
    return Tree.from_parents(np.array(points, float), np.ones(len(points)), np.array(parents))


def test_ends_steps_and_lone_nodes():
    made = tree((0, 0, 0), (0, 0, 2.5), (9, 9, 9), (9, 9, 9), (5, 5, 5), parents=[-1, 0, -1, 2, -1])
    points = points_along(made)
    assert [0, 0, 0] in points.tolist() and [0, 0, 2.5] in points.tolist() and [5, 5, 5] in points.tolist()
    assert len(points) == 4 + 1 + 1
    assert np.diff(points[:4, 2]).max() <= 1


def test_bounded_number():
    xyz = np.cumsum(np.ones((100, 3)) * 50, axis=0)
    made = Tree.from_parents(xyz, np.ones(100), np.arange(100) - 1)
    assert len(points_along(made)) > 8000 and len(points_along(made, most=1000)) < 1300


def test_moved():
    made = tree((0, 1, 2), (3, 4, 5), parents=[-1, 0])
    assert np.array_equal(moved(made, (1, -1, 0.5)).xyz, made.xyz + np.array([1, -1, 0.5])) and made.xyz[0, 0] == 0
