"""Chunks of zarr arrays that Blosc packed: whether their header fits what is there, before its C code follows it.

Blosc believes the length that a chunk's header states, so that a damaged one is read beyond its end.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any


_HEADER = struct.Struct("<4B3I")  # version, of its codec, flags, item bytes; unpacked, block and packed bytes
_MOST_BYTES_PER_BYTE = 33_000  # of Zstandard, the loosest of its codecs: 128 KiB from 4 bytes


def check_blosc_chunks(array: Any) -> None:
    """Makes an open zarr array refuse chunks whose Blosc header is not true; of arrays packed otherwise does nothing.

    A chunk is then refused with ValueError where it is decoded.
    """
    for blosc in _blosc_codecs(array.metadata):
        blosc.decode = _checked(blosc.decode)


def _blosc_codecs(holder: Any) -> Iterator[Any]:
    """numcodecs' Blosc in the metadata of an array (zarr 2 names one compressor, zarr 3 codecs, also in shards)."""
    compressor = getattr(holder, "compressor", None)
    if getattr(compressor, "codec_id", "") == "blosc":
        yield compressor
    for codec in getattr(holder, "codecs", ()):
        if hasattr(codec, "_blosc_codec"):
            yield codec._blosc_codec
        yield from _blosc_codecs(codec)


def _checked(decode: Callable) -> Callable:
    def checked(chunk: Any, out: Any = None) -> Any:
        view = memoryview(chunk).cast("B")
        if len(view) < _HEADER.size:
            raise ValueError(f"a chunk of {len(view)} bytes is shorter than the header of Blosc")
        *_, unpacked, _, packed = _HEADER.unpack_from(view)
        if packed != len(view) or unpacked > packed * _MOST_BYTES_PER_BYTE:
            raise ValueError(f"a Blosc header says {packed} bytes that become {unpacked}, the chunk has {len(view)}")
        return decode(chunk, out)

    return checked
