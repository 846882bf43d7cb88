"""A 3D image and its voxel size: what it is, and how it is checked. `io` reads and writes it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


_SLAB_BYTES = 1 << 26  # checks and writers look at about this much at a time


Box = tuple[slice, slice, slice]  # z, y, x


class VolumeError(ValueError):
    """A volume, or a file that should hold one, is not what was expected.

    The message is one line and names the file.
    """


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image.

    Args:
        array: (z, y, x), or (c, z, y, x) with channels; bool, integer or real floating point, no axis empty. It may be
            mapped from a file, so treat it as read-only.
        voxel_size: edges of a voxel along z, y, x in micrometres; None where unknown.
        source: what error messages call this volume, usually its file.

    Raises:
        VolumeError: another dtype, number of axes or voxel size.
    """

    array: np.ndarray
    voxel_size: tuple[float, float, float] | None = None
    source: str = "volume"

    def __post_init__(self):
        array, name = self.array, self.source
        if not isinstance(array, np.ndarray):
            raise VolumeError(f"{name}: expected a numpy array, got {type(array).__name__}")
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise VolumeError(f"{name}: expected bool, integer or real voxels of at most 64 bits, got {array.dtype}")
        if array.ndim not in (3, 4):
            raise VolumeError(f"{name}: expected axes (z, y, x) or (c, z, y, x), got shape {array.shape}")
        if array.size == 0:
            raise VolumeError(f"{name}: expected at least one voxel along every axis, got shape {array.shape}")
        object.__setattr__(self, "voxel_size", checked_voxel_size(self.voxel_size, name))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x), without channels."""
        return self.array.shape[-3:]

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def num_channels(self) -> int:
        return self.array.shape[0] if self.array.ndim == 4 else 1

    def channel(self, index: int) -> "Volume":
        """Channel `index` (from 0) as a volume with axes (z, y, x); a view.

        Raises VolumeError where there is no such channel.
        """
        index = checked_channel(index, self.num_channels, self.source)
        return Volume(self.array[index] if self.array.ndim == 4 else self.array, self.voxel_size, self.source)

    def _repr_html_(self) -> str:
        """What a notebook shows of the volume."""
        from .notebook import volume_html

        return volume_html(self)


def native_copy(array: np.ndarray) -> np.ndarray:
    """The array, perhaps mapped, in memory and in this machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="))


def single_channel(volume: Volume, channel: int | None = None, name: str | None = None) -> Volume:
    """The volume with axes (z, y, x) that a step for one channel needs.

    Raises VolumeError if it is not clear which.
    """
    return volume.channel(chosen_channel(channel, volume.num_channels, name or volume.source))


def slabs(volume: Volume) -> Iterator[np.ndarray]:
    """The volume cut along z into arrays of bounded size, (dz, y, x) or (c, dz, y, x), in order."""
    depth, height, width = volume.shape
    step = max(1, _SLAB_BYTES // (height * width * volume.dtype.itemsize * volume.num_channels))
    for z in range(0, depth, step):
        yield volume.array[..., z : z + step, :, :]


def checked_voxel_size(voxel_size, name: str) -> tuple[float, float, float] | None:
    """Three positive finite floats, or None; raises VolumeError otherwise."""
    if voxel_size is None:
        return None
    try:
        sizes = tuple(float(size) for size in voxel_size)
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != 3 or not all(0 < size < float("inf") for size in sizes):
        raise VolumeError(
            f"{name}: expected voxel_size z, y, x in micrometres, positive and finite, got {voxel_size!r}"
        )
    return sizes


def chosen_channel(channel: int | None, num_channels: int, name: str) -> int:
    """`channel`, or 0 where there is only one; raises VolumeError where there are several and none was chosen."""
    if channel is None and num_channels > 1:
        raise VolumeError(
            f"{name}: has {num_channels} channels: choose one with channel=0 .. {num_channels - 1} (--channel)"
        )
    return 0 if channel is None else channel


def checked_channel(channel: int, num_channels: int, name: str) -> int:
    """`channel` as an int in [0, num_channels); raises VolumeError otherwise.

    Negative numbers do not count from the end.
    """
    if isinstance(channel, bool) or not isinstance(channel, int | np.integer) or not 0 <= channel < num_channels:
        raise VolumeError(f"{name}: expected a channel from 0 to {num_channels - 1}, got {channel!r}")
    return int(channel)
