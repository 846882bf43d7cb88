"""Which format a file or folder is in, told by its first bytes or its metadata, and the module that reads it.

Every module here has `read(path, *, channel) -> Volume`: mapped, perhaps in the file's byte order, where the file holds the voxels
as they are. Those that decode only the slices asked for also have `open_reader(path, channel) -> VolumeReader`. Libraries of
optional formats are imported where a file of that format turns up.
"""

import gzip
import importlib
import zlib
from pathlib import Path
from types import ModuleType

from .names import MICROSCOPE_SUFFIXES
from .volume import VolumeError


_NIFTI_BYTES = 540  # of the larger one of its headers


def reader_of(path: Path) -> ModuleType:
    """The module of this folder that reads the volume at `path`. Raises VolumeError where there is none, OSError unopened."""
    return importlib.import_module(f".{format_of(path)}", __package__)


def format_of(path: Path) -> str:
    """ "tiff", "vaa3d", "npy", "nrrd", "nifti", "zarr" or "bioio": the module that reads the file or folder."""
    from . import nifti, nrrd, tiff, vaa3d, zarr

    if path.is_dir():
        if zarr.is_zarr(path):
            return "zarr"
        raise VolumeError(
            f"{path}: expected a file with a volume or an OME-Zarr folder, got a folder without zarr metadata"
        )
    with path.open("rb") as file:
        start = file.read(_NIFTI_BYTES)
    if start[:4] in tiff.SIGNATURES:
        return "tiff"
    if start[:24] in vaa3d.SIGNATURES:
        return "vaa3d"
    if start[:6] == b"\x93NUMPY":
        return "npy"
    if start[: len(nrrd.SIGNATURE)] == nrrd.SIGNATURE:
        return "nrrd"
    if nifti.is_header(_unpacked_start(path) if start[:2] == b"\x1f\x8b" else start):
        return "nifti"
    if path.suffix.lower() in MICROSCOPE_SUFFIXES:
        return "bioio"
    what = "an empty file" if not start else f"a file that begins with {start[:8]!r}"
    raise VolumeError(
        f"{path}: expected a TIFF, Vaa3D v3draw or v3dpbd, or .npy file, or NRRD, NIfTI or an OME-Zarr folder, got {what}"
    )


def needs(path: Path, what: str, extra: str) -> VolumeError:
    """The error of a file whose format needs a library that is not installed."""
    return VolumeError(
        f'{path}: {what} can be read where its library is installed: pip install "neuron_vit3d[{extra}]"'
    )


def one_line(error: BaseException) -> str:
    """What a library said, short enough for one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _unpacked_start(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            return file.read(_NIFTI_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""
