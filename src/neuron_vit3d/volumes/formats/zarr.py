"""Reading OME-Zarr (NGFF 0.1 to 0.4 on zarr 2, 0.5 and 0.6 on zarr 3) and plain zarr arrays, by zarr (MIT).

Only the chunks that are needed are decoded. `zarr_images` says what images a group holds. Axes are told by their names
(t c z y x in any order); t must be 1, and an image without z is one slice. A plain array is (z, y, x) or (c, z, y, x),
or as its dimensions are named. Voxel size: `scale`, of the resolution times that of the image, in the units of the
axes; None where there is none.

A chunk that is not there holds the fill value, so a few bytes of metadata may stand for any number of voxels. What is
read at once, a chunk or all of the array, is refused where it is larger than what the stored bytes could become; a
volume that is mostly empty is read box by box, whatever its size.
"""

import logging
import math
import os
import warnings
from pathlib import Path

import numpy as np

from ..kept import KeptSlices
from ..reader import VolumeReader
from ..volume import Volume, VolumeError, checked_channel, chosen_channel
from .choice import chosen_image, tell_of_one_slice
from .format import Format, needs, one_line
from .zarr_blosc import check_blosc_chunks
from .zarr_images import ZarrImage, images_in


RESULT = "neuron_vit3d"  # attribute of the images that this package makes; it says what they were made of and how
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_MOST_BYTES_PER_BYTE = 33_000  # of Zstandard, the loosest of the codecs: 128 KiB from 4 bytes
_MOST_METADATA_BYTES = 1 << 24
# Chunks of a few voxels, of which hardly any is there, would be looked for one by one, each for 0.1 ms and more.
_FREE_CHUNKS, _CHUNKS_PER_FILE = 10_000, 100
_MOST_VOXELS = 1 << 52  # a mouse brain at 4 x 4 x 40 nm has 2 ** 50


def read(path: Path, *, channel: int | None = None, image: int | None = None) -> Volume:
    """Read an OME-Zarr image into memory; see `volumes.read_volume`. Raises VolumeError."""
    found = _Image(path, image)
    found.check_bytes(found.array_bytes)
    if channel is None and found.num_channels > 1:
        array = found.read(slice(None), slice(None))
    else:
        array = found.read(checked_channel(channel or 0, found.num_channels, str(path)), slice(None))
    return Volume(array, found.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None, image: int | None = None) -> VolumeReader:
    """Open one channel of an OME-Zarr image; see `volumes.open_volume`. Raises VolumeError."""
    found = _Image(path, image)
    channel = chosen_channel(channel, found.num_channels, str(path))
    index = checked_channel(channel, found.num_channels, str(path))
    kept = KeptSlices(lambda z0, z1: found.read(index, slice(z0, z1)), found.shape, found.dtype, found.piece[0])
    return VolumeReader(
        found.shape,
        found.dtype,
        found.voxel_size,
        str(path),
        kept.read,
        read_box=lambda box: found.read(index, *box),
        piece=found.piece,
        num_channels=found.num_channels,
    )


class _Image:
    """The highest resolution of an image: shape (z, y, x), num_channels, dtype, voxel_size, read()."""

    def __init__(self, path: Path, image: int | None):
        self.path = path
        try:
            import zarr
        except ImportError as error:
            raise needs(path, "OME-Zarr", "zarr") from error
        _check_metadata(path)
        try:
            images = images_in(zarr.open(path, mode="r"), str(path))
            chosen = images[chosen_image(image, [one.candidate for one in images], str(path))]
            self._describe(chosen)
            check_blosc_chunks(chosen.array)
        except VolumeError:
            raise
        except Exception as error:
            raise VolumeError(f"{path}: not a readable OME-Zarr image: {one_line(error)}") from error
        for note in chosen.notes:
            warnings.warn(f"{path}: {note}", stacklevel=5)
        if "z" not in self._axes:
            tell_of_one_slice(*self.shape[1:], self.num_channels, str(path))

    def _describe(self, image: ZarrImage) -> None:
        path, self._array, self._axes, self.voxel_size = self.path, image.array, image.axes, image.voxel_size
        shape, axes = self._array.shape, self._axes
        sizes = dict(zip(axes, shape, strict=False))
        others = [
            f"axis {axis!r} of length {size}" for axis, size in sizes.items() if axis not in "tczyx" and size > 1
        ]
        if len(axes) != len(shape) or len(sizes) != len(axes) or not {"y", "x"} <= set(axes) or others:
            raise VolumeError(
                f"{path}: expected axes z y x, perhaps c, and t of length 1, got {axes} with shape {shape}"
            )
        if sizes.get("t", 1) != 1:
            raise VolumeError(f"{path}: expected one stack of slices, got {sizes['t']} time points; save one")
        self.shape, self.num_channels = (sizes.get("z", 1), sizes["y"], sizes["x"]), sizes.get("c", 1)
        chunks = dict(zip(axes, self._array.chunks, strict=True))
        self.piece = (chunks.get("z", 1), chunks["y"], chunks["x"])
        self.dtype = np.dtype(self._array.dtype).newbyteorder("=")
        if self.dtype.kind not in "buif" or self.dtype.itemsize > 8:
            raise VolumeError(f"{path}: expected bool, integer or real voxels of at most 64 bits, got {self.dtype}")
        if min((*shape, *self._array.chunks)) < 1:
            raise VolumeError(f"{path}: expected positive sizes, got shape {shape} in chunks of {self._array.chunks}")
        if math.prod(shape) > _MOST_VOXELS:
            raise VolumeError(f"{path}: expected at most {_MOST_VOXELS} voxels, got shape {shape}")
        self.array_bytes = math.prod(shape) * self.dtype.itemsize
        pieces = (self._array.chunks, self._array.shards or ())
        self.check_bytes(max(map(math.prod, pieces)) * self.dtype.itemsize)

    def read(self, channel: int | slice, z: slice, y: slice = slice(None), x: slice = slice(None)) -> np.ndarray:
        """A box of a channel (z, y, x), or of all (c, z, y, x); only its chunks are decoded."""
        where = {"c": channel, "z": z, "y": y, "x": x}
        kept = [axis for axis in self._axes if axis in "zyx" or (axis == "c" and isinstance(channel, slice))]
        self._check_chunks([where.get(axis, 0) for axis in self._axes])
        try:
            array = self._array[tuple(where.get(axis, 0) for axis in self._axes)]
        except Exception as error:
            logging.getLogger("asyncio").addFilter(_is_no_leftover)
            raise VolumeError(f"{self.path}: damaged OME-Zarr chunks: {one_line(error)}") from error
        array = np.asarray(array).transpose([kept.index(axis) for axis in "czyx" if axis in kept])
        if "z" not in kept:
            array = array[..., None, :, :]
        return array.astype(self.dtype, copy=False)

    def _check_chunks(self, box: list[int | slice]) -> None:
        """Refuses a box of so many chunks that those stored are few among them."""
        sides = self._array.shards or self._array.chunks
        count = 1
        for one, length, side in zip(box, self._array.shape, sides, strict=True):
            if isinstance(one, slice):
                start, stop, _ = one.indices(length)
                count *= (stop - 1) // side - start // side + 1
        most = _FREE_CHUNKS
        if count > most:
            for _, _, names in os.walk(self.path):
                most += _CHUNKS_PER_FILE * len(names)
                if count <= most:
                    return
            raise VolumeError(
                f"{self.path}: metadata says {self._array.shape} in chunks of {sides}, {count} of them at once, but "
                f"{(most - _FREE_CHUNKS) // _CHUNKS_PER_FILE} files are there"
            )

    def check_bytes(self, claimed: int) -> None:
        """Refuses so many bytes, of a chunk or of an array as a whole, where those stored cannot fill them.

        No memory is taken before that.
        """
        stored = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                stored += os.path.getsize(os.path.join(folder, name))
            if claimed <= stored * _MOST_BYTES_PER_BYTE:
                return
        raise VolumeError(
            f"{self.path}: metadata says {self._array.shape} of {self.dtype} in chunks of {self._array.chunks}, "
            f"{claimed} bytes at once, but {stored} stored bytes can hold at most {stored * _MOST_BYTES_PER_BYTE}; "
            "of a volume that is mostly empty open_volume reads a part"
        )


def _is_no_leftover(record: logging.LogRecord) -> bool:
    """Whether asyncio tells of something else than the chunks that zarr leaves waiting behind a damaged one."""
    return not record.getMessage().startswith("Task was destroyed but it is pending!")


def _check_metadata(path: Path) -> None:
    for name in _METADATA:
        file = path / name
        if file.is_file() and file.stat().st_size > _MOST_METADATA_BYTES:
            raise VolumeError(
                f"{file}: expected at most {_MOST_METADATA_BYTES} bytes of metadata, got {file.stat().st_size}"
            )


FORMAT = Format(
    row="OME-Zarr folders",
    suffixes=(".ome.zarr", ".zarr"),
    signature=lambda path, _: any((path / name).is_file() for name in _METADATA),
    read=read,
    open=open_reader,
    extra="zarr",
    is_folder=True,
    has_images=True,
)
