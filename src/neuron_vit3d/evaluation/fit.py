"""Checks that a tree lies in its image: a tree in micrometres, or of another image, is refused with the cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..morphology import Tree, read_tree
from ..morphology.units import (
    MICROMETRES,
    expecting_micrometres,
    in_voxels,
    says_micrometres,
    to_voxels,
    voxel_size_of,
)


# A tree must have at least this share of its nodes in its image, or there is a mistake. A node may lie this many
# voxels outside.
LEAST_INSIDE, MARGIN = 0.5, 2.0


class FitError(ValueError):
    """A tree that does not lie in its image; the message is one line and names the file."""


def read_fitted(
    path: Path,
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float] | None = None,
    *,
    units: str | None = None,
    mend_structure: bool = False,
) -> Tree:
    """Reads a tree in the voxels of its image, and checks that it lies in the image.

    Args:
        path, mend_structure: as in `read_tree`.
        shape, voxel_size, units: as in `fitted`, which also lists the errors.
    """
    with expecting_micrometres():
        tree = read_tree(path, mend_structure=mend_structure)
    return fitted(tree, path, shape, voxel_size, units=units)


def fitted(
    tree: Tree,
    path: Path,
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float] | None = None,
    *,
    units: str | None = None,
) -> Tree:
    """Converts a tree to the voxels of its image, and checks that it lies in the image.

    Args:
        tree: as its file has it.
        path: the file, for messages.
        shape: shape of the image (z, y, x); if it has a single slice, such as a projection, z does not count.
        voxel_size: voxel size of the image, z, y, x in micrometres, or None.
        units: of the tree, voxels or um; None: as its header says, or else voxels.

    Raises:
        FitError: less than half of the nodes lie in the image.
        SWCError: the tree is in micrometres, and no voxel size is known to convert it to voxels.
    """
    was_um = units == MICROMETRES or (units is None and says_micrometres(tree))
    tree = to_voxels(tree, path, voxel_size, units)
    share = _share_inside(tree, shape)
    if share < LEAST_INSIDE:
        low, high = (np.round(one, 1).tolist() for one in (tree.xyz.min(axis=0), tree.xyz.max(axis=0)))
        sides = " x ".join(map(str, shape[::-1]))
        would_lie = not was_um and voxel_size is not None and _share_inside(in_voxels(tree, voxel_size), shape) > share
        raise FitError(
            f"{path}: expected a tree in the {sides} voxels (x y z) of the image, got {share:.0%} of its nodes "
            f"inside, from {low} to {high}; {_cause(tree, voxel_size, was_um=was_um, would_lie=would_lie)}"
        )
    return tree


def _cause(tree: Tree, voxel_size: tuple[float, float, float] | None, *, was_um: bool, would_lie: bool) -> str:
    """Tells why a tree may not lie in its image, and which option helps."""
    told = voxel_size_of(tree)
    if was_um:
        return "is the voxel size wrong (--voxel-size), or is the tree in voxels (--swc-units voxels)?"
    if told is not None and voxel_size is not None and not np.allclose(told, voxel_size, rtol=0.01):
        theirs, ours = (" ".join(f"{side:.4g}" for side in size) for size in (told, voxel_size))
        return f"its header says voxels of {theirs} um (z y x), the image says {ours}: do they belong together?"
    if would_lie:
        return "it would lie inside if it were in micrometres (--swc-units um)"
    return "is it in micrometres (--swc-units um), or does it belong to another image?"


def _share_inside(tree: Tree, shape: tuple[int, int, int]) -> float:
    last = np.array(shape[::-1]) - 1
    is_in = (tree.xyz >= -MARGIN) & (tree.xyz <= last + MARGIN)
    if shape[0] == 1:
        is_in[:, 2] = True
    return float(is_in.all(axis=1).mean())
