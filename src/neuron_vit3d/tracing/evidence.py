"""Looks up the scores along a tree, at every node, after it was traced."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..morphology.swc import Tree
from .center_lines import Rules
from .pieces import Pieces


# A neurite may be hollow or split lengthwise, so that its center line runs where scores are low. So around nodes of at
# least this radius (thinner ones have no inside) two rings are looked up as well, one half way to the surface and one
# a voxel inside it.
RING_RADIUS = 2.5
# Points on a ring: as many as a voxel has neighbours in a plane.
RING = 8


def with_scores(tree: Tree, source: Pieces, spacing: np.ndarray, rules: Rules) -> Tree:
    """Adds the scores at a tree's nodes, and whether the tree crosses a gap there.

    The score of a node is that of the voxel it lies in. For nodes of at least RING_RADIUS it is the highest of this
    and the means over two rings across the neurite. Where it is below the foreground's level, the smoothed score
    counts, too. A gap crosses the whole neurite, so the rings do not hide it; the inside of a hollow neurite does not
    count as a gap. Nodes that stay below the foreground's level are `bridged`. Scores become relative to the
    threshold, which is 0.5 then: a sure voxel in a noisy stack has a lower score than one in a clean stack.

    Args:
        tree: coordinates in voxels, radii in units of the smallest voxel side.
        source: the scores, or a mask.
        spacing: (3,) voxel sides z y x, the smallest being 1.
        rules: the level of the foreground, which smoothed scores must reach, and how scores are smoothed.

    Returns:
        The tree with `scores` and `bridged`. A mask says yes or no: its scores are 0 where the tree is bridged, else
        1.
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
    looked_up = _looked_up(source, np.concatenate([centers, on_rings.reshape(-1, 3)]))
    scores, on_rings = np.split(rules.smoothing.relative(looked_up).astype(np.float64), [n])
    of_rings = on_rings.reshape(2, len(thick), RING).mean(axis=2).max(axis=0)
    scores[thick] = np.maximum(scores[thick], of_rings)

    level = rules.levels.strong
    bridged = scores < level
    low = np.flatnonzero(bridged)
    if len(low):
        smoothed = rules.smoothing.at(
            np.rint(centers[low]).astype(np.int64), lambda voxels: _looked_up(source, voxels)
        )
        bridged[low] = smoothed < level
        scores[low] = np.maximum(scores[low], smoothed)
    if source.is_mask:
        scores = np.where(bridged, 0.0, 1.0)
    return dataclasses.replace(tree, scores=scores, bridged=bridged)


def _across(tree: Tree, spacing: np.ndarray) -> np.ndarray:
    """Finds two unit vectors at each node, at right angles to the tree's direction there and to each other.

    Returns (n, 2, 3) float64, z y x.
    """
    points, parent = tree.xyz[:, ::-1] * spacing, tree.parent_index
    rows = np.arange(len(tree))
    above = np.where(parent < 0, rows, parent)
    below = rows.copy()
    below[parent[parent >= 0]] = rows[parent >= 0]
    along = points[above] - points[below]
    along[~along.any(axis=1)] = (0.0, 0.0, 1.0)  # a single node has no direction
    # The axis with the smallest component along the tree is never parallel to it.
    other = np.eye(3)[np.argmin(np.abs(along), axis=1)]
    first = np.cross(along, other)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second], axis=1)


def _looked_up(source: Pieces, points: np.ndarray) -> np.ndarray:
    """Looks up the scores (m,) float64 of the voxels in which points (m, 3; z y x) lie.

    A point outside the volume gets the score of the nearest voxel inside it.
    """
    voxels = np.clip(np.rint(points), 0, np.array(source.shape) - 1).astype(np.int64)
    values = np.empty(len(voxels))
    # Reads by the boxes in which the source stores its voxels, all as large as the first, and from each only the part
    # that is needed.
    sides = [one.stop for one in next(iter(source.boxes()))]
    grid = [-(-length // side) for length, side in zip(source.shape, sides, strict=True)]
    box = np.ravel_multi_index((voxels // sides).T, grid)
    order = np.argsort(box, kind="stable") if math.prod(grid) > 1 else np.arange(len(box))
    for rows in np.split(order, np.flatnonzero(np.diff(box[order])) + 1):
        here = voxels[rows]
        low, high = here.min(axis=0), here.max(axis=0) + 1
        z, y, x = (slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))
        read = source.read((z, y, x))
        values[rows] = read[tuple((here - low).T)]
    return values
