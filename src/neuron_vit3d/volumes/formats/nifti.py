"""Reading NIfTI-1 and NIfTI-2 (.nii, .nii.gz): the header by nibabel (MIT), the voxels by `flat`.

The first axis of a NIfTI file is the fastest, so x y z (t) (c) becomes (c, z, y, x); t must be 1. x y alone is one
slice. RGB voxels become
channels. A scale and an offset that the header states (`scl_slope`, `scl_inter`) are applied, in float32. Voxel size:
`pixdim` in the unit of `xyzt_units`; None where that is unknown. Nothing is flipped or turned: the affine transform is
left alone.
"""

import gzip
import io
import zlib
from pathlib import Path

import numpy as np

from ..reader import VolumeReader, array_reader
from ..units import micrometres, voxel_size_of
from ..volume import Volume, VolumeError, chosen_channel
from .choice import tell_of_one_slice
from .flat import as_volume, read_flat
from .format import START_BYTES, Format, needs, one_line


_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_GZIP = b"\x1f\x8b"
_PLACES_OF_MAGIC = {b"n+1\0": 344, b"ni1\0": 344, b"n+2\0": 4, b"ni2\0": 4}


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a NIfTI file; see `volumes.read_volume`. Raises VolumeError."""
    array, voxel_size, scale = _stored(path)
    return _scaled(as_volume(array, voxel_size, path, channel), scale)


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of a NIfTI file; see `volumes.open_volume`. Raises VolumeError."""
    array, voxel_size, scale = _stored(path)
    channel = chosen_channel(channel, len(array), str(path))
    return array_reader(_scaled(as_volume(array, voxel_size, path, channel), scale), num_channels=len(array))


def _stored(path: Path) -> tuple[np.ndarray, tuple | None, tuple[float, float]]:
    """The voxels (c, z, y, x) as they are stored, the voxel size, and the slope and intercept of their values."""
    try:
        from nibabel import Nifti1Header, Nifti2Header
    except ImportError as error:
        raise needs(path, "NIfTI", "nifti") from error
    start, packing = _start(path)
    kind, magic = (Nifti2Header, b"2") if start[4:6] in (b"n+", b"ni") else (Nifti1Header, b"1")
    if b"ni" + magic in (start[344:347], start[4:7]):
        raise VolumeError(
            f"{path}: expected header and voxels in one file (.nii or .nii.gz), got the header of a pair"
        )
    try:
        header = kind.from_fileobj(io.BytesIO(start), check=False)
        sizes = tuple(int(size) for size in header.get_data_shape())
        dtype = header.get_data_dtype()
        offset = int(header.get_data_offset())
        slope, intercept = header.get_slope_inter()
        unit, _ = header.get_xyzt_units()
        voxel_size = voxel_size_of([abs(float(size)) * micrometres(unit) for size in header["pixdim"][3:0:-1]])
    except Exception as error:
        raise VolumeError(f"{path}: not a readable NIfTI header: {one_line(error)}") from error
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    is_flat = len(sizes) == 2
    if is_flat:
        sizes, voxel_size = (*sizes, 1), None
    if not 3 <= len(sizes) <= 5 or min(sizes) < 1 or (len(sizes) > 3 and sizes[3] != 1):
        raise VolumeError(f"{path}: expected sizes x, y, z, one time point and perhaps channels, got {sizes}")
    colours = len(dtype.names or ())
    if colours and (len(sizes) > 3 or set(dtype[i] for i in range(colours)) != {np.dtype(np.uint8)}):
        raise VolumeError(f"{path}: expected colours of 8 bits in x, y, z, got {dtype} in {sizes}")
    if offset < kind.sizeof_hdr:
        raise VolumeError(
            f"{path}: expected voxels behind the header of {kind.sizeof_hdr} bytes, got them at byte {offset}"
        )
    if colours:
        array = np.moveaxis(
            read_flat(path, *_where(packing, offset), np.dtype(np.uint8), (*sizes[::-1], colours)), -1, 0
        )
    else:
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise VolumeError(f"{path}: expected integer or real voxels of at most 64 bits, got {dtype}")
        array = read_flat(path, *_where(packing, offset), dtype, sizes[::-1])
        array = array[None] if array.ndim == 3 else array.reshape(-1, *array.shape[-3:])
    if is_flat:
        tell_of_one_slice(array.shape[2], array.shape[3], len(array), str(path))
    if slope in (None, 0) or not np.isfinite(slope):
        slope, intercept = 1, 0
    return array, voxel_size, (slope, intercept or 0)


def _scaled(volume: Volume, scale: tuple[float, float]) -> Volume:
    if scale == (1, 0):
        return volume
    scaled = np.array(volume.array, np.float32)
    scaled *= np.float32(scale[0])
    scaled += np.float32(scale[1])
    return Volume(scaled, volume.voxel_size, volume.source)


def _start(path: Path) -> tuple[bytes, str]:
    """The file's first bytes, unpacked, and how it is packed."""
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            file.seek(0)
            return file.read(_HEADER_BYTES), "raw"
    with gzip.open(path, "rb") as file:
        return file.read(_HEADER_BYTES), "gzip"


def _where(packing: str, offset: int) -> tuple[int, str, int]:
    """`read_flat`'s offset, packing and skip."""
    return (0, packing, offset) if packing == "gzip" else (offset, packing, 0)


def _is_nifti(path: Path, start: bytes) -> bool:
    if start.startswith(_GZIP):
        try:
            with gzip.open(path, "rb") as file:
                start = file.read(START_BYTES)
        except (OSError, EOFError, zlib.error):
            return False
    return any(start[place : place + 4] == magic for magic, place in _PLACES_OF_MAGIC.items())


FORMAT = Format(
    row="NIfTI",
    suffixes=(".nii", ".nii.gz"),
    signature=_is_nifti,
    read=read,
    open=open_reader,
    extra="nifti",
)
