"""Where in a volume no neurite can be: a cheap, conservative look at all voxels, so that the model need not look there.

A neurite stands out of its surroundings, and does so along its length. So the contrast of every small cell of a slice is
compared with the volume's own noise around it; cells that stand out a little count only where they lie together with some
that stand out clearly, or in numbers. All other cells, but for the neighbours of those, are background.
"""

import numpy as np
from scipy import ndimage


CELL = 16  # side of a cell, in pixels after pooling 2 x 2: 32 pixels of the slice
_SURROUNDINGS = 15  # side of the square whose mean a pixel is compared with, after pooling
# In units of the noise. Pure noise exceeds the first in about one cell of 30 and the second in one of 10,000.
WEAK, STRONG = 3.5, 5.0
_MANY = 4  # weak cells that lie together are believed, too


class Contrast:
    """Collects how much the cells of a volume stand out, from slabs given from the top to the bottom: `add`, then `result`.

    Args:
        shape: slices, height, width of the volume.

    It keeps two numbers for each 32 x 32 pixels of a slice, and three slices.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.cells = (shape[0], -(-shape[1] // (2 * CELL)), -(-shape[2] // (2 * CELL)))
        self.highest = np.zeros(self.cells, np.float32)
        self.noise = np.zeros(self.cells, np.float32)
        self._pooled: list[np.ndarray] = []  # of the last slices: (channels, height / 2, width / 2)
        self._done = 0

    def add(self, slab: np.ndarray) -> None:
        """Slab (channels, slices, height, width), the next slices."""
        for z in range(slab.shape[1]):
            pooled = _pooled(slab[:, z])
            if not self._pooled:
                self._pooled = [pooled]  # above the first slice lies the first slice
            self._pooled.append(pooled)
            if len(self._pooled) == 3:
                self._look()

    def result(self) -> np.ndarray:
        """Cells (slices, rows, columns) bool in which there may be neurites."""
        if self._done < self.cells[0]:
            self._pooled.append(self._pooled[-1])
            self._look()
        # Noise differs from place to place; a neurite in a cell must not pass for noise, so its calmest neighbours tell.
        noise = ndimage.percentile_filter(self.noise, 30, size=(3, 5, 5), mode="nearest")
        stands_out = self.highest / np.maximum(noise, 1e-12 + 1e-6 * self.highest.max())
        weak = stands_out > WEAK
        everywhere = np.ones((3, 3, 3), bool)
        group, count = ndimage.label(weak, everywhere)
        sizes = np.bincount(group.ravel(), minlength=count + 1)
        strongest = np.zeros(count + 1)
        np.maximum.at(strongest, group.ravel(), stands_out.ravel())
        believed = (strongest > STRONG) | (sizes >= _MANY)
        believed[0] = False
        return ndimage.binary_dilation(believed[group], everywhere)

    def _look(self) -> None:
        """At the middle one of the three slices that are kept."""
        mean = sum(self._pooled) / 3
        contrast = mean - ndimage.uniform_filter(mean, (0, _SURROUNDINGS, _SURROUNDINGS), mode="nearest")
        _, rows, columns = self.cells
        bottom, right = rows * CELL - contrast.shape[1], columns * CELL - contrast.shape[2]
        contrast = np.pad(contrast, ((0, 0), (0, bottom), (0, right)), mode="symmetric" if bottom or right else "edge")
        cells = contrast.reshape(len(contrast), rows, CELL, columns, CELL)
        # The mean distance of a normal variable from 0 is 0.8 of its standard deviation.
        noise = np.abs(cells).mean(axis=(2, 4)) / 0.8
        highest = cells.max(axis=(2, 4))
        # Of several channels, the one that stands out most.
        channel = (highest / np.maximum(noise, 1e-12))[:, :, :].argmax(axis=0)[None]
        self.highest[self._done] = np.take_along_axis(highest, channel, 0)[0]
        self.noise[self._done] = np.take_along_axis(noise, channel, 0)[0]
        self._done += 1
        self._pooled.pop(0)


def _pooled(image: np.ndarray) -> np.ndarray:
    """Means (channels, height / 2, width / 2) float32 of 2 x 2 pixels; an odd last row or column is repeated."""
    channels, height, width = image.shape
    image = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge").astype(np.float32)
    return image.reshape(channels, -(-height // 2), 2, -(-width // 2), 2).mean(axis=(2, 4))
