"""Reading Imaris files (.ims), which are HDF5, by h5py (BSD).

Written from the open description, https://imaris.oxinst.com/support/imaris-file-format: voxels lie in `DataSet/
ResolutionLevel 0/TimePoint 0/Channel N/Data` (z, y, x), padded to whole chunks, and `ImageSizeX`, `Y` and `Z` of the
channel say how much is image. The highest resolution is read; more than one time point is refused. Voxel size: the
extent of the image (`ExtMin0` .. `ExtMax2` of `DataSetInfo/Image`, x y z in `Unit`) over these sizes; None where it is
not given. Only the chunks that are needed are decoded.

Voxels in other files (external links and the like) are refused, and more than the file's bytes can hold.
"""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..kept import KeptSlices
from ..reader import VolumeReader
from ..units import micrometres, number, voxel_size_of
from ..volume import Box, Volume, VolumeError, checked_channel, chosen_channel
from .format import Format, needs, one_line


_MAGIC = b"\x89HDF\r\n\x1a\n"
_LEVEL = "DataSet/ResolutionLevel 0"
_MOST_BYTES_PER_BYTE = 1032  # of deflate (zlib's technical notes), the looser of the two codecs that Imaris writes


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read an Imaris file into memory; see `volumes.read_volume`. Raises VolumeError."""
    with _Image(path) as image:
        channels = range(image.num_channels) if channel is None else [image.checked(channel)]
        image.check_bytes(len(channels) * math.prod(image.shape))
        array = np.empty((len(channels), *image.shape), image.dtype)
        for target, index in zip(array, channels, strict=True):
            target[:] = image.read(index, (slice(None),) * 3)
        return Volume(array if len(array) > 1 else array[0], image.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of an Imaris file; see `volumes.open_volume`. Raises VolumeError."""
    image = _Image(path)
    try:
        index = image.checked(chosen_channel(channel, image.num_channels, str(path)))
        image.check_bytes(math.prod(image.piece))
    except BaseException:
        image.close()
        raise
    whole = slice(None)
    kept = KeptSlices(
        lambda z0, z1: image.read(index, (slice(z0, z1), whole, whole)), image.shape, image.dtype, image.piece[0]
    )
    return VolumeReader(
        image.shape,
        image.dtype,
        image.voxel_size,
        str(path),
        kept.read,
        image.close,
        read_box=lambda box: image.read(index, box),
        piece=image.piece,
        num_channels=image.num_channels,
    )


class _Image:
    """An open file: shape (z, y, x), num_channels, dtype, voxel_size, piece, read()."""

    def __init__(self, path: Path):
        self.path = path
        try:
            import h5py
        except ImportError as error:
            raise needs(path, "Imaris", "imaris") from error
        with suppress(ImportError):  # LZ4, which Imaris writes as well as deflate
            import hdf5plugin  # noqa: F401
        try:
            self._file = h5py.File(path, "r", locking="best-effort")
        except Exception as error:
            raise _damaged(path, error) from error
        try:
            self._describe()
        except BaseException as error:
            self.close()
            if isinstance(error, VolumeError) or not isinstance(error, Exception):
                raise
            raise _damaged(path, error) from error

    def _describe(self) -> None:
        level = self._below(self._file, _LEVEL)
        if level is None:
            raise VolumeError(f"{self.path}: expected an Imaris file, got an HDF5 file without {_LEVEL!r}")
        times = _numbered(level, "TimePoint")
        if len(times) != 1:
            raise VolumeError(f"{self.path}: expected one stack of slices, got {len(times)} time points; save one")
        groups = [self._below(level, f"{times[0]}/{name}") for name in _numbered(level[times[0]], "Channel")]
        self._data = [self._below(group, "Data") for group in groups]
        if not self._data or None in self._data:
            raise VolumeError(
                f"{self.path}: expected channels with voxels below {_LEVEL!r}, got {len(groups)} without"
            )
        first, sizes = self._data[0], [_sizes(group, self._data[0].shape) for group in groups]
        kinds = {(data.shape, data.dtype, size) for data, size in zip(self._data, sizes, strict=True)}
        if len(kinds) > 1:
            raise VolumeError(f"{self.path}: expected channels alike, got {len(kinds)} sizes or types of voxels")
        for data in self._data:
            self._check_storage(data)
        if first.ndim != 3 or not all(0 < n <= most for n, most in zip(sizes[0], first.shape, strict=True)):
            raise VolumeError(f"{self.path}: expected z, y, x within what is stored, {first.shape}, got {sizes[0]}")
        self.shape, self.num_channels = sizes[0], len(self._data)
        self.dtype = np.dtype(first.dtype).newbyteorder("=")
        if self.dtype.kind not in "buif" or self.dtype.itemsize > 8:
            raise VolumeError(f"{self.path}: expected integer or real voxels of at most 64 bits, got {self.dtype}")
        depth, height, width = (min(n, most) for n, most in zip(first.chunks or first.shape, self.shape, strict=True))
        self.piece = (depth, height, width)
        self.voxel_size = self._voxel_size()

    def _check_storage(self, data: Any) -> None:
        """Refuses voxels in other files, and compressed ones that cannot be decoded here."""
        import h5py

        if data.external or data.is_virtual:
            raise VolumeError(f"{self.path}: expected its voxels in this file, got them in others")
        stored = data.id.get_create_plist()
        filters = [stored.get_filter(i)[0] for i in range(stored.get_nfilters())]
        lacking = [number for number in filters if not h5py.h5z.filter_avail(number)]
        if lacking:
            raise VolumeError(
                f"{self.path}: is compressed by HDF5's filter {lacking[0]} (32004 is LZ4): pip install hdf5plugin"
            )

    def _below(self, group: Any, place: str) -> Any:
        """A group or dataset by its path, or None; never in another file."""
        import h5py

        for name in place.split("/"):
            link = group.get(name, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise VolumeError(f"{self.path}: expected {name!r} in this file, got a link")
            group = group[name]
        return group

    def _voxel_size(self) -> tuple[float, float, float] | None:
        info = self._below(self._file, "DataSetInfo/Image")
        if info is None:
            return None
        unit = micrometres(_text(info, "Unit"))
        ends = [[number(_text(info, f"Ext{end}{axis}")) for axis in (2, 1, 0)] for end in ("Min", "Max")]
        return voxel_size_of(
            abs(last - first) * unit / size for first, last, size in zip(*ends, self.shape, strict=True)
        )

    def check_bytes(self, voxels: int) -> None:
        """Refuses to read so many voxels at once where the file's bytes cannot become them."""
        stored = self.path.stat().st_size
        if voxels * self.dtype.itemsize > stored * _MOST_BYTES_PER_BYTE:
            raise VolumeError(
                f"{self.path}: says {self.shape} voxels of {self.dtype}, which its {stored} bytes cannot hold"
            )

    def checked(self, channel: int) -> int:
        return checked_channel(channel, self.num_channels, str(self.path))

    def read(self, channel: int, box: Box) -> np.ndarray:
        """A box of the image (z, y, x); only its chunks are decoded."""
        where = tuple(slice(*one.indices(n)) for one, n in zip(box, self.shape, strict=True))
        try:
            return self._data[channel][where].astype(self.dtype, copy=False)
        except Exception as error:
            raise _damaged(self.path, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "_Image":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _numbered(group: Any, word: str) -> list[str]:
    """The names `word N` in a group, in the order of their numbers."""
    names = [name for name in group if name.startswith(f"{word} ") and name[len(word) + 1 :].isdecimal()]
    return sorted(names, key=lambda name: int(name[len(word) + 1 :]))


def _sizes(group: Any, stored: tuple[int, ...]) -> tuple[int, int, int]:
    """z, y, x of the image in a channel; those stored where nothing is said."""
    said = [_text(group, f"ImageSize{axis}") for axis in "ZYX"]
    depth, height, width = (int(text) if text else n for text, n in zip(said, stored, strict=True))
    return depth, height, width


def _text(group: Any, name: str) -> str:
    """An attribute as text; Imaris writes arrays of single characters."""
    value = group.attrs.get(name, "")
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        value = b"".join(value.ravel().tolist())
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _damaged(path: Path, error: Exception) -> VolumeError:
    return VolumeError(f"{path}: not a readable Imaris file: {one_line(error)}")


FORMAT = Format(row="Imaris", suffixes=(".ims",), signature=(_MAGIC,), read=read, open=open_reader, extra="imaris")
