"""Divides a volume too large for one machine into regions; each is segmented by itself and written to one shard.

    regions = RegionGrid(BlockGrid((2048, 2048, 2048), tile=(256, 256), overlap=(32, 32), num_slices=5))
    regions.side, regions.chunk, len(regions)      # (64, 448, 448), (32, 112, 112), 800
    regions[7].core                                # the voxels that only region 7 writes

The tiles of a region reach half an overlap beyond it, up to where the tiles of its neighbours begin. Of their
predictions, only the region's own voxels are kept. So no tile is computed twice, and no voxel comes from a tile's
border.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from ..model.blocks import BlockGrid, tile_starts
from ..volumes.volume import Box


_SLICES, _PIXELS = 64, 480  # approximate sides of a region
_CHUNK_SLICES, _CHUNK_PIXELS = 32, 128  # largest sides of a chunk


@dataclass(frozen=True)
class Region:
    """A part of a volume, given as slices along z, y and x.

    core: the voxels that are written. labelled: the voxels that its blocks label; the core is a part of them. seen:
    the voxels that its blocks read.
    """

    index: int
    core: Box
    labelled: Box
    seen: Box
    grid: BlockGrid  # of the labelled voxels

    @property
    def voxels(self) -> int:
        """Number of voxels that are written."""
        return prod(_sides(self.core))

    @property
    def inner(self) -> Box:
        """Place of the core in the labelled part."""
        z, y, x = (
            slice(core.start - labelled.start, core.stop - labelled.start)
            for core, labelled in zip(self.core, self.labelled, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class RegionGrid:
    """The regions of a volume, in C order.

    Args:
        whole: the blocks of the whole volume; blocks of a region have the same sides and overlaps.
    """

    whole: BlockGrid

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @cached_property
    def side(self) -> tuple[int, int, int]:
        """Sides of a region's core, z y x, in whole steps and whole tiles."""
        step = self.whole.num_output_slices - self.whole.slice_overlap
        height, width = (
            _side(*axis) for axis in zip(self.shape[1:], self.whole.tile, self.whole.overlap, strict=True)
        )
        return max(1, round(_SLICES / step)) * step, height, width

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Sides of a chunk, z y x; they divide the sides of a region."""
        most = (_CHUNK_SLICES, _CHUNK_PIXELS, _CHUNK_PIXELS)
        depth, height, width = (_divisor_near(limit, whole) for limit, whole in zip(most, self.side, strict=True))
        return depth, height, width

    @property
    def counts(self) -> tuple[int, int, int]:
        along_z, along_y, along_x = (-(-length // side) for length, side in zip(self.shape, self.side, strict=True))
        return along_z, along_y, along_x

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Region]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(f"expected a region from 0 to {len(self) - 1}, got {index}")
        at = [int(i) for i in np.unravel_index(index, self.counts)]
        core_z, core_y, core_x = (
            slice(i * side, min((i + 1) * side, length))
            for i, side, length in zip(at, self.side, self.shape, strict=True)
        )
        core = (core_z, core_y, core_x)
        whole = self.whole
        overlap, least = (whole.slice_overlap, *whole.overlap), (whole.num_output_slices, *whole.tile)
        labelled_z, labelled_y, labelled_x = map(_reaching, core, overlap, least, self.shape)
        labelled = (labelled_z, labelled_y, labelled_x)
        context = whole.num_slices - whole.num_output_slices
        z = slice(
            max(labelled[0].start - context // 2, 0), min(labelled[0].stop + context - context // 2, self.shape[0])
        )
        grid = replace(
            whole, shape=_sides(labelled), above=labelled[0].start - z.start, below=z.stop - labelled[0].stop
        )
        return Region(index, core, labelled, (z, labelled_y, labelled_x), grid)


def _side(length: int, tile: int, overlap: int) -> int:
    """Returns the side of the regions along an axis of the plane.

    There is one region if the axis is no longer than a tile, or little longer than `_PIXELS`. Otherwise the side is a
    multiple of what a tile adds, from 2/3 to 4/3 of `_PIXELS`. Of these sides the one is taken with which all regions
    together have the fewest tiles, since even a last region of a few pixels needs a whole tile.
    """
    most = 4 * _PIXELS // 3
    if length <= max(tile, most):
        return -(-length // _CHUNK_PIXELS) * _CHUNK_PIXELS
    stride = tile - overlap
    counts = range(max(1, -(-2 * _PIXELS // (3 * stride))), max(1, most // stride) + 1)

    def tiles(side: int) -> int:
        cores = (slice(start, min(start + side, length)) for start in range(0, length, side))
        reached = (_reaching(core, overlap, tile, length) for core in cores)
        return sum(len(tile_starts(one.stop - one.start, tile, overlap)) for one in reached)

    return min((count * stride for count in counts), key=lambda side: (tiles(side), abs(side - _PIXELS)))


def _reaching(core: slice, shared: int, least: int, length: int) -> slice:
    """Extends the core, above and below, by half of what its tiles share with the neighbours' tiles.

    The result is at least `least` long, and lies inside an axis of `length`.
    """
    start, stop = max(core.start - shared // 2, 0), min(core.stop + shared - shared // 2, length)
    start = max(min(start, stop - least), 0)
    return slice(start, min(max(stop, start + least), length))


def _sides(box: Box) -> tuple[int, int, int]:
    depth, height, width = (one.stop - one.start for one in box)
    return depth, height, width


def _divisor_near(limit: int, whole: int) -> int:
    """Returns the largest divisor up to a limit; if that is less than a quarter of it, the next one above the
    limit."""
    divisors = [side for side in range(1, whole + 1) if whole % side == 0]
    below = max(side for side in divisors if side <= limit)
    return below if 4 * below >= min(limit, whole) else min(side for side in divisors if side > limit)
