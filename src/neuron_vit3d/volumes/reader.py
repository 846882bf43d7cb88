"""One channel of a volume, read a few slices or a box at a time."""

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from .kept import KeptSlices
from .volume import Box, Volume, VolumeError, native_copy, single_channel


_BOX_VOXELS = 1 << 24  # about so many are held at once


class VolumeReader:
    """One channel of a volume, read a few slices, or a box, at a time; made by `open_volume`.

    Attributes:
        shape: (z, y, x).
        dtype: in this machine's byte order.
        voxel_size: z, y, x in micrometres, or None.
        source: a name, for messages.
        num_channels: how many channels the volume has that this one is of.
        piece: the box (z, y, x) that is stored in one piece, where that is not a slice.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype,
        voxel_size: tuple[float, float, float] | None,
        source: str,
        read: Callable[[int, int], np.ndarray],
        close: Callable[[], None] = lambda: None,
        *,
        read_box: Callable[[Box], np.ndarray] | None = None,
        piece: tuple[int, int, int] | None = None,
        num_channels: int = 1,
    ):
        depth, height, width = shape
        self.shape, self.voxel_size, self.source = (depth, height, width), voxel_size, source
        self.num_channels = num_channels
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.piece = (1, *self.shape[1:]) if piece is None else piece
        self._read, self._close, self._read_box = read, close, read_box
        self._kept = KeptSlices(read, self.shape, self.dtype)

    def read(self, z0: int, z1: int) -> np.ndarray:
        """Slices z0 .. z1 - 1 as a new, contiguous array (z1 - z0, y, x); raises VolumeError outside the volume."""
        if not 0 <= z0 < z1 <= self.shape[0]:
            raise VolumeError(f"{self.source}: expected 0 <= z0 < z1 <= {self.shape[0]} slices, got z0 {z0}, z1 {z1}")
        return np.ascontiguousarray(self._read(z0, z1), dtype=self.dtype)

    def read_box(self, box: Box) -> np.ndarray:
        """Reads the voxels of a box, as a new, contiguous array.

        The box is slices (z, y, x) from 0 on and not empty. Only what is stored around it is decoded, for boxes side
        by side once. Raises VolumeError outside the volume.
        """
        if not all(0 <= one.start < one.stop <= length for one, length in zip(box, self.shape, strict=True)):
            raise VolumeError(f"{self.source}: expected a box in the volume {self.shape}, got {box}")
        if self._read_box is not None:
            return np.ascontiguousarray(self._read_box(box), dtype=self.dtype)
        # Slice by slice: the whole of them may be far more than the box.
        result = np.empty([one.stop - one.start for one in box], self.dtype)
        for target, plane in zip(result, self._kept.slices(box[0].start, box[0].stop), strict=True):
            target[:] = plane[box[1:]]
        return result

    def boxes(self) -> Iterator[Box]:
        """Yields boxes that cover the volume in the order of its voxels.

        Each is about as large as may be held at once, along the borders of what is stored in one piece.
        """
        if self.piece[1:] == self.shape[1:]:
            # At least a few slices, for some who ask look at those around them as well.
            sides = (max(8, _BOX_VOXELS // math.prod(self.shape[1:])), *self.shape[1:])
        else:
            times = max(1, int((_BOX_VOXELS / math.prod(self.piece)) ** (1 / 3)))
            depth, height, width = self.piece
            sides = (times * depth, times * height, times * width)
        return product(
            *(
                [slice(i, min(i + side, length)) for i in range(0, length, side)]
                for side, length in zip(sides, self.shape, strict=True)
            )
        )

    def close(self) -> None:
        self._close()

    def __enter__(self) -> "VolumeReader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def array_reader(volume: Volume, channel: int | None = None, num_channels: int | None = None) -> VolumeReader:
    """Make a reader of one channel of a volume that is in memory, or mapped.

    Args:
        volume: it may be in another byte order.
        channel: from 0; None where there is only one.
        num_channels: of the volume that this one was taken from; None: its own.

    Raises:
        VolumeError: there is no such channel, or there are several and none was chosen.
    """
    one = single_channel(volume, channel)
    return VolumeReader(
        one.shape,
        one.dtype,
        one.voxel_size,
        one.source,
        lambda z0, z1: native_copy(one.array[z0:z1]),
        read_box=lambda box: native_copy(one.array[box]),
        num_channels=volume.num_channels if num_channels is None else num_channels,
    )
