"""Finds where the branches of a foreground end, and tells these ends from bumps of its surface.

A wave runs from the root over the foreground, along the shortest paths that center lines follow. Its position at one
time is a front. A front splits where the neurite branches, and vanishes where a branch ends, as in the level sets of
Verroust and Lazarus (Extracting skeletal curves from 3D scattered data, The Visual Computer 2000). One front runs
along a neurite, however wide, ragged or flat it is. Balls around a center line would leave the edges of such a neurite
uncovered, and further lines would run along these.
"""

import numpy as np

from ..morphology.graphs import sparse_graph
from .foreground import Foreground


# Thickness of a front in smallest voxel sides: thinner ones fall apart between the voxels of the grid.
FRONT = 2.0
# A branch must go on for longer than BUMP, measured from the front that it leaves, which ends at the surface.
BUMP = 1.0
# A branch must also be longer by this many radii of what it leaves. Where scores are unsure their edges are ragged:
# with 0.3 instead of 0.75 F1 on six fly neurons (tuff, of the training part of the fixed split) is 0.698 instead of
# 0.701. In masks and sure scores 0.75 loses much: the masks of two fly neurons have F1 0.80 and 0.97 with it, 0.90 and
# 0.98 with 0.15, 0.92 and 0.98 with none; with none a rough surface has 10 tips where there are 8.
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

    Every component has at least one.

    Args:
        foreground: n voxels.
        edges: of the foreground, as `Foreground.edges` returns them.
        parents: (n,) the next voxel on the path to the root, negative at roots.
        way: (n,) length of that path.
        reach: (n,) distance from the boundary.
        is_sure: whether bumps of the surface are branches, rather than ragged edges.
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

    behind = longest.tolist()  # how far the wave runs on behind each front
    parent_of = before.tolist()
    for one in np.argsort(-way[first], kind="stable").tolist():
        if parent_of[one] >= 0 and behind[one] > behind[parent_of[one]]:
            behind[parent_of[one]] = behind[one]
    far = np.array(behind)
    goes_on = np.full(count, -1)  # the next front from which the wave runs farthest
    order = np.lexsort((np.arange(count), far))
    order = order[before[order] >= 0]
    goes_on[before[order]] = order

    starts = np.flatnonzero((before >= 0) & (goes_on[np.maximum(before, 0)] != np.arange(count)))
    length = far[starts] - way[leaves[starts]]
    # Near a root no front is wide yet, so the length of the path is taken for the radius.
    radius = np.minimum(thickest[before[starts]], way[leaves[starts]])
    starts = starts[length >= BUMP + (SURE_BUMP_OF_RADIUS if is_sure else UNSURE_BUMP_OF_RADIUS) * radius]
    starts = np.concatenate([np.flatnonzero(before < 0), starts])
    last = _followed(goes_on, starts)
    ends = _last_of_each(front, before, parents, way)[last]
    return ends[np.argsort(-way[ends], kind="stable")]


def _fronts(number: np.ndarray, edges: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Numbers the connected parts of the voxels with the same number: (n,) int, from 0."""
    from scipy.sparse.csgraph import connected_components

    rows, neighbours, _ = edges
    same = number[rows] == number[neighbours]
    rows, neighbours = rows[same], neighbours[same]
    graph = sparse_graph((rows, neighbours), len(number))
    return connected_components(graph, directed=False)[1]


def _rows_of_least(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Finds the row of the least value in each group, (k,) int; groups are numbered from 0 without gaps."""
    order = np.lexsort((values, group))
    return order[np.flatnonzero(np.diff(group[order], prepend=-1))]


def _followed(following: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Follows the steps of `following` (k,), negative at the last, from `starts` to their ends, by pointer
    doubling."""
    step = np.where(following < 0, np.arange(len(following)), following)
    while not np.array_equal(step, further := step[step]):
        step = further
    return step[starts]


def _last_of_each(front: np.ndarray, before: np.ndarray, parents: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Finds in each front the voxel farthest from the root, (k,) int, whose path leads to the front before it.

    Where two waves meet, a front holds voxels of both.
    """
    inside = np.where((parents >= 0) & (front[parents] == front), parents, -1)
    out = parents[_followed(inside, np.arange(len(front)))]
    leads_back = np.where(out < 0, -1, front[out]) == before[front]
    return _rows_of_least(np.where(leads_back, -way, 1.0), front)
