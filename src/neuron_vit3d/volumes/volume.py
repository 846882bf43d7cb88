"""A 3D image and its voxel size: what it is, how it is checked, and the doors that read and write it.

    volume = read_volume("neuron.tif")             # Volume: array (z, y, x) or (c, z, y, x), voxel size in micrometres
    write_volume("neuron.v3draw", volume)          # the suffix chooses the format
    with open_volume("large.tif", channel=0) as reader:
        slices = reader.read(0, 16)                # (16, y, x): only these slices are decoded

`read_volume` and `open_volume` recognise a file by its first bytes, not by its name.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ..files import replacing
from .kept import KeptSlices


_SLAB_BYTES = 1 << 26  # checks and writers look at about this much at a time
_BOX_VOXELS = 1 << 24
_WRITABLE = ".tif, .tiff, .btf, .v3draw, .raw or .npy"


Box = tuple[slice, slice, slice]  # z, y, x


class VolumeError(ValueError):
    """A volume, or a file that should hold one, is not what was expected. The message is one line and names the file."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image.

    Args:
        array: (z, y, x), or (c, z, y, x) with channels; bool, integer or real floating point, no axis empty. It may be
            mapped from a file, so treat it as read-only.
        voxel_size: edges of a voxel along z, y, x in micrometres; None where unknown.
        source: what error messages call this volume, usually its file.

    Raises:
        VolumeError: another dtype, number of axes or voxel size.
    """

    array: np.ndarray
    voxel_size: tuple[float, float, float] | None = None
    source: str = "volume"

    def __post_init__(self):
        array, name = self.array, self.source
        if not isinstance(array, np.ndarray):
            raise VolumeError(f"{name}: expected a numpy array, got {type(array).__name__}")
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise VolumeError(f"{name}: expected bool, integer or real voxels of at most 64 bits, got {array.dtype}")
        if array.ndim not in (3, 4):
            raise VolumeError(f"{name}: expected axes (z, y, x) or (c, z, y, x), got shape {array.shape}")
        if array.size == 0:
            raise VolumeError(f"{name}: expected at least one voxel along every axis, got shape {array.shape}")
        object.__setattr__(self, "voxel_size", checked_voxel_size(self.voxel_size, name))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x), without channels."""
        return self.array.shape[-3:]

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def num_channels(self) -> int:
        return self.array.shape[0] if self.array.ndim == 4 else 1

    def channel(self, index: int) -> "Volume":
        """Channel `index` (from 0) as a volume with axes (z, y, x); a view. Raises VolumeError where there is no such channel."""
        index = checked_channel(index, self.num_channels, self.source)
        return Volume(self.array[index] if self.array.ndim == 4 else self.array, self.voxel_size, self.source)


def read_volume(path: str | os.PathLike, *, channel: int | None = None, memory_map: bool = True) -> Volume:
    """Read a TIFF (plain, BigTIFF, ImageJ, OME), Vaa3D (v3draw, v3dpbd), .npy, NRRD or NIfTI file, an OME-Zarr folder, or,
    through bioio, a microscope's own format. The last four need an extra, such as `pip install "neuron_vit3d[nrrd]"`.

    Args:
        path: the file or folder; its content decides the format, not its suffix (but for those that bioio reads).
        channel: keep this channel (from 0); None keeps all.
        memory_map: leave the voxels on disk until they are touched, where the file holds them uncompressed, in one piece
            and in this machine's byte order. Changes to a mapped array stay in memory, the file is never changed.

    Returns:
        Volume whose array is (z, y, x), or (c, z, y, x) if several channels were kept, in this machine's byte order.

    Raises:
        VolumeError: the file is no volume, is damaged, claims more voxels than its bytes can hold, or needs a library that
            is not installed (the message says which).
        OSError: the file cannot be opened.
    """
    from .formats import reader_of

    volume = reader_of(Path(path)).read(Path(path), channel=channel)
    array = volume.array
    if array.dtype.isnative and (memory_map or not isinstance(array, np.memmap)):
        return volume
    return Volume(native_copy(array), volume.voxel_size, volume.source)


def open_volume(source: "str | os.PathLike | Volume | VolumeReader", channel: int | None = None) -> "VolumeReader":
    """One channel of a volume, to be read a few slices at a time; close it, or use it in a `with` statement.

    Compressed TIFFs and OME-Zarr are decoded as asked for and uncompressed files are mapped, so memory is bounded by what
    `read` is asked for, and by 384 MB (for each channel) of slices that are decoded with others or may be asked for again (see `volumes.kept`). A
    v3dpbd file has no entry points, nor has a compressed NRRD or NIfTI file: those are decoded whole, when they are opened; of a
    v3dpbd file only the channel is kept.

    Raises:
        VolumeError: as `read_volume`; also several channels while `channel` is None.
    """
    if isinstance(source, VolumeReader):
        return source
    if not isinstance(source, Volume):
        from .formats import reader_of

        reader = reader_of(Path(source))
        if hasattr(reader, "open_reader"):
            return reader.open_reader(Path(source), channel)
        source, channel = reader.read(Path(source), channel=channel), None
    volume = single_channel(source, channel)
    return VolumeReader(
        volume.shape,
        volume.dtype,
        volume.voxel_size,
        volume.source,
        lambda z0, z1: native_copy(volume.array[z0:z1]),
        read_box=lambda box: native_copy(volume.array[box]),
    )


def write_volume(path: str | os.PathLike, volume: Volume) -> Path:
    """Write a volume; the suffix chooses the format, and an existing file is replaced only once the new one is complete.

    - `.tif`, `.tiff`, `.btf`: read by Fiji with voxel size and channels, see `volumes.tiff_writer`. Every dtype.
    - `.v3draw`, `.raw`: Vaa3D's uncompressed format; bool, uint8, uint16, float32. It has no place for a voxel size.
    - `.npy`: numpy's own; no voxel size. Every dtype.

    A bool volume becomes uint8 with 0 and 255 in TIFF and v3draw files, as Fiji and Vaa3D show masks.

    Raises:
        VolumeError: unknown suffix, or a dtype that the format cannot hold.
    """
    path = Path(path)
    if not isinstance(volume, Volume):
        raise VolumeError(f"{path}: expected a Volume to write, got {type(volume).__name__}")
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff", ".btf"):
        from .tiff_writer import SlabWriter

        with SlabWriter(path, volume.array.shape, volume.dtype, volume.voxel_size) as writer:
            for slab in slabs(volume):
                writer.write(slab)
    elif suffix in (".v3draw", ".raw"):
        from . import vaa3d

        vaa3d.write_v3draw(path, volume)
    elif suffix == ".npy":
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, volume.array, allow_pickle=False)
    elif suffix == ".v3dpbd":
        raise VolumeError(f"{path}: v3dpbd files can be read but not written; use .v3draw, which Vaa3D reads as well")
    else:
        raise VolumeError(f"{path}: cannot tell the format to write from {suffix or 'no suffix'!r}; use {_WRITABLE}")
    return path


class VolumeReader:
    """One channel of a volume, read a few slices, or a box, at a time; made by `open_volume`.

    Attributes: shape (z, y, x), dtype (this machine's byte order), voxel_size (micrometres or None), source (a name), and
    piece: the box (z, y, x) that is stored in one piece, where that is not a slice.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype,
        voxel_size: tuple[float, float, float] | None,
        source: str,
        read: Callable[[int, int], np.ndarray],
        close: Callable[[], None] = lambda: None,
        *,
        read_box: Callable[[Box], np.ndarray] | None = None,
        piece: tuple[int, int, int] | None = None,
    ):
        self.shape, self.voxel_size, self.source = tuple(shape), voxel_size, source
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.piece = (1, *self.shape[1:]) if piece is None else piece
        self._read, self._close, self._read_box = read, close, read_box
        self._kept = KeptSlices(read, self.shape, self.dtype)

    def read(self, z0: int, z1: int) -> np.ndarray:
        """Slices z0 .. z1 - 1 as a new, contiguous array (z1 - z0, y, x); raises VolumeError outside the volume."""
        if not 0 <= z0 < z1 <= self.shape[0]:
            raise VolumeError(f"{self.source}: expected 0 <= z0 < z1 <= {self.shape[0]} slices, got z0 {z0}, z1 {z1}")
        return np.ascontiguousarray(self._read(z0, z1), dtype=self.dtype)

    def read_box(self, box: Box) -> np.ndarray:
        """The voxels of a box, slices (z, y, x) from 0 on and not empty, as a new, contiguous array; only what is stored
        around them is decoded, for boxes side by side once. Raises VolumeError outside the volume."""
        if not all(0 <= one.start < one.stop <= length for one, length in zip(box, self.shape, strict=True)):
            raise VolumeError(f"{self.source}: expected a box in the volume {self.shape}, got {box}")
        if self._read_box is not None:
            return np.ascontiguousarray(self._read_box(box), dtype=self.dtype)
        # Slice by slice: the whole of them may be far more than the box.
        result = np.empty([one.stop - one.start for one in box], self.dtype)
        for target, plane in zip(result, self._kept.slices(box[0].start, box[0].stop), strict=True):
            target[:] = plane[box[1:]]
        return result

    def boxes(self) -> Iterator[Box]:
        """Boxes that cover the volume in the order of its voxels, each about as large as may be held at once, along the
        borders of what is stored in one piece."""
        if self.piece[1:] == self.shape[1:]:
            # At least a few slices, for some who ask look at those around them as well.
            sides = (max(8, _BOX_VOXELS // math.prod(self.shape[1:])), *self.shape[1:])
        else:
            times = max(1, int((_BOX_VOXELS / math.prod(self.piece)) ** (1 / 3)))
            sides = tuple(times * side for side in self.piece)
        return product(
            *(
                [slice(i, min(i + side, length)) for i in range(0, length, side)]
                for side, length in zip(sides, self.shape, strict=True)
            )
        )

    def close(self) -> None:
        self._close()

    def __enter__(self) -> "VolumeReader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def native_copy(array: np.ndarray) -> np.ndarray:
    """The array, perhaps mapped, in memory and in this machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="))


def single_channel(volume: Volume, channel: int | None = None, name: str | None = None) -> Volume:
    """The volume with axes (z, y, x) that a step for one channel needs; raises VolumeError if it is not clear which."""
    return volume.channel(chosen_channel(channel, volume.num_channels, name or volume.source))


def check_finite(volume: "Volume | VolumeReader", name: str | None = None) -> None:
    """Raise VolumeError, with their counts, if voxels are NaN or infinite. Bounded memory."""
    if volume.dtype.kind != "f":
        return
    nan = infinite = 0
    for slab in _pieces(volume):
        nan += int(np.count_nonzero(np.isnan(slab)))
        infinite += int(np.count_nonzero(np.isinf(slab)))
    if nan or infinite:
        raise VolumeError(
            f"{name or volume.source}: expected finite voxels, got {nan} NaN and {infinite} infinite ones"
        )


def check_signal(volume: "Volume | VolumeReader", name: str | None = None) -> None:
    """Raise VolumeError if all voxels have one value (an empty image, a wrong channel). Stops at the first that differs."""
    first = None
    for slab in _pieces(volume):
        first = slab.flat[0] if first is None else first
        if (slab != first).any():
            return
    raise VolumeError(f"{name or volume.source}: expected an image, got the value {first} in every voxel")


def slabs(volume: Volume) -> Iterator[np.ndarray]:
    """The volume cut along z into arrays of bounded size, (dz, y, x) or (c, dz, y, x), in order."""
    depth, height, width = volume.shape
    step = max(1, _SLAB_BYTES // (height * width * volume.dtype.itemsize * volume.num_channels))
    for z in range(0, depth, step):
        yield volume.array[..., z : z + step, :, :]


def _pieces(volume: "Volume | VolumeReader") -> Iterator[np.ndarray]:
    """All voxels, in arrays of bounded size."""
    return slabs(volume) if isinstance(volume, Volume) else map(volume.read_box, volume.boxes())


def checked_voxel_size(voxel_size, name: str) -> tuple[float, float, float] | None:
    """Three positive finite floats, or None; raises VolumeError otherwise."""
    if voxel_size is None:
        return None
    try:
        sizes = tuple(float(size) for size in voxel_size)
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != 3 or not all(0 < size < float("inf") for size in sizes):
        raise VolumeError(
            f"{name}: expected voxel_size z, y, x in micrometres, positive and finite, got {voxel_size!r}"
        )
    return sizes


def chosen_channel(channel: int | None, num_channels: int, name: str) -> int:
    """`channel`, or 0 where there is only one; raises VolumeError where there are several and none was chosen."""
    if channel is None and num_channels > 1:
        raise VolumeError(
            f"{name}: has {num_channels} channels: choose one with channel=0 .. {num_channels - 1} (--channel)"
        )
    return 0 if channel is None else channel


def checked_channel(channel: int, num_channels: int, name: str) -> int:
    """`channel` as an int in [0, num_channels); raises VolumeError otherwise (negative numbers do not count from the end)."""
    if isinstance(channel, bool) or not isinstance(channel, int | np.integer) or not 0 <= channel < num_channels:
        raise VolumeError(f"{name}: expected a channel from 0 to {num_channels - 1}, got {channel!r}")
    return int(channel)
