"""Whether the voxels of a volume are what a step can work with, seen in bounded memory."""

from collections.abc import Iterator

import numpy as np

from .reader import VolumeReader
from .volume import Volume, VolumeError, slabs


def check_finite(volume: Volume | VolumeReader, name: str | None = None) -> None:
    """Raise VolumeError, with their counts, if voxels are NaN or infinite. Bounded memory."""
    if volume.dtype.kind != "f":
        return
    nan = infinite = 0
    for slab in _pieces(volume):
        nan += int(np.count_nonzero(np.isnan(slab)))
        infinite += int(np.count_nonzero(np.isinf(slab)))
    if nan or infinite:
        raise VolumeError(
            f"{name or volume.source}: expected finite voxels, got {nan} NaN and {infinite} infinite ones"
        )


def check_signal(volume: Volume | VolumeReader, name: str | None = None) -> None:
    """Raise VolumeError if all voxels have one value (an empty image, a wrong channel).

    Stops at the first that differs.
    """
    first = None
    for slab in _pieces(volume):
        first = slab.flat[0] if first is None else first
        if (slab != first).any():
            return
    raise VolumeError(f"{name or volume.source}: expected an image, got the value {first} in every voxel")


def _pieces(volume: Volume | VolumeReader) -> Iterator[np.ndarray]:
    """All voxels, in arrays of bounded size."""
    return slabs(volume) if isinstance(volume, Volume) else map(volume.read_box, volume.boxes())
