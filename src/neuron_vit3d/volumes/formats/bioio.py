"""Reading microscope makers' formats (.czi, .lif, .nd2 ...) by bioio (BSD) and its plugins, where installed.

Each format has a plugin under a licence of its own. The permissive ones come with this package's extra `bioio`; others
are named where a file needs one, with the line that installs them. Of several scenes the largest stack is read, which
is told; more than one time point is refused. bioio's physical sizes are micrometres. Such a file goes to a parser
written elsewhere: how it takes damaged input is up to that plugin, whose errors are passed on as one line.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..reader import VolumeReader
from ..units import voxel_size_of
from ..volume import Volume, VolumeError, checked_channel, chosen_channel
from .choice import Candidate, chosen_image, only_image
from .format import Format, one_line


class _Plugin(NamedTuple):
    """What bioio needs for a format: the package, whether the extra brings it, and what there is to know of it."""

    package: str
    is_in_extra: bool
    remark: str


# Licences as the packages state them. bioio-sldy is MIT, but asks for numpy 1 below Python 3.13.
PLUGINS = {
    ".nd2": _Plugin("bioio-nd2", True, "MIT"),
    ".lif": _Plugin("bioio-lif", True, "BSD"),
    ".dv": _Plugin("bioio-dv", True, "MIT"),
    ".r3d": _Plugin("bioio-dv", True, "MIT"),
    ".sldy": _Plugin("bioio-sldy", sys.version_info >= (3, 13), "MIT; from Python 3.13 on"),
    ".czi": _Plugin("bioio-czi", False, "GPL-3.0"),
}
_OTHERS = _Plugin("bioio-bioformats", False, "GPL, and needs Java")


def read(path: Path, *, channel: int | None = None, image: int | None = None) -> Volume:
    """Read a scene of a microscope's file into memory; see `volumes.read_volume`. Raises VolumeError."""
    found = _Scene(path, image)
    try:
        if channel is not None or found.num_channels == 1:
            array = found.image.get_image_data("ZYX", **found.one(channel or 0))
        else:
            array = found.image.get_image_data(f"{found.axis}ZYX", T=0)
    except VolumeError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    return Volume(_native(array), found.voxel_size, str(path))


def open_reader(path: Path, channel: int | None = None, image: int | None = None) -> VolumeReader:
    """Open one channel of a microscope's file; see `volumes.open_volume`. Raises VolumeError."""
    found = _Scene(path, image)
    one = found.one(chosen_channel(channel, found.num_channels, str(path)))
    try:
        slices = found.image.get_image_dask_data("ZYX", **one)
    except Exception as error:
        raise _damaged(path, error) from error

    def read_slices(z0: int, z1: int) -> np.ndarray:
        try:
            return _native(slices[z0:z1].compute())
        except Exception as error:
            raise _damaged(path, error) from error

    return VolumeReader(
        slices.shape, slices.dtype, found.voxel_size, str(path), read_slices, num_channels=found.num_channels
    )


class _Scene:
    """A scene of a file: bioio's image set to it, the axis of its channels, num_channels, voxel_size."""

    def __init__(self, path: Path, number: int | None):
        self.path, plugin = path, PLUGINS.get(path.suffix.lower(), _OTHERS)
        try:
            from bioio import BioImage
        except ImportError as error:
            raise VolumeError(f"{path}: {path.suffix} files {_how_to_install(plugin)}") from error
        try:
            self.image = BioImage(path)
            self._choose(number)
            dims, sizes = self.image.dims, self.image.physical_pixel_sizes
            times, channels, samples = (int(getattr(dims, axis, 1)) for axis in "TCS")
        except VolumeError:
            raise
        except Exception as error:
            if type(error).__name__ == "UnsupportedFileFormatError":
                raise VolumeError(
                    f"{path}: no installed plugin of bioio reads it: {path.suffix} files {_how_to_install(plugin)}; "
                    "or the file is damaged"
                ) from error
            raise _damaged(path, error) from error
        if times != 1:
            raise VolumeError(f"{path}: expected one stack of slices, got {times} time points; save one")
        if channels > 1 and samples > 1:
            raise VolumeError(f"{path}: expected channels or colour samples, got {channels} of {samples} samples")
        self.axis, self.num_channels = ("S", samples) if samples > 1 else ("C", channels)
        self.voxel_size = voxel_size_of([np.nan if size is None else size for size in (sizes.Z, sizes.Y, sizes.X)])

    def _choose(self, number: int | None) -> None:
        """Sets the image to the scene asked for, or the largest stack, which is told."""
        scenes = list(self.image.scenes)
        if len(scenes) < 2:
            only_image(number, str(self.path))
            return
        candidates = []
        for index, title in enumerate(scenes):
            self.image.set_scene(index)
            depth, height, width = (int(getattr(self.image.dims, axis, 1)) for axis in "ZYX")
            candidates.append(Candidate((depth, height, width), str(title)))
        self.image.set_scene(chosen_image(number, candidates, str(self.path)))

    def one(self, channel: int) -> dict[str, int]:
        """What bioio is asked for one channel."""
        return {"T": 0, self.axis: checked_channel(channel, self.num_channels, str(self.path))}


def _how_to_install(plugin: _Plugin) -> str:
    """All that a format needs, in one line."""
    words = ['"neuron_vit3d[bioio]"', *([] if plugin.is_in_extra else [plugin.package])]
    return f"can be read with {plugin.package} ({plugin.remark}): pip install {' '.join(words)}"


def _native(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _damaged(path: Path, error: Exception) -> VolumeError:
    return VolumeError(f"{path}: bioio cannot read it: {one_line(error)}")


# Told by the suffix, where the content is of no other format: their files begin in many ways.
_SUFFIXES = (
    ".czi",
    ".dv",
    ".lif",
    ".lof",
    ".lsm",
    ".nd2",
    ".oib",
    ".oif",
    ".r3d",
    ".sldy",
    ".vsi",
    ".xlif",
    ".zvi",
)
FORMAT = Format(
    row="what [bioio](https://github.com/bioio-devs/bioio)'s plugins read of the microscope makers' formats",
    suffixes=_SUFFIXES,
    signature=lambda path, _: path.suffix.lower() in _SUFFIXES,
    read=read,
    open=open_reader,
    extra="bioio",
    headers=(".oif", ".vsi", ".xlif"),
    has_images=True,
)
