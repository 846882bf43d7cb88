"""neuroglancer's precomputed skeletons: a folder with `info` and a binary file for each segment.

The layout is that of neuroglancer's own description (src/datasource/precomputed/skeletons.md and
segment_properties.md in its repository). A tree becomes segment 1: all its fragments belong to one neuron. Positions
and radii are nanometres, so that the transform is the identity: with one that scales the sides by themselves, radii
would have no meaning.
"""

import json
import struct
from pathlib import Path

import numpy as np

from ...files import new_folder
from ..soundness import check_tree
from ..swc import Tree
from .format import TreeFileError, TreeFormat


SEGMENT = 1
_NANOMETRES = 1000.0  # in a micrometre
# float32 has 24 bits: beyond this many nanometres (16.8 mm) neighbouring numbers are more than one apart.
_LARGEST_EXACT = float(2**24)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def _write(path: Path, tree: Tree, voxel_size: tuple[float, float, float] | None) -> None:
    if voxel_size is None:
        raise TreeFileError(
            f"{path}: precomputed skeletons are in nanometres; give the voxel size (--voxel-size z,y,x in micrometres)"
        )
    problems = check_tree(tree)
    if problems:
        raise TreeFileError(f"{path}: not written, {problems[0]}")
    if not len(tree.edges):
        raise TreeFileError(f"{path}: expected a tree with edges, found {len(tree)} node(s) without any")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise TreeFileError(f"{path}: expected an empty folder to write to, or none, found something there")
    sides = np.asarray(voxel_size, float)
    positions = tree.xyz * sides[::-1] * _NANOMETRES
    radii = tree.radii * sides.min() * _NANOMETRES
    if max(np.abs(positions).max(), radii.max()) > _LARGEST_FLOAT32:
        raise TreeFileError(f"{path}: the tree is too large for numbers of 32 bits; is the voxel size in micrometres?")
    with new_folder(path) as folder:
        (folder / "segment_properties").mkdir(parents=True)
        (folder / "info").write_text(json.dumps(_info(), indent=1), encoding="utf-8")
        (folder / "segment_properties" / "info").write_text(json.dumps(_properties(path.stem)), encoding="utf-8")
        (folder / str(SEGMENT)).write_bytes(encoded(positions, tree.edges, radii))


def encoded(positions: np.ndarray, edges: np.ndarray, radii: np.ndarray) -> bytes:
    """The bytes of a segment: two counts, positions (n, 3), edges (m, 2) of rows, and radii (n,), little-endian."""
    parts = [np.asarray(positions, "<f4"), np.asarray(edges, "<u4"), np.asarray(radii, "<f4")]
    return struct.pack("<II", len(positions), len(edges)) + b"".join(part.tobytes() for part in parts)


def _info() -> dict:
    return {
        "@type": "neuroglancer_skeletons",
        "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        "vertex_attributes": [{"id": "radius", "data_type": "float32", "num_components": 1}],
        "segment_properties": "segment_properties",
    }


def _properties(name: str) -> dict:
    """Lists the segment, so that neuroglancer shows it under the tree's name without its number being typed."""
    label = {"id": "label", "type": "label", "values": [name]}
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {"ids": [str(SEGMENT)], "properties": [label]},
    }


FORMAT = TreeFormat(
    row="neuroglancer's precomputed skeletons, a folder",
    suffixes=(".precomputed",),
    write=_write,
    is_folder=True,
)
