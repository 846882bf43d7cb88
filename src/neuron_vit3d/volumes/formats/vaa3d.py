"""Vaa3D's files: v3draw (uncompressed, read and written) and v3dpbd (run-length and difference coded, read).

Both begin with a 24-byte key, one byte `L` or `B` (byte order), an int16 (bytes per voxel: 1, 2 or 4) and four int32
(x, y, z, c); some v3draw files hold int16 sizes instead, which the length of the file tells. x runs fastest, c
slowest, so the voxels are an array (c, z, y, x). Neither format has a place for a voxel size.

Orientation: row 0 is the first row stored, in both formats and in TIFF; nothing is flipped on reading or writing. The
same stack saved by Vaa3D as .v3draw and .v3dpbd and by ImageJ as .tif reads alike. A TIFF *exported by Vaa3D* has its
y axis reversed relative to the v3draw file; that cannot be told from the file, so it is left as it is.

The code of a v3dpbd stream is described in `pbd`.
"""

import math
import struct
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ...files import replacing
from ..reader import VolumeReader, array_reader
from ..volume import Volume, VolumeError, checked_channel, chosen_channel, slabs
from . import pbd
from .format import Format


_RAW_KEY = b"raw_image_stack_by_hpeng"
_PBD_KEY = b"v3d_volume_pkbitdf_encod"

_DTYPES: dict[int, np.dtype] = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.float32)}
_HEADER_BYTES = 24 + 1 + 2 + 16
_SHORT_HEADER_BYTES = 24 + 1 + 2 + 8


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a v3draw or v3dpbd file; see `volumes.read_volume`.

    Raises VolumeError for any header that its bytes do not bear out.
    """
    header = read_header(path)
    if channel is not None:
        channel = checked_channel(channel, header.shape[0], str(path))
    array = _voxels(path, header, channel)
    return Volume(array[0] if array.ndim == 4 and len(array) == 1 else array, source=str(path))


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of a v3draw or v3dpbd file; see `volumes.open_volume`. Raises VolumeError."""
    header = read_header(path)
    num_channels = header.shape[0]
    channel = checked_channel(chosen_channel(channel, num_channels, str(path)), num_channels, str(path))
    return array_reader(Volume(_voxels(path, header, channel), source=str(path)), num_channels=num_channels)


def write_v3draw(path: Path, volume: Volume) -> Path:
    """Write bool (as 0 and 255), uint8, uint16 or float32 voxels; the voxel size is not kept.

    Raises VolumeError otherwise.
    """
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


class _Header(NamedTuple):
    """What a file says of its voxels, once its length was found to agree.

    shape: (c, z, y, x). offset: where they begin.
    """

    compressed: bool
    dtype: np.dtype
    shape: tuple[int, int, int, int]
    offset: int


def read_header(path: Path) -> _Header:
    """What a file says of its voxels, before any of them is decoded. Raises VolumeError where that cannot be."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _SHORT_HEADER_BYTES:
        raise VolumeError(f"{path}: expected a Vaa3D header of {_HEADER_BYTES} bytes, found {len(header)} bytes")
    if header[24:25] not in b"LB":
        raise VolumeError(f"{path}: expected byte order 'L' or 'B' in the Vaa3D header, found {header[24:25]!r}")
    order: Literal["<", ">"] = "<" if header[24:25] == b"L" else ">"
    (itemsize,) = struct.unpack_from(f"{order}h", header, 25)
    compressed = header[:24] == _PBD_KEY
    if itemsize not in _DTYPES or (compressed and itemsize == 4):
        allowed = "1 or 2" if compressed else "1, 2 or 4"
        raise VolumeError(f"{path}: expected {allowed} bytes per voxel in the Vaa3D header, found {itemsize}")
    dtype = _DTYPES[itemsize].newbyteorder(order)
    shape_of = _shape_of_pbd if compressed else _shape_of_raw
    return _Header(compressed, dtype, *shape_of(path, header, order, itemsize, size))


def _shape_of_raw(path: Path, header: bytes, order: str, itemsize: int, size: int) -> tuple[tuple, int]:
    for code, header_bytes in (("i", _HEADER_BYTES), ("h", _SHORT_HEADER_BYTES)):
        if len(header) >= header_bytes:
            shape = struct.unpack_from(f"{order}4{code}", header, 27)[::-1]
            if min(shape) > 0 and header_bytes + math.prod(shape) * itemsize == size:
                return shape, header_bytes
    shape = struct.unpack_from(f"{order}4i", header.ljust(_HEADER_BYTES, b"\0"), 27)[::-1]
    expected = _HEADER_BYTES + max(0, math.prod(shape)) * itemsize
    raise VolumeError(
        f"{path}: header says c, z, y, x {shape} of {itemsize} bytes, expected {expected} bytes, found {size}"
    )


def _shape_of_pbd(path: Path, header: bytes, order: str, itemsize: int, size: int) -> tuple[tuple, int]:
    if len(header) < _HEADER_BYTES:
        raise VolumeError(f"{path}: expected a Vaa3D header of {_HEADER_BYTES} bytes, found {len(header)} bytes")
    shape = struct.unpack_from(f"{order}4i", header, 27)[::-1]
    voxels, stream_bytes = math.prod(shape), size - _HEADER_BYTES
    most = stream_bytes * pbd.MOST_VOXELS_PER_BYTE[itemsize]
    if min(shape) <= 0 or voxels > most:
        raise VolumeError(
            f"{path}: header says c, z, y, x {shape}, {voxels} voxels, "
            f"but {stream_bytes} bytes can hold at most {most}"
        )
    return shape, _HEADER_BYTES


def _voxels(path: Path, header: _Header, channel: int | None) -> np.ndarray:
    """The voxels of all channels (c, z, y, x), or of one (z, y, x): mapped, or decoded."""
    if not header.compressed:
        array = np.memmap(path, header.dtype, "c", offset=header.offset, shape=header.shape)
        return array if channel is None else array[channel]
    voxels = math.prod(header.shape)
    shape: tuple[int, ...] = header.shape
    kept = (0, voxels)
    if channel is not None:
        of_channel = voxels // shape[0]
        shape = shape[1:]
        kept = (channel * of_channel, (channel + 1) * of_channel)
    with path.open("rb") as file:
        file.seek(header.offset)
        return pbd.decode(file, header.dtype, header.shape, kept, str(path)).reshape(shape)


FORMAT = Format(
    row="Vaa3D's v3draw and v3dpbd",
    suffixes=(".v3draw", ".v3dpbd"),
    signature=(_RAW_KEY, _PBD_KEY),
    read=read,
    open=open_reader,
    write=write_v3draw,
    writes=(".v3draw", ".raw"),
)
