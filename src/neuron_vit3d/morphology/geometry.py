"""Points along a tree, and the arithmetic of lines and rows that drawing and comparing trees share."""

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
        first, last = span_between(begin, along, -0.5, np.array(shape[::-1], dtype=np.float64) - 0.5)
        enter, leave = np.maximum(first, 0.0), np.minimum(last, 1.0)
        inside = enter <= leave
        begin, along, enter, leave = begin[inside], along[inside], enter[inside, None], leave[inside, None]
        begin, along = begin + enter * along, (leave - enter) * along
    pieces = np.ceil(np.linalg.norm(along, axis=1) / step).astype(np.int64)
    edge, number = repeated(pieces + 1)
    return begin[edge] + (number / np.maximum(pieces, 1)[edge])[:, None] * along[edge]


def span_between(origin: np.ndarray, axis: np.ndarray, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Where lines run through a box (Liang and Barsky 1984).

    Args:
        origin, axis: (n, 3) of the lines origin + t * axis.
        low, high: the box's faces, broadcast to (n, 3).

    Returns:
        (n,) first and last t inside of the box; first > last for a line that misses it.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        to_low, to_high = (low - origin) / axis, (high - origin) / axis
    still = axis == 0  # runs between the two faces, or never does
    between = (origin >= low) & (origin <= high)
    first = np.where(still, np.where(between, -np.inf, np.inf), np.minimum(to_low, to_high))
    last = np.where(still, np.where(between, np.inf, -np.inf), np.maximum(to_low, to_high))
    return first.max(axis=1), last.min(axis=1)


def repeated(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row i `count[i]` times: the rows, and the running number within each."""
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
