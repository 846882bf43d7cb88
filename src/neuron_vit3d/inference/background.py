"""Finds where no neurite can be, by a cheap search of all voxels, so that the model can skip those blocks.

A neurite stands out from its surroundings. So, while the volume is read for the first time, the contrast of every cell
of a slice (32 x 32 pixels) is compared with the noise around it. How much a cell must stand out is measured with the
model, on a sample of the volume's blocks: as much as the faintest cells in which the model found neuron, less a safety
margin.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ..model.blocks import BlockGrid


CELL = 16  # side of a cell after pooling 2 x 2
_PIXELS = 2 * CELL
_SURROUNDINGS = 15  # side of the square whose mean a pixel is compared with, after pooling
_THREADS = 2
# Limits of what is asked for, in units of the noise. Noise alone hardly exceeds the lower limit. The upper limit holds
# because a sample, however large, may lack faint neurites.
_LOWEST, _HIGHEST = 5.5, 20.0
_SAMPLE = 48  # blocks that the model looks at
_MIN_BLOCKS = 4 * _SAMPLE  # with fewer, the sample would be too large a share
_SURE = 0.25  # a score that may become neuron
_PATCH = 6  # smallest group of pixels of a slice that counts
_LOST = 5e-4  # share of the sample's voxels with such scores that may lie in skipped cells
# The volume may hold fainter neurites than the sample. In a large volume most is noise, which is skipped all the same.
_MARGIN = 0.5


class Contrast:
    """Measures how much the cells of a volume stand out: `add` all slabs from top to bottom, then take the `result`.

    It keeps two numbers for each cell, and a few slices, which threads process while the next slice is read.
    one is read.

    Args:
        shape: slices, height, width of the volume.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.cells = (shape[0], -(-shape[1] // _PIXELS), -(-shape[2] // _PIXELS))
        self._highest = np.zeros(self.cells, np.float32)
        self._noise = np.zeros(self.cells, np.float32)
        self._pooled: list[np.ndarray] = []  # the last slices
        self._begun = 0
        self._threads = ThreadPoolExecutor(_THREADS)
        self._looking: list[Future] = []  # the last ones, oldest first

    def add(self, slab: np.ndarray) -> None:
        """Adds a slab (channels, slices, height, width), the next slices."""
        for z in range(slab.shape[1]):
            pooled = _pooled(slab[:, z])
            if not self._pooled:
                self._pooled = [pooled]  # the first slice stands in for the one above it
            self._pooled.append(pooled)
            if len(self._pooled) == 3:
                self._begin_to_look()

    def result(self) -> np.ndarray:
        """Returns the highest contrast of each cell and its neighbours, in units of the noise.

        Its shape is (slices, rows, columns), float32.
        """
        if self._begun < self.cells[0]:  # the last slice stands in for the one below it
            self._pooled.append(self._pooled[-1])
            self._begin_to_look()
        for looking in self._looking:
            looking.result()
        self._threads.shutdown()
        # A neurite in a cell must not count as noise, so the noise is taken from the calmer ones of its neighbours.
        noise = ndimage.percentile_filter(self._noise, 30, size=(3, 5, 5), mode="nearest")
        calm = np.maximum(noise, 1e-6 * max(float(self._highest.max()), 1e-30))
        # A neurite's end, or its path through a dark slice, lies beside cells that stand out.
        return ndimage.maximum_filter(self._highest / calm, size=3, mode="nearest")

    def _begin_to_look(self) -> None:
        """Starts to process the middle one of the three slices that are kept."""
        if len(self._looking) == _THREADS:
            self._looking.pop(0).result()
        self._looking.append(self._threads.submit(self._look, self._begun, tuple(self._pooled)))
        self._begun += 1
        self._pooled.pop(0)

    def _look(self, z: int, pooled: tuple[np.ndarray, ...]) -> None:
        """Processes slice z, given the pooled slice above it, itself, and the one below it."""
        mean = sum(pooled) / 3
        contrast = mean - ndimage.uniform_filter(mean, (0, _SURROUNDINGS, _SURROUNDINGS), mode="nearest")
        channels, height, width = contrast.shape
        _, rows, columns = self.cells
        contrast = np.pad(contrast, ((0, 0), (0, rows * CELL - height), (0, columns * CELL - width)), mode="edge")

        def of_cells(values: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
            by_row = ufunc.reduce(values.reshape(channels, rows, CELL, columns * CELL), axis=2)
            return ufunc.reduce(by_row.reshape(channels, rows, columns, CELL), axis=3)

        highest = of_cells(contrast, np.maximum)
        # The mean distance of a normal variable from 0 is 0.8 of its standard deviation.
        noise = of_cells(np.abs(contrast), np.add) / (0.8 * CELL**2)
        # If there are several channels, the one that stands out most counts.
        channel = (highest / np.maximum(noise, 1e-30)).argmax(axis=0)[None]
        self._highest[z] = np.take_along_axis(highest, channel, 0)[0]
        self._noise[z] = np.take_along_axis(noise, channel, 0)[0]


def needed_blocks(
    stands_out: np.ndarray, grid: BlockGrid, score: Callable[[list[tuple[int, tuple[int, int]]]], Iterable[np.ndarray]]
) -> np.ndarray:
    """Finds the blocks, bool (steps, tiles), that the model needs to see: those with a cell that stands out enough.

    Args:
        stands_out: contrast of the cells, from [`Contrast`].
        grid: the blocks.
        score: function that returns the scores (num_output_slices, tile height, tile width) of blocks, each given as
            (step, tile origin), in their order.
    """
    by_block = highest_in_blocks(stands_out, grid)
    if is_small(by_block):
        return np.ones(by_block.shape, bool)
    sample = [np.unravel_index(number, by_block.shape) for number in sample_of_blocks(by_block)]
    blocks = [(grid.steps[row], grid.tile_origins[column]) for row, column in sample]
    levels = [
        levels_in_block(stands_out, grid, *block, scores) for block, scores in zip(blocks, score(blocks), strict=True)
    ]
    return by_block >= enough(levels)


def highest_in_blocks(stands_out: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Returns the highest contrast of the cells that each block (steps, tiles) labels."""
    height, width = grid.tile
    result = np.empty((len(grid.steps), len(grid.tile_origins)), np.float32)
    for row, step in enumerate(grid.steps):
        labelled = grid.labelled(step)
        highest = stands_out[labelled.start : labelled.stop].max(axis=0)
        for column, (y, x) in enumerate(grid.tile_origins):
            result[row, column] = highest[_cells(y, height), _cells(x, width)].max()
    return result


def is_small(by_block: np.ndarray) -> bool:
    """Tells whether a volume has so few blocks that it does not pay to skip some."""
    return by_block.size < _MIN_BLOCKS


def sample_of_blocks(by_block: np.ndarray) -> list[int]:
    """Chooses the blocks by which the contrast that is enough is found, in ascending order.

    They are spread evenly over the blocks that stand out from noise, from the lowest contrast to the highest. If only
    a few stand out, none are chosen, and the model may see them all.
    """
    order = np.argsort(by_block, axis=None, kind="stable")
    order = order[by_block.ravel()[order] >= _LOWEST]
    if len(order) < _MIN_BLOCKS:
        return []
    return np.sort(order[np.linspace(0, len(order) - 1, _SAMPLE).round().astype(int)]).tolist()


def levels_in_block(
    stands_out: np.ndarray, grid: BlockGrid, step: int, origin: tuple[int, int], scores: np.ndarray
) -> np.ndarray:
    """Returns the contrast of the cells in which a block's scores find neuron, one value per voxel: (voxels,)."""
    levels = []
    y, x = origin
    for z in grid.labelled(step):
        rows, columns = np.nonzero(_without_specks(scores[z - step] >= _SURE))
        levels.append(stands_out[z, (y + rows) // _PIXELS, (x + columns) // _PIXELS])
    return np.concatenate(levels)


def _without_specks(found: np.ndarray) -> np.ndarray:
    """Keeps groups of at least `_PATCH` pixels: even in noise, a model finds a pixel here and there."""
    label, count = ndimage.label(found, np.ones((3, 3)))
    sizes = np.bincount(label.ravel(), minlength=count + 1)
    sizes[0] = 0
    return sizes[label] >= _PATCH


def enough(levels: list[np.ndarray]) -> float:
    """Returns the contrast that a cell must have, by the contrasts in the sample's blocks."""
    ascending = np.sort(np.concatenate([*levels, np.empty(0, np.float32)]))
    if not len(ascending):
        return _LOWEST  # nothing is known of this volume's neurites
    return float(np.clip(_MARGIN * ascending[int(_LOST * len(ascending))], _LOWEST, _HIGHEST))


def _cells(first: int, length: int) -> slice:
    """Returns the cells along an axis that hold `length` pixels from `first` on."""
    return slice(first // _PIXELS, -(-(first + length) // _PIXELS))


def _pooled(image: np.ndarray) -> np.ndarray:
    """Sums 2 x 2 pixels: (channels, height / 2, width / 2) float32; an odd last row or column is repeated."""
    _, height, width = image.shape
    if height % 2 or width % 2:
        image = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    wide = {"b1": np.uint16, "u1": np.uint16, "u2": np.uint32}.get(image.dtype.str[1:], np.float32)  # exact, and quick
    rows = np.add(image[:, 0::2], image[:, 1::2], dtype=wide)
    return np.add(rows[..., 0::2], rows[..., 1::2], dtype=wide).astype(np.float32)
