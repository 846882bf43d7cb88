"""TIFF stacks: `tiff_reader` says what is read and how, `tiff_writer` what is written."""

from pathlib import Path

from ..volume import Volume, slabs
from .format import Format
from .tiff_reader import open_reader, read
from .tiff_writer import SlabWriter


def write(path: Path, volume: Volume) -> None:
    """Write a TIFF file of any dtype that Fiji shows with voxel size and channels; see `tiff_writer`."""
    with SlabWriter(path, volume.array.shape, volume.dtype, volume.voxel_size) as writer:
        for slab in slabs(volume):
            writer.write(slab)


FORMAT = Format(
    row="TIFF: plain, BigTIFF, ImageJ, OME; compressed or not",
    suffixes=(".ome.tif", ".ome.tiff", ".tif", ".tiff", ".btf"),
    signature=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    read=read,
    open=open_reader,
    write=write,
    writes=(".tif", ".tiff", ".btf"),
    has_images=True,
)
