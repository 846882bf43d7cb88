"""Vaa3D's files: v3draw (uncompressed, read and written) and v3dpbd (run-length and difference coded, read).

Both begin with a 24-byte key, one byte `L` or `B` (byte order), an int16 (bytes per voxel: 1, 2 or 4) and four int32 (x, y,
z, c); some v3draw files hold int16 sizes instead, which the length of the file tells. x runs fastest, c slowest, so the
voxels are an array (c, z, y, x). Neither format has a place for a voxel size.

Orientation: row 0 is the first row stored, in both formats and in TIFF; nothing is flipped on reading or writing. The same
stack saved by Vaa3D as .v3draw and .v3dpbd and by ImageJ as .tif reads alike. A TIFF *exported by Vaa3D* has its y axis
reversed relative to the v3draw file; that cannot be told from the file, so it is left as it is.

The code of a v3dpbd stream is described in `pbd`.
"""

import math
import struct
from pathlib import Path

import numpy as np

from ..files import replacing
from . import pbd
from .volume import Volume, VolumeError, checked_channel, slabs


_RAW_KEY = b"raw_image_stack_by_hpeng"
_PBD_KEY = b"v3d_volume_pkbitdf_encod"
SIGNATURES = (_RAW_KEY, _PBD_KEY)

_DTYPES = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.float32)}
_HEADER_BYTES = 24 + 1 + 2 + 16
_SHORT_HEADER_BYTES = 24 + 1 + 2 + 8


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a v3draw or v3dpbd file; see `volumes.read_volume`. Raises VolumeError for any header that its bytes do not bear out."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _SHORT_HEADER_BYTES:
        raise VolumeError(f"{path}: expected a Vaa3D header of {_HEADER_BYTES} bytes, found {len(header)} bytes")
    if header[24:25] not in b"LB":
        raise VolumeError(f"{path}: expected byte order 'L' or 'B' in the Vaa3D header, found {header[24:25]!r}")
    order = "<" if header[24:25] == b"L" else ">"
    (itemsize,) = struct.unpack_from(f"{order}h", header, 25)
    compressed = header[:24] == _PBD_KEY
    if itemsize not in _DTYPES or (compressed and itemsize == 4):
        allowed = "1 or 2" if compressed else "1, 2 or 4"
        raise VolumeError(f"{path}: expected {allowed} bytes per voxel in the Vaa3D header, found {itemsize}")
    dtype = _DTYPES[itemsize].newbyteorder(order)
    if compressed:
        array = _read_pbd(path, header, dtype, size, channel)
    else:
        array = _map_raw(path, header, dtype, size)
    if channel is not None and array.ndim == 4:
        array = array[checked_channel(channel, len(array), str(path))]
    elif array.ndim == 4 and len(array) == 1:
        array = array[0]
    return Volume(array, source=str(path))


def write_v3draw(path: Path, volume: Volume) -> Path:
    """Write bool (as 0 and 255), uint8, uint16 or float32 voxels; the voxel size is not kept. Raises VolumeError otherwise."""
    array = volume.array if volume.array.ndim == 4 else volume.array[None]
    dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("=")
    if dtype not in _DTYPES.values():
        raise VolumeError(
            f"{path}: v3draw holds uint8, uint16 or float32 voxels, got {array.dtype}; convert them or use .tif"
        )
    header = _RAW_KEY + b"L" + struct.pack("<h4i", dtype.itemsize, *array.shape[::-1])
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for one in array:
            for slab in slabs(Volume(one)):
                scaled = slab.astype(np.uint8) * 255 if slab.dtype == bool else slab
                file.write(np.ascontiguousarray(scaled, dtype.newbyteorder("<")).data)
    return path


def _map_raw(path: Path, header: bytes, dtype: np.dtype, size: int) -> np.ndarray:
    """The voxels of a v3draw file as a mapped array (c, z, y, x)."""
    order = ">" if header[24:25] == b"B" else "<"
    for code, header_bytes in (("i", _HEADER_BYTES), ("h", _SHORT_HEADER_BYTES)):
        if len(header) >= header_bytes:
            shape = struct.unpack_from(f"{order}4{code}", header, 27)[::-1]
            if min(shape) > 0 and header_bytes + math.prod(shape) * dtype.itemsize == size:
                return np.memmap(path, dtype, "c", offset=header_bytes, shape=shape)
    shape = struct.unpack_from(f"{order}4i", header.ljust(_HEADER_BYTES, b"\0"), 27)[::-1]
    expected = _HEADER_BYTES + max(0, math.prod(shape)) * dtype.itemsize
    raise VolumeError(
        f"{path}: header says c, z, y, x {shape} of {dtype.itemsize} bytes, expected {expected} bytes, found {size}"
    )


def _read_pbd(path: Path, header: bytes, dtype: np.dtype, size: int, channel: int | None) -> np.ndarray:
    """The voxels of a v3dpbd file as an array (c, z, y, x), or (z, y, x) of one channel."""
    if len(header) < _HEADER_BYTES:
        raise VolumeError(f"{path}: expected a Vaa3D header of {_HEADER_BYTES} bytes, found {len(header)} bytes")
    shape = struct.unpack_from(">4i" if header[24:25] == b"B" else "<4i", header, 27)[::-1]
    voxels, stream_bytes = math.prod(shape), size - _HEADER_BYTES
    most = stream_bytes * pbd.MOST_VOXELS_PER_BYTE[dtype.itemsize]
    if min(shape) <= 0 or voxels > most:
        raise VolumeError(
            f"{path}: header says c, z, y, x {shape}, {voxels} voxels, but {stream_bytes} bytes can hold at most {most}"
        )
    kept, kept_shape = (0, voxels), shape
    if channel is not None:
        of_channel = voxels // shape[0]
        first = of_channel * checked_channel(channel, shape[0], str(path))
        kept, kept_shape = (first, first + of_channel), shape[1:]
    with path.open("rb") as file:
        file.seek(_HEADER_BYTES)
        return pbd.decode(file, dtype, shape, kept, str(path)).reshape(kept_shape)
