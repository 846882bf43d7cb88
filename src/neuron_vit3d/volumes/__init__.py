"""3D images on disk <-> `Volume`: an array with axes z y x and the size of a voxel in micrometres."""

from .names import VOLUME_SUFFIXES, is_volume_folder, is_volume_name, volume_stem
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
