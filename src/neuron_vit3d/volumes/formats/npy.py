"""numpy's .npy files; they are never unpickled."""

import warnings
from pathlib import Path

import numpy as np

from ...files import replacing
from ..volume import Volume, VolumeError
from .choice import refuse_channels_last, tell_of_one_slice, tell_of_surplus
from .format import Format


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a .npy file with an array (z, y, x), (c, z, y, x) or (y, x); see `volumes.read_volume`.

    Raises VolumeError, also of what looks like (z, y, x, c): nothing in the file says which axis is which.
    """
    with path.open("rb") as file:
        start = file.read(12)
    header_bytes = int.from_bytes(start[8:10] if start[6:7] < b"\2" else start[8:12], "little")
    if header_bytes > path.stat().st_size:  # numpy would take the memory before it reads
        raise VolumeError(f"{path}: expected a .npy array, got a header of {header_bytes} bytes (truncated?)")
    # Mapping compares the header's shape with the file's length before any memory is taken; a plain load does not.
    try:
        with warnings.catch_warnings(action="ignore"):  # of files that Python 2 wrote, which are as good
            array = np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:
        raise VolumeError(f"{path}: expected a .npy array, got {' '.join(str(error).split())[:200]}") from error
    refuse_channels_last(array.shape, str(path))
    if isinstance(array, np.memmap):
        surplus = path.stat().st_size - array.offset - array.nbytes
        tell_of_surplus(surplus, False, f"{array.shape} of {array.dtype}", str(path))
    is_flat = array.ndim == 2
    volume = Volume(array[None] if is_flat else array, source=str(path))
    if is_flat:
        tell_of_one_slice(array.shape[0], array.shape[1], 1, str(path))
    return volume if channel is None else volume.channel(channel)


def write(path: Path, volume: Volume) -> None:
    """Write a .npy file; any dtype, no voxel size."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, volume.array, allow_pickle=False)


FORMAT = Format(row="npy", suffixes=(".npy",), signature=(b"\x93NUMPY",), read=read, write=write, writes=(".npy",))
