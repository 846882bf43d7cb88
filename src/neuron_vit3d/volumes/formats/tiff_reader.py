"""Reading TIFF stacks: plain, BigTIFF, ImageJ hyperstacks, OME-TIFF, tifffile's own, and those of some microscopes.

Reading goes from the outside in: `tiff_directories` makes sure that every table lies inside the file, `tiff_images`
says which pages are one image, `tiff_ome` or `tiff_metadata` which page is which slice and channel and how large a
voxel is, and `_Stack` maps the pages or decodes them by `tiff_codecs`.

What becomes of what:
- planes are slices z unless the file says otherwise; channels, or the samples of an RGB image, become axis c;
- more than one time point, and an OME set that is spread over several files are refused;
- a 2D image is a volume of one slice, with a warning;
- of several images (an overview and a stack, thumbnails that are not marked as such) the largest stack is read, with
  a warning that lists them; lower resolutions that are marked as such are left out;
- of a description of more planes than there are (an acquisition was stopped) the slices that are whole are read, with
  a warning; of an OME-XML that cannot be read the planes are slices, with a warning;
- more than 7 channels of a single slice are slices (a common slip when writing ImageJ files from Python), with a
  warning;
- of Zeiss LSM, Olympus FluoView, MetaMorph STK and ScanImage files the order of planes is known, not the voxel size;
- arrays that tifffile wrote without naming their axes are (z, y, x) or (c, z, y, x);
- values are as they are stored, as Fiji gives them, also where the file says that 0 is white;
- voxel size: ImageJ and tifffile (`spacing`, `unit`, resolution tags) and OME (`PhysicalSize`). A plain TIFF has no z
  step, and inches as coarse as a printer's dots are no microscope's: both give None.
"""

import warnings
from functools import cached_property
from pathlib import Path

import numpy as np

from ..reader import VolumeReader
from ..volume import Volume, VolumeError, checked_channel, chosen_channel, native_copy
from .choice import chosen_image
from .format import needs, one_line
from .tiff_codecs import NoCodec, decode_plane
from .tiff_directories import check_directories
from .tiff_images import TiffImage, images_of
from .tiff_metadata import Description, describe


# Bytes that one stored byte can become at most, by compression tag; a plane that claims more is refused before it is
# decoded. Deflate: 1032 (zlib's technical notes); LZW: all strings of a full 12-bit table once; JPEG: two bits for a
# block of 64, with some room; PackBits: 128 from 2 bytes. Zstandard is the loosest, 128 KiB from 4 bytes, and serves
# for those not listed.
_MOST_BYTES_PER_BYTE = {1: 1, 5: 1400, 7: 2000, 8: 1032, 32773: 64, 32946: 1032}
_LOOSEST = 33_000
# Compressions with which libtiff has a predictor (PREDICTOR in its tif_lzw.c, tif_zip.c, tif_zstd.c, tif_lzma.c) or
# that have none of voxels as such (none, JPEG): LZW, deflate by two numbers, LZMA, Zstandard
_WITH_PREDICTOR = (1, 5, 7, 8, 32946, 34925, 50000)


def read(path: Path, *, channel: int | None = None, image: int | None = None) -> Volume:
    """Read a TIFF stack; see `volumes.read_volume`. Raises VolumeError."""
    with _Stack(path, image) as stack:
        channels = list(range(stack.num_channels)) if channel is None else [stack.checked(channel)]
        if stack.mapped is not None:
            array = stack.mapped[channels[0] : channels[-1] + 1]
        else:
            array = np.empty((len(channels), *stack.shape), stack.dtype)
            for z in range(stack.shape[0]):
                array[:, z] = stack.planes(z, channels)
        return Volume(array if len(array) > 1 else array[0], stack.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None, image: int | None = None) -> VolumeReader:
    """Open one channel of a TIFF stack; see `volumes.open_volume`. Raises VolumeError."""
    stack = _Stack(path, image)
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

    def __init__(self, path: Path, image: int | None = None):
        import tifffile

        self.path = path
        self._file_bytes = path.stat().st_size
        check_directories(path, self._file_bytes)
        try:
            # With it tifffile would guess where the planes of an early ScanImage are, from the first two directories.
            self._tiff = tifffile.TiffFile(path, is_scanimage=False)
        except Exception as error:
            raise _damaged(path, error) from error
        try:
            images = images_of(self._tiff, str(path))
            self._describe(images[chosen_image(image, [one.candidate for one in images], str(path))])
        except VolumeError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise _damaged(path, error) from error

    def _describe(self, image: TiffImage) -> None:
        self._pages = image.pages
        first = self._pages[0]
        if first.dtype is None or first.dtype.kind not in "buif" or first.axes not in ("YX", "YXS", "SYX"):
            what = f"axes {first.axes.lower()!r} with {first.bitspersample} bits, {first.dtype}"
            raise VolumeError(f"{self.path}: expected planes y x of bool, integer or real voxels, got {what}")
        for page in self._pages:
            self._check_bytes(page)
        self._tell_of_predictor(first)
        self._in_one_piece = len(self._pages) == 1 and first.is_final
        stored = (self._file_bytes - first.dataoffsets[0]) // first.nbytes if self._in_one_piece else 0
        self._samples_axis = first.axes.find("S")
        samples = 1 if self._samples_axis < 0 else first.shape[self._samples_axis]

        if image.index is not None:
            description = Description(image.index, image.voxel_size)
        else:
            description = describe(self._tiff, self._pages, stored, samples, str(self.path))
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

    def _tell_of_predictor(self, page) -> None:
        """Warns of differences under a compression that libtiff, and Fiji, know none of."""
        kind = page.keyframe
        if kind.predictor > 1 and int(kind.compression) not in _WITH_PREDICTOR:
            warnings.warn(
                f"{self.path}: has a predictor with {kind.compression.name} compression, which is undone here as "
                "tifffile does; libtiff and Fiji leave it, so the program that wrote it may have, too",
                stacklevel=6,
            )

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
            else:
                array = decode_plane(page)
        except NoCodec as error:
            kind = page.keyframe
            what = f"TIFF with {kind.compression.name} compression of {page.dtype} voxels ({error})"
            raise needs(self.path, what, "codecs") from error
        except Exception as error:
            raise _damaged(self.path, error) from error
        if array.shape != page.shape:
            raise VolumeError(
                f"{self.path}: plane {page.index} should have shape {page.shape}, got {array.shape} decoded"
            )
        return array

    def close(self) -> None:
        self._tiff.close()

    def __enter__(self) -> "_Stack":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _damaged(path: Path, error: Exception) -> VolumeError:
    """tifffile and the codecs report damage in many ways; one error with one line stands for all of them."""
    return VolumeError(f"{path}: not a readable TIFF file: {one_line(error)}")
