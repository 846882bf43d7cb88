"""What the scores say along a tree: they are looked up again after tracing, at every node."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from .pieces import Pieces
from .swc import Tree


# A neurite may be hollow or split lengthwise, and its center line then runs where scores are low. So around nodes of at least
# this radius (thinner ones have no inside) rings are looked at as well, half way to the surface and one voxel inside it.
RING_RADIUS = 2.5
# Points on a ring: one for each neighbour of a voxel in a plane.
RING = 8
_NEAR = np.array(list(itertools.product((-1, 0, 1), repeat=3)))


def with_scores(tree: Tree, source: Pieces, spacing: np.ndarray, level: float, deviation: np.ndarray) -> Tree:
    """Adds to a tree what the scores that it was traced from say at its nodes.

    At a node it is the highest of: the score of the voxel it lies in, and, around nodes of at least RING_RADIUS, the means over
    two rings across the neurite. A gap crosses the whole neurite and stays one; the inside of a hollow neurite is none. Where
    neither this nor the smoothed score reaches the level of the foreground, the tree is `bridged`.

    Args:
        tree: coordinates in voxels, radii in units of the smallest voxel side.
        source: the scores, or a mask.
        spacing: (3,) voxel sides z y x, the smallest being 1.
        level: of the foreground, of smoothed scores.
        deviation: (3,) of the Gaussian that they are smoothed by, z y x in voxels; it is taken over the nearest 27 voxels.

    Returns:
        The tree with `scores` and `bridged`. A mask says yes or no: its scores are 0 where the tree is bridged, else 1.
    """
    if not len(tree):
        return dataclasses.replace(tree, scores=np.empty(0), bridged=np.empty(0, bool))
    centers, n = tree.xyz[:, ::-1], len(tree)
    thick = np.flatnonzero(tree.radii >= RING_RADIUS)
    angles = np.arange(RING) * (2 * np.pi / RING)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rings = (circle @ _across(tree, spacing)[thick]) / spacing  # (t, RING, 3), of radius 1, in voxels
    radii = np.stack([tree.radii[thick] / 2, tree.radii[thick] - 1])
    on_rings = centers[thick, None] + radii[..., None, None] * rings  # (2, t, RING, 3)
    scores, on_rings = np.split(_looked_up(source, np.concatenate([centers, on_rings.reshape(-1, 3)])), [n])
    of_rings = on_rings.reshape(2, len(thick), RING).mean(axis=2).max(axis=0)
    scores[thick] = np.maximum(scores[thick], of_rings)

    bridged = scores < level
    low = np.flatnonzero(bridged)
    if len(low):
        weights = _gaussian(deviation)
        near = _NEAR[weights > 0]
        around = np.rint(centers[low])[:, None] + near
        smoothed = _looked_up(source, around.reshape(-1, 3)).reshape(len(low), -1) @ weights[weights > 0]
        bridged[low] = smoothed < level
    if source.is_mask:
        scores = np.where(bridged, 0.0, 1.0)
    return dataclasses.replace(tree, scores=scores, bridged=bridged)


def _gaussian(deviation: np.ndarray) -> np.ndarray:
    """(27,) float64: weights of the voxels around one, which sum to 1; along axes with deviation 0 only its own plane has any."""
    with np.errstate(divide="ignore"):
        along = np.exp(-0.5 / np.asarray(deviation, float) ** 2)  # of a step of one voxel
    weights = np.prod(np.where(_NEAR == 0, 1.0, along), axis=1)
    return weights / weights.sum()


def _across(tree: Tree, spacing: np.ndarray) -> np.ndarray:
    """(n, 2, 3) float64, z y x: two unit vectors at each node, at right angles to the tree's direction there and to each other."""
    points, parent = tree.xyz[:, ::-1] * spacing, tree.parent_index
    rows = np.arange(len(tree))
    above = np.where(parent < 0, rows, parent)
    below = rows.copy()
    below[parent[parent >= 0]] = rows[parent >= 0]
    along = points[above] - points[below]
    along[~along.any(axis=1)] = (0.0, 0.0, 1.0)  # a node alone looks nowhere
    # The axis least along the tree is not parallel to it.
    other = np.eye(3)[np.argmin(np.abs(along), axis=1)]
    first = np.cross(along, other)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second], axis=1)


def _looked_up(source: Pieces, points: np.ndarray) -> np.ndarray:
    """(m,) float64: the scores of the voxels in which points (m, 3; z y x) lie, or of the nearest ones inside the volume."""
    voxels = np.clip(np.rint(points), 0, np.array(source.shape) - 1).astype(np.int64)
    values = np.empty(len(voxels))
    # Boxes as the source stores its voxels, all of the size of the first; of each only the part that is asked for.
    sides = [one.stop for one in next(iter(source.boxes()))]
    grid = [-(-length // side) for length, side in zip(source.shape, sides, strict=True)]
    box = np.ravel_multi_index((voxels // sides).T, grid)
    order = np.argsort(box, kind="stable") if math.prod(grid) > 1 else np.arange(len(box))
    for rows in np.split(order, np.flatnonzero(np.diff(box[order])) + 1):
        here = voxels[rows]
        low, high = here.min(axis=0), here.max(axis=0) + 1
        read = source.read(tuple(slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True)))
        values[rows] = read[tuple((here - low).T)]
    return values
