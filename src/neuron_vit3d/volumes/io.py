"""Reading, opening and writing volumes, in any format of `formats.registry`.

    volume = read_volume("neuron.tif")             # Volume: array (z, y, x) or (c, z, y, x), voxel size in micrometres
    write_volume("neuron.v3draw", volume)          # the suffix chooses the format
    with open_volume("large.tif", channel=0) as reader:
        slices = reader.read(0, 16)                # (16, y, x): only these slices are decoded

`read_volume` and `open_volume` recognise a file by its first bytes, not by its name.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .formats.choice import only_image
from .formats.registry import format_of, formats
from .names import is_volume_name, volume_stem
from .reader import VolumeReader, array_reader
from .units import tell_of_uneven
from .volume import Volume, VolumeError, native_copy


def read_volume(
    path: str | os.PathLike, *, channel: int | None = None, image: int | None = None, memory_map: bool = True
) -> Volume:
    """Read a TIFF, Vaa3D or .npy file, or one of the other formats that docs/how-to/formats.md lists.

    Some of them need an extra, such as `pip install "neuron_vit3d[nrrd]"`.

    Args:
        path: the file or folder; its content decides the format, not its suffix (but for those that bioio reads).
        channel: keep this channel (from 0); None keeps all.
        image: read this image (from 0) of a file that holds several; None reads the largest stack of slices, with a
            warning that lists them.
        memory_map: leave the voxels on disk until they are touched, where the file holds them uncompressed, in one
            piece and in this machine's byte order. Changes to a mapped array stay in memory, the file is never
            changed.

    Returns:
        Volume whose array is (z, y, x), or (c, z, y, x) if several channels were kept, in this machine's byte order.

    Raises:
        VolumeError: the file is no volume, is damaged, claims more voxels than its bytes can hold, or needs a library
            that is not installed (the message says which).
        OSError: the file cannot be opened.
    """
    path = Path(path)
    format = format_of(path)
    if format.has_images:
        volume = format.read(path, channel=channel, image=image)
    else:
        only_image(image, str(path))
        volume = format.read(path, channel=channel)
    tell_of_uneven(volume.voxel_size, str(path))
    array = volume.array
    if array.dtype.isnative and (memory_map or not isinstance(array, np.memmap)):
        return volume
    return Volume(native_copy(array), volume.voxel_size, volume.source)


def open_volume(
    source: str | os.PathLike | Volume | VolumeReader, channel: int | None = None, image: int | None = None
) -> VolumeReader:
    """Open one channel of a volume, to read a few slices at a time; close it, or use it in a `with` statement.

    Compressed TIFFs and OME-Zarr are decoded as asked for and uncompressed files are mapped. So memory is bounded by
    what `read` is asked for, and by 384 MB (for each channel) of slices that are decoded with others or may be asked
    for again (see `volumes.kept`). A v3dpbd file has no entry points, nor has a compressed NRRD or NIfTI file: those
    are decoded whole, when they are opened; of a v3dpbd file only the channel is kept.

    Raises:
        VolumeError: as `read_volume`; also several channels while `channel` is None.
    """
    if isinstance(source, VolumeReader):
        return source
    if isinstance(source, Volume):
        only_image(image, source.source)
        return array_reader(source, channel)
    path, format = Path(source), format_of(Path(source))
    if not format.has_images:
        only_image(image, str(path))
    if format.open is None:
        reader = array_reader(format.read(path), channel)
    else:
        reader = format.open(path, channel, image) if format.has_images else format.open(path, channel)
    tell_of_uneven(reader.voxel_size, str(path))
    return reader


def write_volume(path: str | os.PathLike, volume: Volume) -> Path:
    """Write a volume in the format that the suffix chooses.

    A file that is there is replaced only once the new one is complete.

    TIFF (`.tif`, `.tiff`, `.btf`) keeps the voxel size and holds every dtype. Vaa3D's `.v3draw` (or `.raw`) and
    numpy's `.npy` have no place for a voxel size; v3draw holds bool, uint8, uint16 and float32. A bool volume becomes
    uint8 with 0 and 255 in TIFF and v3draw files, as Fiji and Vaa3D show masks.

    Raises:
        VolumeError: unknown suffix, or a dtype that the format cannot hold.
    """
    path = Path(path)
    if not isinstance(volume, Volume):
        raise VolumeError(f"{path}: expected a Volume to write, got {type(volume).__name__}")
    suffix = path.suffix.lower()
    for format in formats():
        if format.write is not None and suffix in format.writes:
            format.write(path, volume)
            return path
    written = [one for format in formats() for one in format.writes]
    if not is_volume_name(path.name):
        raise VolumeError(
            f"{path}: cannot tell the format to write from {suffix or 'no suffix'!r}; use {_any(written)}"
        )
    kind = path.name[len(volume_stem(path.name)) :].lower()
    # The program that a file is for may read another that can be written.
    own = next(format.writes for format in formats() if kind in format.suffixes)
    raise VolumeError(f"{path}: {kind[1:]} files can be read but not written; use {_any(own or written)}")


def _any(suffixes: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
