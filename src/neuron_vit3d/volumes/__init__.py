"""3D images on disk <-> `Volume`: an array with axes z y x and the size of a voxel in micrometres."""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .checks import check_finite, check_signal
    from .formats.tiff_writer import SlabWriter
    from .io import open_volume, read_volume, write_volume
    from .names import VOLUME_SUFFIXES, is_volume_folder, is_volume_name, volume_stem
    from .reader import VolumeReader
    from .volume import Volume, VolumeError, single_channel


_HOMES = {
    "VOLUME_SUFFIXES": "names",
    "SlabWriter": "formats.tiff_writer",
    "Volume": "volume",
    "VolumeError": "volume",
    "VolumeReader": "reader",
    "check_finite": "checks",
    "check_signal": "checks",
    "is_volume_folder": "names",
    "is_volume_name": "names",
    "open_volume": "io",
    "read_volume": "io",
    "single_channel": "volume",
    "volume_stem": "names",
    "write_volume": "io",
}

__all__ = [
    "VOLUME_SUFFIXES",
    "SlabWriter",
    "Volume",
    "VolumeError",
    "VolumeReader",
    "check_finite",
    "check_signal",
    "is_volume_folder",
    "is_volume_name",
    "open_volume",
    "read_volume",
    "single_channel",
    "volume_stem",
    "write_volume",
]


def __getattr__(name: str):
    # Lazy, so that the command line can tell what formats there are before it imports numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
