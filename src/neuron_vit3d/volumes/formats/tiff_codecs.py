"""Decoding the planes of TIFF files: by tifffile; where it lacks a codec, by Pillow's libtiff and numpy.

Pillow decodes no whole plane here but 8-bit JPEG, for it gives wrong voxels of some (big-endian ones, 16-bit colours)
without a word. It only unpacks the bytes of a strip or tile; numpy tells what they mean.
"""

import io
import struct
import warnings
from importlib.util import find_spec

import numpy as np


_LZW, _ZSTD = 5, 50000
_BY_PILLOW = (_LZW, _ZSTD)  # codecs that give bytes, that libtiff has, and that tifffile may lack
_JPEG = 7
_NONE, _HORIZONTAL, _FLOATING = 1, 2, 3  # predictors


class NoCodec(Exception):
    """Neither tifffile nor Pillow can decode a plane; imagecodecs may."""


def decode_plane(page) -> np.ndarray:
    """The voxels of a tifffile page, as they are stored: (y, x), or with colour samples (y, x, s) or (s, y, x).

    Raises:
        NoCodec: of a compression that needs the package imagecodecs.
        Exception: whatever tifffile, Pillow or a codec raises for damaged bytes.
    """
    kind = page.keyframe  # what it shares with others (a large LSM)
    if _tifffile_has(kind.compression, kind.predictor):
        return page.asarray(maxworkers=1)
    if kind.compression == _JPEG and kind.dtype == np.uint8 and kind.planarconfig == 1:
        return _jpeg(page)
    if kind.bitspersample not in (1, 8, 16, 32, 64) or kind.predictor not in (_NONE, _HORIZONTAL, _FLOATING):
        raise NoCodec(f"{kind.bitspersample} bits, predictor {int(kind.predictor)}")
    if kind.compression not in _BY_PILLOW and not _tifffile_has(kind.compression, _NONE):
        raise NoCodec(kind.compression.name)
    return _by_segments(page, kind)


def _tifffile_has(compression: int, predictor: int) -> bool:
    """Whether a codec is there. Of Zstandard tifffile's table says so where there is none, before Python 3.14."""
    from tifffile import TIFF

    if compression == _ZSTD and not any(map(find_spec, ("imagecodecs", "compression"))):
        return False
    try:
        TIFF.DECOMPRESSORS[compression]
        if predictor != _NONE:
            TIFF.UNPREDICTORS[predictor]
    except (KeyError, ImportError):
        return False
    return True


def _by_segments(page, kind) -> np.ndarray:
    """A plane put together from its strips or tiles."""
    samples, separate = kind.samplesperpixel, kind.planarconfig == 2 and kind.samplesperpixel > 1
    planes, per_pixel = (samples, 1) if separate else (1, samples)
    height, width = kind.imagelength, kind.imagewidth
    rows, columns = (kind.tilelength, kind.tilewidth) if kind.is_tiled else (min(kind.rowsperstrip, height), width)
    result = np.zeros((planes, height, width, per_pixel), kind.dtype.newbyteorder("="))
    corners = ((p, y, x) for p in range(planes) for y in range(0, height, rows) for x in range(0, width, columns))
    for (plane, y, x), offset, count in zip(corners, page.dataoffsets, page.databytecounts, strict=False):
        if count:  # what is not stored is 0
            page.parent.filehandle.seek(offset)
            stored = page.parent.filehandle.read(count)
            height_here = rows if kind.is_tiled else min(rows, height - y)
            voxels = _voxels(stored, kind, page.parent.byteorder, height_here, columns, per_pixel)
            result[plane, y : y + rows, x : x + columns] = voxels[: height - y, : width - x]
    return (result[..., 0] if separate else result[0]).reshape(page.shape)


def _voxels(stored: bytes, kind, order: str, rows: int, columns: int, samples: int) -> np.ndarray:
    """The voxels (rows, columns, samples) of one strip or tile."""
    row_bytes = (columns * samples * kind.bitspersample + 7) // 8
    data = np.frombuffer(_unpacked(stored, kind, rows, row_bytes), np.uint8, rows * row_bytes)
    if kind.bitspersample == 1:
        bits = np.unpackbits(data.reshape(rows, row_bytes), axis=1)[:, : columns * samples]
        return bits.reshape(rows, columns, samples).astype(kind.dtype)
    dtype = kind.dtype.newbyteorder(order)
    if kind.predictor == _FLOATING:
        # Each row holds the first bytes of all its numbers, then the second bytes ..., as differences (Adobe's TIFF
        # Technical Note 3); the most significant byte comes first in files of either byte order.
        sums = data.reshape(rows, -1, samples).cumsum(axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, -1)
        numbers = np.ascontiguousarray(sums.swapaxes(1, 2)).view(dtype.newbyteorder(">"))
        return numbers.reshape(rows, columns, samples)
    array = data.view(dtype).reshape(rows, columns, samples)
    if kind.predictor == _HORIZONTAL:
        array = array.astype(dtype.newbyteorder("="))
        array = array.cumsum(axis=1, dtype=array.dtype)
    return array


def _unpacked(stored: bytes, kind, rows: int, row_bytes: int) -> bytes:
    if _tifffile_has(kind.compression, _NONE):
        from tifffile import TIFF

        return TIFF.DECOMPRESSORS[kind.compression](stored)
    return _by_libtiff(_small_tiff(stored, kind, rows, row_bytes))


def _small_tiff(stored: bytes, kind, rows: int, row_bytes: int) -> bytes:
    """A TIFF file of one strip whose voxels are the bytes that are asked for."""
    tags = [
        (256, 4, row_bytes),  # ImageWidth
        (257, 4, rows),  # ImageLength
        (258, 3, 8),  # BitsPerSample
        (259, 3, int(kind.compression)),
        (262, 3, 1),  # PhotometricInterpretation: 0 is black
        (266, 3, int(kind.fillorder)),
        (273, 4, 8 + 2 + 12 * 10 + 4),  # StripOffsets: behind this directory
        (277, 3, 1),  # SamplesPerPixel
        (278, 4, rows),  # RowsPerStrip
        (279, 4, len(stored)),  # StripByteCounts
    ]
    directory = b"".join(struct.pack("<HHII", tag, type_, 1, value) for tag, type_, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + struct.pack("<I", 0) + stored


def _by_libtiff(content: bytes) -> bytes:
    from PIL import TiffImagePlugin

    with TiffImagePlugin.TiffImageFile(io.BytesIO(content)) as image:
        try:
            return image.tobytes()
        except OSError as error:
            # Pillow says the same of damaged bytes and of a codec that its libtiff was built without.
            raise ValueError(f"cannot be decoded ({error}); the package imagecodecs may help") from error


def _jpeg(page) -> np.ndarray:
    """A plane of 8-bit JPEG, whose tables libtiff puts together."""
    from PIL import Image, TiffImagePlugin

    kind = page.keyframe
    # Pillow warns of tags that it finds odd, and does not say of which file.
    with warnings.catch_warnings(action="ignore"), Image.open(page.parent.filehandle.path) as image:
        image.seek(page.index)
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            raise ValueError("Pillow takes it for another format")
        for tag, value in ((262, kind.photometric), (277, kind.samplesperpixel), (284, kind.planarconfig)):
            if image.tag_v2.get(tag, value) != value:  # Pillow would give zeros
                raise ValueError(f"tag {tag} of plane {page.index} is unlike that of the first")
        array = np.asarray(image)
    # Pillow turns those over whose 0 is white.
    return ~array if kind.photometric == 0 and array.ndim == 2 else array
