"""What a row of "volumes" tells of its neuron at a glance: a picture, and measures of the tree and of the volume."""

import io
from typing import Any

import numpy as np
from PIL import Image

from ..morphology import Tree
from ..morphology.branches import find_branches
from ..morphology.critical_nodes import critical_nodes


def row_measures(
    tree: Tree, shape: tuple[int, int, int], voxel_size: tuple[float, float, float] | None
) -> dict[str, Any]:
    """Measures a neuron for the columns of the same names.

    Args:
        tree: in voxels.
        shape: z, y, x of its image.
        voxel_size: z, y, x in micrometres; None: lengths and extents in micrometres are not known.
    """
    branch_points, tips = critical_nodes(tree)
    child, parent = tree.edges.T
    steps = tree.xyz[child] - tree.xyz[parent]
    sides = None if voxel_size is None else np.array(voxel_size)
    return {
        "nodes": len(tree),
        "length": float(tree.length),
        "length_um": None if sides is None else float(np.linalg.norm(steps * sides[::-1], axis=1).sum()),
        "branches": len(find_branches(tree)[0]),
        "branch_points": len(branch_points),
        "tips": len(tips),
        "extent_um": None if sides is None else (np.array(shape) * sides).tolist(),
    }


def as_cell(picture: Image.Image) -> dict[str, Any]:
    """A picture as a cell of an `Image` column has it: the bytes of a PNG file, and no path."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": None}
