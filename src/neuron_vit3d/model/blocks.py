"""A volume is cut into overlapping blocks, and the slices predicted for them are stitched together again.

A block is `num_slices` neighbouring slices of one tile. The model labels `num_output_slices` of them around the center
one. So the slices of a volume are taken in steps of `num_output_slices`, and each step's plane is covered by overlapping
tiles whose predictions are blended with weights that fall off towards the tile's border.

Plain array functions (numpy), used by the image processor on whole arrays and by `inference` slab by slab.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover an axis, evenly spread, the last one ending where the axis ends.

    >>> tile_starts(10, 4, 1)  # 3 tiles would leave no slack: 0-3, 3-6, 6-9
    [0, 3, 6]
    >>> tile_starts(11, 4, 1)  # a fourth is needed; the overlaps grow evenly
    [0, 2, 5, 7]
    >>> tile_starts(3, 4, 1)
    [0]
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and less than the tile's side {tile}; got {overlap}")
    if length <= tile:
        return [0]
    steps = -(-(length - tile) // (tile - overlap))
    return [round(step * (length - tile) / steps) for step in range(steps + 1)]


@dataclass(frozen=True)
class BlockGrid:
    """Where the blocks of a volume lie.

    Args:
        shape: slices, height and width of the volume.
        tile: height and width of a tile; a side longer than the volume's is cut to it.
        overlap: pixels that neighbouring tiles share at least, in y and x.
        num_slices: slices of a block.
        num_output_slices: slices labelled a block.
    """

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    overlap: tuple[int, int]
    num_slices: int
    num_output_slices: int = 1

    def __post_init__(self):
        tile = tuple(min(side, length) for side, length in zip(self.tile, self.shape[1:], strict=True))
        overlap = tuple(min(value, side - 1) for value, side in zip(self.overlap, tile, strict=True))
        object.__setattr__(self, "tile", tile)
        object.__setattr__(self, "overlap", overlap)

    @property
    def tile_origins(self) -> list[tuple[int, int]]:
        """(y, x) of the first pixel of every tile of a plane, row by row."""
        rows, columns = (
            tile_starts(length, side, overlap)
            for length, side, overlap in zip(self.shape[1:], self.tile, self.overlap, strict=True)
        )
        return [(y, x) for y in rows for x in columns]

    @property
    def steps(self) -> list[int]:
        """First labelled slice of every step through the volume; the last step may reach beyond its end."""
        return list(range(0, self.shape[0], self.num_output_slices))

    def slices_of(self, step: int) -> np.ndarray:
        """The `num_slices` slices a step's blocks are made of; beyond the volume's ends its outer slice is repeated."""
        first = step - (self.num_slices - self.num_output_slices) // 2
        return np.clip(np.arange(first, first + self.num_slices), 0, self.shape[0] - 1)

    def window(self) -> np.ndarray:
        """Blending weights (tile height, tile width) in (0, 1]: a linear ramp over the overlap, 1 inside."""
        axes = []
        for side, overlap in zip(self.tile, self.overlap, strict=True):
            distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1.0
            axes.append(np.minimum(distance / (overlap + 1), 1.0))
        return np.outer(*axes).astype(np.float32)

    def __len__(self) -> int:
        return len(self.steps) * len(self.tile_origins)


def cut(volume: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Volume (channels, slices, height, width) -> blocks (blocks, channels, num_slices, tile height, tile width).

    Blocks come step by step, and within a step in the order of `grid.tile_origins`.
    """
    return np.stack(list(iterate_blocks(volume, grid)))


def iterate_blocks(volume: np.ndarray, grid: BlockGrid) -> Iterator[np.ndarray]:
    """The blocks of `cut`, one (channels, num_slices, tile height, tile width) at a time."""
    height, width = grid.tile
    for step in grid.steps:
        slab = volume[:, grid.slices_of(step)]
        for y, x in grid.tile_origins:
            yield slab[:, :, y : y + height, x : x + width]


class PlaneStitcher:
    """Blends the predictions of one step's tiles: `add` each, then `result` is the stitched plane.

    Args:
        grid: the grid that the blocks were cut with.
        num_labels: planes predicted a slice; they are stitched alike.
    """

    def __init__(self, grid: BlockGrid, num_labels: int = 1):
        self.grid, self.window = grid, grid.window()
        self.sum = np.zeros((num_labels, grid.num_output_slices, *grid.shape[1:]), np.float32)
        self.weight = np.zeros(grid.shape[1:], np.float32)

    def add(self, origin: tuple[int, int], prediction: np.ndarray) -> None:
        """Prediction (num_labels, num_output_slices, tile height, tile width) of the tile at `origin` (y, x)."""
        y, x = origin
        height, width = self.grid.tile
        self.sum[..., y : y + height, x : x + width] += prediction * self.window
        self.weight[y : y + height, x : x + width] += self.window

    def result(self) -> np.ndarray:
        """Stitched prediction (num_labels, num_output_slices, height, width), float32."""
        return self.sum / self.weight


def stitch(predictions: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Predictions (blocks, num_labels, num_output_slices, tile height, tile width) -> (num_labels, slices, height, width).

    The inverse of `cut` where the model returns its blocks' middle slices: `stitch(cut(x)[:, :, middle]) == x`.
    """
    origins = grid.tile_origins
    if len(predictions) != len(grid):
        raise ValueError(f"the grid has {len(grid)} blocks, got predictions for {len(predictions)}")
    planes = []
    for first in range(0, len(predictions), len(origins)):
        stitcher = PlaneStitcher(grid, predictions.shape[1])
        for origin, prediction in zip(origins, predictions[first : first + len(origins)], strict=True):
            stitcher.add(origin, prediction)
        planes.append(stitcher.result())
    return np.concatenate(planes, axis=1)[:, : grid.shape[0]]
