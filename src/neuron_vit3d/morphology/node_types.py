"""The types of an SWC file's nodes, by name, and the trees that get one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .swc import Tree


SOMA = 1
# Cannon et al. 1998, J. Neurosci. Methods 84:49-54: (basal) dendrites are 3.
TYPES = {"undefined": 0, "axon": 2, "dendrite": 3, "apical": 4}


def with_type(tree: Tree, name: str) -> Tree:
    """A tree whose nodes have a type of [`TYPES`], all but those of the soma.

    Raises:
        ValueError: there is no type of that name.
    """
    import numpy as np  # not above: the program's help lists the types

    if name not in TYPES:
        raise ValueError(f"expected the type of nodes, one of {', '.join(TYPES)}, got {name!r}")
    return replace(tree, types=np.where(tree.types == SOMA, SOMA, TYPES[name]))
