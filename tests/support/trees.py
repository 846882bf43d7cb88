"""Trees by chance and by hand, and what holds for every traced one."""

import numpy as np
from hypothesis import strategies as st

from neuron_vit3d.morphology import Tree, check_tree, rasterize


# A trunk along x with twigs at 30 and 60.
FORKED = Tree.from_parents(
    [[0.0, 0, 0], [30, 0, 0], [60, 0, 0], [90, 0, 0], [30, 20, 0], [60, 0, 20]], np.ones(6), [-1, 0, 1, 2, 1, 2]
)


@st.composite
def trees(draw) -> Tree:
    """A random tree of up to 40 nodes on a grid, whose points may be listed twice."""
    count = draw(st.integers(2, 40))
    xyz = np.array(draw(st.lists(st.tuples(*[st.integers(0, 60)] * 3), min_size=count, max_size=count)), float)
    parents = [-1, *(draw(st.integers(0, row - 1)) for row in range(1, count))]
    radii = np.array(draw(st.lists(st.integers(1, 5), min_size=count, max_size=count)), float)
    return Tree.from_parents(xyz, radii, parents)


def random_tree(seed: int, size: int = 64, num_branches: int = 5) -> Tree:
    """A random walk that branches at right angles, with radii from 1.2 to 2.5 voxels, 6 voxels away from the faces."""
    rng = np.random.default_rng(seed)
    xyz, parents, radii = [np.full(3, size / 2)], [-1], [2.5]
    for _ in range(num_branches):
        node = int(rng.integers(len(xyz)))
        along = xyz[node] - xyz[parents[node]] if parents[node] >= 0 else np.zeros(3)
        direction = np.cross(along, rng.normal(size=3)) if along.any() else rng.normal(size=3)
        radius = rng.uniform(1.2, 2.5)
        for _ in range(int(rng.integers(20, 45))):
            direction = direction / np.linalg.norm(direction) + rng.normal(0, 0.1, 3)
            point = xyz[node] + direction / np.linalg.norm(direction)
            if (point < 6).any() or (point > size - 7).any():
                break
            xyz.append(point)
            parents.append(node)
            radii.append(radius)
            node = len(xyz) - 1
    return Tree.from_parents(np.array(xyz), np.array(radii), np.array(parents))


def tube(start, end, shape=(40, 40, 80), radius=2.0) -> np.ndarray:
    """A straight tube between two points x y z."""
    points = np.array([start, end], float)
    return rasterize(Tree.from_parents(points, np.full(2, radius), np.array([-1, 0])), shape)


def assert_one_sound_tree(tree: Tree) -> None:
    assert check_tree(tree) == []
    assert len(tree.roots) == 1 and tree.roots[0] == 0
    assert (tree.parent_index < np.arange(len(tree))).all(), "a parent comes after its child"
    assert (tree.radii > 0).all()
