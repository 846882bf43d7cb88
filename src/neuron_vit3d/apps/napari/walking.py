"""Goes through the branches of a tree, the least sure first, and finds the node that a person means. No window."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...morphology.branches import DOUBTFUL, find_branches
from ...morphology.geometry import repeated
from ...morphology.swc import Tree


# Of a branch of which nothing is known: doubtful, but less so than one that the scores are against.
UNKNOWN = 0.5
# Shorter branches, in voxels, come after the others: wrong or not, they change little, and thick places have many.
SHORT = 4.0
# Of larger trees every edit would take some seconds.
MOST_NODES = 2_000_000


@dataclass(frozen=True)
class Branch:
    """A branch to look at.

    Attributes:
        end: the id of its last node.
        confidence: in [0, 1]; NaN where it is not known.
        length: voxels.
        rows: of its nodes in the tree, which with the node that it leaves make its line.
    """

    end: int
    confidence: float
    length: float
    rows: np.ndarray


class Walk:
    """The branches of a tree in the order in which to look at them: least sure first, of equals the longer one.

    Very short ones come last, in the same order.

    Args:
        tree: with scores, or without.
        below: branches with a confidence under this are doubtful.
    """

    def __init__(self, tree: Tree, below: float = DOUBTFUL):
        self.branches, self._of_node = find_branches(tree)
        self.confidence = np.where(np.isnan(self.branches.confidence), UNKNOWN, self.branches.confidence)
        is_short = self.branches.length < SHORT
        self._order = np.lexsort((-self.branches.length, self.confidence, is_short))
        self.num_doubtful = int(np.count_nonzero((self.confidence < below) & ~is_short))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Branch:
        """The branch at a place of the order, from 0."""
        branch = int(self._order[place])
        return Branch(
            end=int(self.branches.end[branch]),
            confidence=float(self.branches.confidence[branch]),
            length=float(self.branches.length[branch]),
            rows=np.flatnonzero(self._of_node == branch),
        )

    def place_of(self, end: int) -> int | None:
        """The place of the branch that ends at a node; None where no branch does any more."""
        found = np.flatnonzero(self.branches.end[self._order] == end)
        return int(found[0]) if len(found) else None

    def place_of_row(self, row: int) -> int | None:
        """The place of the branch through the node at a row; None at a root that branches leave."""
        branch = self._of_node[row]
        return None if branch < 0 else int(np.flatnonzero(self._order == branch)[0])

    def confidence_of_nodes(self) -> np.ndarray:
        """The confidence of the branch through each node (n,); 1 at roots that branches leave."""
        return np.append(self.confidence, 1.0)[self._of_node]


def with_more_nodes(tree: Tree, step: float = 2.0, most: int = MOST_NODES) -> Tree:
    """The same lines with nodes at most `step` voxels apart, so that one can be clicked anywhere.

    Args:
        tree: in voxels; of a tree from elsewhere, edges may be long.
        step: voxels.
        most: a tree that would have more nodes stays as it is.

    Returns:
        The tree with new nodes after those that it had, numbered on from the largest id; itself where none is needed.
    """
    child, parent = tree.edges.T
    pieces = np.maximum(np.ceil(np.linalg.norm(tree.xyz[child] - tree.xyz[parent], axis=1) / step), 1).astype(np.int64)
    edge, number = repeated(pieces - 1)
    if not len(edge) or len(tree) + len(edge) > most:
        return tree
    share = ((number + 1) / pieces[edge])[:, None]  # from the parent on
    below, above = child[edge], parent[edge]
    ids = int(tree.ids.max()) + 1 + np.arange(len(edge))
    parents, last = tree.parents.copy(), np.cumsum(pieces - 1) - 1
    is_cut = pieces > 1
    parents[child[is_cut]] = ids[last[is_cut]]
    known = {name: getattr(tree, name) for name in ("scores", "bridged")}
    own: dict[str, Any] = {name: np.append(all_, all_[below]) for name, all_ in known.items() if all_ is not None}
    return replace(
        tree,
        ids=np.append(tree.ids, ids),
        types=np.append(tree.types, tree.types[below]),
        xyz=np.concatenate([tree.xyz, tree.xyz[above] + share * (tree.xyz[below] - tree.xyz[above])]),
        radii=np.append(tree.radii, tree.radii[above] + share[:, 0] * (tree.radii[below] - tree.radii[above])),
        parents=np.append(parents, np.where(number == 0, tree.ids[above], ids - 1)),
        **own,
    )


def nearest_node(tree: Tree, point: np.ndarray, spacing: np.ndarray, within: float | None = None) -> int | None:
    """The row of the node nearest to a point.

    Args:
        tree: in voxels.
        point: x y z in voxels.
        spacing: (3,) the sides of a voxel along x y z; distances are in its units.
        within: the largest distance; None: any.

    Returns:
        The row, or None where no node is so near.
    """
    squared = (((tree.xyz - point) * spacing) ** 2).sum(axis=1)
    row = int(squared.argmin())
    return row if within is None or squared[row] <= within**2 else None


def nearest_to_ray(
    tree: Tree, origin: np.ndarray, direction: np.ndarray, spacing: np.ndarray, within: float
) -> int | None:
    """The row of the node that a ray through a turned volume meets first, of those nearest to it.

    Args:
        tree: in voxels.
        origin, direction: x y z in voxels, of the ray that a click stands for.
        spacing: (3,) the sides of a voxel along x y z.
        within: how far from the ray a node may be, in the units of `spacing`.

    Returns:
        The row, or None where no node is so near.
    """
    along = direction * spacing
    along = along / np.linalg.norm(along)
    away = (tree.xyz - origin) * spacing
    depth = away @ along
    aside = np.sqrt(np.maximum((away**2).sum(axis=1) - depth**2, 0.0))
    near = np.flatnonzero(aside <= within)
    if not len(near):
        return None
    # Of nodes that are about as near to the ray the one in front is meant.
    best = near[aside[near] <= aside[near].min() + 0.5 * within]
    return int(best[depth[best].argmin()])
