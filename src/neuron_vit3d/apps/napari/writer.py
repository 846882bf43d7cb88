"""Saves the tree of a layer as SWC."""

from typing import Any

from ...morphology import SWCError, write_tree
from ...morphology.swc import Tree
from .editing import numbered
from .layers import KEY
from .telling import tell_error


def write_swc(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Writes the tree of a layer of vectors (npe2's `writers`); the paths that were written, none where it has none.

    Parents come before their children, and ids are 1, 2, 3 ..., which every program takes.
    """
    held = attributes.get("metadata", {}).get(KEY)
    tree = held.get("tree") if isinstance(held, dict) else None
    if not isinstance(tree, Tree):
        tell_error(f"{path}: not written, for the layer {attributes.get('name', '')!r} holds vectors and no tree")
        return []
    try:
        return [str(write_tree(path, for_others(tree)))]
    except (SWCError, OSError) as error:
        tell_error(error, path)
        return []


def for_others(tree: Tree) -> Tree:
    """The tree with parents first and ids from 1 on, as other programs like it."""
    return numbered(tree.parents_first())
