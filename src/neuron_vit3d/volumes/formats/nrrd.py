"""Reading NRRD (.nrrd, and .nhdr with its voxels in a second file): the header by pynrrd (MIT), the voxels by `flat`.

The first axis of an NRRD file is the fastest, so x y z becomes (z, y, x), and x y one slice. An axis that is no
direction of space (its `kinds`, its `labels`, or `none` in `space directions`) holds channels; four axes of which the
header does not say that are refused. More than one time point is refused. Voxel size: the lengths of `space
directions` in `space units`, or `spacings` in `units`; None where no unit is given. Nothing is flipped.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from ..units import micrometres, voxel_size_of
from ..volume import Volume, VolumeError
from .choice import tell_of_one_slice
from .flat import as_volume, read_flat
from .format import Format, needs, one_line


# The spellings of https://teem.sourceforge.net/nrrd/format.html, section "type"
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: np.dtype(dtype) for dtype, names in _TYPES.items() for name in names.split(", ")}
_PACKINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
_ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
_SPATIAL_KINDS, _UNKNOWN_KINDS = ("domain", "space"), ("", "none", "???")
# What `labels` call axes, in lower case, and the kind that it makes of them
_LABELS = {
    **dict.fromkeys(("x", "y", "z"), "space"),
    **dict.fromkeys(("c", "channel", "channels", "color", "colour", "rgb", "rgba"), "list"),
    **dict.fromkeys(("t", "time"), "time"),
}
_MOST_HEADER_BYTES = 1 << 20


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read an NRRD file; see `volumes.read_volume`. Raises VolumeError."""
    try:
        from nrrd import read_header
    except ImportError as error:
        raise needs(path, "NRRD", "nrrd") from error
    with path.open("rb") as file:
        lines = list(_header_lines(file, path))
        header_bytes = file.tell()
    try:
        header = read_header(lines)
        sizes = tuple(int(size) for size in header["sizes"])
        dtype = _DTYPES[header["type"].lower()]
        encoding = header["encoding"].lower()
        skip, lines_to_skip = (
            int(header.get(f"{what} skip", header.get(f"{what}skip", 0))) for what in ("byte", "line")
        )
        if dtype.itemsize > 1 and encoding in _PACKINGS:
            dtype = dtype.newbyteorder(_ORDERS[header["endian"].lower()])
        voxels = math.prod(sizes)
        spatial, channels = _axes(header, sizes, path)
        voxel_size = _voxel_size(header, spatial)
    except VolumeError:
        raise
    except Exception as error:
        raise VolumeError(f"{path}: not a readable NRRD header: {one_line(error)}") from error
    if encoding not in _PACKINGS:
        raise VolumeError(f"{path}: expected NRRD encoding raw, gzip or bzip2, got {encoding!r}")
    if skip < 0 and (skip != -1 or encoding != "raw"):
        # "byte skip" in the definition: -1 for the last bytes, which is possible with raw encoding only
        raise VolumeError(
            f"{path}: expected a byte skip from 0 on, or -1 with encoding raw, got {skip} with {encoding}"
        )
    data, offset = _data_file(header, path, header_bytes, lines_to_skip)
    if skip == -1:  # the voxels are the last bytes
        skip = max(0, data.stat().st_size - offset - voxels * dtype.itemsize)
    array = read_flat(data, offset, _PACKINGS[encoding], skip, dtype, sizes[::-1])
    # From numpy's order of axes, the reverse of NRRD's, to c z y x; what is left are axes of length 1.
    order = [len(sizes) - 1 - axis for axis in (*channels, *spatial[::-1])]
    others = [axis for axis in range(len(sizes)) if axis not in order]
    array = array.transpose(*others, *order)[(0,) * len(others)]
    if len(spatial) == 2:
        array = array[..., None, :, :]
        tell_of_one_slice(sizes[spatial[1]], sizes[spatial[0]], sizes[channels[0]] if channels else 1, str(path))
    return as_volume(array if channels else array[None], voxel_size, path, channel)


def _header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """The lines up to the empty one; the file is left behind it."""
    while line := file.readline(_MOST_HEADER_BYTES).decode("ascii", "replace"):
        if file.tell() >= _MOST_HEADER_BYTES:
            raise VolumeError(f"{path}: expected an NRRD header of less than {_MOST_HEADER_BYTES} bytes")
        if not line.strip():
            return
        yield line


def _axes(header: dict, sizes: tuple[int, ...], path: Path) -> tuple[list[int], list[int]]:
    """Numbers of the axes of space, x y z or x y, and of the axis of channels, if any, in the file's order."""
    if len(sizes) != header["dimension"] or not 2 <= len(sizes) <= 16 or min(sizes) < 1:
        raise VolumeError(f"{path}: expected 2 or more positive sizes, got {sizes} of {header['dimension']} axes")
    kinds = _kinds(header, len(sizes))
    stated = ", ".join(f"{size} {kind or 'of no kind'}" for size, kind in zip(sizes, kinds, strict=True))
    spatial = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL_KINDS + _UNKNOWN_KINDS]
    for end in (-1, 0):
        while len(spatial) > 3 and sizes[spatial[end]] == 1:
            spatial.pop(end)
    if len(spatial) > 3:  # then nothing may be taken for space that the header does not call so
        spatial = [axis for axis in spatial if kinds[axis] in _SPATIAL_KINDS]
    channels = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    if any(kinds[axis] == "time" for axis in channels):
        raise VolumeError(f"{path}: expected one stack of slices, got several time points (axes: {stated}); save one")
    if len(spatial) not in (2, 3) or len(channels) > 1 or any(kinds[axis] in _UNKNOWN_KINDS for axis in channels):
        raise VolumeError(
            f"{path}: expected two or three axes of space and at most one of channels, got {stated}: say which is "
            "which in the header, such as kinds: domain domain domain list"
        )
    labels = [str(label).lower() for label in header.get("labels", ())]
    if len(labels) == len(sizes) and sorted(labels[axis] for axis in spatial) == ["x", "y", "z"][: len(spatial)]:
        spatial.sort(key=lambda axis: labels[axis])
    return spatial, channels


def _kinds(header: dict, count: int) -> list[str]:
    """What each axis is, in the words of `kinds`; those that these leave open by `space directions` or `labels`."""
    kinds = [str(kind).lower() for kind in header.get("kinds", [""] * count)]
    directions, named = header.get("space directions"), []
    if all(str(label).lower() in _LABELS for label in header.get("labels", ())):  # else a "c" may be anything
        named = [_LABELS[str(label).lower()] for label in header.get("labels", ())]
    for axis, kind in enumerate(kinds):
        if kind in _UNKNOWN_KINDS and directions is not None:
            points = directions[axis] is not None and bool(np.isfinite(directions[axis]).all())
            kinds[axis] = "space" if points else "list"
        elif kind in _UNKNOWN_KINDS and named:
            kinds[axis] = named[axis]
    return kinds


def _data_file(header: dict, path: Path, header_bytes: int, lines_to_skip: int) -> tuple[Path, int]:
    """The file with the voxels, this one or one in its folder, and where they begin."""
    name = header.get("data file", header.get("datafile"))
    data, offset = path, header_bytes
    if name is not None:
        if str(name).split()[:1] == ["LIST"] or "%" in str(name) or not isinstance(name, str):
            raise VolumeError(f"{path}: expected the voxels in one file, got the pattern or list {str(name)[:100]!r}")
        data, offset = (path.parent / name).resolve(), 0
        if not data.is_relative_to(path.parent.resolve()):
            raise VolumeError(f"{path}: expected its data file in its own folder, got {name[:200]!r}")
        if not data.is_file():
            raise VolumeError(f"{path}: its data file {name[:200]!r} is not there")
    if lines_to_skip:
        with data.open("rb") as file:
            file.seek(offset)
            for _ in range(lines_to_skip):
                if not file.readline(_MOST_HEADER_BYTES):
                    break
            offset = file.tell()
    return data, offset


def _voxel_size(header: dict, spatial: list[int]) -> tuple[float, float, float] | None:
    """z, y, x in micrometres; None where lengths or units are not given."""
    directions, units = header.get("space directions"), header.get("space units")
    if directions is not None and units is not None:
        lengths = [micrometres(unit) for unit in units]
        sizes = [float(np.linalg.norm(directions[axis] * lengths)) for axis in spatial]
    elif "spacings" in header and "units" in header:
        sizes = [abs(header["spacings"][axis]) * micrometres(header["units"][axis]) for axis in spatial]
    else:
        return None
    return voxel_size_of(sizes[::-1])


FORMAT = Format(
    row="NRRD", suffixes=(".nrrd", ".nhdr"), signature=(b"NRRD000",), read=read, extra="nrrd", headers=(".nhdr",)
)
