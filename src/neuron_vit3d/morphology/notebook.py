"""What a notebook shows of a tree: a small drawing of it, and its measures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .branches import DOUBTFUL
from .polylines import polylines
from .soundness import check_tree
from .units import voxel_size_of


if TYPE_CHECKING:
    from .swc import Tree

_SIDE = 320  # pixels of the longer side of a drawing
_MOST_POINTS = 4000  # a drawing is a text in the notebook's file
_LINE, _UNSURE, _ROOT = "#0072b2", "#d55e00", "#cc3311"  # seen on white and on black


def tree_html(tree: Tree) -> str:
    """Returns a tree's drawing beside a table of its measures; of an empty or unsound tree what is to be said of it.

    It is micrometres where the comments of the tree tell the voxel size.
    """
    from html import escape

    if not len(tree):
        return "<b>Tree</b> without nodes"
    problems = check_tree(tree)
    if problems:
        return f"<b>Tree</b> of {len(tree)} nodes that is not sound: {escape(problems[0])}"
    size = voxel_size_of(tree)
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in _figures(tree, size).items())
    return (
        '<div style="display: flex; gap: 1em; align-items: center">'
        f"{projection_svg(tree, size)}<table><caption>Tree</caption>{cells}</table></div>"
    )


def projection_svg(tree: Tree, voxel_size: tuple[float, float, float] | None = None, side: int = _SIDE) -> str:
    """Draws a sound tree's projection along z as an SVG element; doubtful branches have another colour.

    Args:
        tree: with at least one node.
        voxel_size: z, y, x in micrometres, by which the drawing is stretched.
        side: pixels of the longer side.
    """
    sides = np.ones(2) if voxel_size is None else np.array(voxel_size[:0:-1])
    low = (tree.xyz[:, :2] * sides).min(axis=0)
    extent = (tree.xyz[:, :2] * sides).max(axis=0) - low
    scale = (side - 16) / (extent.max() or 1.0)
    width, height = np.ceil(extent * scale).astype(int) + 16
    is_doubtful = tree.branches.confidence < DOUBTFUL
    step = max(1, math.ceil(len(tree) / _MOST_POINTS))
    paths = [
        f'<path d="{_path((polylines(tree, taken, step)[0][:, :2] * sides - low) * scale + 8)}" stroke="{colour}"/>'
        for taken, colour in ((~is_doubtful, _LINE), (is_doubtful, _UNSURE))
        if taken.any()
    ]
    x, y = (tree.xyz[tree.roots[0], :2] * sides - low) * scale + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" fill="none" stroke-width="1.2" '
        f'stroke-linejoin="round">{"".join(paths)}<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_ROOT}"/></svg>'
    )


def _path(points: np.ndarray) -> str:
    """The commands of an SVG path along points (m, 2) with gaps."""
    words, is_first = [], True
    for x, y in points.tolist():
        if x != x:  # NaN
            is_first = True
        else:
            words.append(f"{'M' if is_first else 'L'}{x:.1f} {y:.1f}")
            is_first = False
    return "".join(words)


def _figures(tree: Tree, size: tuple[float, float, float] | None) -> dict[str, str]:
    """Some of the measures, as `measures.measure` has them: it knows what a Tree is, and so cannot be known here."""
    sides, unit = (np.ones(3), "voxels") if size is None else (np.array(size[::-1]), "µm")
    branches, (child, parent), points = tree.branches, tree.edges.T, tree.xyz * sides
    told = {"nodes": str(len(tree))} | ({"trees": str(tree.num_components)} if tree.num_components > 1 else {})
    told |= {"branches": str((branches.start != branches.end).sum())}
    if tree.scores is not None:
        told["doubtful branches"] = f"{(branches.confidence < DOUBTFUL).sum()} of {len(branches)}"
    lengths = np.linalg.norm(points[child] - points[parent], axis=1)
    for name, value in zip(
        ("length", "width", "height", "depth"), (lengths.sum(), *np.ptp(points, axis=0)), strict=True
    ):
        told[name] = f"{value:.1f} {unit}"
    return told
