"""Reading TIFF stacks: plain, BigTIFF, ImageJ hyperstacks, OME-TIFF, tifffile's own, and those of some microscopes.

Reading goes from the outside in: `_check_directories` makes sure that every table lies inside the file,
`tiff_metadata` says which plane is which slice and channel and how large a voxel is, and `_Stack` maps or decodes
those planes.

What becomes of what:
- planes are slices z unless the file says otherwise; channels, or the samples of an RGB image, become axis c;
- a 2D image, more than one time point, and an OME set that is spread over several files are refused;
- planes of another size than the first (thumbnails, a second image) are left out with a warning; of the several images
  of an OME file the first is read;
- more than 7 channels of a single slice are slices (a common slip when writing ImageJ files from Python), with a
  warning;
- of Zeiss LSM, Olympus FluoView, MetaMorph STK and ScanImage files the order of planes is known, not the voxel size;
- arrays that tifffile wrote without naming their axes are (z, y, x) or (c, z, y, x);
- values are as they are stored, as Fiji gives them, also where the file says that 0 is white;
- voxel size: ImageJ and tifffile (`spacing`, `unit`, resolution tags) and OME (`PhysicalSize`). A plain TIFF has no z
  step and inches stand for a printer's dpi: both give None.
"""

import struct
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ..reader import VolumeReader
from ..volume import Volume, VolumeError, checked_channel, chosen_channel, native_copy
from .tiff_metadata import describe


if TYPE_CHECKING:
    from tifffile import TiffPage


# Bytes that one stored byte can become at most, by compression tag; a plane that claims more is refused before it is
# decoded. Deflate: 1032 (zlib's technical notes); LZW: all strings of a full 12-bit table once; JPEG: two bits for a
# block of 64, with some room; PackBits: 128 from 2 bytes. Zstandard is the loosest, 128 KiB from 4 bytes, and serves
# for those not listed.
_MOST_BYTES_PER_BYTE = {1: 1, 5: 1400, 7: 2000, 8: 1032, 32773: 64, 32946: 1032}
_LOOSEST = 33_000


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a TIFF stack; see `volumes.read_volume`. Raises VolumeError."""
    with _Stack(path) as stack:
        channels = list(range(stack.num_channels)) if channel is None else [stack.checked(channel)]
        if stack.mapped is not None:
            array = stack.mapped[channels[0] : channels[-1] + 1]
        else:
            array = np.empty((len(channels), *stack.shape), stack.dtype)
            for z in range(stack.shape[0]):
                array[:, z] = stack.planes(z, channels)
        return Volume(array if len(array) > 1 else array[0], stack.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of a TIFF stack; see `volumes.open_volume`. Raises VolumeError."""
    stack = _Stack(path)
    try:
        index = stack.checked(chosen_channel(channel, stack.num_channels, str(path)))
        mapped = stack.mapped
    except BaseException:
        stack.close()
        raise

    def read_slices(z0: int, z1: int) -> np.ndarray:
        if mapped is not None:
            return native_copy(mapped[index, z0:z1])
        return np.stack([stack.planes(z, [index])[0] for z in range(z0, z1)])

    read_box = None if mapped is None else lambda box: native_copy(mapped[index][box])
    return VolumeReader(
        stack.shape,
        stack.dtype,
        stack.voxel_size,
        str(path),
        read_slices,
        stack.close,
        read_box=read_box,
        num_channels=stack.num_channels,
    )


class _Stack:
    """An open TIFF file as slices and channels: shape (z, y, x), num_channels, dtype, voxel_size, mapped, planes()."""

    def __init__(self, path: Path):
        import tifffile

        self.path = path
        self._file_bytes = path.stat().st_size
        _check_directories(path, self._file_bytes)
        try:
            # With it tifffile would guess where the planes of an early ScanImage are, from the first two directories.
            self._tiff = tifffile.TiffFile(path, is_scanimage=False)
        except Exception as error:
            raise _damaged(path, error) from error
        try:
            self._describe()
        except VolumeError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise _damaged(path, error) from error

    def _describe(self) -> None:
        pages = cast("list[TiffPage]", list(self._tiff.pages))  # frames come only where they are asked for
        first = next((page for page in pages if not page.is_reduced), pages[0])
        if first.dtype is None or first.dtype.kind not in "buif" or first.axes not in ("YX", "YXS", "SYX"):
            what = f"axes {first.axes.lower()!r} with {first.bitspersample} bits, {first.dtype}"
            raise VolumeError(f"{self.path}: expected planes y x of bool, integer or real voxels, got {what}")
        kind = (first.shape, first.dtype, first.axes)
        self._pages = [page for page in pages if (page.shape, page.dtype, page.axes) == kind]
        if len(self._pages) < len(pages):
            others = f"{len(pages) - len(self._pages)} of {len(pages)} planes"
            warnings.warn(
                f"{self.path}: {others} differ from the first in size or type and are left out", stacklevel=5
            )
        for page in self._pages:
            self._check_bytes(page)
        self._zero_is_white = first.photometric == 0
        self._in_one_piece = len(pages) == 1 and first.is_final
        stored = (self._file_bytes - first.dataoffsets[0]) // first.nbytes if self._in_one_piece else 0
        self._samples_axis = first.axes.find("S")
        samples = 1 if self._samples_axis < 0 else first.shape[self._samples_axis]

        description = describe(self._tiff, first, len(self._pages), stored, samples, str(self.path))
        self._index, self.voxel_size = description.index, description.voxel_size
        depth, channels = self._index.shape
        if samples > 1 and channels > 1:
            raise VolumeError(
                f"{self.path}: expected channels or colour samples, got {channels} channels of {samples} samples"
            )
        self.shape = (depth, first.imagelength, first.imagewidth)
        self.num_channels = max(channels, samples)
        self.dtype = np.dtype(first.dtype).newbyteorder("=")
        self._stored_dtype = self.dtype.newbyteorder(self._tiff.byteorder)

    def _check_bytes(self, page) -> None:
        """Refuse a plane that its stored bytes cannot fill, before any of it is decoded."""
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if any(offset + count > self._file_bytes for offset, count in segments):
            raise VolumeError(
                f"{self.path}: plane {page.index} ends beyond the file's {self._file_bytes} bytes (truncated?)"
            )
        kind = page.keyframe  # what it shares with others (a large LSM)
        bits = kind.size * kind.bitspersample
        if kind.is_tiled:
            bits = max(bits, kind.tilewidth * kind.tilelength * kind.bitspersample)
        stored = sum(page.databytecounts)
        most = stored * _MOST_BYTES_PER_BYTE.get(int(kind.compression), _LOOSEST)
        if not kind.size or bits > 8 * most:
            plane = f"plane {page.index} of {page.shape} {page.dtype}"
            raise VolumeError(f"{self.path}: {plane} cannot come from its {stored} stored bytes")

    def checked(self, channel: int) -> int:
        return checked_channel(channel, self.num_channels, str(self.path))

    @cached_property
    def mapped(self) -> np.ndarray | None:
        """(c, z, y, x) mapped from the file, in its byte order; None where its bytes are not the voxels in order."""
        count, (depth, channels) = self._index.size, self._index.shape
        in_order = np.arange(count)
        first = self._pages[0]
        if not first.is_final:
            return None
        if not self._in_one_piece:
            pages = self._pages[:count]
            offsets = [page.dataoffsets[0] if page.is_final else -1 for page in pages]
            if not np.array_equal(offsets, first.dataoffsets[0] + in_order * first.nbytes):
                return None
        array = np.memmap(self.path, self._stored_dtype, "c", offset=first.dataoffsets[0], shape=(count, *first.shape))
        if self._samples_axis >= 0:
            return (
                np.moveaxis(array, self._samples_axis + 1, 0) if np.array_equal(self._index[:, 0], in_order) else None
            )
        if np.array_equal(self._index.ravel(), in_order):
            return array.reshape(depth, channels, *first.shape).swapaxes(0, 1)
        if np.array_equal(self._index.T.ravel(), in_order):
            return array.reshape(channels, depth, *first.shape)
        return None

    def planes(self, z: int, channels: list[int]) -> np.ndarray:
        """Slice z of these channels, decoded: (len(channels), y, x)."""
        if self._samples_axis >= 0:
            return np.moveaxis(self._decode(int(self._index[z, 0])), self._samples_axis, 0)[channels]
        return np.stack([self._decode(int(self._index[z, c])) for c in channels])

    def _decode(self, plane: int) -> np.ndarray:
        page = self._pages[0 if self._in_one_piece else plane]
        try:
            if self._in_one_piece:
                offset = page.dataoffsets[0] + plane * page.nbytes
                array: np.ndarray = np.memmap(self.path, self._stored_dtype, "r", offset=offset, shape=page.shape)
            elif _tifffile_decodes(page.keyframe):
                array = page.asarray(maxworkers=1)
            else:
                array = self._decode_with_pillow(page)
        except Exception as error:
            raise _damaged(self.path, error) from error
        if array.shape != page.shape:
            raise VolumeError(
                f"{self.path}: plane {page.index} should have shape {page.shape}, got {array.shape} decoded"
            )
        return array

    @cached_property
    def _pillow(self):
        from PIL import Image

        return Image.open(self.path)  # stays open: it finds the next plane from the one before

    def _decode_with_pillow(self, page) -> np.ndarray:
        try:
            self._pillow.seek(page.index)
            array = np.asarray(self._pillow)
            if self._zero_is_white and self._pillow.mode in ("1", "L"):  # Pillow turns these over, and no others
                array = ~array
            return array.astype(page.dtype, copy=False)
        except Exception as error:
            kind = page.keyframe
            how = f"{kind.compression.name} compression of {page.dtype} voxels, predictor {int(kind.predictor)}"
            raise ValueError(f"{how}, cannot be decoded; the package imagecodecs may help ({error})") from error

    def close(self) -> None:
        self._tiff.close()
        if "_pillow" in self.__dict__:
            self._pillow.close()

    def __enter__(self) -> "_Stack":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _tifffile_decodes(page) -> bool:
    """Without the optional imagecodecs package tifffile lacks LZW and JPEG, for example."""
    from tifffile import TIFF

    return page.compression in TIFF.DECOMPRESSORS and (page.predictor == 1 or page.predictor in TIFF.UNPREDICTORS)


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def _check_directories(path: Path, file_bytes: int) -> None:
    """Refuse a file whose chain of directories (TIFF 6.0, section 2) leaves the file or returns to itself.

    A table's length is checked here because a reader would take the memory for it before it finds that the bytes are
    missing.
    """
    with path.open("rb") as file:
        start = file.read(16).ljust(16, b"\0")
        order = "<" if start[:2] == b"II" else ">"
        big = start[2:4].strip(b"\0") == b"+"
        count_format, next_format, next_at = ("Q", "Q", 8) if big else ("H", "I", 4)
        entry = np.dtype([("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", f"{order}u{8 if big else 4}")])
        entry_bytes, count_bytes, inline = (20, 8, 8) if big else (12, 2, 4)
        value = np.dtype(f"{order}u{inline}")
        offset, seen = struct.unpack_from(order + next_format, start, next_at)[0], set()
        while offset:
            if offset in seen:
                raise VolumeError(f"{path}: the chain of TIFF directories returns to byte {offset}")
            seen.add(offset)
            file.seek(min(offset, file_bytes))
            head = file.read(count_bytes)
            entries = struct.unpack(order + count_format, head)[0] if len(head) == count_bytes else 0
            end = offset + count_bytes + entries * entry_bytes + inline
            if not entries or end > file_bytes:
                raise VolumeError(
                    f"{path}: expected a TIFF directory at byte {offset}, the file has {file_bytes} (truncated?)"
                )
            block = file.read(entries * entry_bytes + inline)
            table = np.frombuffer(block, np.uint8, entries * entry_bytes).reshape(entries, entry_bytes)
            fields = np.ascontiguousarray(table[:, : entry.itemsize]).view(entry)[:, 0]
            values = np.ascontiguousarray(table[:, entry.itemsize :]).view(value)[:, 0].astype(float)
            sizes = np.array([_TYPE_BYTES.get(int(kind), 1) for kind in fields["type"]]) * fields["count"].astype(
                float
            )
            outside = (sizes > inline) & (values + sizes > file_bytes)
            if outside.any():
                tag = int(fields["tag"][outside][0])
                raise VolumeError(
                    f"{path}: the values of TIFF tag {tag} lie beyond the file's {file_bytes} bytes (truncated?)"
                )
            offset = struct.unpack_from(order + next_format, block, entries * entry_bytes)[0]
    if not seen:
        raise VolumeError(f"{path}: expected a TIFF file with an image, found no directory in {file_bytes} bytes")


def _damaged(path: Path, error: Exception) -> VolumeError:
    """tifffile and the codecs report damage in many ways; one error with one line stands for all of them."""
    reason = " ".join(str(error).split())[:200]
    return VolumeError(f"{path}: not a readable TIFF file: {type(error).__name__}: {reason}")
