"""Finds black and white of a volume, and maps its intensities to those that the model is given.

"percentiles" (the default of a processor, and of older checkpoints): white is a high percentile of the maximum
projection, and intensities are scaled linearly and clipped. One soma, scale bar or hot pixel that is much brighter
than the neurites makes them black.

"capped": the same, but white is at most CAP times the white of "robust". Stacks without such a bright thing do not
change.

"robust": a thing that covers little of the picture does not move black or white, and what is brighter than white is
compressed, not clipped. Of every column of voxels the second highest counts, so that neither a hot pixel nor a hot
slice does. The projection of these is cut into cells, and white is a percentile of the cells' bright ends: what counts
is how many cells a thing covers, not how bright it is. Intensities are then mapped by a logarithm, which leaves room
for what is many times as bright.
"""

import numpy as np


METHODS = ("percentiles", "capped", "robust")
# Percentiles for black (of the voxels) and for white (of the projection, or of its cells). The robust ones were chosen
# by measurement on 17 stacks of real neurons (fly, mouse dendrites): the median intensity along the trace is 0.5 to
# 2.2 times white, and a disk over 2 % of the plane, 30 times as bright as the neurites, raises white by 1.0 to 1.7
# times (percentiles: 18 to 30 times).
DEFAULT_PERCENTILES = {"percentiles": (1.0, 99.5), "capped": (1.0, 99.5), "robust": (20.0, 95.0)}
# On the same stacks the percentile of the projection is 1.2 to 2.7 times the robust white, so this cap changes none of
# them.
CAP = 3.0
# Side of a cell in pixels, and the percentile of a cell's pixels that is its bright end: a neurite one or two pixels
# wide that crosses a cell covers a tenth of it. Cells of a small plane are smaller, so that 16 lie along its shorter
# side: a single thing must touch only a small share of them.
CELL, SMALLEST_CELL = 16, 4
CELLS_ALONG = 16
BRIGHT_END = 90.0
# STEEPNESS of the curve log(1 + STEEPNESS x) / log(1 + STEEPNESS HIGHEST) for intensities x that are 1 at white:
# HIGHEST becomes 1, white 0.43, and a background at a fifth of white 0.15.
STEEPNESS = 3.0
HIGHEST = 8.0
# An image is dark on bright if its dark tail (from the median to the lowest 0.1 %) is this many times as long as its
# bright one. In a picture of a neuron the bright tail is longer; in one with black corners both are about as long.
INVERTED_RATIO = 3.0
TAIL = 0.1


def compressed(scaled: np.ndarray) -> np.ndarray:
    """Maps intensities, 0 at black and 1 at white, to [0, 1] by the robust method's curve; in place, float."""
    np.clip(scaled, 0.0, HIGHEST, out=scaled)
    scaled *= STEEPNESS
    np.log1p(scaled, out=scaled)
    scaled /= np.log1p(STEEPNESS * HIGHEST)
    return scaled


class IntensityRange:
    """Finds black and white of a volume that is read slab by slab, or box by box: `add` all, then take the `result`.

    It keeps one projection (the robust method: two) and a sample of about a million voxels, whatever the volume's
    size.

    Args:
        shape: slices, height, width of the volume.
        method: "percentiles", "capped" or "robust".
    """

    def __init__(self, shape: tuple[int, int, int], method: str = "percentiles"):
        self.shape, self.method = shape, method
        # In a column of one or two voxels the second highest says nothing.
        self.ranks = 2 if method != "percentiles" and shape[0] > 2 else 1
        # (ranks, channels, height, width): the highest value of each column, and the second highest.
        self.projection: np.ndarray | None = None
        self.samples: list[np.ndarray] = []  # (channels, voxels) each
        self.stride = max(1, round((np.prod(shape, dtype=float) / 1e6) ** (1 / 2)))

    def add(self, box: np.ndarray, origin: tuple[int, int] = (0, 0)) -> None:
        """Adds a box (channels, slices, height, width) of the volume whose first pixel is at `origin` (y, x)."""
        self.merge(*self.look_at(box, origin), origin)

    def look_at(self, box: np.ndarray, origin: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Computes what `merge` needs of a box.

        Returns projections (ranks, channels, height, width) and a sample (channels, voxels).
        """
        box = box.view(np.uint8) if box.dtype == bool else box  # numpy has no percentiles of booleans
        y, x = (-start % self.stride for start in origin)
        highest = box.max(axis=1)[None] if self.ranks == 1 else _two_highest(box.swapaxes(0, 1))
        return highest, box[..., y :: self.stride, x :: self.stride].reshape(len(box), -1)

    def merge(self, projection: np.ndarray, sample: np.ndarray, origin: tuple[int, int]) -> None:
        (y, x), (*outer, height, width) = origin, projection.shape
        if self.projection is None:
            self.projection = np.full((*outer, *self.shape[1:]), _lowest(projection.dtype), projection.dtype)
        part = self.projection[..., y : y + height, x : x + width]
        part[:] = np.maximum(part, projection) if self.ranks == 1 else _two_highest([*part, *projection])
        self.samples.append(sample)

    def result(self, lower_percentile: float, upper_percentile: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns black and white, one per channel, float64; white is above black even in a constant volume."""
        assert self.projection is not None  # since there are samples
        sample = np.concatenate(self.samples, axis=1)
        black = np.array([np.percentile(channel, lower_percentile) for channel in sample], float)
        if self.method == "robust":
            white = self._bright_cells(black, upper_percentile)
        else:
            white = np.array([np.percentile(channel, upper_percentile) for channel in self.projection[0]], float)
        if self.method == "capped":
            lower, upper = DEFAULT_PERCENTILES["robust"]
            dark = np.array([np.percentile(channel, lower) for channel in sample], float)
            highest = dark + CAP * (self._bright_cells(dark, upper) - dark)
            white = np.where(highest > np.maximum(black, dark), np.minimum(white, highest), white)
        highest = self.projection[0].max(axis=(1, 2)).astype(float)
        white = np.where(white > black, white, highest)  # where a neuron is too small for the percentile
        return black, np.where(white > black, white, black + 1.0)

    def _bright_cells(self, black: np.ndarray, percentile: float) -> np.ndarray:
        assert self.projection is not None
        return np.array(
            [_bright_cells(*both, percentile) for both in zip(self.projection[-1], black, strict=True)], float
        )

    def is_inverted(self) -> bool:
        """Tells whether the image is dark on bright: in every channel the dark tail is much longer than the bright
        one."""
        low, median, high = np.percentile(np.concatenate(self.samples, axis=1), [TAIL, 50, 100 - TAIL], axis=1)
        return bool(((median - low > INVERTED_RATIO * (high - median)) & (median > low)).all())


def _two_highest(slices) -> np.ndarray:
    """Returns the highest and second highest value at each place of arrays of one shape, (2, ...); of one array twice
    it."""
    slices = iter(slices)
    highest = next(slices).copy()
    second = np.full_like(highest, _lowest(highest.dtype))
    for one in slices:
        np.maximum(second, np.minimum(highest, one), out=second)
        np.maximum(highest, one, out=highest)
    return np.stack([highest, second])


def _lowest(dtype: np.dtype):
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _bright_cells(projection: np.ndarray, black: float, percentile: float) -> float:
    """Computes white of one channel: a percentile of the cells' bright ends; if that is black, of cells above
    black."""
    height, width = projection.shape
    side = max(SMALLEST_CELL, min(CELL, min(height, width) // CELLS_ALONG))
    cell_height, cell_width = min(side, height), min(side, width)
    rows, columns = height // cell_height, width // cell_width  # without the partial cells at the far sides
    cells = projection[: rows * cell_height, : columns * cell_width].reshape(rows, cell_height, columns, cell_width)
    ends = np.percentile(cells.swapaxes(1, 2).reshape(rows * columns, -1), BRIGHT_END, axis=1)
    white = np.percentile(ends, percentile)
    if white <= black and (ends > black).any():  # a cleaned image with a small neuron
        white = np.median(ends[ends > black])
    return float(white)
