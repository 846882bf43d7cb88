"""Finds the path between two points that follows the scores: the way of a branch that was missed. No window."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...morphology.swc import Tree
from .editing import Draw, EditError
from .walking import nearest_node


Box = tuple[slice, slice, slice]
# The path leaves a neurite only for a way that is 20 times shorter: so much less costs a voxel of score 1 than of 0.
FLOOR = 0.05
# Scores are the same all across a thick neurite, and its middle is where those around are high as well.
AROUND = 1.5
# The path may go around by half the distance of its ends, and by so many voxels at least.
LEAST_MARGIN = 16
# So many voxels take about ten seconds and 0.5 GB.
MOST_VOXELS = 1 << 25
# The intensities between which an image stands for scores; neurites are among the brightest voxels.
PERCENTILES = (50.0, 99.5)
# Voxels with at least this score are neuron, where a radius is measured.
NEURON = 0.5
OUTSIDE = "a place that was clicked lies outside of the image, or of the box that was segmented"
# Nodes on the way are the means of so many voxels, as voxels make stairs.
SMOOTHED = 5


@dataclass(frozen=True)
class Path:
    """A path: points (n, 3) x y z in voxels, both ends among them, and radii (n,)."""

    points: np.ndarray
    radii: np.ndarray


def window_around(start: np.ndarray, end: np.ndarray, shape: tuple[int, int, int]) -> Box:
    """The part of a volume in which a path may run, as slices z y x.

    Args:
        start, end: x y z in voxels.
        shape: (z, y, x) of the volume.

    Raises:
        EditError: a point lies outside of the volume, or the points are too far apart for one path.
    """
    ends = np.stack([np.asarray(start, float), np.asarray(end, float)])[:, ::-1]
    if any(_is_outside(point, shape) for point in (start, end)):
        raise EditError(OUTSIDE)
    margin = max(LEAST_MARGIN, int(np.linalg.norm(ends[0] - ends[1]) / 2))
    low = np.maximum(np.floor(ends.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(ends.max(axis=0)).astype(int) + margin + 1, shape)
    if np.prod(high - low) > MOST_VOXELS:
        raise EditError(
            f"the points are {np.linalg.norm(ends[0] - ends[1]):.0f} voxels apart, too far for one path; draw it in "
            "pieces"
        )
    z, y, x = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    return z, y, x


def as_scores(window: np.ndarray) -> np.ndarray:
    """Scores of a window: as they are where they are floats in [0, 1], else of an image, whose bright voxels count."""
    values = np.asarray(window, np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if np.asarray(window).dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return values
    low, high = np.percentile(values, PERCENTILES)
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def find_path(
    scores: np.ndarray, start: np.ndarray, end: np.ndarray, voxel_size: tuple[float, float, float] | None = None
) -> Path:
    """Finds the path of least cost between two points of a window.

    A step costs its length over the squared score (plus a floor) of the voxels it joins, where a score is the mean of
    the voxel's own and of those around it.

    Args:
        scores: (z, y, x) in [0, 1], see `as_scores`.
        start, end: x y z in voxels of the window; rounded to its voxels.
        voxel_size: z y x in any unit; only ratios count. None: all sides are the same.

    Returns:
        The path; radii are in units of the smallest side of a voxel, as traced trees have them.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, uniform_filter1d
    from skimage.graph import MCP_Geometric

    spacing = np.ones(3) if voxel_size is None else np.array(voxel_size, float) / min(voxel_size)
    last = np.array(scores.shape) - 1
    first_voxel, last_voxel = (
        tuple(int(i) for i in np.clip(np.round(np.asarray(point)[::-1]), 0, last)) for point in (start, end)
    )
    steady = 0.5 * (scores + gaussian_filter(scores, AROUND / spacing))
    ways = MCP_Geometric(1.0 / (FLOOR + steady**2), sampling=tuple(spacing))
    ways.find_costs([first_voxel], [last_voxel])
    voxels = np.array(ways.traceback(last_voxel))

    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    around = tuple(slice(max(0, i - 8), j + 8) for i, j in zip(low, high, strict=True))
    # What lies beyond the window is taken for background.
    depth = distance_transform_edt(np.pad(scores[around] >= NEURON, 1), sampling=spacing)
    at = voxels - [one.start - 1 for one in around]
    radii = np.maximum(maximum_filter(depth, 3)[tuple(at.T)], 1.0)

    points = voxels[:, ::-1].astype(float)
    smooth = uniform_filter1d(points, SMOOTHED, axis=0, mode="nearest") if len(points) > SMOOTHED else points.copy()
    smooth[0], smooth[-1] = np.asarray(start, float), np.asarray(end, float)
    return Path(smooth, uniform_filter1d(radii, SMOOTHED, mode="nearest") if len(radii) > SMOOTHED else radii)


def draw_between(
    tree: Tree,
    start: np.ndarray,
    end: np.ndarray,
    read: Callable[[Box], np.ndarray],
    shape: tuple[int, int, int],
    *,
    voxel_size: tuple[float, float, float] | None = None,
    snap: float = 3.0,
) -> Draw:
    """Makes the edit that draws a branch between two points.

    Args:
        tree: what it is drawn on.
        start, end: x y z in voxels.
        read: gives the scores, or the image, of a box; only a window around the points is asked for.
        shape: (z, y, x) of what it reads from.
        voxel_size: z y x in any unit.
        snap: an end that lies so near to a node, in units of the smallest side of a voxel, hangs on it.

    Raises:
        EditError: see `window_around`; or both ends are the same point or node.
    """
    spacing = np.ones(3) if voxel_size is None else np.array(voxel_size[::-1], float) / min(voxel_size)
    start, end = np.asarray(start, float), np.asarray(end, float)
    rows = [nearest_node(tree, point, spacing, snap) for point in (start, end)]
    ends = [point if row is None else tree.xyz[row] for point, row in zip((start, end), rows, strict=True)]
    if any(row is None and _is_outside(point, shape) for row, point in zip(rows, ends, strict=True)):
        raise EditError(OUTSIDE)
    inside = [np.clip(point, 0, np.array(shape[::-1]) - 1) for point in ends]
    if np.array_equal(np.round(inside[0]), np.round(inside[1])) or (rows[0] is not None and rows[0] == rows[1]):
        raise EditError("both ends of the path are at the same place; click two places that are further apart")
    window = window_around(inside[0], inside[1], shape)
    origin = np.array([one.start for one in window[::-1]])
    path = find_path(as_scores(read(window)), inside[0] - origin, inside[1] - origin, voxel_size)
    # An end that hangs on a node is that node.
    inner = slice(0 if rows[0] is None else 1, len(path.points) - (0 if rows[1] is None else 1))
    nodes = [None if row is None else int(tree.ids[row]) for row in rows]
    return Draw(
        points=tuple(map(tuple, (path.points + origin)[inner].tolist())),
        radii=tuple(path.radii[inner].tolist()),
        start=nodes[0],
        end=nodes[1],
    )


def _is_outside(point: np.ndarray, shape: tuple[int, int, int]) -> bool:
    inside = (np.asarray(point) >= -0.5) & (np.asarray(point) <= np.array(shape[::-1]) - 0.5)
    return not inside.all()
