"""Searches a mask or scores piece by piece, so that memory grows with the signal, not with the volume."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .foreground import Foreground
from .options import TraceError
from .smoothing import AlongLines, Gaussian


_VOXELS_AT_ONCE = 1 << 24
_TILE = 48
# A crop from inside a soma may be all foreground if it has at most this many voxels; a larger one is taken for a
# mistake.
MAX_FILLED = 4096
Box = tuple[slice, slice, slice]  # z, y, x


class Pieces:
    """An array (z, y, x) in memory, or a reader of a volume on disk (`shape`, `dtype`, `boxes`, `read_box`).

    Attributes:
        source: a volume or reader as it was given, which may know its name; else the array.
        voxel_size: z, y, x in micrometres, where the source knows it.
        log_odds: the counts of [`LogOdds`], once they were made.

    Raises:
        TypeError, ValueError: the source cannot become an array.
    """

    def __init__(self, source):
        self._is_reader = hasattr(source, "read_box")
        voxels: Any = source if self._is_reader else np.asarray(getattr(source, "array", source))
        self._read: Callable[[Box], np.ndarray] = voxels.read_box if self._is_reader else voxels.__getitem__
        self.source: Any = source if self._is_reader or hasattr(source, "source") else voxels
        self.shape = tuple(voxels.shape)
        self.dtype = np.dtype(voxels.dtype)
        self.voxel_size: tuple[float, float, float] | None = getattr(source, "voxel_size", None)
        self.log_odds: np.ndarray | None = None

    @classmethod
    def of(cls, source) -> "Pieces":
        """Makes the pieces of a source; a source that is `Pieces` already stays, so that its counts are kept."""
        return source if isinstance(source, cls) else cls(source)

    def boxes(self) -> Iterator[Box]:
        """Yields boxes that cover the volume, each about as large as may be in memory at once."""
        if self._is_reader:
            return self.source.boxes()
        return slabs(self.shape)

    @property
    def is_mask(self) -> bool:
        return self.dtype.kind != "f"

    def read(self, box: Box) -> np.ndarray:
        """Reads the scores in a box; a mask is read as 1 where it is set, and 0 elsewhere."""
        voxels = self._read(box)
        return (voxels != 0).astype(np.float32) if self.is_mask else voxels


def slabs(shape: tuple[int, int, int]) -> Iterator[Box]:
    depth, height, width = shape
    thickness = max(8, _VOXELS_AT_ONCE // (height * width))
    return (
        (slice(z, min(z + thickness, depth)), slice(0, height), slice(0, width)) for z in range(0, depth, thickness)
    )


@dataclass(frozen=True)
class Levels:
    """The levels from which scores are foreground, and from which they may bridge gaps in it.

    weak: smoothed scores at least as high may bridge gaps.
    strong: smoothed scores at least as high are foreground.
    sure: a component counts only if a score of it is as high before smoothing.
    before: where no score is as high before smoothing, none is `weak` after it.
    keep_sure: sure voxels are foreground, whatever they are after smoothing.
    """

    weak: float
    strong: float
    sure: float
    before: float
    keep_sure: bool = False

    def is_strong(self, smoothed: np.ndarray, sure: np.ndarray) -> np.ndarray:
        strong = smoothed >= self.strong
        return strong | sure if self.keep_sure else strong


class Window:
    """A box of a volume that is searched as if it were a volume of its own."""

    def __init__(self, source: Pieces, box: Box):
        self._source, self._box = source, box
        self.shape = tuple(one.stop - one.start for one in box)

    def boxes(self) -> Iterator[Box]:
        return slabs(self.shape)

    def read(self, box: Box) -> np.ndarray:
        return self._source.read(moved(box, self._box))


def look_through(
    scores: Pieces | Window, levels: Levels, smoothing: Gaussian | AlongLines, *, most: int, cell: int | None = None
) -> "Found":
    """Finds the voxels whose smoothed scores are at least `weak`.

    most: if there are more weak voxels than this, only the strong ones are kept; if there are more strong ones, none
    are kept and they are only counted. cell: strong voxels are also counted in each cube with sides of this length.

    Raises:
        TraceError: scores outside [0, 1], or not finite.
    """
    found = Found(levels, scores.shape, most, cell)
    halo = smoothing.halo
    for box in scores.boxes():
        around, core = with_halo(box, halo, scores.shape)
        read = scores.read(around)
        low, high = read.min(), read.max()  # NaN if any score is NaN
        if np.isnan(high):
            at = np.argwhere(np.isnan(read))[0] + [one.start for one in around]
            raise TraceError(
                f"scores must lie in [0, 1], got nan at z {at[0]}, y {at[1]}, x {at[2]}; put 0 where nothing is known"
            )
        found.highest = max(found.highest, float(high))
        if not (low >= 0 and high <= 1):
            raise TraceError(
                f"scores must lie in [0, 1], got {low} to {high}; pass a mask as bool or integers, or say by scale "
                "(--scale) which value is a score of 1"
            )
        for tile in _tiles_with_signal(read, core, levels.before, halo) if high >= levels.before else ():
            wide, inner = with_halo(tile, halo, read.shape)
            found.add(smoothing(read[wide])[inner].ravel(), read[tile].ravel(), moved(tile, around))
    return found


class Found:
    """The signal found so far; it holds at most `most` voxels and those of one piece in memory."""

    def __init__(self, levels: Levels, shape: tuple[int, int, int], most: int, cell: int | None):
        self.levels, self.shape, self.most, self.cell = levels, shape, most, cell
        self.indices: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.sure: list[np.ndarray] = []
        self.num_weak = self.num_strong = self.num_sure = 0
        self.highest = 0.0  # of all scores
        self.cells = np.zeros([-(-side // (cell or side)) for side in shape], np.int64)
        self._first_whole = 0  # first piece whose weak voxels are kept

    def add(self, smoothed: np.ndarray, scores: np.ndarray, box: Box) -> None:
        is_signal, is_sure = smoothed >= self.levels.weak, scores >= self.levels.sure
        here = np.flatnonzero(is_signal | is_sure if self.levels.keep_sure else is_signal)
        values, sure = smoothed[here], is_sure[here]
        strong = self.levels.is_strong(values, sure)
        self.num_weak += len(here)
        self.num_strong += int(np.count_nonzero(strong))
        self.num_sure += int(np.count_nonzero(sure))
        in_box = np.unravel_index(here, [one.stop - one.start for one in box])
        at = [i + one.start for i, one in zip(in_box, box, strict=True)]
        if self.cell:
            in_cell = np.ravel_multi_index([i[strong] // self.cell for i in at], self.cells.shape)
            np.add.at(self.cells.reshape(-1), in_cell, 1)
        if self.num_strong > self.most:  # too many to keep: only count
            for parts in (self.indices, self.values, self.sure):
                parts.clear()
            return
        self.indices.append(np.ravel_multi_index(at, self.shape))
        self.values.append(values)
        self.sure.append(sure)
        if self.num_weak > self.most:
            for i in range(self._first_whole, len(self.values)):
                strong = self.levels.is_strong(self.values[i], self.sure[i])
                for parts in (self.indices, self.values, self.sure):
                    parts[i] = parts[i][strong]
            self._first_whole = len(self.values)

    def signal(self, spacing: np.ndarray) -> tuple[Foreground, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the voxels, their smoothed scores (n,) float32, and which (n,) bool are strong and which are
        sure."""
        indices = np.concatenate([np.empty(0, np.int64), *self.indices])
        values = np.concatenate([np.empty(0, np.float32), *self.values])
        sure = np.concatenate([np.empty(0, bool), *self.sure])
        order = np.argsort(indices, kind="stable")
        values, sure = np.minimum(values[order], 1.0), sure[order]
        foreground = Foreground.from_indices(indices[order], self.shape, spacing)
        return foreground, values, self.levels.is_strong(values, sure), sure

    def check_count(self, most: int) -> None:
        """Refuses what cannot be traced, by the number of voxels counted.

        Raises:
            TraceError: there is no sure voxel, none that is strong after smoothing, nothing but sure ones, or more
                than `most` strong ones.
        """
        num_voxels, is_mask = math.prod(self.shape), self.levels.keep_sure
        if self.num_sure == 0 and not is_mask and self.highest > 0:
            raise TraceError(
                f"mask is empty: nothing to trace, no score reaches the threshold {self.levels.sure:g}; the highest "
                f"is {self.highest:.3g}: try a lower threshold (--threshold), such as {self.highest / 2:.2g}"
            )
        if self.num_sure == 0:
            what = "voxels of the mask" if is_mask else "scores"
            raise TraceError(f"mask is empty: nothing to trace, all {what} are 0 in a volume of shape {self.shape}")
        if self.num_strong == 0:
            raise TraceError(
                f"mask is empty: nothing to trace, the {self.num_sure} voxels that reach the threshold "
                f"{self.levels.sure:g} lie too far apart; a lower threshold (--threshold) may help"
            )
        if self.num_strong > most:
            raise TraceError(
                f"mask has {self.num_strong} foreground voxels ({self.num_strong / math.prod(self.shape):.0%} of "
                f"shape {self.shape}), at most {most} are traced: raise the threshold or cut the volume"
            )
        if self.num_sure == num_voxels > MAX_FILLED:
            what = "every voxel of the mask is set" if is_mask else f"every score reaches {self.levels.sure:g}"
            raise TraceError(
                f"{what}: no neuron fills a whole volume, of shape {self.shape}"
                + ("; the background must be 0, also that of labels" if is_mask else ": raise the threshold")
            )


def _tiles_with_signal(scores: np.ndarray, core: Box, level: float, halo: list[int]) -> Iterator[Box]:
    """Yields tiles of `core` that hold signal or lie near it: the rest, most of a volume, is empty."""
    sides = [max(_TILE, 4 * more) for more in halo]
    starts = (range(one.start, one.stop, side) for one, side in zip(core, sides, strict=True))
    for corner in itertools.product(*starts):
        z, y, x = (
            slice(start, min(start + side, one.stop)) for start, side, one in zip(corner, sides, core, strict=True)
        )
        tile = (z, y, x)
        wide, _ = with_halo(tile, halo, scores.shape)
        is_signal: np.ndarray = scores[wide] >= level
        plane: np.ndarray = np.any(is_signal, axis=0)
        if not plane.any():
            continue
        ends = [np.flatnonzero(line)[[0, -1]] for line in (is_signal.any(axis=(1, 2)), plane.any(1), plane.any(0))]
        z, y, x = (
            slice(max(one.start, around.start + first - more), min(one.stop, around.start + last + 1 + more))
            for one, around, (first, last), more in zip(tile, wide, np.asarray(ends).tolist(), halo, strict=True)
        )
        yield z, y, x


def moved(box: Box, origin: Box) -> Box:
    """Moves a box from coordinates that begin at `origin`'s corner into those that `origin` is given in."""
    z, y, x = (slice(one.start + by.start, one.stop + by.start) for one, by in zip(box, origin, strict=True))
    return z, y, x


def with_halo(box: Box, halo: list[int], shape: tuple[int, int, int]) -> tuple[Box, Box]:
    """Widens a box by a halo, as far as the volume allows; returns it, and the place of the first box inside it."""
    z, y, x = (
        slice(max(0, one.start - more), min(length, one.stop + more))
        for one, more, length in zip(box, halo, shape, strict=True)
    )
    inner_z, inner_y, inner_x = (
        slice(one.start - wide.start, one.stop - wide.start) for one, wide in zip(box, (z, y, x), strict=True)
    )
    return (z, y, x), (inner_z, inner_y, inner_x)
