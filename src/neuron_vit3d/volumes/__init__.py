"""3D images on disk <-> `Volume`: an array with axes z y x and the size of a voxel in micrometres."""

from .tiff_writer import SlabWriter
from .volume import (
    Volume,
    VolumeError,
    VolumeReader,
    check_finite,
    check_signal,
    open_volume,
    read_volume,
    single_channel,
    write_volume,
)


__all__ = [
    "SlabWriter",
    "Volume",
    "VolumeError",
    "VolumeReader",
    "check_finite",
    "check_signal",
    "open_volume",
    "read_volume",
    "single_channel",
    "write_volume",
]
