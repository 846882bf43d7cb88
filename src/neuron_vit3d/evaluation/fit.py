"""Whether a tree lies in an image at all: a tree in micrometres, or of another image, is refused with its cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..morphology import Tree
from ..morphology.units import in_voxels, is_taken_to_voxels


# At least so much of a tree lies in its image: less is a slip. And so far, in voxels, may a node be beside it.
LEAST_INSIDE, MARGIN = 0.5, 2.0


class FitError(ValueError):
    """A tree that does not lie in its image; the message is one line and names the file."""


def fitted(
    tree: Tree,
    path: Path,
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float] | None = None,
    *,
    is_um: bool = False,
) -> Tree:
    """Returns a tree in the voxels of an image that it lies in.

    Args:
        tree: as its file has it.
        path: the file, for messages.
        shape: of the image (z, y, x); of a single slice, as of a projection, z does not count.
        voxel_size: of the image, z, y, x in micrometres, or None.
        is_um: the tree is in micrometres, though its file does not say so.

    Raises:
        FitError: less than half of the nodes lie in the image; there is no voxel size to take it to voxels by.
    """
    if is_um and is_taken_to_voxels(tree):
        raise FitError(f"{path}: --swc-units um: its header says what it is in, and it has been read as that")
    if is_um:
        if voxel_size is None:
            raise FitError(f"{path}: --swc-units um: the image tells no voxel size to take the tree to voxels by")
        tree = in_voxels(tree, voxel_size)
    share = _share_inside(tree, shape)
    if share < LEAST_INSIDE:
        low, high = (np.round(one, 1).tolist() for one in (tree.xyz.min(axis=0), tree.xyz.max(axis=0)))
        sides = " x ".join(map(str, shape[::-1]))
        is_likely = not is_um and voxel_size is not None and _share_inside(in_voxels(tree, voxel_size), shape) > share
        cause = "it lies in it if it is in micrometres" if is_likely else "is it in micrometres, or of another image?"
        raise FitError(
            f"{path}: expected a tree in the {sides} voxels (x y z) of the image, got {share:.0%} of its nodes "
            f"inside, from {low} to {high}; {cause} (--swc-units um)"
        )
    return tree


def _share_inside(tree: Tree, shape: tuple[int, int, int]) -> float:
    last = np.array(shape[::-1]) - 1
    is_in = (tree.xyz >= -MARGIN) & (tree.xyz <= last + MARGIN)
    if shape[0] == 1:
        is_in[:, 2] = True
    return float(is_in.all(axis=1).mean())
