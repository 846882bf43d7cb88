"""Moves lines to the middle of the foreground around them, and merges lines that then coincide.

In a round neurite the voxels farthest from the boundary lie in the middle. A neurite that is rough, or flat because of
blur along z, has many such voxels, and a line wanders among them. Instead a node is moved to the mean of the voxels in
a ball around it that is wider than the neurite, so that the whole surface has its influence (mean shift: Comaniciu and
Meer, IEEE Trans. PAMI 2002).
"""

import numpy as np

from .foreground import Foreground
from .skeleton import NO_PARENT, Skeleton


# The ball's radius is that of the neurite plus this many smallest voxel sides. Sure foreground is as wide as the
# neurite, and its neighbours must not pull: F1 on the demo's neuron is 0.887 with 1.5, 0.878 with 3. Unsure foreground
# is wider or narrower than the neurite from voxel to voxel, and a cross-section several times as long as wide must fit
# into the ball: F1 on six fly neurons (tuff, of the training part of the fixed split) is 0.672, 0.687, 0.693, 0.701,
# 0.701, 0.687 with 1, 2, 3, 4, 5, 7.
SURE_BALL, UNSURE_BALL = 1.5, 4.0
ROUNDS = 3
# Number of nodes whose balls are processed at once: in a soma each ball may hold 2,000 cells.
NODES_AT_ONCE = 2048
# Widest ball: a neurite that thick is round, and needs no wider one.
WIDEST = 12.0
# An end branch doubles another line if it is nowhere farther from it than DOUBLE, or than DOUBLE_OF_RADIUS times the
# radius of that line.
DOUBLE, DOUBLE_OF_RADIUS = 1.5, 0.75


def centered(skeleton: Skeleton, foreground: Foreground, *, is_sure: bool) -> Skeleton:
    """Moves inner nodes across their line, toward the middle of the foreground around them.

    Ends and branch points stay, and so does a node that would leave the foreground. is_sure: whether the foreground is
    sure, see SURE_BALL.
    """
    from scipy.spatial import cKDTree

    parents = skeleton.parents
    inner = np.flatnonzero((skeleton.num_children == 1) & (parents >= 0) & (skeleton.reach < WIDEST))
    if not len(inner):
        return skeleton
    child = np.full(len(skeleton), NO_PARENT)
    child[parents[parents >= 0]] = np.flatnonzero(parents >= 0)
    before, after = parents[inner], child[inner]
    cells, weights = _cells(foreground)
    index = cKDTree(cells, balanced_tree=False)
    ball = skeleton.reach[inner] + (SURE_BALL if is_sure else UNSURE_BALL)
    points = skeleton.scaled
    for _ in range(ROUNDS):
        off = _middles(index, cells, weights, points[inner], ball) - points[inner]
        along = points[after] - points[before]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        moved = points.copy()
        moved[inner] += off - np.sum(off * along, axis=1, keepdims=True) * along
        moved[inner] = (moved[before] + moved[inner] + moved[after]) / 3
        is_inside = foreground.contains(moved[inner] / skeleton.spacing)
        was_inside = foreground.contains(points[inner] / skeleton.spacing)
        stays = inner[was_inside & ~is_inside]
        moved[stays] = points[stays]
        points = moved
    # Centers may lie up to half a voxel beyond the last voxel of the volume.
    inside = np.clip(points / skeleton.spacing, 0, np.array(foreground.shape) - 1)
    return Skeleton(inside, skeleton.reach, parents, skeleton.component, skeleton.spacing)


def _cells(foreground: Foreground) -> tuple[np.ndarray, np.ndarray]:
    """Gathers the foreground in cubes of 2 x 2 x 2 voxels, of which there are several times fewer.

    Returns the mean position (k, 3) of the foreground in each cube, in units of the smallest voxel side, and its
    number of voxels (k,).
    """
    shape = tuple(-(-side // 2) for side in foreground.shape)
    cell = np.unique(np.ravel_multi_index((foreground.voxels // 2).T, shape), return_inverse=True)[1]
    weights = np.bincount(cell).astype(np.float64)
    return np.stack([np.bincount(cell, along) for along in foreground.points.T], axis=1) / weights[:, None], weights


def _middles(index, cells: np.ndarray, weights: np.ndarray, points: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """Averages the cells in the balls around points (m, 3), (m, 3) float64; a point without cells stays itself."""
    middles = points.copy()
    for start in range(0, len(points), NODES_AT_ONCE):
        some = slice(start, start + NODES_AT_ONCE)
        found = index.query_ball_point(points[some], ball[some], return_sorted=False)
        counts = np.fromiter(map(len, found), np.int64, len(found))
        rows = np.concatenate([np.asarray(one, np.int64) for one in found])
        ball_of = np.repeat(np.arange(len(found)), counts)
        weight = weights[rows]
        total = np.bincount(ball_of, weight, len(found))
        sums = np.stack([np.bincount(ball_of, weight * cells[rows, axis], len(found)) for axis in range(3)], axis=1)
        middles[some][counts > 0] = sums[counts > 0] / total[counts > 0, None]
    return middles


def without_doubles(skeleton: Skeleton) -> Skeleton:
    """Removes end branches that run along another line, the shorter ones first."""
    from scipy.spatial import cKDTree

    while True:
        children, parents, points = skeleton.num_children, skeleton.parents, skeleton.scaled
        branch_of = np.full(len(skeleton), -1)
        branches: list[np.ndarray] = []
        for tip in np.flatnonzero((children == 0) & (parents >= 0)).tolist():
            on_way, node = [], tip
            while children[node] < 2 and parents[node] >= 0:
                on_way.append(node)
                node = int(parents[node])
            if children[node] >= 2:
                branch_of[on_way] = len(branches)
                branches.append(np.array(on_way))
        index = cKDTree(points)
        limit = np.maximum(DOUBLE, DOUBLE_OF_RADIUS * skeleton.reach)
        keep = np.ones(len(skeleton), bool)
        for number in sorted(range(len(branches)), key=lambda one: len(branches[one])):
            branch = branches[number]
            near = index.query_ball_point(points[branch], limit[branch])
            if all(any(branch_of[other] != number and keep[other] for other in one) for one in near):
                keep[branch] = False
        if keep.all():
            return skeleton
        skeleton = skeleton.subset(keep)
