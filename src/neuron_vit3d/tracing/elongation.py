"""Measures how much the foreground is stretched along z: light microscopes blur along the optical axis.

A voxel may be four times as deep as wide, and a neurite as many voxels deep as wide: then it is a ribbon in
micrometres, but round in voxels. Center lines of ribbons have twigs to both sides that nobody drew. So distances along
z are scaled to make neurites round, but never beyond the voxel size. Where the voxel size is not known, they are
scaled only if neurites are very flat.
"""

import math
from collections.abc import Sequence

import numpy as np

from .pieces import Pieces


# Sample size in voxels: enough for a volume of any size.
_VOXELS = 1 << 26
# Corrects for the directions of neurites. Straight tubes in all directions within a plane need a factor of 0.9 here,
# those in all directions in space sqrt(2). This value lies in between, so both are off by a fifth at most (Cauchy's
# formula on projected areas).
_OF_DIRECTIONS = 1.12
# If the measured depth is at least this share of what the voxel size says, neurites are round in micrometres, and the
# voxel size is used as it is.
_ROUND = 0.75
# Depths below this many in-plane sides count as one side: real dendrites are traced best so
# (benchmarks/results/voxel_sizes.md).
_LEAST = 1.5
# Where no voxel size is known, voxels are taken to be deep only if neurites are this many times as wide as deep: those
# that are twice as wide as deep may be flat themselves. And voxels are hardly ever _DEEPEST times as deep as wide.
_FLAT, _DEEPEST = 2.5, 6.0


def seen_spacing(source: Pieces, level: float, spacing: np.ndarray, *, is_known: bool = True) -> np.ndarray:
    """Estimates voxel sides in which the foreground is about as deep as wide.

    The number of runs of foreground voxels along an axis is the area that the foreground projects along it. For a tube
    that lies in a plane this is length times width along z, and length times depth along y or x across it.

    Args:
        source: mask or scores.
        level: scores at least as high are foreground.
        spacing: (3,) voxel sides z y x, the smallest being 1.
        is_known: whether `spacing` comes from a voxel size; if not, it is all 1.

    Returns:
        (3,) voxel sides. Only z may differ from `spacing`, and only where voxels are deeper than wide or of unknown
        size: it then lies between the in-plane side and the given depth, or _DEEPEST if that is not known.
    """
    in_plane = float(np.sqrt(spacing[1] * spacing[2]))
    deepest = float(spacing[0]) if is_known else _DEEPEST
    if deepest <= in_plane:
        return spacing
    runs = np.zeros(3, np.int64)
    every = max(1, math.ceil(math.prod(source.shape) / _VOXELS))
    for number, box in enumerate(source.boxes()):
        if number % every == 0:
            # Includes the voxels before the box, so that a run that goes on from there is not counted again.
            z, y, x = (slice(max(0, one.start - 1), one.stop) for one in box)
            before = [one.start - wide.start for one, wide in zip(box, (z, y, x), strict=True)]
            runs += runs_of(source.read((z, y, x)) >= level, before)
    if not runs.all():
        return spacing
    side = _OF_DIRECTIONS * runs[0] / math.hypot(runs[1] / spacing[1], runs[2] / spacing[2])
    if is_known and side >= _ROUND * deepest:
        return spacing
    if side < (_LEAST if is_known else _FLAT) * in_plane:
        side = in_plane
    return np.array([min(side, deepest), *spacing[1:]])


def runs_of(mask: np.ndarray, before: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """Counts the runs of set voxels along each axis of a mask, if they begin in a given part of it.

    Args:
        mask: (z, y, x).
        before: the part begins after so many slices, rows and columns.

    Returns:
        (3,) int64.
    """
    part = mask[tuple(slice(first, None) for first in before)]
    count = np.count_nonzero(part)
    runs = []
    for axis in range(3):
        around = mask[tuple(slice(0 if one == axis else start, None) for one, start in enumerate(before))]
        later, earlier = (np.moveaxis(around, axis, 0)[cut] for cut in (slice(1, None), slice(None, -1)))
        pairs = np.count_nonzero(later & earlier)
        runs.append(count - pairs)
    return np.array(runs, np.int64)
