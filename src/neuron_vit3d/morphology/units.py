"""Micrometres and voxels: what the header of a tree's file says of its units, and trees taken from one to the other.

A Tree is in voxels: coordinates in voxels of their axes, radii in the smallest voxel side. A file may be in
micrometres, as SNT writes it ("All positions and radii in µm", "Voxel separation (x,y,z): 0.3, 0.3, 1.0").
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from .swc import Tree

VOXELS, MICROMETRES = "voxels", "um"
UNITS = (VOXELS, MICROMETRES)

_VOXEL_SIZE = "voxel size z y x in um:"
_IN_MICROMETRES = "All positions and radii in µm"
_SEPARATION = "Voxel separation (x,y,z):"
# The micro sign, the Greek letter, and what programs write that know neither.
_SAYS_MICROMETRES = re.compile(r"^all positions and radii in (?:[µμu]m|microns?|micromet(?:er|re)s?)\b", re.IGNORECASE)


def told_voxel_size(voxel_size: tuple[float, float, float]) -> str:
    """The comment of a tree that says its voxel size, which `voxel_size_of` finds again."""
    return f"{_VOXEL_SIZE} {' '.join(f'{side:.12g}' for side in voxel_size)}"


def voxel_size_of(tree: Tree) -> tuple[float, float, float] | None:
    """The voxel size (z, y, x in micrometres) that the comments of a tree tell, or None."""
    for comment in tree.comments:
        for start, order in ((_VOXEL_SIZE, 1), (_SEPARATION, -1)):
            if comment.startswith(start):
                sides = comment.removeprefix(start).replace(",", " ").split()[::order]
                with contextlib.suppress(ValueError):
                    z, y, x = map(float, sides)
                    if all(0 < side < math.inf for side in (z, y, x)):
                        return z, y, x
    return None


def says_micrometres(tree: Tree) -> bool:
    """Whether the comments of a tree say that it is in micrometres."""
    return any(map(_SAYS_MICROMETRES.match, tree.comments))


def is_taken_to_voxels(tree: Tree) -> bool:
    """Whether a tree is in voxels for sure: its header told the voxel size, and reading took it there if need be."""
    return voxel_size_of(tree) is not None and not says_micrometres(tree)


def in_voxels(tree: Tree, voxel_size: tuple[float, float, float]) -> Tree:
    """Takes a tree from micrometres to voxels.

    Args:
        tree: coordinates and radii in micrometres.
        voxel_size: z, y, x in micrometres.

    Returns:
        Coordinates in voxels, and radii in the smallest voxel side; its comments tell the voxel size.
    """
    comments = (*_without_units(tree), told_voxel_size(voxel_size))
    sides = np.array(voxel_size[::-1])
    return replace(tree, xyz=tree.xyz / sides, radii=tree.radii / min(voxel_size), comments=comments)


def in_micrometres(tree: Tree, voxel_size: tuple[float, float, float]) -> Tree:
    """Takes a tree from voxels to micrometres, for a file; its comments say so, as SNT's do.

    Args:
        tree: coordinates in voxels, radii in the smallest voxel side.
        voxel_size: z, y, x in micrometres.
    """
    z, y, x = voxel_size
    said = (_IN_MICROMETRES, f"{_SEPARATION} {x:.12g}, {y:.12g}, {z:.12g}")
    sides = np.array(voxel_size[::-1])
    comments = (*_without_units(tree), *said)
    return replace(tree, xyz=tree.xyz * sides, radii=tree.radii * min(voxel_size), comments=comments)


def _without_units(tree: Tree) -> tuple[str, ...]:
    return tuple(
        one
        for one in tree.comments
        if not (one.startswith((_VOXEL_SIZE, _SEPARATION)) or _SAYS_MICROMETRES.match(one))
    )
