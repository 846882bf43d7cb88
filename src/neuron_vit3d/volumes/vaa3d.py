"""Vaa3D's files: v3draw (uncompressed, read and written) and v3dpbd (run-length and difference coded, read).

Both begin with a 24-byte key, one byte `L` or `B` (byte order), an int16 (bytes per voxel: 1, 2 or 4) and four int32 (x, y,
z, c); some v3draw files hold int16 sizes instead, which the length of the file tells. x runs fastest, c slowest, so the
voxels are an array (c, z, y, x). Neither format has a place for a voxel size.

Orientation: row 0 is the first row stored, in both formats and in TIFF; nothing is flipped on reading or writing. The same
stack saved by Vaa3D as .v3draw and .v3dpbd and by ImageJ as .tif reads alike. A TIFF *exported by Vaa3D* has its y axis
reversed relative to the v3draw file; that cannot be told from the file, so it is left as it is.

A v3dpbd stream is a sequence of operations: one code byte, then data.

| bytes per voxel | code    | data               | meaning                                                        |
|-----------------|---------|--------------------|----------------------------------------------------------------|
| 1               | 0-32    | n + 1 voxels       | these voxels                                                   |
| 1               | 33-127  | n - 32 x 2 bits    | differences 0, 1, 2, -1, lowest bits of a byte first           |
| 1               | 128-255 | one voxel          | that voxel, n - 127 times                                      |
| 2               | 0-31    | n + 1 voxels       | these voxels                                                   |
| 2               | 32-79   | n - 31 x 3 bits    | differences 0, 1, 2, 3, 4, -1, -2, -3, highest bits first      |
| 2               | 80-222  |                    | 4- and 5-bit differences, which Vaa3D itself cannot read: refused |
| 2               | 223-255 | one voxel          | that voxel, n - 222 times                                      |

A difference is to the voxel before it in the stream, also across slices and channels.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .volume import Volume, VolumeError, checked_channel, replacing, slabs


_RAW_KEY = b"raw_image_stack_by_hpeng"
_PBD_KEY = b"v3d_volume_pkbitdf_encod"
SIGNATURES = (_RAW_KEY, _PBD_KEY)

_DTYPES = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.float32)}
_HEADER_BYTES = 24 + 1 + 2 + 16
_SHORT_HEADER_BYTES = 24 + 1 + 2 + 8
# The most voxels that a byte of a stream can give: a repetition (128 from 2 bytes; 33 from 3 bytes). Nothing honest exceeds it.
_MOST_VOXELS_PER_BYTE = {1: 64, 2: 11}
_OPERATIONS_AT_ONCE = 1 << 14  # bounds the working memory of a decode to some 100 MB


def read(path: Path, *, channel: int | None = None, memory_map: bool = True) -> Volume:
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
        array = _read_pbd(path, header, dtype, size)
    else:
        array = _map_raw(path, header, dtype, size)
    if channel is not None:
        array = array[checked_channel(channel, len(array), str(path))]
    elif len(array) == 1:
        array = array[0]
    if isinstance(array, np.memmap) and not (memory_map and array.dtype.isnative):
        array = np.array(array, array.dtype.newbyteorder("="))
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
            if min(shape) > 0 and header_bytes + _product(shape) * dtype.itemsize == size:
                return np.memmap(path, dtype, "c", offset=header_bytes, shape=shape)
    shape = struct.unpack_from(f"{order}4i", header.ljust(_HEADER_BYTES, b"\0"), 27)[::-1]
    expected = _HEADER_BYTES + max(0, _product(shape)) * dtype.itemsize
    raise VolumeError(
        f"{path}: header says c, z, y, x {shape} of {dtype.itemsize} bytes, expected {expected} bytes, found {size}"
    )


def _read_pbd(path: Path, header: bytes, dtype: np.dtype, size: int) -> np.ndarray:
    """The voxels of a v3dpbd file as an array (c, z, y, x)."""
    if len(header) < _HEADER_BYTES:
        raise VolumeError(f"{path}: expected a Vaa3D header of {_HEADER_BYTES} bytes, found {len(header)} bytes")
    shape = struct.unpack_from(">4i" if header[24:25] == b"B" else "<4i", header, 27)[::-1]
    voxels, stream_bytes = _product(shape), size - _HEADER_BYTES
    most = stream_bytes * _MOST_VOXELS_PER_BYTE[dtype.itemsize]
    if min(shape) <= 0 or voxels > most:
        raise VolumeError(
            f"{path}: header says c, z, y, x {shape}, {voxels} voxels, but {stream_bytes} bytes can hold at most {most}"
        )
    with path.open("rb") as file:
        file.seek(_HEADER_BYTES)
        stream = file.read(stream_bytes)
    array = np.empty(voxels, dtype.newbyteorder("="))
    filled = 0
    for piece in _decode(stream, dtype, str(path)):
        if filled + len(piece) > voxels:
            raise VolumeError(f"{path}: header says {voxels} voxels {shape}, but the stream holds more")
        array[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled < voxels:
        raise VolumeError(f"{path}: expected {voxels} voxels {shape}, but the stream ends after {filled}")
    return array.reshape(shape)


def _decode(stream: bytes, dtype: np.dtype, name: str) -> Iterator[np.ndarray]:
    """Decoded voxels, piece by piece.

    Where one operation ends is known only once its code is read, so a short loop collects the codes' positions; the rest
    is done for thousands of operations at once. Differences wrap around (voxels are unsigned), so sums may too.
    """
    kinds, counts, lengths = _TABLES[dtype.itemsize]
    length_of, position, previous = lengths.tolist(), 0, dtype.type(0)
    buffer = np.frombuffer(stream, np.uint8)
    while position < len(stream):
        positions = []
        try:
            for _ in range(_OPERATIONS_AT_ONCE):
                positions.append(position)
                position += length_of[stream[position]]
        except IndexError:  # the stream ended
            positions.pop()
        if position > len(stream):
            raise VolumeError(f"{name}: the stream ends {position - len(stream)} bytes before its last operation does")
        starts = np.array(positions)
        codes = buffer[starts]
        if (kinds[codes] == _REFUSED).any():
            raise VolumeError(f"{name}: holds 4- or 5-bit differences (codes 80-222), which no version of Vaa3D reads")
        chunk = buffer[starts[0] : position]
        piece = _expand(chunk, starts - starts[0], kinds[codes], counts[codes], lengths[codes], dtype, previous)
        previous = piece[-1]
        yield piece


def _expand(chunk, starts, kind, count, length, dtype, previous) -> np.ndarray:
    """Voxels of the operations that begin at `starts` in `chunk` (uint8); `previous` is the voxel before them."""
    native = dtype.newbyteorder("=")
    out = np.empty(int(count.sum()), native)
    is_data = np.ones(len(chunk), bool)
    is_data[starts] = False

    def data(of_kind: int) -> np.ndarray:
        return chunk[np.repeat(kind == of_kind, length) & is_data]

    def place(of_kind: int) -> np.ndarray:
        return np.repeat(kind == of_kind, count)

    repeated = data(_REPEAT).view(dtype).astype(native)
    out[place(_LITERAL)] = data(_LITERAL).view(dtype)
    out[place(_REPEAT)] = np.repeat(repeated, count[kind == _REPEAT])

    changing = kind == _DIFFERENCE
    if changing.any():
        values = _differences(data(_DIFFERENCE), count[changing], length[changing] - 1, native)
        running = np.cumsum(values, dtype=native)
        ends = np.cumsum(count[changing])
        total = np.diff(running[ends - 1], prepend=native.type(0))  # what each operation adds to the voxel before it
        # Voxel that each operation leaves behind: its own last one, or, for a row of differences, the one before the row plus sums.
        last = out[np.cumsum(count) - 1]
        sums = np.zeros(len(kind) + 1, native)
        sums[1:][changing] = total
        sums = np.cumsum(sums, dtype=native)
        anchor = np.maximum.accumulate(np.where(changing, 0, np.arange(1, len(kind) + 1)))
        left = np.where(anchor > 0, last[anchor - 1], previous) + (sums[1:] - sums[anchor])
        before = np.concatenate([np.array([previous], native), left[:-1].astype(native)])[changing]
        offset = before - (running[ends - 1] - total)  # running starts anew with each operation
        out[place(_DIFFERENCE)] = running + np.repeat(offset, count[changing])
    return out


def _differences(data: np.ndarray, count: np.ndarray, length: np.ndarray, native: np.dtype) -> np.ndarray:
    """Packed 2-bit (8-bit voxels) or 3-bit (16-bit voxels) differences, as wrapped unsigned numbers."""
    width = 2 if native.itemsize == 1 else 3
    used = width * count  # bits in use of each operation's bytes; the rest is padding
    is_used = np.repeat(np.tile([True, False], len(count)), np.stack([used, 8 * length - used], 1).ravel())
    if width == 2:
        pairs = (data[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
        return np.array([0, 1, 2, 255], native)[pairs.ravel()[is_used[::2]]]
    triples = np.unpackbits(data)[is_used].reshape(-1, 3)
    return np.array([0, 1, 2, 3, 4, 65535, 65534, 65533], native)[triples @ np.array([4, 2, 1], np.uint8)]


_LITERAL, _DIFFERENCE, _REPEAT, _REFUSED = range(4)


def _tables(itemsize: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(kind, voxels, bytes including the code) of each of the 256 codes."""
    code = np.arange(256)
    if itemsize == 1:
        kind = np.select([code < 33, code < 128], [_LITERAL, _DIFFERENCE], _REPEAT)
        count = np.choose(kind, [code + 1, code - 32, code - 127])
        payload = np.choose(kind, [count, (2 * count + 7) // 8, 1])
    else:
        kind = np.select([code < 32, code < 80, code < 223], [_LITERAL, _DIFFERENCE, _REFUSED], _REPEAT)
        count = np.choose(kind, [code + 1, code - 31, code - 222, 0])
        payload = np.choose(kind, [2 * count, (3 * count + 7) // 8, 2, 0])
    return kind, count, payload + 1


_TABLES = {1: _tables(1), 2: _tables(2)}


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result
