"""The lines that are drawn of a tree: every edge once, ends kept however much is left out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import Tree
from neuron_vit3d.morphology.polylines import polylines


trees = st.integers(1, 30).flatmap(
    lambda n: st.tuples(st.just(n), st.tuples(*[st.integers(-1, max(-1, i - 1)) for i in range(n)]), st.randoms())
)


@settings(deadline=None)
@given(trees)
def test_every_edge_is_drawn_once(made):
    n, parents, random = made
    numbered = list(range(1, n + 1))
    random.shuffle(numbered)  # parents may come after their children
    order = np.argsort(numbered)
    ids, parent = np.array(numbered), np.array([-1 if p < 0 else numbered[p] for p in parents])
    xyz = np.arange(3.0 * n).reshape(n, 3)
    tree = Tree(ids[order], np.zeros(n), xyz[order], np.ones(n), parent[order])
    points, branch = polylines(tree, np.ones(len(tree.branches), bool))
    assert len(points) == len(branch)
    ends = np.concatenate([points[:-1], points[1:]], axis=1)
    drawn = ends[np.isfinite(ends).all(axis=1)]
    drawn = drawn[(drawn[:, :3] != drawn[:, 3:]).any(axis=1)]  # a lone root is a line without length
    child, above = tree.edges.T
    edges = np.concatenate([tree.xyz[above], tree.xyz[child]], axis=1)
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, edges))


@given(st.integers(2, 60), st.integers(1, 70))
def test_ends_stay_however_many_nodes_are_left_out(n, step):
    xyz = np.stack([np.arange(n), np.zeros(n), np.zeros(n)], axis=1)
    tree = Tree.from_parents(xyz, np.ones(n), np.arange(n) - 1)
    points, branch = polylines(tree, np.ones(1, bool), step)
    assert points[0, 0] == 0 and points[-2, 0] == n - 1 and np.isnan(points[-1]).all()
    assert len(points) <= (n - 1) // step + 3 and (branch == 0).all()
    assert (np.diff(points[:-1, 0]) <= step).all()


def test_some_branches_alone():
    points = np.array([(0, 0, 0), (1, 0, 0), (2, 1, 0), (2, -1, 5)], float)
    tree = Tree.from_parents(points, np.ones(4), np.array([-1, 0, 1, 1]))
    drawn, branch = polylines(tree, np.array([False, True, False]))
    assert drawn[:2].tolist() == points[[1, 2]].tolist() and branch.tolist() == [1, 1, 1]
    assert len(polylines(tree, np.zeros(3, bool))[0]) == 0
