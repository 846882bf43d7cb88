"""How much longer than wide things look along z: light microscopes blur along the optical axis.

A voxel may be four times as deep as wide, and a neurite in it as many voxels deep as wide: it is a ribbon in
micrometres, and round in voxels. Center lines of ribbons have twigs to both sides, which nobody drew. So distances
along z count as what is seen says, up to the voxel size; or, where that is not known and things are very flat, alone
by what is seen.
"""

import math
from collections.abc import Sequence

import numpy as np

from .pieces import Pieces


# So many voxels tell enough of a volume of any size.
_VOXELS = 1 << 26
# Straight tubes in all directions within a plane need a factor of 0.9 here, those in all directions in space one of
# sqrt(2): in between, so that both are off by a fifth at most (Cauchy's formula on projected areas).
_OF_DIRECTIONS = 1.12
# What is so nearly as deep as its voxel size says is round in micrometres, and taken at its word.
_ROUND = 0.75
# Sides below this are as good as 1: so real dendrites are traced best (benchmarks/results/voxel_sizes.md).
_LEAST = 1.5
# Where no voxel size is known, only what is so flat is taken to have deep voxels: neurites that are twice as wide as
# deep may be flat themselves. And voxels are hardly ever so many times as deep as wide.
_FLAT, _DEEPEST = 2.5, 6.0


def seen_spacing(source: Pieces, level: float, spacing: np.ndarray, *, is_known: bool = True) -> np.ndarray:
    """Returns voxel sides in which the foreground is about as deep as wide.

    The number of runs of foreground voxels along an axis is the area that it projects along it. Of a tube that lies in
    a plane this is length times width along z, and length times depth along y or x across it.

    Args:
        source: mask or scores.
        level: scores at least as high are foreground.
        spacing: (3,) voxel sides z y x, the smallest being 1.
        is_known: it comes from a voxel size; else it is all 1 for want of one.

    Returns:
        (3,); only z differs from what was given, and only where voxels are deeper than wide or not known: between the
        in-plane side and its own, or the deepest that voxels are.
    """
    in_plane = float(np.sqrt(spacing[1] * spacing[2]))
    deepest = float(spacing[0]) if is_known else _DEEPEST
    if deepest <= in_plane:
        return spacing
    runs = np.zeros(3, np.int64)
    every = max(1, math.ceil(math.prod(source.shape) / _VOXELS))
    for number, box in enumerate(source.boxes()):
        if number % every == 0:
            # With the voxels before the box, so that what runs on from there is no further run.
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
    """Counts the runs of set voxels along each axis of a mask that begin in a part of it.

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
