"""SWC files as a tree format; all about them is in `neuron_vit3d.morphology.swc`."""

from pathlib import Path

from ..swc import Tree, read_swc
from .format import TreeFormat


def _write(path: Path, tree: Tree, voxel_size: tuple[float, float, float] | None) -> None:
    tree.write(path)


FORMAT = TreeFormat(row="SWC", suffixes=(".swc", ".eswc"), read=read_swc, write=_write)
