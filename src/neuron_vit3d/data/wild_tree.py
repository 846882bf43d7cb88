"""Trees for wild pictures: the habits of `synthetic_tree.py`, thick trunks, hair-thin axons, several that cross."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neuron_vit3d.morphology import Tree

from .synthetic_tree import AXON, HABITS, THINNEST, Habit, grow_habit
from .wild_dice import Dice


# Fibres that run through the volume and hardly branch.
_FIBRE = Habit(
    trunk_radius=(0.9, 3.0),
    wander=(0.1, 0.5),
    memory=(8, 30),
    tilt=(0.0, 0.4),
    num_sites=(0, 0),
    site_spread=(1, 2),
    branch_length=(30, 120),
    max_order=1,
    beads=(0.0, 1.0),
    density=(0.02, 0.15),
    soma_chance=0.05,
    swc_type=AXON,
)
# The habits of `synthetic_tree.py` hold for confocal images of single neurons; here they are stretched.
_KINDS = {
    "arbor": replace(HABITS["arbor"], trunk_radius=(1.0, 4.5), tilt=(0.0, 0.9), soma_chance=0.3),
    "dendrite": replace(HABITS["dendrite"], trunk_radius=(1.2, 5.0), soma_chance=0.4),
    "axon": replace(HABITS["axon"], trunk_radius=(0.9, 2.6), soma_chance=0.2),
    "fibre": _FIBRE,
}
_SHARES = (0.5, 0.17, 0.17, 0.16)
_DENSITY = (0.06, 0.3, 0.9)  # tree length per 1000 voxels: least, most likely, most (hand-traced: 0.06 to 0.29)
_THICK = (4.0, 15.0)  # radius of a thick trunk, voxels


@dataclass(frozen=True, eq=False)
class Branches:
    """Tells what a picture needs to know about each node of a tree.

    Attributes:
        branch: (n,) which unbranched piece a node belongs to.
        steps: (n,) voxels from a node to its parent, 0 for a root.
    """

    branch: np.ndarray
    steps: np.ndarray


def grow_wild_tree(shape: tuple[int, int, int], dice: Dice, anisotropy: float) -> Tree:
    """Grow one to four neurons as one tree with as many roots, parents before children, inside the volume."""
    rng = dice.rng("tree")
    kind = str(rng.choice(list(_KINDS), p=_SHARES))
    low, mode, high = np.log(_DENSITY)
    density = float(np.exp(rng.triangular(low, mode, high)))
    count = int(rng.integers(2, 5)) if rng.random() < 0.3 else 1
    thick, thin = dice.happens("thick", 0.15), dice.happens("thin", 0.15)
    trunk = float(np.exp(dice.rng("thick").uniform(*np.log(_THICK))))
    hair = float(dice.rng("thin").uniform(THINNEST, 1.1))
    if kind == "fibre":
        density = min(density, 0.25)
    elif kind == "arbor":  # twigs come after the trunk, which takes most of a low density
        density = min(1.6 * density, _DENSITY[-1])
    trees = []
    for which in range(count):
        habit = _KINDS[kind if which == 0 or rng.random() < 0.6 else "fibre"]
        habit = replace(habit, density=(density / count, density / count))
        radius = hair if thin else None
        if thick and which == 0:
            radius = min(trunk, min(shape[1:]) / 8)  # more would leave no background
        trees.append(grow_habit(shape, rng, habit, anisotropy, trunk_radius=radius))
    return _wiggled(join_trees(trees), shape, anisotropy, rng)


def _wiggled(tree: Tree, shape: tuple[int, int, int], anisotropy: float, rng: np.random.Generator) -> Tree:
    """Move nodes aside by a voxel or so, as smoothly as real neurites wind at that scale."""
    branches = find_branches(tree)
    length, far = rng.uniform(3, 10), rng.uniform(0, 1.3)
    away = np.stack([wander_along(tree, branches, length, rng) for _ in range(3)], axis=1)
    xyz = tree.xyz + far * away.clip(-2, 2) / (1, 1, anisotropy)
    return replace(tree, xyz=np.clip(xyz, 0, np.array(shape[::-1]) - 1.0))


def grow_other_tree(shape: tuple[int, int, int], rng: np.random.Generator, anisotropy: float) -> Tree:
    """Grow a neuron that stands in the background."""
    habit = _KINDS[str(rng.choice(list(_KINDS), p=_SHARES))]
    density = float(np.exp(rng.uniform(np.log(0.02), np.log(0.25))))
    return grow_habit(shape, rng, replace(habit, density=(density, density)), anisotropy)


def join_trees(trees: list[Tree]) -> Tree:
    """Put trees side by side into one with several roots."""
    starts = np.cumsum([0] + [len(tree) for tree in trees[:-1]])
    parents = [np.where(t.parent_index < 0, -1, t.parent_index + s) for t, s in zip(trees, starts, strict=True)]
    return Tree.from_parents(
        np.concatenate([t.xyz for t in trees]),
        np.concatenate([t.radii for t in trees]),
        np.concatenate(parents),
        types=np.concatenate([t.types for t in trees]),
    )


def find_branches(tree: Tree) -> Branches:
    """Cut a tree, parents before children, into unbranched pieces."""
    parent = tree.parent_index
    children = np.bincount(parent[parent >= 0], minlength=len(tree))
    branch = np.arange(len(tree))
    for node, above in enumerate(parent):
        if above >= 0 and children[above] == 1:
            branch[node] = branch[above]
    steps = np.linalg.norm(tree.xyz - tree.xyz[np.maximum(parent, 0)], axis=1)
    return Branches(np.unique(branch, return_inverse=True)[1], np.where(parent < 0, 0.0, steps))


def wander_along(tree: Tree, branches: Branches, length: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) a random field of variance 1 along a tree that forgets itself over `length` voxels."""
    values = rng.standard_normal(len(tree))
    keep = np.exp(-branches.steps / length)
    fresh = np.sqrt(1 - keep**2)
    for node, above in enumerate(tree.parent_index):
        if above >= 0:
            values[node] = keep[node] * values[above] + fresh[node] * values[node]
    return values
