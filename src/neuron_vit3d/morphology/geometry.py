"""Points along a tree, and the tree moved elsewhere."""

from dataclasses import replace

import numpy as np

from .swc import Tree


def points_along(tree: Tree, step: float = 1.0, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Points along all edges, evenly spaced, and the nodes without any edge.

    Args:
        tree: coordinates in voxels.
        step: the largest distance of neighbouring points on an edge, in voxels; both ends of an edge are points.
        shape: (z, y, x) of a volume; edges are cut off at its borders, so that a stray node far away costs nothing.

    Returns:
        (n, 3) float64, x y z.
    """
    child, parent = tree.segments.T
    begin, along = tree.xyz[child], tree.xyz[parent] - tree.xyz[child]
    if shape is not None:
        enter, leave = _between_borders(begin, along, np.array(shape[::-1], dtype=np.float64))
        inside = enter <= leave
        begin, along, enter, leave = begin[inside], along[inside], enter[inside, None], leave[inside, None]
        begin, along = begin + enter * along, (leave - enter) * along
    length = np.linalg.norm(along, axis=1)
    pieces = np.ceil(length / step).astype(np.int64)
    edge = np.repeat(np.arange(len(length)), pieces + 1)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    return begin[edge] + (number / np.maximum(pieces, 1)[edge])[:, None] * along[edge]


def moved(tree: Tree, shift: tuple[float, float, float]) -> Tree:
    """The tree moved by `shift` (x, y, z) voxels."""
    return replace(tree, xyz=tree.xyz + np.asarray(shift, dtype=np.float64))


def _between_borders(begin: np.ndarray, along: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which shares of its length a segment is inside the volume (Liang and Barsky 1984); never: enter > leave."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first, last = (-0.5 - begin) / along, (size - 0.5 - begin) / along
    still = along == 0  # runs between the two faces, or never does
    between = (begin >= -0.5) & (begin <= size - 0.5)
    low = np.where(still, np.where(between, -np.inf, np.inf), np.minimum(first, last))
    high = np.where(still, np.where(between, np.inf, -np.inf), np.maximum(first, last))
    return np.maximum(low.max(axis=1), 0.0), np.minimum(high.min(axis=1), 1.0)
