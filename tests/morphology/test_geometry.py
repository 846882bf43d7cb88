"""Points along a tree."""

import numpy as np

from neuron_vit3d.morphology import Tree, points_along


def tree(*points, parents) -> Tree:
    return Tree.from_parents(np.array(points, float), np.ones(len(points)), np.array(parents))


def test_ends_steps_and_lone_nodes():
    made = tree((0, 0, 0), (0, 0, 2.5), (9, 9, 9), (9, 9, 9), (5, 5, 5), parents=[-1, 0, -1, 2, -1])
    points = points_along(made)
    assert [0, 0, 0] in points.tolist() and [0, 0, 2.5] in points.tolist() and [5, 5, 5] in points.tolist()
    assert len(points) == 4 + 1 + 1
    assert np.diff(points[:4, 2]).max() <= 1


def test_cut_off_at_the_borders():
    made = tree((5, 5, 5), (5, 5, 1e9), (-1e9, -1e9, 3), (3, 2, 2), (50, 50, 50), parents=[-1, 0, 0, -1, -1])
    points = points_along(made, shape=(10, 20, 30))
    assert ((points >= -0.5 - 1e-6) & (points <= np.array([30, 20, 10]) - 0.5 + 1e-6)).all()
    assert len(points) < 50 and [3, 2, 2] in points.tolist()
    assert np.abs(points - 5).max(axis=1).min() < 1e-5
    inside = tree((1, 1, 1), (4, 5, 6), parents=[-1, 0])
    assert np.allclose(points_along(inside, shape=(10, 20, 30)), points_along(inside))
    assert len(points_along(tree((50, 0, 0), (60, 0, 0), parents=[-1, 0]), shape=(10, 20, 30))) == 0
