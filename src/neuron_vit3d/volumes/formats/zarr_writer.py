"""Writing OME-Zarr (NGFF 0.5 on zarr 3), by zarr (MIT): a pyramid of resolutions in shards, each written by itself.

A shard is one file that holds many chunks, so that a large volume is neither millions of files nor read as a whole.
Two writers in one shard would lose data: whoever writes shares the work out by shards. Shards and chunks that hold
nothing but 0 are not stored.
"""

import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from ...files import sync
from ..volume import Box, VolumeError
from .format import needs, one_line


AXES = ("z", "y", "x")
_SMALLEST = 256  # no further resolution is made of a volume whose sides are all at most so long


def create_image(
    path: Path,
    shape: tuple[int, int, int],
    dtype,
    voxel_size: tuple[float, float, float] | None,
    *,
    shard: tuple[int, int, int],
    chunk: tuple[int, int, int],
    attributes: dict | None = None,
) -> None:
    """Makes an image without any voxels, all of its resolutions; each is half as large as the one before it.

    Args:
        path: the new folder.
        shape: z, y, x.
        voxel_size: z, y, x in micrometres, or None.
        shard, chunk: their sides z, y, x; a shard's are multiples of a chunk's.
        attributes: more to be kept with the image, beside NGFF's `ome`.

    Raises:
        VolumeError: the folder is there already, or zarr is not installed.
    """
    zarr = _zarr(path)
    if path.exists():
        raise VolumeError(f"{path}: is there already")
    scale = voxel_size or (1.0, 1.0, 1.0)
    axes = [{"name": name, "type": "space"} | ({"unit": "micrometer"} if voxel_size else {}) for name in AXES]
    datasets = []
    group = zarr.create_group(path, zarr_format=3)
    for level, sizes in enumerate(resolutions(shape)):
        group.create_array(
            str(level), shape=sizes, dtype=dtype, shards=shard, chunks=chunk, fill_value=0, dimension_names=AXES
        )
        # The first voxel of a lower resolution is the mean of several: its center lies between theirs.
        transformations = [
            {"type": "scale", "scale": [size * 2.0**level for size in scale]},
            {"type": "translation", "translation": [size * (2**level - 1) / 2 for size in scale]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations[: 2 if level else 1]})
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    ome = {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    group.attrs.update({"ome": ome, **(attributes or {})})
    for file in path.rglob("zarr.json"):
        sync(file)


def resolutions(shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The shapes of an image's resolutions, the volume's own first.

    >>> resolutions((100, 600, 300))
    [(100, 600, 300), (50, 300, 150), (25, 150, 75)]
    """
    depth, height, width = shape
    shapes = [(depth, height, width)]
    while max(shapes[-1]) > _SMALLEST:
        depth, height, width = (-(-side // 2) for side in shapes[-1])
        shapes.append((depth, height, width))
    return shapes


class ImageLevel:
    """One resolution of an image, to be read and written box by box."""

    def __init__(self, path: Path, level: int = 0):
        self.path, self._level = path, level
        self._array = _zarr(path).open_array(path / str(level), mode="r+", zarr_format=3)
        self.shape, self.dtype = self._array.shape, self._array.dtype
        self.shard, self.chunk = self._array.shards, self._array.chunks

    def __len__(self) -> int:
        """How many shards it has."""
        return math.prod(self._counts)

    def box(self, index: int) -> Box:
        """What voxels the shard number `index` holds."""
        at = np.unravel_index(index, self._counts)
        z, y, x = (
            slice(int(i) * side, min((int(i) + 1) * side, length))
            for i, side, length in zip(at, self.shard, self.shape, strict=True)
        )
        return z, y, x

    def write(self, box: Box, voxels: np.ndarray) -> None:
        """Writes the voxels of whole shards, which are on disk when it returns.

        So what notes them as done is true after a crash, too.
        """
        self._array[box] = voxels
        for shard in filter(_is_there, self._files(box)):
            sync(shard)

    def read(self, box: Box) -> np.ndarray:
        """Raises VolumeError where what is stored is damaged."""
        if not any(map(_is_there, self._files(box))):  # as zarr would find, too, chunk by chunk
            return np.zeros([one.stop - one.start for one in box], self.dtype)
        try:
            return self._array[box]
        except Exception as error:
            raise VolumeError(f"{self.path}: damaged OME-Zarr chunks: {one_line(error)}") from error

    def _files(self, box: Box) -> Iterator[Path]:
        """Of the shards that a box touches, those which hold nothing but 0 and are not stored as well."""
        shards = (range(one.start // side, -(-one.stop // side)) for one, side in zip(box, self.shard, strict=True))
        key = self._array.metadata.encode_chunk_key
        return (self.path / str(self._level) / key(index) for index in product(*shards))

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(-(-length // side) for length, side in zip(self.shape, self.shard, strict=True))


def _is_there(path: Path) -> bool:
    """Whether a file is.

    Raises OSError where that cannot be told; `Path.exists` says no to that from Python 3.14 on.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def lower_resolution(path: Path, level: int, index: int) -> None:
    """Fills the shard number `index` of a resolution from the one above it.

    Each voxel is the highest of 2 x 2 x 2, so that thin neurites do not fade. Takes memory for two shards.
    """
    below, above = ImageLevel(path, level), ImageLevel(path, level - 1)
    box = below.box(index)
    result = np.zeros([one.stop - one.start for one in box], above.dtype)
    halves = ([(0, side // 2), (side // 2, side)] for side in result.shape)
    for octant in product(*halves):
        z, y, x = (
            slice(2 * (one.start + first), min(2 * (one.start + last), length))
            for one, (first, last), length in zip(box, octant, above.shape, strict=True)
        )
        if all(one.start < one.stop for one in (z, y, x)):
            target = tuple(slice(first, last) for first, last in octant)
            result[target] = _highest_of_eight(above.read((z, y, x)))
    if result.any():
        below.write(box, result)


def _highest_of_eight(voxels: np.ndarray) -> np.ndarray:
    if any(side % 2 for side in voxels.shape):
        voxels = np.pad(voxels, [(0, side % 2) for side in voxels.shape], mode="edge")
    z, y, x = (side // 2 for side in voxels.shape)
    return voxels.reshape(z, 2, y, 2, x, 2).max(axis=(1, 3, 5))


def attributes_of(path: Path) -> dict:
    """The attributes of an image that is there."""
    return dict(_zarr(path).open_group(path, mode="r").attrs)


def _zarr(path: Path):
    try:
        import zarr
    except ImportError as error:
        raise needs(path, "OME-Zarr", "zarr") from error
    return zarr
