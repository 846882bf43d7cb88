"""How a volume too large for one machine is shared out: regions, each segmented by itself and written to one shard.

    regions = RegionGrid(BlockGrid((2048, 2048, 2048), tile=(256, 256), overlap=(32, 32), num_slices=5))
    regions.side, regions.chunk, len(regions)      # (64, 448, 448), (32, 112, 112), 800
    regions[7].core                                # the voxels that region 7 writes, nobody else does

The tiles of a region reach half an overlap beyond it, where those of its neighbours begin; of what they predict there
only the region's own voxels are kept. So no tile is looked at twice, and no voxel comes from a tile's very border.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from ..model.blocks import BlockGrid, tile_starts
from ..volumes.volume import Box


_SLICES, _PIXELS = 64, 480  # the sides of a region, about
_CHUNK_SLICES, _CHUNK_PIXELS = 32, 128  # the sides of a chunk, at most


@dataclass(frozen=True)
class Region:
    """A part of a volume: slices of the volume along z, y and x.

    core: the voxels that are written. labelled: what its blocks label, of which the core is kept. seen: what they look
    at.
    """

    index: int
    core: Box
    labelled: Box
    seen: Box
    grid: BlockGrid  # of what is labelled

    @property
    def voxels(self) -> int:
        """How many are written."""
        return prod(_sides(self.core))

    @property
    def inner(self) -> Box:
        """Where the core lies in what is labelled."""
        return tuple(
            slice(core.start - labelled.start, core.stop - labelled.start)
            for core, labelled in zip(self.core, self.labelled, strict=True)
        )


@dataclass(frozen=True)
class RegionGrid:
    """The regions of a volume, in C order.

    Args:
        whole: the blocks of the whole volume; those of a region have the same sides and overlaps.
    """

    whole: BlockGrid

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @cached_property
    def side(self) -> tuple[int, int, int]:
        """Of a region's core, z y x: as many slices as some steps label, and as many pixels as some tiles add."""
        step = self.whole.num_output_slices - self.whole.slice_overlap
        planes = zip(self.shape[1:], self.whole.tile, self.whole.overlap, strict=True)
        return max(1, round(_SLICES / step)) * step, *(_side(*axis) for axis in planes)

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Sides of a chunk, z y x: divisors of a region's."""
        most = (_CHUNK_SLICES, _CHUNK_PIXELS, _CHUNK_PIXELS)
        return tuple(_divisor_near(limit, whole) for limit, whole in zip(most, self.side, strict=True))

    @property
    def counts(self) -> tuple[int, int, int]:
        return tuple(-(-length // side) for length, side in zip(self.shape, self.side, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Region]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Region:
        if not 0 <= index < len(self):
            raise IndexError(f"expected a region from 0 to {len(self) - 1}, got {index}")
        at = [int(i) for i in np.unravel_index(index, self.counts)]
        core = tuple(
            slice(i * side, min((i + 1) * side, length))
            for i, side, length in zip(at, self.side, self.shape, strict=True)
        )
        whole = self.whole
        overlap, least = (whole.slice_overlap, *whole.overlap), (whole.num_output_slices, *whole.tile)
        labelled = tuple(map(_reaching, core, overlap, least, self.shape))
        context = whole.num_slices - whole.num_output_slices
        z = slice(
            max(labelled[0].start - context // 2, 0), min(labelled[0].stop + context - context // 2, self.shape[0])
        )
        grid = replace(
            whole, shape=_sides(labelled), above=labelled[0].start - z.start, below=z.stop - labelled[0].stop
        )
        return Region(index, core, labelled, (z, *labelled[1:]), grid)


def _side(length: int, tile: int, overlap: int) -> int:
    """Returns the side of the regions along an axis of the plane.

    There is one region where there is no more than a tile, or little more than `_PIXELS`. Otherwise the side is a
    multiple of what a tile adds, from 2/3 to 4/3 of `_PIXELS`, and of those the one with which all regions have the
    fewest tiles: a last region of a few pixels has a whole tile of its own.
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
    """Returns the core with one half, above and below, of what its tiles share with the neighbours'.

    It is longer where it would be shorter than `least`, and lies inside an axis of `length`.
    """
    start, stop = max(core.start - shared // 2, 0), min(core.stop + shared - shared // 2, length)
    start = max(min(start, stop - least), 0)
    return slice(start, min(max(stop, start + least), length))


def _sides(box: Box) -> tuple[int, int, int]:
    return tuple(one.stop - one.start for one in box)


def _divisor_near(limit: int, whole: int) -> int:
    """Returns the largest divisor up to a limit, or the smallest above where that is less than a quarter of it."""
    divisors = [side for side in range(1, whole + 1) if whole % side == 0]
    below = max(side for side in divisors if side <= limit)
    return below if 4 * below >= min(limit, whole) else min(side for side in divisors if side > limit)
