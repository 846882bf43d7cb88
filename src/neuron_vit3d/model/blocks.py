"""Cuts a volume into overlapping blocks, and stitches the slices predicted for them together again.

A block is `num_slices` neighbouring slices of one tile. The model labels the `num_output_slices` slices around its
center. So each prediction is a window of `num_output_slices` slices by a tile, and these windows cover the volume
along z, y and x in the same way. Where windows overlap, their predictions are averaged. The weights fall off towards a
window's border, where the model sees the surroundings on one side only.

These are plain array functions (numpy), used by the image processor on whole arrays and by `inference` slab by slab.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np


def check_slice_overlap(slice_overlap: int, num_output_slices: int) -> None:
    """Raises ValueError if blocks would share all the slices that they label, or a negative number."""
    if not 0 <= slice_overlap < num_output_slices:
        raise ValueError(
            f"slice_overlap must be at least 0 and less than num_output_slices = {num_output_slices}; got "
            f"{slice_overlap}"
        )


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Returns the first pixels of the tiles that cover an axis, evenly spread; the last tile ends where the axis ends.

    >>> tile_starts(10, 4, 1)  # 3 tiles fit exactly: 0-3, 3-6, 6-9
    [0, 3, 6]
    >>> tile_starts(11, 4, 1)  # a fourth is needed; the overlaps grow evenly
    [0, 2, 5, 7]
    >>> tile_starts(3, 4, 1)
    [0]
    """
    _check_overlap(overlap, tile)
    if length <= tile:
        return [0]
    steps = -(-(length - tile) // (tile - overlap))
    return [round(step * (length - tile) / steps) for step in range(steps + 1)]


def tile_side(length: int, tile: int, overlap: int, patch: int = 1) -> int:
    """Returns the side of the tiles that cover an axis with the fewest pixels, from 5/6 to 4/3 of `tile`.

    With one tile size for all planes, some of them are covered three times: a plane of side 256 needs four tiles of
    224, but one of 256. Of sides that cover an axis equally well, the nearest to `tile` is taken. A model learned at
    about one size; benchmarks/results/segmenting_choices.md measures what other sizes cost.

    Args:
        length: pixels of the axis.
        tile, overlap: the side that is asked for, and the least number of pixels that neighbouring tiles share.
        patch: side of the model's patches; a tile is padded to whole patches.

    >>> tile_side(256, 224, 32, 16)
    256
    >>> tile_side(1000, 192, 32, 16)  # 5 tiles, 1200 pixels; with a side of 192 there would be 7, 1344 pixels
    240
    """
    _check_overlap(overlap, tile)
    least, most = -(-5 * tile // (6 * patch)) * patch, 4 * tile // (3 * patch) * patch
    sides = {tile, *range(least, most + 1, patch)}

    def cost(side: int) -> tuple[int, int]:
        filled = -(-min(side, length) // patch) * patch
        return len(tile_starts(length, side, overlap)) * filled, abs(side - tile)

    return min((side for side in sorted(sides) if side > overlap), key=cost)


def _check_overlap(overlap: int, tile: int) -> None:
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and less than the tile's side {tile}; got {overlap}")


@dataclass(frozen=True)
class BlockGrid:
    """The positions of a volume's blocks.

    Args:
        shape: slices, height and width of the volume.
        tile: height and width of a tile; a side longer than the volume's is cut to it.
        overlap: least number of pixels that neighbouring tiles share, in y and x.
        num_slices: slices of a block.
        num_output_slices: slices that are labelled per block.
        slice_overlap: least number of labelled slices that neighbouring blocks share.
        above, below: if the volume is a part of a larger one: slices before and behind it that may be read.

    Raises:
        ValueError: `slice_overlap` is not in [0, num_output_slices).
    """

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    overlap: tuple[int, int]
    num_slices: int
    num_output_slices: int = 1
    slice_overlap: int = 0
    above: int = 0
    below: int = 0

    def __post_init__(self):
        check_slice_overlap(self.slice_overlap, self.num_output_slices)
        tile = tuple(min(side, length) for side, length in zip(self.tile, self.shape[1:], strict=True))
        overlap = tuple(min(value, side - 1) for value, side in zip(self.overlap, tile, strict=True))
        object.__setattr__(self, "tile", tile)
        object.__setattr__(self, "overlap", overlap)

    @property
    def tile_origins(self) -> list[tuple[int, int]]:
        """Lists the first pixel (y, x) of every tile of a plane, row by row."""
        rows, columns = (
            tile_starts(length, side, overlap)
            for length, side, overlap in zip(self.shape[1:], self.tile, self.overlap, strict=True)
        )
        return [(y, x) for y in rows for x in columns]

    @property
    def steps(self) -> list[int]:
        """Lists the first labelled slice of every step through the volume.

        No step reaches beyond the volume's ends: a block's center would lie outside the volume there, and the model is
        not trained on such blocks. If the volume has fewer slices than are labelled, it lies in the middle of its only
        step, which then starts before it; so a single slice is the center slice.
        """
        if self.shape[0] < self.num_output_slices:
            return [-((self.num_output_slices - self.shape[0]) // 2)]
        return tile_starts(self.shape[0], self.num_output_slices, self.slice_overlap)

    def labelled(self, step: int) -> range:
        """Returns those slices of the volume that the blocks of a step label."""
        return range(max(step, 0), min(step + self.num_output_slices, self.shape[0]))

    def slices_of(self, step: int) -> np.ndarray:
        """Returns the `num_slices` slices that a step's blocks consist of; beyond the ends the outer slice is
        repeated."""
        first = step - (self.num_slices - self.num_output_slices) // 2
        return np.clip(np.arange(first, first + self.num_slices), -self.above, self.shape[0] - 1 + self.below)

    def window(self) -> np.ndarray:
        """Returns blending weights (num_output_slices, tile height, tile width) in (0, 1].

        They rise linearly over the overlap along each axis, and are 1 inside.
        """
        sides, overlaps = (self.num_output_slices, *self.tile), (self.slice_overlap, *self.overlap)
        ramps = []
        for side, overlap in zip(sides, overlaps, strict=True):
            distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1.0
            ramps.append(np.minimum(distance / (overlap + 1), 1.0))
        return np.einsum("z,y,x->zyx", *ramps).astype(np.float32)

    def __len__(self) -> int:
        return len(self.steps) * len(self.tile_origins)


def cut(volume: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Cuts a volume into blocks.

    (channels, slices, height, width) -> (blocks, channels, num_slices, tile height, tile width). Blocks are ordered by
    step, and within a step as `grid.tile_origins`.
    """
    return np.stack(list(iterate_blocks(volume, grid)))


def iterate_blocks(volume: np.ndarray, grid: BlockGrid) -> Iterator[np.ndarray]:
    """Yields the blocks of `cut`, one (channels, num_slices, tile height, tile width) at a time."""
    height, width = grid.tile
    for step in grid.steps:
        slab = volume[:, grid.slices_of(step)]
        for y, x in grid.tile_origins:
            yield slab[:, :, y : y + height, x : x + width]


class Stitcher:
    """Blends the predictions of a volume's blocks: `add` each, in any order, and take the slices that are `finished`.

    Only slices that still lack a block are kept, so blocks that are added step by step need memory for a few slices.

    Args:
        grid: the grid that the blocks were cut with.
        num_labels: planes predicted per slice; all are stitched in the same way.
        first: slices before this one are already finished.
        limits: lowest and highest value of a prediction, to which rounding errors are clipped; None: not clipped.
    """

    def __init__(
        self, grid: BlockGrid, num_labels: int = 1, first: int = 0, limits: tuple[float, float] | None = None
    ):
        self.grid, self.num_labels, self.window, self.limits = grid, num_labels, grid.window(), limits
        self.missing = np.zeros(grid.shape[0], int)  # number of missing blocks, by slice
        for step in grid.steps:
            self.missing[grid.labelled(step)] += len(grid.tile_origins)
        # by slice
        self.sums: dict[int, np.ndarray] = {}
        self.weights: dict[int, np.ndarray] = {}
        self.rows: dict[int, tuple[int, int]] = {}  # first and last row that blocks have reached
        self.next = first

    def add(self, step: int, origin: tuple[int, int], prediction: np.ndarray) -> None:
        """Adds the prediction of the block of `step` at `origin` (y, x).

        The prediction is (num_labels, num_output_slices, tile height, tile width).
        """
        (y, x), (height, width) = origin, self.grid.tile
        place = np.s_[..., y : y + height, x : x + width]
        for z in self.grid.labelled(step):
            if z < self.next:
                continue
            if z not in self.sums:
                self.sums[z] = np.zeros((self.num_labels, *self.grid.shape[1:]), np.float32)
                self.weights[z] = np.zeros(self.grid.shape[1:], np.float32)
                self.rows[z] = (y, y + height)
            self.rows[z] = min(self.rows[z][0], y), max(self.rows[z][1], y + height)
            self.sums[z][place] += prediction[:, z - step] * self.window[z - step]
            self.weights[z][place] += self.window[z - step]
            self.missing[z] -= 1

    def skip(self, step: int) -> None:
        """Skips a block of this step: where no other block covers it, the prediction is 0."""
        for z in self.grid.labelled(step):
            self.missing[z] -= 1

    def finished(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each slice whose blocks are all there, with its prediction (num_labels, height, width) float32.

        Slices come in order, each once; a slice that lacks a block holds back those behind it.
        """
        while self.next < self.grid.shape[0] and self.missing[self.next] == 0:
            z, self.next = self.next, self.next + 1
            if z not in self.sums:  # all its blocks were skipped
                yield z, np.zeros((self.num_labels, *self.grid.shape[1:]), np.float32)
                continue
            sums, weights, rows = self.sums.pop(z), self.weights.pop(z), slice(*self.rows.pop(z))
            # In a large plane with a small neuron most values are 0, and their memory was never touched.
            part, weights = sums[:, rows], weights[rows]
            np.divide(part, weights, out=part, where=weights > 0)
            if self.limits is not None:
                np.clip(part, *self.limits, out=part)
            yield z, sums


def stitch(predictions: np.ndarray, grid: BlockGrid) -> np.ndarray:
    """Stitches the predictions of all blocks to one volume.

    (blocks, num_labels, num_output_slices, tile height, tile width) -> (num_labels, slices, height, width).

    This is the inverse of `cut` for a model that returns the middle slices of its blocks: `stitch(cut(x)[:, :,
    middle]) == x`.
    """
    if len(predictions) != len(grid):
        raise ValueError(f"the grid has {len(grid)} blocks, got predictions for {len(predictions)}")
    stitcher = Stitcher(grid, predictions.shape[1])
    stitched = np.empty((predictions.shape[1], *grid.shape), np.float32)
    for (step, origin), prediction in zip(product(grid.steps, grid.tile_origins), predictions, strict=True):
        stitcher.add(step, origin, prediction)
        for z, plane in stitcher.finished():
            stitched[:, z] = plane
    return stitched
