"""Decoding v3dpbd, Vaa3D's run-length and difference code, with numpy alone and little memory beside the voxels.

A stream is a sequence of operations: one code byte, then data.

| bytes per voxel | code    | data               | meaning                                                        |
|-----------------|---------|--------------------|----------------------------------------------------------------|
| 1               | 0-32    | n + 1 voxels       | these voxels                                                   |
| 1               | 33-127  | n - 32 x 2 bits    | differences 0, 1, 2, -1, lowest bits of a byte first           |
| 1               | 128-255 | one voxel          | that voxel, n - 127 times                                      |
| 2               | 0-31    | n + 1 voxels       | these voxels                                                   |
| 2               | 32-79   | n - 31 x 3 bits    | differences 0, 1, 2, 3, 4, -1, -2, -3, highest bits first      |
| 2               | 80-222  |                    | 4- and 5-bit differences, which Vaa3D itself cannot read: refused |
| 2               | 223-255 | one voxel          | that voxel, n - 222 times                                      |

A difference is to the voxel before it in the stream, also across slices and channels; it wraps around (voxels are
unsigned).

Where an operation begins is known only once the code before it was read, so a stream has to be read from its
beginning, and Python is too slow to do that for each of a hundred million operations. `_starts` finds where they begin
by pointer doubling; `_expand` then turns some ten thousand operations into voxels at once.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from ..volume import VolumeError


# The most voxels that a byte of a stream can give: a repetition (128 from 2 bytes; 33 from 3 bytes). Nothing honest
# exceeds it.
MOST_VOXELS_PER_BYTE = {1: 64, 2: 11}

# Bytes whose operations are sought, and voxels that are expanded, at once: their working arrays, 8 bytes an element,
# fit a cache.
_WINDOW = 1 << 16
_PIECE = 1 << 16
_DOUBLINGS = 4


def decode(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...], kept: tuple[int, int], name: str) -> np.ndarray:
    """Decode the stream that begins at the file's position and ends with the file.

    Args:
        file: open for reading in binary mode.
        dtype: uint8 or uint16, in the byte order of the file.
        shape: of the voxels that the whole stream should hold.
        kept: first and last + 1 of the voxels wanted; the others are decoded and checked, not kept.
        name: the file, for messages.

    Returns:
        The kept voxels, one axis, in this machine's byte order.

    Raises:
        VolumeError: the stream holds more or fewer voxels, ends within an operation, or has codes that Vaa3D cannot
            read.
    """
    voxels = math.prod(shape)
    out = np.empty(kept[1] - kept[0], dtype.newbyteorder("="))
    if out.nbytes > 1 << 26:
        # glibc then keeps what smaller arrays free instead of asking for new pages each time, which would take half
        # the time.
        np.empty(1 << 24, np.uint8)
    previous, filled = out.dtype.type(0), 0
    for window, starts, codes, counts in _pieces(file, dtype.itemsize, name):
        end = filled + int(counts.sum())
        if end > voxels:
            raise VolumeError(f"{name}: header says {voxels} voxels {shape}, but the stream holds more")
        is_kept = kept[0] <= filled and end <= kept[1]
        piece = out[filled - kept[0] : end - kept[0]] if is_kept else np.empty(end - filled, out.dtype)
        _expand(window, starts, codes, counts, dtype, previous, piece)
        first, last = max(filled, kept[0]), min(end, kept[1])
        if first < last and not is_kept:
            out[first - kept[0] : last - kept[0]] = piece[first - filled : last - filled]
        previous, filled = piece[-1], end
    if filled < voxels:
        raise VolumeError(f"{name}: expected {voxels} voxels {shape}, but the stream ends after {filled}")
    return out


def _pieces(file: BinaryIO, itemsize: int, name: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields (bytes, where operations begin in them, their codes, their voxels).

    Of at most `_PIECE` voxels and those of one operation more.
    """
    kinds, voxels_of, lengths = _TABLES[itemsize]
    rest = b""
    while stream := file.read(_WINDOW):
        window = np.frombuffer(rest + stream, np.uint8)
        starts, end = _starts(window, lengths)
        if end > len(window):  # the last operation goes on in the next window
            end = int(starts[-1])
            starts = starts[:-1]
        codes = window[starts]
        if itemsize == 2 and (kinds[codes] == _REFUSED).any():
            raise VolumeError(f"{name}: holds 4- or 5-bit differences (codes 80-222), which no version of Vaa3D reads")
        counts = voxels_of.take(codes)
        ends = counts.cumsum()
        cuts = np.searchsorted(ends, np.arange(_PIECE, ends[-1], _PIECE)) + 1 if len(ends) else np.empty(0, int)
        edges = np.unique([0, *cuts, len(starts)])
        for first, last in pairwise(edges):
            low = int(starts[first])
            high = int(starts[last]) if last < len(starts) else end
            yield window[low:high], starts[first:last] - low, codes[first:last], counts[first:last]
        rest = window[end:].tobytes()
    if rest:
        missing = int(lengths[rest[0]]) - len(rest)
        raise VolumeError(f"{name}: the stream ends {missing} bytes before its last operation does")


def _starts(window: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, int]:
    """Finds where operations begin in a window that begins with one, and where the last of them ends.

    That may be beyond the window.

    Pointer doubling: for every byte, as if an operation began there, where the next one, the 2nd, 4th, 8th ... next
    would begin. Python then goes only through every 2 ** `_DOUBLINGS`-th; those between are filled in from the same
    tables.
    """
    size = len(window)
    longest = int(lengths.max())
    places = np.arange(size + longest)
    after = places.copy()  # places beyond the window lead to themselves
    after[:size] += lengths.take(window)
    jumps = [after]
    for _ in range(_DOUBLINGS):
        jumps.append(jumps[-1].take(jumps[-1], mode="clip"))
    place, far, landmarks = 0, memoryview(jumps.pop()), []
    while place < size:
        landmarks.append(place)
        place = far[place]
    starts = np.array(landmarks)
    for jump in reversed(jumps):
        starts = np.stack([starts, jump.take(starts, mode="clip")], axis=1).ravel()
    starts = starts[: np.searchsorted(starts, size)]
    return starts, int(after[starts[-1]])


def _expand(stream, starts, codes, counts, dtype: np.dtype, previous, out: np.ndarray) -> None:
    """Fills `out` with the voxels of the operations that begin at `starts` in `stream`.

    `previous` is the voxel before them.

    Every voxel is taken from one table: the bytes as they lie, then sums of differences, then repeated voxels. In it
    the voxels of an operation lie side by side, so only the place of its first one has to be known.
    """
    kind = _TABLES[dtype.itemsize][0].take(codes)
    if dtype.itemsize == 1:
        stored, place = stream, starts + 1
    else:  # voxels may begin at even and at odd bytes: both rows of them, one after the other
        size = len(stream)
        even, odd = stream[: size // 2 * 2].view(dtype), stream[1 : 1 + (size - 1) // 2 * 2].view(dtype)
        stored, place = np.concatenate([even, odd], dtype=out.dtype), starts + 1
        place = (place >> 1) + (place & 1) * len(even)
    table = [stored]

    differences = np.flatnonzero(kind == _DIFFERENCE)
    if len(differences):
        length, quads = counts[differences], (counts[differences] + 3) >> 2
        first_quad = quads.cumsum() - quads
        sums = _sums(stream, starts[differences] + 1, length, quads, first_quad, out.dtype)
        # Operations of differences that follow each other are one run, based on the stored voxel before it.
        runs = np.flatnonzero(np.diff(differences, prepend=-2) != 1)
        begins = differences[runs]
        before = place[begins - 1]
        before += np.where(kind[begins - 1] == _LITERAL, counts[begins - 1] - 1, 0)
        base = stored.take(before, mode="clip")
        if begins[0] == 0:
            base[0] = previous
        table.append(_based(*sums, base, first_quad[runs], quads))
        place[differences] = len(stored) + 4 * first_quad

    repeats = np.flatnonzero(kind == _REPEAT)
    if len(repeats):
        times = counts[repeats]
        table.append(stored.take(place[repeats]).repeat(times))
        place[repeats] = sum(map(len, table[:-1])) + times.cumsum() - times

    place -= counts.cumsum() - counts
    places = place.repeat(counts)
    places += np.arange(len(out))
    np.take(np.concatenate(table) if len(table) > 1 else stored, places, out=out, mode="clip")


def _sums(stream, data, length, quads, first_quad, native: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Sums differences as they run, four (a quad) at a time.

    A new quad begins with every operation, and with every sum.

    Args:
        data: where each operation's packed differences begin in `stream`.
        length, quads, first_quad: their number in each operation; the quads they fill; the number of the first of
            these.

    Returns:
        The four sums within each quad, packed into one number; and what each quad adds up to (its last one's unused
        part left out).
    """
    bits = 8 * native.itemsize
    count = int(quads.sum())
    if native.itemsize == 1:  # a quad is a byte
        code = stream.take((data - first_quad).repeat(quads) + np.arange(count), mode="clip")
    else:  # a quad is 12 bits: the upper ones of the two bytes at byte 0, the lower ones of those at 1, then at 3 ...
        quad = np.arange(count) - first_quad.repeat(quads)
        at = data.repeat(quads) + (3 * quad >> 1)
        word = stream.take(at, mode="clip").astype(np.uint16) << 8 | stream.take(at + 1, mode="clip")
        code = np.where(quad & 1, word & 0xFFF, word >> 4)
    sums = _SUMS[native.itemsize].take(code)
    total = sums >> sums.dtype.type(3 * bits)
    last = first_quad + quads - 1
    unused = (length - 1) & 3
    total[last] = sums[last] >> (bits * unused).astype(sums.dtype)
    return sums, total


def _based(
    sums: np.ndarray, total: np.ndarray, base: np.ndarray, first_quad: np.ndarray, quads: np.ndarray
) -> np.ndarray:
    """Computes the voxels of all quads.

    They are sums within the quad, sums of the quads before in the run, and the voxel before the run.

    `base` is that voxel and `first_quad` the number of the first quad of each run.
    """
    bits = 8 * base.itemsize
    wide = sums.dtype.type
    before = total.cumsum(dtype=sums.dtype) - total
    start = base.astype(sums.dtype) - before[first_quad]
    before += start.repeat(np.diff(first_quad, append=len(sums)))
    before &= wide((1 << bits) - 1)
    before *= wide(sum(1 << bits * k for k in range(4)))
    # Four small numbers are added in one large one: without their top bits, so that no carry leaves them, then the top
    # bits.
    top = wide(sum(1 << bits * k + bits - 1 for k in range(4)))
    added = (sums & ~top) + (before & ~top) ^ (sums ^ before) & top
    return added.astype(added.dtype.newbyteorder("<"), copy=False).view(base.dtype.newbyteorder("<"))


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
    return kind.astype(np.uint8), count.astype(np.intp), (payload + 1).astype(np.intp)


def _sums_of_quads(itemsize: int) -> np.ndarray:
    """Makes, for each code of a quad (8 or 12 bits), the running sums of its four differences in one number.

    The first one is lowest.
    """
    if itemsize == 1:
        differences, shifts, code, mask = np.array([0, 1, 2, -1]), np.array([0, 2, 4, 6]), np.arange(1 << 8), 3
    else:
        differences, shifts, code, mask = (
            np.array([0, 1, 2, 3, 4, -1, -2, -3]),
            np.array([9, 6, 3, 0]),
            np.arange(1 << 12),
            7,
        )
    sums = differences[code[:, None] >> shifts & mask].cumsum(axis=1)
    sums = sums.astype(f"<u{itemsize}")
    return sums.view(f"<u{4 * itemsize}")[:, 0].astype(f"u{4 * itemsize}")


_TABLES = {1: _tables(1), 2: _tables(2)}
_SUMS = {1: _sums_of_quads(1), 2: _sums_of_quads(2)}
