"""Deals stacks into folds: each fold is left out of one training, which it then judges."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from ..data.pairing import TREE_SUFFIXES
from ..data.pairs import DataError, Pair
from ..files import new_folder
from ..morphology import Tree, read_swc
from ..volumes import Volume, read_volume, write_volume


# More folds are more trainings; the model that is kept has seen all stacks anyway.
MOST_FOLDS = 3


def deal(names: list[str], seed: int) -> list[list[str]]:
    """Deals names into two or three folds, at random, as evenly as can be.

    Args:
        names: two or more.
        seed: of the dealing.
    """
    names = sorted(names)
    random.Random(seed).shuffle(names)
    count = min(len(names), MOST_FOLDS)
    return [sorted(names[first::count]) for first in range(count)]


def halve(pair: Pair, folder: Path, channel: int | None) -> list[Pair]:
    """Cuts a lone stack in two, so that each half can judge what was learned from the other.

    It is cut across its longer side of y and x, where half of the nodes of its tree lie on either side.

    Args:
        pair: the stack.
        folder: where the halves go; those that are there are used again.
        channel: of the image.

    Raises:
        DataError: a half would have no part of the tree, or the annotation is no tree.
    """
    names = [f"{pair.name}_half{number}" for number in (1, 2)]
    halves = [Pair(name, folder / f"{name}.tif", folder / f"{name}.swc") for name in names]
    if folder.exists():
        return halves
    if pair.annotation.suffix.lower() not in TREE_SUFFIXES:
        raise DataError(f"{pair.image}: is the only stack, and has no tree to be halved by; a second stack is needed")
    volume, tree = read_volume(pair.image, channel=channel), read_swc(pair.annotation, mend_structure=True)
    axis = 1 + int(np.argmax(volume.array.shape[1:]))  # of z y x; x y z of a tree is the other way round
    at = int(np.median(tree.xyz[:, 2 - axis])) if len(tree) else 0
    with new_folder(folder, alone=True) as made:
        made.mkdir()
        for half, part in zip(halves, (slice(0, at), slice(at, volume.array.shape[axis])), strict=True):
            piece = part_of(tree, axis, part)
            if not len(piece.edges):
                raise DataError(
                    f"{pair.annotation}: is the only tree, and too small to be halved; a second stack is needed"
                )
            where = tuple(part if one == axis else slice(None) for one in range(3))
            write_volume(made / half.image.name, Volume(volume.array[where], volume.voxel_size))
            piece.write(made / half.annotation.name)
    return halves


def part_of(tree: Tree, axis: int, part: slice) -> Tree:
    """Returns the nodes of a tree between two planes, moved to where the first plane is 0.

    Args:
        tree: in voxels.
        axis: 0, 1, 2: z, y, x, across which the planes lie.
        part: of that axis.
    """
    along = tree.xyz[:, 2 - axis]
    inside = (along >= part.start) & (along < part.stop)
    new = np.cumsum(inside) - 1
    parent = tree.parent_index[inside]
    kept = (parent >= 0) & inside[parent]
    xyz = tree.xyz[inside].copy()
    xyz[:, 2 - axis] -= part.start
    return Tree.from_parents(xyz, tree.radii[inside], np.where(kept, new[parent], -1))
