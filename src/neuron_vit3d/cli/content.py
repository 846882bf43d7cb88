"""Looks whether a tree lies on the neuron of its image, and warns of a usual mistake; it refuses nothing."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from .output import note


if TYPE_CHECKING:
    import numpy as np

    from ..morphology import Tree
    from ..volumes import VolumeReader

# An image that would not be read otherwise is read for this up to so many voxels, which takes about a second.
MOST_VOXELS = 1 << 26


def warn_of_mistake(
    tree: "Tree", path: Path, image: "np.ndarray", name: Path, voxel_size: tuple[float, float, float] | None = None
) -> None:
    """Warns of a tree that lies on the neuron only once it is flipped, scaled, or its axes are swapped.

    Args:
        tree: in voxels of the image.
        path: the tree's file.
        image: (z, y, x); of one slice, a projection along z.
        name: the image's file.
        voxel_size: z, y, x in micrometres, or None.
    """
    from ..data.alignment import AS_IS, SCALED, SWAPPED, Y_FLIPPED, check_alignment

    fit = check_alignment(tree, image, voxel_size).fit
    if fit in (None, AS_IS):
        return
    mended = {
        Y_FLIPPED: "y is counted from the other side: y -> height - 1 - y mends it",
        SCALED: "it is in micrometres: --swc-units um takes it to voxels",
        SWAPPED: "x and y are swapped: exchanging the columns mends it",
    }
    said = f"seems to miss the neuron of {name.name}, on which it lies with {fit}: {mended[fit]}"
    note(f"{path}: {said} (`neuron-vit3d prepare` mends pairs)", is_warning=True)


def warn_of_mistake_in(reader: "VolumeReader", tree: "Tree", path: Path, name: Path) -> None:
    """Does so for an image that was opened, where it is small enough to be read for that; it is not held."""
    if math.prod(reader.shape) > MOST_VOXELS:
        return
    import numpy as np

    projection = np.zeros(reader.shape[1:], np.float32)
    for z, y, x in reader.boxes():
        voxels = np.nan_to_num(reader.read_box((z, y, x)).astype(np.float32, copy=False))
        projection[y, x] = np.maximum(projection[y, x], voxels.max(axis=0)) if z.start else voxels.max(axis=0)
    warn_of_mistake(tree, path, projection[None], name, reader.voxel_size)
