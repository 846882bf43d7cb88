"""Reading OME-Zarr (NGFF 0.4 on zarr 2, 0.5 on zarr 3) and plain zarr arrays, by zarr (MIT).

Only the chunks that are needed are decoded.

Of an image's resolutions the first, the highest, is read; of several images in a folder that Bio-Formats wrote, number
0. Axes are told by their names (t c z y x in any order); t must be 1. A plain array is (z, y, x) or (c, z, y, x).
Voxel size: `scale`, of the resolution times that of the image, in the units of the axes; None where there is none.

A chunk that is not there holds the fill value, so a few bytes of metadata may stand for any number of voxels: an array
larger than what the stored bytes could become is refused. Only this package's own results, whose background is not
stored, are read box by box all the same.
"""

import math
import os
from pathlib import Path

import numpy as np

from ..kept import KeptSlices
from ..reader import VolumeReader
from ..units import micrometres, voxel_size_of
from ..volume import Volume, VolumeError, checked_channel, chosen_channel
from .format import Format, needs, one_line


RESULT = "neuron_vit3d"  # attribute of the images that this package makes; it says what they were made of and how
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_MOST_BYTES_PER_BYTE = 33_000  # of Zstandard, the loosest of the codecs: 128 KiB from 4 bytes
_MOST_METADATA_BYTES = 1 << 24


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read an OME-Zarr image into memory; see `volumes.read_volume`. Raises VolumeError."""
    image = _Image(path)
    image.check_bytes(image.array_bytes)
    if channel is None and image.num_channels > 1:
        array = image.read(slice(None), slice(None))
    else:
        array = image.read(checked_channel(channel or 0, image.num_channels, str(path)), slice(None))
    return Volume(array, image.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of an OME-Zarr image; see `volumes.open_volume`. Raises VolumeError."""
    image = _Image(path)
    if not image.is_result:
        image.check_bytes(image.array_bytes)
    channel = chosen_channel(channel, image.num_channels, str(path))
    index = checked_channel(channel, image.num_channels, str(path))
    kept = KeptSlices(lambda z0, z1: image.read(index, slice(z0, z1)), image.shape, image.dtype, image.piece[0])
    return VolumeReader(
        image.shape,
        image.dtype,
        image.voxel_size,
        str(path),
        kept.read,
        read_box=lambda box: image.read(index, *box),
        piece=image.piece,
        num_channels=image.num_channels,
    )


class _Image:
    """The highest resolution of an image: shape (z, y, x), num_channels, dtype, voxel_size, read()."""

    def __init__(self, path: Path):
        self.path = path
        try:
            import zarr
        except ImportError as error:
            raise needs(path, "OME-Zarr", "zarr") from error
        _check_metadata(path)
        try:
            node = zarr.open(path, mode="r")
            self.is_result = RESULT in node.attrs
            self._array, self._axes, self.voxel_size = self._find(node)
        except VolumeError:
            raise
        except Exception as error:
            raise VolumeError(f"{path}: not a readable OME-Zarr image: {one_line(error)}") from error
        shape, axes = self._array.shape, self._axes
        if (
            len(axes) != len(shape)
            or sorted(set(axes)) != sorted(axes)
            or not {"z", "y", "x"} <= set(axes) <= set("tczyx")
        ):
            raise VolumeError(
                f"{path}: expected axes z y x, perhaps c, and t of length 1, got {axes} with shape {shape}"
            )
        sizes = dict(zip(axes, shape, strict=True))
        if sizes.get("t", 1) != 1:
            raise VolumeError(f"{path}: expected one stack of slices, got {sizes['t']} time points; save one")
        self.shape, self.num_channels = (sizes["z"], sizes["y"], sizes["x"]), sizes.get("c", 1)
        chunks = dict(zip(axes, self._array.chunks, strict=True))
        self.piece = (chunks["z"], chunks["y"], chunks["x"])
        self.dtype = np.dtype(self._array.dtype).newbyteorder("=")
        if min((*shape, *self._array.chunks)) < 1:
            raise VolumeError(f"{path}: expected positive sizes, got shape {shape} in chunks of {self._array.chunks}")
        self.array_bytes = math.prod(shape) * self.dtype.itemsize
        pieces = (self._array.chunks, self._array.shards or ())
        self.check_bytes(max(map(math.prod, pieces)) * self.dtype.itemsize)

    def read(self, channel: int | slice, z: slice, y: slice = slice(None), x: slice = slice(None)) -> np.ndarray:
        """A box of a channel (z, y, x), or of all (c, z, y, x); only its chunks are decoded."""
        where = {"t": 0, "c": channel, "z": z, "y": y, "x": x}
        kept = [axis for axis in self._axes if axis in "zyx" or (axis == "c" and isinstance(channel, slice))]
        try:
            array = self._array[tuple(where[axis] for axis in self._axes)]
        except Exception as error:
            raise VolumeError(f"{self.path}: damaged OME-Zarr chunks: {one_line(error)}") from error
        array = np.asarray(array).transpose([kept.index(axis) for axis in "czyx" if axis in kept])
        return array.astype(self.dtype, copy=False)

    def _find(self, node) -> tuple:
        """The array, its axes and voxel size, in a group or array."""
        if hasattr(node, "shape"):
            return node, "czyx"[-node.ndim :] if node.ndim in (3, 4) else "", None
        if "bioformats2raw.layout" in (node.attrs.get("ome") or node.attrs):
            node = node["0"]
        attributes = node.attrs.get("ome") or dict(node.attrs)
        if not attributes.get("multiscales"):
            raise VolumeError(f"{self.path}: expected an OME-Zarr image, got a zarr group without `multiscales`")
        image = attributes["multiscales"][0]
        resolution = image["datasets"][0]
        array = node[resolution["path"]]
        axes = [{"name": axis} if isinstance(axis, str) else axis for axis in image.get("axes", "tczyx")]
        names = "".join(str(axis["name"]).lower() for axis in axes)
        scale = np.ones(len(axes)) * math.nan
        for of in (resolution, image):
            for transformation in of.get("coordinateTransformations", ()):
                if transformation["type"] == "scale":
                    given = np.array(transformation["scale"], float)
                    scale = given if np.isnan(scale).all() else scale * given
        length = dict(zip(names, scale, strict=True))
        unit = {name: micrometres(axis.get("unit")) for name, axis in zip(names, axes, strict=True)}
        return array, names, voxel_size_of([length.get(axis, math.nan) * unit.get(axis, math.nan) for axis in "zyx"])

    def check_bytes(self, claimed: int) -> None:
        """Refuses so many bytes, of a chunk or of an array, where those stored cannot fill them.

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
            f"{claimed} bytes at once, but {stored} stored bytes can hold at most {stored * _MOST_BYTES_PER_BYTE}"
        )


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
)
