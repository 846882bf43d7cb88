"""The branches of a tree as lines to draw: their points one after the other, with gaps between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .branches import find_branches
from .soundness import rows_of


if TYPE_CHECKING:
    from .swc import Tree


def polylines(tree: Tree, taken: np.ndarray, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the paths of some branches one after the other, with a gap behind each.

    Args:
        tree: any.
        taken: (b,) bool, which of `tree.branches`.
        step: take the ends of each branch, and every step-th node between them.

    Returns:
        (m, 3) float64, x y z in voxels, NaN in gaps; and (m,) the number of the branch of each.
    """
    branches, branch = find_branches(tree)
    if not len(branches):
        return np.empty((0, 3)), np.empty(0)
    along = rows_of(tree.ids, tree.parents_first().ids)  # a parent before its children
    along = along[np.append(taken, False)[branch[along]]]
    along = along[np.argsort(branch[along], kind="stable")]
    own = branch[along]
    place = np.arange(len(own)) - np.searchsorted(own, own)  # in its branch
    is_last = np.append(own, -1)[1:] != own
    along = along[is_last | (place % step == step - 1)]
    own = branch[along]
    chosen = np.flatnonzero(taken)
    counts = np.bincount(own, minlength=len(branches))[chosen]
    first = np.concatenate([[0], np.cumsum(counts + 2)])
    points = np.full((first[-1], 3), np.nan)
    points[first[:-1]] = tree.xyz[rows_of(tree.ids, branches.start[chosen])]
    into = np.ones(first[-1], bool)
    into[first[:-1]] = into[first[1:] - 1] = False
    points[into] = tree.xyz[along]
    return points, np.repeat(chosen, counts + 2).astype(float)
