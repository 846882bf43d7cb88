"""Voxels that lie in one piece in a file, plain or compressed as a whole: what NRRD and NIfTI have in common.

The size that a header states is compared with what the file's bytes can hold before any memory is taken, and a
compressed file is unpacked little further than the header says: as far as it takes to tell of surplus bytes.
"""

import bz2
import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..volume import Volume, VolumeError, checked_channel
from .choice import tell_of_surplus


_DEFLATE_MOST = 1032  # bytes that a byte of deflate can become (zlib's technical notes)
_CHUNK = 1 << 20
_SURPLUS = 1 << 16  # bytes behind the voxels that are unpacked at most


def read_flat(path: Path, offset: int, packing: str, skip: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Read voxels, last axis fastest.

    Args:
        path: the file.
        offset: where the voxels, or their compressed form, begin in it.
        packing: "raw", "gzip" or "bzip2".
        skip: bytes to leave out after unpacking.
        dtype: in the byte order of the file.
        shape: of the array.

    Returns:
        Raw voxels are mapped, others read; in the byte order of the file.

    Raises:
        VolumeError: the file cannot hold that many voxels, or is damaged.
    """
    if not shape or min(shape) < 1 or offset < 0 or skip < 0:
        raise VolumeError(f"{path}: expected positive sizes, got {shape} voxels at byte {offset + skip}")
    stored = path.stat().st_size - offset
    needed = skip + math.prod(shape) * dtype.itemsize
    claimed = f"{shape[::-1]} voxels of {dtype.itemsize} bytes, {needed} bytes in all"
    what = f"{path}: header says {claimed}, but {max(0, stored)} bytes"
    if packing == "raw":
        if needed > stored:
            raise VolumeError(f"{what} follow it (truncated?)")
        tell_of_surplus(stored - needed, False, claimed, str(path))
        return np.memmap(path, dtype, "c", offset=offset + skip, shape=shape)
    with path.open("rb") as file:
        if packing == "gzip" and needed > stored * _DEFLATE_MOST:
            raise VolumeError(f"{what} of gzip can hold at most {max(0, stored) * _DEFLATE_MOST}")
        if packing == "bzip2":  # 46 MB may come from 40 bytes: count before memory is taken
            held = _fill(_unpacked(file, offset, packing), bytearray(_CHUNK), needed, path)
            if held < needed:
                raise VolumeError(f"{what} of bzip2 hold {held}")
        stream = _unpacked(file, offset, packing)
        if _fill(stream, bytearray(_CHUNK), skip, path) < skip:
            raise VolumeError(f"{what} of {packing} end within the {skip} that come before the voxels")
        array = np.empty(shape, dtype)
        held = _fill(stream, array.reshape(-1).view(np.uint8).data, array.nbytes, path, keep=True)
        if held < array.nbytes:
            raise VolumeError(f"{what} of {packing} hold {skip + held} (truncated?)")
        # The end of the compressed stream is reached here, and with it its checksum.
        surplus = _fill(stream, bytearray(_SURPLUS), _SURPLUS, path)
        tell_of_surplus(surplus, surplus == _SURPLUS, claimed, str(path))
    return array


def as_volume(array: np.ndarray, voxel_size, path: Path, channel: int | None) -> Volume:
    """The chosen channel, or all, of an array (c, z, y, x) as the volume that a module's `read` returns."""
    if channel is not None:
        array = array[checked_channel(channel, len(array), str(path))]
    elif len(array) == 1:
        array = array[0]
    if not array.dtype.isnative and not isinstance(array, np.memmap):
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return Volume(array, voxel_size, str(path))


def _unpacked(file: BinaryIO, offset: int, packing: str) -> gzip.GzipFile | bz2.BZ2File:
    file.seek(offset)
    return gzip.GzipFile(fileobj=file) if packing == "gzip" else bz2.BZ2File(file)


def _fill(stream: gzip.GzipFile | bz2.BZ2File, buffer, count: int, path: Path, *, keep: bool = False) -> int:
    """Reads `count` bytes in bounded steps into the buffer, and returns how many came.

    One step after the other, or (not `keep`) over each other.
    """
    view, done = memoryview(buffer), 0
    try:
        while done < count:
            start = done if keep else 0
            read = stream.readinto(view[start : start + min(_CHUNK, count - done)])
            if not read:
                break
            done += read
    except EOFError:  # the compressed stream ends early
        pass
    except (OSError, zlib.error, ValueError) as error:
        raise VolumeError(f"{path}: damaged compressed voxels: {' '.join(str(error).split())[:200]}") from error
    return done
