"""Points along a tree, and the tree moved elsewhere."""

from dataclasses import replace

import numpy as np

from .swc import Tree


def points_along(tree: Tree, step: float = 1.0, most: int | None = None) -> np.ndarray:
    """Points along all edges, evenly spaced, and the nodes without any edge.

    Args:
        tree: coordinates in voxels.
        step: the largest distance of neighbouring points on an edge, in voxels; both ends of an edge are points.
        most: about so many points at most: the step grows until they are enough. Every edge keeps its two ends.

    Returns:
        (n, 3) float64, x y z.
    """
    child, parent = tree.segments.T
    begin, along = tree.xyz[child], tree.xyz[parent] - tree.xyz[child]
    length = np.linalg.norm(along, axis=1)
    if most is not None:
        step = max(step, float(length.sum()) / most)
    pieces = np.where(length > 0, np.ceil(length / step), 0).astype(np.int64)
    edge = np.repeat(np.arange(len(length)), pieces + 1)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    return begin[edge] + (number / np.maximum(pieces, 1)[edge])[:, None] * along[edge]


def moved(tree: Tree, shift: tuple[float, float, float]) -> Tree:
    """The tree moved by `shift` (x, y, z) voxels."""
    return replace(tree, xyz=tree.xyz + np.asarray(shift, dtype=np.float64))
