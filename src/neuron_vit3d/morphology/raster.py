"""Tree to mask: every edge becomes a tapered tube."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from .geometry import repeated, span_between
from .swc import SWCError, Tree


# A voxel center exactly on the surface is inside, whatever rounding makes of it.
_TOLERANCE = 1e-9
# The scratch of one step: boxes of at most 32^3 voxels, batches of that many voxels (small enough for the cache, and
# for BLAS to start no threads of its own) ...
_MAX_BOX = 32
_VOXELS_AT_ONCE = 1 << 15
# ... and that many boxes prepared together (about 300 bytes each).
_BOXES_AT_ONCE = 1 << 16


def rasterize(
    tree: Tree,
    shape: tuple[int, int, int],
    *,
    min_radius: float | None = None,
    max_radius: float | None = None,
    radius_scale: float = 1.0,
    origin: tuple[int, int, int] = (0, 0, 0),
) -> np.ndarray:
    """Draw a tree into a mask.

    Voxel (z, y, x) has its center at the point (x, y, z). It is inside an edge when the distance from its center to
    the nearest point p(t) of the segment child -> parent is at most the radius interpolated there,
    r(t) = (1 - t) r_child + t r_parent, t in [0, 1]; an edge of length zero has the larger of its two radii, and a
    node without edges is a ball. The mask is the union over all edges. What lies outside of the volume is cut off.

    A tube thinner than a voxel may pass between voxel centers; `min_radius=0.87` (half a voxel's diagonal) leaves no
    gap.

    Args:
        tree: coordinates and radii in voxels.
        shape: (z, y, x) of the mask.
        min_radius: radii below it are raised to it, in voxels, after scaling.
        max_radius: radii above it are lowered to it, in voxels, after scaling.
        radius_scale: factor on all radii.
        origin: (z, y, x) of the mask's first voxel, to draw a window of a volume: equal to that window of the whole
            mask.

    Returns:
        (z, y, x) bool.

    Raises:
        ValueError: shape is not three positive sizes, origin not three numbers, or the limits of the radius are no
            interval.
        SWCError: a position or radius is not finite, or a parent is missing.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"shape must be three positive sizes (z, y, x), got {sizes}")
    shape = sizes
    corner = np.array(origin, dtype=np.float64)[::-1]
    if corner.shape != (3,) or not np.isfinite(corner).all():
        raise ValueError(f"origin must be three positions (z, y, x), got {origin}")
    low, high = 0.0 if min_radius is None else min_radius, np.inf if max_radius is None else max_radius
    if not (0 <= low <= high and 0 < radius_scale < np.inf):
        raise ValueError(
            f"expected 0 <= min_radius <= max_radius and radius_scale > 0, got {min_radius}, {max_radius}, "
            f"{radius_scale}"
        )
    if not (np.isfinite(tree.xyz).all() and np.isfinite(tree.radii).all()):
        raise SWCError("cannot rasterize a tree with NaN or infinite positions or radii")

    mask = np.zeros(shape, dtype=bool)
    radii = np.minimum(np.maximum(tree.radii * radius_scale, low), high)
    tubes = _tubes_near(tree, tree.xyz - corner if corner.any() else tree.xyz, radii, shape)
    for boxes in _cut_into_boxes(tubes, shape):
        for start, size, their_tubes in _by_size(boxes, shape):
            _draw(mask, start, size, their_tubes)
    return mask


@dataclass(frozen=True, eq=False)
class _Tubes:
    """n straight tubes, cut so that each has an origin on its axis from which all else is measured.

    Keeping the true ends (`begin`, `end`) rather than cutting a tube off where a box ends makes the parts of a long
    tube add up to exactly the whole one.
    """

    origin: np.ndarray  # (n, 3) x y z of a point on the axis
    axis: np.ndarray  # (n, 3) unit vector child -> parent, zero for a ball
    begin: np.ndarray  # (n,) position of the child on the axis, <= 0
    end: np.ndarray  # (n,) position of the parent on the axis, >= 0
    radius: np.ndarray  # (n,) at the origin
    slope: np.ndarray  # (n,) change of the radius per voxel along the axis

    def __len__(self) -> int:
        return len(self.radius)

    def take(self, rows: np.ndarray) -> _Tubes:
        return _Tubes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def moved(self, shift: np.ndarray) -> _Tubes:
        """The same tubes with their origins moved along the axis by (n,) voxels."""
        return _Tubes(
            self.origin + shift[:, None] * self.axis,
            self.axis,
            self.begin - shift,
            self.end - shift,
            np.maximum(self.radius + shift * self.slope, 0),
            self.slope,
        )


@dataclass(frozen=True, eq=False)
class _Boxes:
    """n boxes of voxels, and the one tube that is drawn in each."""

    start: np.ndarray  # (n, 3) int64, first voxel, x y z
    size: np.ndarray  # (n, 3) int64, x y z
    tubes: _Tubes


def _tubes_near(tree: Tree, xyz: np.ndarray, radii: np.ndarray, shape: tuple[int, int, int]) -> _Tubes:
    """Takes the segments of a tree that may reach into the volume.

    Those are left out whose both ends lie beyond one face of it by more than their radii.
    """
    child, parent = tree.segments.T
    beyond = np.zeros(len(radii), dtype=np.uint8)  # a bit for each face
    reach = radii + 1e-6
    for axis, size in enumerate(shape[::-1]):
        beyond |= (xyz[:, axis] + reach < 0).astype(np.uint8) << (2 * axis)
        beyond |= (xyz[:, axis] - reach > size - 1).astype(np.uint8) << (2 * axis + 1)
    near = np.flatnonzero((beyond[child] & beyond[parent]) == 0)
    child, parent = child[near], parent[near]
    delta = xyz[parent] - xyz[child]
    length = np.linalg.norm(delta, axis=1)
    is_ball = length == 0
    divisor = np.where(is_ball, 1, length)
    radius = np.where(is_ball, np.maximum(radii[child], radii[parent]), radii[child])
    slope = np.where(is_ball, 0, (radii[parent] - radii[child]) / divisor)
    return _Tubes(xyz[child], delta / divisor[:, None], np.zeros_like(length), length, radius, slope)


def _cut_into_boxes(tubes: _Tubes, shape: tuple[int, int, int]) -> Iterator[_Boxes]:
    """Boxes inside the volume that together hold every voxel of every tube, a bounded number of them at a time."""
    last = np.array(shape[::-1], dtype=np.float64) - 1  # of x, y, z
    widest = np.maximum(tubes.radius, tubes.radius + tubes.slope * tubes.end)
    # From the point nearest to the middle of the volume all numbers that matter are small, however far the nodes are.
    to_middle = ((last / 2 - tubes.origin) * tubes.axis).sum(axis=1)
    tubes = tubes.moved(np.clip(to_middle, tubes.begin, tubes.end))
    enter, leave = _inside_volume(tubes, widest, last)
    rows = np.flatnonzero(enter <= leave)
    tubes, widest, enter, leave = tubes.take(rows), widest[rows], enter[rows], leave[rows]

    # The axis-parallel box around an oblique part of length l has about (l / 1.7 + 2 r)^3 voxels: l = 2 r wastes
    # least.
    count = np.maximum(np.ceil((leave - enter) / np.maximum(2 * widest, 6)), 1).astype(np.int64)
    for group in _groups(count, _BOXES_AT_ONCE):
        row, part = repeated(count[group])
        row += group.start
        step = (leave - enter)[row] / count[row]
        parts = tubes.take(row).moved(enter[row] + part * step)
        reach = parts.radius[:, None] + _TOLERANCE
        far_end, far_reach = parts.origin + step[:, None] * parts.axis, reach + (step * parts.slope)[:, None]
        first = np.ceil(np.minimum(parts.origin - reach, far_end - far_reach)).clip(0, last + 1).astype(np.int64)
        stop = np.floor(np.maximum(parts.origin + reach, far_end + far_reach)).clip(-1, last).astype(np.int64) + 1
        some = np.flatnonzero((first < stop).all(axis=1))
        yield from _split_boxes(_Boxes(first[some], (stop - first)[some], parts.take(some)))


def _inside_volume(tubes: _Tubes, widest: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which positions the axis is near enough to the volume to matter; none: enter > leave."""
    margin = widest[:, None] + 1e-6
    first, stop = span_between(tubes.origin, tubes.axis, -margin, last + margin)
    return np.maximum(first, tubes.begin), np.minimum(stop, tubes.end)


def _split_boxes(boxes: _Boxes) -> Iterator[_Boxes]:
    """Cut large boxes into ones of at most `_MAX_BOX` voxels a side, without those that the tube cannot reach."""
    tiles = -(-boxes.size // _MAX_BOX)
    count = tiles.prod(axis=1)
    if (count == 1).all():
        yield boxes
        return
    for group in _groups(count, _BOXES_AT_ONCE):
        row, part = repeated(count[group])
        row += group.start
        across, along = tiles[row, 0], tiles[row, 1]
        tile = np.stack([part % across, part // across % along, part // (across * along)], axis=1)
        start = boxes.start[row] + tile * _MAX_BOX
        size = np.minimum(boxes.start[row] + boxes.size[row] - start, _MAX_BOX)
        tubes = boxes.tubes.take(row)
        center = start + (size - 1) / 2 - tubes.origin
        position = np.clip((center * tubes.axis).sum(axis=1), tubes.begin, tubes.end)
        gap = np.linalg.norm(center - position[:, None] * tubes.axis, axis=1)
        half = np.linalg.norm(size - 1, axis=1) / 2
        # From a center to any voxel of its box the nearest point moves at most `half`, and so changes the radius.
        reach = tubes.radius + position * tubes.slope + half * (1 + np.abs(tubes.slope))
        near = np.flatnonzero(gap <= reach + 1e-6)
        yield _Boxes(start[near], size[near], tubes.take(near))


def _by_size(boxes: _Boxes, shape: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, tuple[int, int, int], _Tubes]]:
    """Boxes of one size: (n, 3) first voxels, x y z; size (nz, ny, nx); the tubes.

    Sizes are rounded up, to have few of them; a box that would stick out of the volume is pushed back in, since
    testing voxels twice does no harm.
    """
    limit = np.array(shape[::-1])
    size = boxes.size + -boxes.size % 2
    largest = size.max(axis=0, initial=0)
    if len(size) * largest.prod() <= 4 * _VOXELS_AT_ONCE:  # a small window: one size for all costs least
        size = np.broadcast_to(largest, size.shape)
    size = np.minimum(size, limit)
    start = np.minimum(boxes.start, limit - size)
    key = (size[:, 2] * 64 + size[:, 1]) * 64 + size[:, 0]
    order = np.argsort(key, kind="stable")
    borders = np.flatnonzero(np.diff(key[order])) + 1
    for same_size in np.split(order, borders) if len(order) else ():
        nx, ny, nz = size[same_size[0]].tolist()
        yield start[same_size], (nz, ny, nx), boxes.tubes.take(same_size)


def _draw(mask: np.ndarray, start: np.ndarray, size: tuple[int, int, int], tubes: _Tubes) -> None:
    """Sets the voxels of `mask` that are inside the tubes of n boxes of one size (nz, ny, nx).

    The mask is (z, y, x) and C-contiguous.
    """
    flat, grid = mask.reshape(-1), _grid(size)
    voxels = grid.shape[1]
    factors, bend = _equations(start, grid, tubes)
    offsets = np.ravel_multi_index([*np.indices(size).reshape(3, -1)], mask.shape)
    corners = np.ravel_multi_index(start.T[::-1], mask.shape)
    at_once = max(_VOXELS_AT_ONCE // voxels, 1)
    scratch = np.empty((3, min(at_once, len(start)), voxels))
    for first in range(0, len(start), at_once):
        rows = slice(first, first + at_once)
        box = np.arange(len(corners[rows]))
        share, left, right = np.matmul(factors[:, rows], grid, out=scratch[:, : len(box)])
        np.clip(share, 0, 1, out=share)
        right *= share
        left -= right
        share *= share
        share *= bend[rows]
        inside = left <= share
        place = np.flatnonzero(inside)
        count = np.count_nonzero(inside, axis=1)
        place -= np.repeat(box * voxels, count)
        flat[offsets[place] + np.repeat(corners[rows], count)] = True


def _grid(size: tuple[int, int, int]) -> np.ndarray:
    """Lays out a box of a size (nz, ny, nx).

    Returns (5, voxels): x, y, z from the center of the box, 1, and the squared distance from the center.
    """
    z, y, x = np.indices(size).reshape(3, -1) - (np.array(size)[:, None] - 1) / 2
    return np.stack([x, y, z, np.ones_like(x), x * x + y * y + z * z])


def _equations(start: np.ndarray, grid: np.ndarray, tubes: _Tubes) -> tuple[np.ndarray, np.ndarray]:
    """What decides which voxels of n boxes that start at (n, 3) x y z are inside their tubes.

    With B the begin of the axis, L its length, r and r + d the radii at its ends, and for a voxel o the position
    t = (o - B) . axis / L, clipped to u in [0, 1], the definition |o - B - u L axis|^2 <= (r + u d)^2 becomes

        |o - B|^2 - r^2 - u (2 L^2 t + 2 r d) <= u^2 (d^2 - L^2).

    t, the first two terms, and what stands in brackets are linear in x, y, z and the squared distance from the box's
    center, so that one product with `grid` gives all three: quicker than as many passes over the voxels.

    Returns:
        (3, n, 5) factors of the rows of `grid`; (n, 1) d^2 - L^2.
    """
    half = np.sqrt(grid[4, 0])  # as far as a corner is from the center
    center = tubes.origin - start + grid[:3, 0]  # of the axis' origin, from the box's center
    along = -(center * tubes.axis).sum(axis=1)
    # Ends that no voxel of the box is beyond may as well be near: numbers stay small, however long the tube.
    begin = np.minimum(np.maximum(tubes.begin, along - half - 1), tubes.end)
    length = np.maximum(np.minimum(tubes.end, along + half + 1) - begin, 0)
    radius = np.maximum(tubes.radius + begin * tubes.slope, 0) + _TOLERANCE
    growth = tubes.slope * length
    center += begin[:, None] * tubes.axis
    position = -(center * tubes.axis).sum(axis=1)

    factors = np.zeros((3, len(length), 5))
    per_length = np.where(length > 0, 1 / np.maximum(length, 1e-100), 0)
    factors[0, :, :3] = tubes.axis * per_length[:, None]
    factors[0, :, 3] = position * per_length
    factors[1, :, :3] = -2 * center
    rounding = 1e-14 * (half + 1) ** 2  # of squares: less than a millionth of a voxel even for a radius of 0
    factors[1, :, 3] = (center * center).sum(axis=1) - radius * radius - rounding
    factors[1, :, 4] = 1
    factors[2, :, :3] = tubes.axis * (2 * length)[:, None]
    factors[2, :, 3] = 2 * (length * position + radius * growth)
    return factors, (growth * growth - length * length)[:, None]


def _groups(count: np.ndarray, limit: int) -> Iterator[slice]:
    """Slices of rows whose counts add up to about `limit` (a single row may have more)."""
    if len(count):
        group = np.cumsum(count) // limit
        edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(count)]
        yield from (slice(a, b) for a, b in pairwise(edges))
