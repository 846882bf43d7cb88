"""Micrometres and voxels: what the header of a tree's file says of its units, and trees taken from one to the other.

A Tree is in voxels: coordinates in voxels of their axes, radii in the smallest voxel side. A file may be in
micrometres, as SNT writes it ("All positions and radii in µm", "Voxel separation (x,y,z): 0.3, 0.3, 1.0").
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .swc_text import SWCError


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


class UnitsWarning(UserWarning):
    """Says that a tree stays in micrometres, because no voxel size is known."""


def warn_of_micrometres(tree: Tree, path: Path | str, *, stacklevel: int = 3) -> None:
    """Warns of a tree that says that it is in micrometres, where reading had no voxel size to take it to voxels by."""
    if says_micrometres(tree):
        said = "its header says micrometres, but not how large a voxel is: it stays in micrometres"
        warnings.warn(f"{path}: {said}", UnitsWarning, stacklevel=stacklevel)


@contextlib.contextmanager
def expecting_micrometres() -> Iterator[None]:
    """Reads trees without [`UnitsWarning`], for those who then call [`to_voxels`]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)
        yield


def to_voxels(
    tree: Tree,
    path: Path | str,
    voxel_size: tuple[float, float, float] | None,
    units: str | None = None,
) -> Tree:
    """Takes a tree to the voxels of its image.

    Args:
        tree: as it was read.
        path: the file, for messages.
        voxel_size: of the image, z, y, x in micrometres, or None.
        units: of the tree, VOXELS or MICROMETRES; None: what its header says, or else voxels.

    Returns:
        The tree in voxels; itself where it is.

    Raises:
        SWCError: the tree is in micrometres and there is no voxel size; or it is said to be in micrometres, but its
            header told the voxel size, and reading took it to voxels by that.
    """
    by_header = says_micrometres(tree)
    if units == VOXELS and by_header:
        return replace(tree, comments=_without_units(tree))
    if units == MICROMETRES and voxel_size_of(tree) is not None and not by_header:
        raise SWCError(f"{path}: --swc-units um: its header says what it is in, and it has been read as that")
    if units != MICROMETRES and not by_header:
        return tree
    if voxel_size is None:
        said = "its header says micrometres, but not how large a voxel is, nor does the image: "
        said += "--voxel-size z,y,x says it, or --swc-units voxels that it is in voxels"
        asked = "--swc-units um: needs a voxel size to take it to voxels by (--voxel-size)"
        raise SWCError(f"{path}: {said if by_header else asked}")
    return in_voxels(tree, voxel_size)


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


def rounded(tree: Tree, side: float = 1.0) -> Tree:
    """Rounds coordinates and radii for a file, to a thousandth of a voxel or finer.

    Voxels get three decimals; micrometres more of them where voxels are smaller than 1 um: five with sides of 0.05 um.

    Args:
        tree: in any units; radii that would become 0 stay as they are.
        side: the smallest side of a voxel, in the tree's units.
    """
    decimals = 3 + max(0, math.ceil(-math.log10(side)))
    radii = np.round(tree.radii, decimals)
    return replace(tree, xyz=np.round(tree.xyz, decimals), radii=np.where(radii > 0, radii, tree.radii))


def _without_units(tree: Tree) -> tuple[str, ...]:
    return tuple(
        one
        for one in tree.comments
        if not (one.startswith((_VOXEL_SIZE, _SEPARATION)) or _SAYS_MICROMETRES.match(one))
    )
