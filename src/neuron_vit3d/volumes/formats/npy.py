"""numpy's .npy files; they are never unpickled."""

import warnings
from pathlib import Path

import numpy as np

from ...files import replacing
from ..volume import Volume, VolumeError
from .format import Format


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a .npy file with an array (z, y, x) or (c, z, y, x); see `volumes.read_volume`. Raises VolumeError."""
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
    volume = Volume(array, source=str(path))
    return volume if channel is None else volume.channel(channel)


def write(path: Path, volume: Volume) -> None:
    """Write a .npy file; any dtype, no voxel size."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, volume.array, allow_pickle=False)


FORMAT = Format(row="npy", suffixes=(".npy",), signature=(b"\x93NUMPY",), read=read, write=write, writes=(".npy",))
