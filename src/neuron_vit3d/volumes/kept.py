"""Slices that were decoded, kept for those who ask for them again.

What is stored in one piece is decoded once, not for each slice.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np


_MOST_READ = 1 << 27  # bytes decoded at a time
_MOST_KEPT = 2 * _MOST_READ


class KeptSlices:
    """Slices read in whole layers, and kept as far as there is room.

    Args:
        read: slices z0 .. z1 - 1 as an array (z1 - z0, y, x).
        shape: z, y, x of the volume.
        dtype: of its voxels.
        layer: slices that are decoded together, from 0 on; of layers above `_MOST_READ` parts are read.
    """

    def __init__(
        self, read: Callable[[int, int], np.ndarray], shape: tuple[int, int, int], dtype: np.dtype, layer: int = 1
    ):
        slice_bytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
        self._read, self._total, self._layer = read, shape[0], layer
        self._at_once, self._room = max(1, _MOST_READ // slice_bytes), _MOST_KEPT // slice_bytes
        self._kept: dict[int, np.ndarray] = {}  # by number of the slice, oldest first

    def read(self, z0: int, z1: int) -> np.ndarray:
        """Slices z0 .. z1 - 1 as a new array (z1 - z0, y, x); more than are read at a time go past what is kept."""
        if z1 - z0 > self._at_once:
            return self._read(z0, z1)
        return np.stack(list(self.slices(z0, z1)))

    def slices(self, z0: int, z1: int) -> Iterator[np.ndarray]:
        """Slices z0 .. z1 - 1 (y, x), one after the other; not to be changed."""
        z = z0
        while z < z1:
            if z in self._kept:
                yield self._kept[z]
                z += 1
                continue
            first, last = self._part(z)
            while last < z1 and last not in self._kept and self._part(last)[1] - first <= self._at_once:
                last = self._part(last)[1]
            read = self._read(first, last)
            self._keep(first, read, z0, z1)
            yield from read[z - first : z1 - first]
            z = last

    def _part(self, z: int) -> tuple[int, int]:
        """First slice of the part of a layer that is read for slice z, and the one behind its last."""
        top = z // self._layer * self._layer
        first = top + (z - top) // self._at_once * self._at_once
        return first, min(first + self._at_once, top + self._layer, self._total)

    def _keep(self, first: int, read: np.ndarray, z0: int, z1: int) -> None:
        """Those outside z0 .. z1 - 1 make room, for whoever reads box beside box comes back to those inside."""
        outside = [z for z in self._kept if not z0 <= z < z1][::-1]
        for z, one in enumerate(read, first):
            if z not in self._kept:
                if len(self._kept) >= self._room and outside:
                    del self._kept[outside.pop()]
                if len(self._kept) < self._room:
                    self._kept[z] = one.copy()  # a view would hold all that was read
