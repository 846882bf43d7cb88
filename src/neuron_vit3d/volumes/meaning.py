"""What the voxels of a mask or of scores mean: a mask, scores, probabilities as whole numbers, or labels.

Other programs write masks as 0 and 255, classes as 1, 2, 3 (ilastik), objects as 1 .. n, and probabilities as 0 .. 255
or 0 .. 65535. They are told apart by their values: a mask has one value beside 0, labels have a few, probabilities
many.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .reader import VolumeReader
from .volume import Volume, VolumeError, slabs


Source = TypeVar("Source", bound=np.ndarray | Volume | VolumeReader)

# So many values, or fewer, are labels: classes are a handful, and probabilities of a neuron in a stack take nearly all
# of 8 bits.
FEW = 32
# Of objects at most so many are told apart one by one.
MOST_LABELS = 4096
_WIDEST_PROBABILITY = 2  # bytes; whole numbers of 4 or 8 are labels of objects


def as_mask_or_scores(
    source: Source, *, label: int | None = None, scale: float | None = None, name: str | None = None
) -> Source:
    """Makes a mask (bool) or scores (floats in [0, 1]) of what a file holds.

    Booleans and floats stay as they are, and so do whole numbers with one value beside 0, which are a mask. Of few
    values beside 0 all are neuron, and of many values each is a probability, as a share of 255, or of 65535 where one
    is larger than 255; both are told.

    Args:
        source: (z, y, x); a reader is looked through once, box by box.
        label: the neuron has this value.
        scale: this value is a probability of 1.
        name: what messages call it; None: what it calls itself.

    Returns:
        As given, or one of the same kind with other voxels; a reader makes them when it is read.

    Raises:
        VolumeError: nothing is 0 though there are several values, so that it is not known which of them is background;
            there are many values too wide for probabilities; there is no such label.
    """
    name = name or getattr(source, "source", "the mask")
    if label is not None and scale is not None:
        raise VolumeError(f"{name}: expected a label or a scale, got both")
    if scale is not None:
        if not 0 < scale < float("inf"):
            raise VolumeError(f"{name}: expected a scale above 0, got {scale}")
        return _made(source, lambda voxels: voxels.astype(np.float32) / np.float32(scale), np.float32)
    if label is None and source.dtype.kind not in "iu":
        return source
    if source.dtype.kind not in "iub":
        raise VolumeError(f"{name}: expected labels, which are whole numbers, to take {label} of, got {source.dtype}")
    if label is not None:
        found = _labels(source, name)
        if label not in found.values and not (label == 0 and found.has_zero):
            raise VolumeError(f"{name}: expected one of its labels {_listed(found.values)}, got {label}")
        return _made(source, lambda voxels: voxels == label, np.bool_)
    is_narrow = source.dtype.itemsize <= _WIDEST_PROBABILITY
    seen = _Seen.of(source, FEW, enough=255 if is_narrow else None)
    values = seen.values
    if len(values) <= 1:
        return source
    how = "--label N says which is the neuron (label=N), --scale S which value is a probability of 1 (scale=S)"
    if seen.lowest < 0:
        raise VolumeError(f"{name}: expected a mask, labels or probabilities, got values down to {seen.lowest}; {how}")
    if len(values) <= FEW:
        if not seen.has_zero:
            raise VolumeError(
                f"{name}: holds the labels {_listed(values)} and no 0, so that it is not known which of them is "
                f"background; {how}"
            )
        _tell(f"{name}: holds the labels {_listed(values)}: all are taken for neuron; {how}")
        return source
    if not is_narrow:
        raise VolumeError(f"{name}: holds more than {FEW} values, of {source.dtype}: labels of objects? {how}")
    highest = 255 if seen.highest <= 255 else 65535
    _tell(f"{name}: holds more than {FEW} values: they are taken for probabilities, as shares of {highest}; {how}")
    return as_mask_or_scores(source, scale=highest, name=name)


def labels_of(source: np.ndarray | Volume | VolumeReader, *, name: str | None = None) -> list[int]:
    """The values beside 0, ascending.

    Raises:
        VolumeError: there are more than MOST_LABELS, or they are no whole numbers.
    """
    return _labels(source, name or getattr(source, "source", "the mask")).values


def _labels(source: np.ndarray | Volume | VolumeReader, name: object) -> "_Seen":
    if source.dtype.kind not in "iub":
        raise VolumeError(f"{name}: expected labels, which are whole numbers, got {source.dtype}")
    seen = _Seen.of(source, MOST_LABELS)
    if len(seen.values) > MOST_LABELS:
        raise VolumeError(f"{name}: expected at most {MOST_LABELS} labels, got more")
    return seen


@dataclass
class _Seen:
    """What there is among whole numbers, of one look at each.

    Attributes:
        values: beside 0, ascending; of too many some.
        lowest, highest: of all that was looked at, without 0; 0 where there is nothing else.
        has_zero: whether any voxel is 0.
    """

    values: list[int]
    lowest: int = 0
    highest: int = 0
    has_zero: bool = False

    @classmethod
    def of(cls, source: np.ndarray | Volume | VolumeReader, most: int, enough: int | None = None) -> "_Seen":
        """Looks through a source, piece by piece.

        Args:
            source: of whole numbers.
            most: of more values beside 0 than these, no more are told apart.
            enough: it goes on then, until one is higher than this or below 0; None: it stops.
        """
        seen, found = cls([]), set[int]()
        only: int | None = None  # most masks have one value, which is quickly looked for
        for piece in _pieces(source):
            set_voxels = piece[piece != 0]
            seen.has_zero |= set_voxels.size < piece.size
            if not set_voxels.size or (only is not None and (set_voxels == only).all()):
                continue
            lowest, highest = int(set_voxels.min()), int(set_voxels.max())
            seen.lowest = min(seen.lowest or lowest, lowest)
            seen.highest = max(seen.highest or highest, highest)
            if len(found) <= most:
                found.update(map(int, np.unique(set_voxels).tolist()))
                only = next(iter(found)) if len(found) == 1 else None
            if len(found) > most and (enough is None or seen.lowest < 0 or seen.highest > enough):
                break
        seen.values = sorted(found)
        return seen


def _pieces(source: np.ndarray | Volume | VolumeReader) -> Iterable[np.ndarray]:
    if isinstance(source, Volume):
        return slabs(source)
    return [source] if isinstance(source, np.ndarray) else map(source.read_box, source.boxes())


def _made(source, voxels_of: Callable[[np.ndarray], np.ndarray], dtype: type):
    """The source with other voxels, made of its own."""
    if isinstance(source, Volume):
        return Volume(voxels_of(source.array), source.voxel_size, source.source)
    if not isinstance(source, VolumeReader):
        return voxels_of(source)
    return VolumeReader(
        source.shape,
        np.dtype(dtype),
        source.voxel_size,
        source.source,
        lambda z0, z1: voxels_of(source.read(z0, z1)),
        source.close,
        read_box=lambda box: voxels_of(source.read_box(box)),
        piece=source.piece,
        num_channels=source.num_channels,
    )


def _tell(what: str) -> None:
    warnings.warn(what, stacklevel=3)


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown
