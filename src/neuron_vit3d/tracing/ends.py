"""Where the branches of a foreground end, told from bumps of its surface.

A wave runs from the root over the foreground, along the ways that center lines take. Where it is at one time is a
front; a front falls apart where the neurite branches, and dies out where a branch ends, as in the level sets of
Verroust and Lazarus (Extracting skeletal curves from 3D scattered data, The Visual Computer 2000). However wide,
ragged or flat a neurite is, one front runs along it, where balls about its center line would leave its edges
uncovered, and lines would run along these.
"""

import numpy as np

from ..morphology.graphs import sparse_graph
from .foreground import Foreground


# A front is so thick, in smallest voxel sides: thinner ones fall apart between the voxels of a lattice.
FRONT = 2.0
# A branch is one if it goes on for longer than BUMP, measured from the front that it leaves; that ends at the surface.
BUMP = 1.0
# It must go on for so many radii of what it leaves more. Where scores are unsure their edges are ragged: with 0.3
# instead of 0.75 F1 on six fly neurons (tuff, of the training part of the fixed split) is 0.698 instead of 0.701. In
# masks and sure scores 0.75 loses much: the masks of two fly neurons have F1 0.80 and 0.97 with it, 0.90 and 0.98 with
# 0.15, 0.92 and 0.98 with none; with none a rough surface has 10 tips where there are 8.
SURE_BUMP_OF_RADIUS, UNSURE_BUMP_OF_RADIUS = 0.15, 0.75


def branch_ends(
    foreground: Foreground,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    parents: np.ndarray,
    way: np.ndarray,
    reach: np.ndarray,
    *,
    is_sure: bool,
) -> np.ndarray:
    """Finds the rows of the voxels where branches end, the one farthest from its root first.

    There is at least one of every component.

    Args:
        foreground: n voxels.
        edges: of the foreground, as `Foreground.edges` gives them.
        parents: (n,) the next voxel on the way to the root, negative at roots.
        way: (n,) length of that way.
        reach: (n,) distance from the boundary.
        is_sure: a bump of the surface is a branch, and no ragged edge.
    """
    thickness = max(FRONT, foreground.spacing.max())
    front = _fronts(np.floor(way / thickness + 1e-6).astype(np.int64), edges)
    count = int(front.max()) + 1
    first = _rows_of_least(way, front)
    leaves = parents[first]  # the voxel that a front comes from
    before = np.where(leaves < 0, -1, front[leaves])
    thickest, longest = np.zeros(count), np.zeros(count)
    np.maximum.at(thickest, front, reach)
    np.maximum.at(longest, front, way)

    behind = longest.tolist()  # how far the wave comes behind each front
    parent_of = before.tolist()
    for one in np.argsort(-way[first], kind="stable").tolist():
        if parent_of[one] >= 0 and behind[one] > behind[parent_of[one]]:
            behind[parent_of[one]] = behind[one]
    far = np.array(behind)
    goes_on = np.full(count, -1)  # of the fronts behind one, that from which the wave comes farthest
    order = np.lexsort((np.arange(count), far))
    order = order[before[order] >= 0]
    goes_on[before[order]] = order

    starts = np.flatnonzero((before >= 0) & (goes_on[np.maximum(before, 0)] != np.arange(count)))
    length = far[starts] - way[leaves[starts]]
    # Near a root, where no front is wide yet, the way is taken for the radius.
    radius = np.minimum(thickest[before[starts]], way[leaves[starts]])
    starts = starts[length >= BUMP + (SURE_BUMP_OF_RADIUS if is_sure else UNSURE_BUMP_OF_RADIUS) * radius]
    starts = np.concatenate([np.flatnonzero(before < 0), starts])
    last = _followed(goes_on, starts)
    ends = _last_of_each(front, before, parents, way)[last]
    return ends[np.argsort(-way[ends], kind="stable")]


def _fronts(number: np.ndarray, edges: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """(n,) int: connected parts of the voxels with the same number, from 0."""
    from scipy.sparse.csgraph import connected_components

    rows, neighbours, _ = edges
    same = number[rows] == number[neighbours]
    rows, neighbours = rows[same], neighbours[same]
    graph = sparse_graph((rows, neighbours), len(number))
    return connected_components(graph, directed=False)[1]


def _rows_of_least(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(k,) int: of each group, from 0 without gaps, the row of the least value."""
    order = np.lexsort((values, group))
    return order[np.flatnonzero(np.diff(group[order], prepend=-1))]


def _followed(following: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Where the steps of `following` (k,), negative at the last, lead from `starts`; by pointer doubling."""
    step = np.where(following < 0, np.arange(len(following)), following)
    while not np.array_equal(step, further := step[step]):
        step = further
    return step[starts]


def _last_of_each(front: np.ndarray, before: np.ndarray, parents: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Finds of each front the voxel farthest on the way, (k,) int, of those whose way leads to the front before it.

    Where two waves meet, a front holds voxels of both.
    """
    inside = np.where((parents >= 0) & (front[parents] == front), parents, -1)
    out = parents[_followed(inside, np.arange(len(front)))]
    leads_back = np.where(out < 0, -1, front[out]) == before[front]
    return _rows_of_least(np.where(leads_back, -way, 1.0), front)
