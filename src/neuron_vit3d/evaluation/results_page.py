"""One HTML file of all that `segment` or `trace` left in a folder: pictures, trees that turn, measures, and what was
left out and why."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..morphology import SWCError, Tree, measure, read_swc
from ..morphology.branch_table import BranchTableError, branch_table_of, is_table_of, read_branch_table
from ..morphology.branches import DOUBTFUL
from ..morphology.notebook import projection_svg
from ..morphology.units import voxel_size_of
from ..volumes import VolumeError, open_volume
from ..volumes.on_disk import printable
from .found_results import Found
from .pages import ReportError, page, plotly_script, png_address
from .turning_tree import Turned, figure


MOST = 20  # neurons with pictures; so many make a file of about 20 MB, which a browser opens at once
_MOST_BRANCHES = 200  # rows of a table, the least sure first
_LARGEST_PICTURE = 1 << 24  # bytes; those that `segment` writes have less than 3 MB
_PNG = b"\x89PNG\r\n\x1a\n"
# Of the measures those that a reader compares first, by their names on the page.
_MEASURES = {
    "length": "length",
    "branches": "branches",
    "branch_points": "branch points",
    "tips": "tips",
    "max_order": "highest order",
    "strahler": "Strahler order",
    "branch_length_median": "median branch",
    "tortuosity_median": "median tortuosity",
    "width": "width (x)",
    "height": "height (y)",
    "depth": "depth (z)",
    "radius_mean": "mean radius",
    "max_path_distance": "longest path from the root",
    "sholl_max": "most Sholl crossings",
    "sholl_max_radius": "at the distance",
}
_LENGTHS = ("length", "median", "width", "height", "depth", "radius", "distance")


@dataclass
class Shown:
    """A tree, as the page shows it.

    Attributes:
        name: of its file.
        figures: name -> text.
        branches: rows of the table, the least sure first.
        num_branches: how many there are in all.
        left_out: what tracing told.
        svg: a drawing, trusted.
        figure: for plotly.js, or None.
        error: why nothing else is there.
    """

    name: str
    figures: dict[str, str] = field(default_factory=dict)
    branches: list[dict[str, Any]] = field(default_factory=list)
    num_branches: int = 0
    num_doubtful: int | None = None
    length: str = ""
    unit: str = "voxels"
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    svg: Any = ""
    figure: dict | None = None
    error: str = ""


def write_results_page(
    path: str | os.PathLike,
    folder: Path,
    results: list[Found],
    *,
    most: int = MOST,
    turning: bool = True,
    voxel_size: tuple[float, float, float] | None = None,
) -> list[str]:
    """Writes the page, whole or not at all.

    Args:
        path: the HTML file.
        folder: what the page is called after.
        results: in the order that they are shown in.
        most: so many of them have pictures and trees; the others a line each.
        turning: draw the trees in 3D, with plotly.
        voxel_size: z, y, x in micrometres, where the files do not say.

    Returns:
        A line for each tree that could not be read.

    Raises:
        ReportError: there are trees and none of them can be read, or plotly is not installed.
        OSError: the page cannot be written.
    """
    script = plotly_script() if turning else None
    shown = [(one, [_shown(tree, one, turning, voxel_size) for tree in one.trees]) for one in results[:most]]
    errors = [tree.error for _, trees in shown for tree in trees if tree.error]
    trees = [tree for _, some in shown for tree in some]
    if errors and len(errors) == len(trees):
        raise ReportError(errors[0] + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""))
    text = page(
        "results.html.j2",
        title=printable(folder.resolve().name or str(folder)),
        overview=[_row(one, trees) for one, trees in shown] + [_row(one, None) for one in results[most:]],
        sections=[
            {"picture": _picture(one.picture), "has_picture": one.picture is not None, "trees": trees}
            for one, trees in shown
        ],
        most=most,
        most_branches=_MOST_BRANCHES,
        doubtful=DOUBTFUL,
        plotly=script,
    )
    write_whole(Path(path), text)
    return errors


def _row(found: Found, trees: list[Shown] | None) -> dict[str, Any]:
    """A row of the overview: an image, what became of it, and what there is to know. Its trees need not be read."""
    told = {name: printable(text) for name, text in found.told.items()}
    row: dict[str, Any] = {"name": printable(found.name), "trees": len(found.trees), "share": "", "lines": []}
    row |= {"branches": told.get("branches", ""), "doubtful": told.get("doubtful_branches", "")}
    row["length"] = f"{float(told['length']):.0f} voxels" if told.get("length") else ""
    if told.get("neuron_share"):
        row["share"] = f"{float(told['neuron_share']):.3%}"
    read = [tree for tree in trees or [] if not tree.error]
    if read:
        doubtful = [tree.num_doubtful for tree in read if tree.num_doubtful is not None]
        row |= {"branches": sum(tree.num_branches for tree in read), "doubtful": sum(doubtful) if doubtful else ""}
        row["length"] = ", ".join(tree.length for tree in read)
    row["errors"] = [f"failed: {told['error']}"] if "error" in told else []
    row["errors"] += ["not begun"] if told.get("status") == "not begun" else []
    row["errors"] += [tree.error for tree in trees or [] if tree.error]
    row["warnings"] = [told["warnings"]] if "warnings" in told else []
    row["lines"] = [told["left_out"]] if "left_out" in told and not read else []
    return row


def _picture(path: Path | None) -> str | None:
    """The address of a picture that holds the picture itself; None where there is none, or it is no PNG."""
    if path is None or path.stat().st_size > _LARGEST_PICTURE:
        return None
    content = path.read_bytes()
    return png_address(content) if content.startswith(_PNG) else None


def _shown(path: Path, found: Found, turning: bool, voxel_size: tuple[float, float, float] | None) -> Shown:
    """Reads a tree and all that the page tells of it; what is wrong with it becomes its `error`."""
    from markupsafe import Markup

    shown = Shown(printable(path.name))
    try:
        tree = read_swc(path)
        size = voxel_size or voxel_size_of(tree) or _voxel_size(found.mask)
        shown.unit = "voxels" if size is None else "µm"
        shown.left_out = [printable(line) for line in tree.comments if line.startswith(("dropped", "kept"))]
        confidence = _confidence(path, tree, shown)
        _measure(shown, tree, size, confidence)
    except (SWCError, OSError) as error:
        line = " ".join(str(error).split())
        return Shown(shown.name, error=line if str(path) in line else f"{path}: {line}")
    if turning:
        shown.figure = figure(Turned(tree, size, confidence))
        shown.notes += ["drawn with some of its nodes, for there are many"] if Turned(tree).is_thinned else []
    else:
        shown.svg = Markup(projection_svg(tree, size, 480))
    return shown


def _voxel_size(mask: Path | None) -> tuple[float, float, float] | None:
    """The voxel size that a mask or scores tell, if they can be read."""
    if mask is None:
        return None
    try:
        with open_volume(mask) as reader:
            return reader.voxel_size
    except (VolumeError, OSError):
        return None


def _confidence(path: Path, tree: Tree, shown: Shown) -> np.ndarray | None:
    """The confidence of a tree's branches, from the table beside it."""
    table = branch_table_of(path)
    if not table.is_file():
        return None
    try:
        branches = read_branch_table(table)
    except (BranchTableError, OSError):
        shown.notes.append(f"{printable(table.name)} cannot be read: confidence is not known")
        return None
    if not is_table_of(branches, tree):
        shown.notes.append(f"{printable(table.name)} is not of this tree as it is now: confidence is not known")
        return None
    return branches.confidence


def _measure(shown: Shown, tree: Tree, size: tuple[float, float, float] | None, confidence: np.ndarray | None) -> None:
    """Fills in the measures and the branches, the least sure first."""
    if not len(tree.edges):
        shown.figures = {"nodes": str(len(tree))}
        shown.length = f"0 {shown.unit}"
        return
    measures = measure(tree, voxel_size=size)
    shown.figures = {"nodes": f"{len(tree)}"}
    shown.figures |= {
        words: _word(measures.figures[name], shown.unit if any(word in name for word in _LENGTHS) else "")
        for name, words in _MEASURES.items()
        if name in measures.figures
    }
    if "tortuosity_median" in measures.figures:
        shown.figures["median tortuosity"] = _word(measures.figures["tortuosity_median"], "")
    shown.length = shown.figures["length"]
    branches = measures.branches
    has_length = tree.branches.start != tree.branches.end
    numbers = np.flatnonzero(has_length)
    known = np.full(len(branches), np.nan) if confidence is None else np.asarray(confidence, float)[has_length]
    shown.num_branches = len(branches)
    shown.num_doubtful = None if confidence is None else int((known < DOUBTFUL).sum())
    # Of those that are not known the longest first, for a slip in them costs most.
    order = np.lexsort((-branches.length, np.where(np.isnan(known), 2.0, known)))[:_MOST_BRANCHES]
    shown.branches = [
        {
            "number": int(numbers[row]),
            "nodes": f"{branches.start[row]} to {branches.end[row]}",
            "order": int(branches.order[row]),
            "length": f"{branches.length[row]:.1f}",
            "radius": f"{branches.mean_radius[row]:.2f}",
            "confidence": "" if math.isnan(known[row]) else f"{known[row]:.2f}",
            "is_doubtful": bool(known[row] < DOUBTFUL),
        }
        for row in order.tolist()
    ]


def _word(value: float, unit: str) -> str:
    if isinstance(value, float):
        return "not known" if math.isnan(value) else f"{value:,.4g} {unit}".strip().replace(",", "")
    return f"{value} {unit}".strip()
