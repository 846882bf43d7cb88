"""A tree in 3D that can be turned in a browser: one HTML file that holds all it needs, and asks no server.

plotly.js draws it. A tree is a few lines with gaps, one for each class of confidence, and of large trees some of the
nodes between the ends of branches are left out: so a tree of any size turns smoothly.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..morphology import Tree
from ..morphology.branches import DOUBTFUL
from ..morphology.measures import SOMA, sholl_center
from ..morphology.polylines import polylines
from .overlay import Projections
from .pages import page, plotly_script


# Of the length of branches surer than this a tenth is wrong (`benchmarks/branch_confidence.py`).
SURE = 0.9
# Blue, orange and yellow are told apart by those who see no red or no green, too (Okabe and Ito).
_SURE, _FAIR, _DOUBTFUL, _UNKNOWN, _GOLD = "#56b4e9", "#e69f00", "#f0e442", "#56b4e9", "#009e73"
_SOMA_COLOUR, _AXES, _GRID = "#ff5a5f", "#c9d1d9", "#3a4250"
# Of a tree. Where a browser has no graphics card, a frame of 100,000 points takes it seconds.
_MOST_POINTS = 20_000
_LARGEST_IMAGE = 192  # pixels of a side of the projection beneath the tree


@dataclass(frozen=True, eq=False)
class Turned:
    """What is to be drawn.

    Attributes:
        tree: in voxels.
        voxel_size: z, y, x in micrometres; None: the axes are in voxels.
        confidence: (b,) of `tree.branches`, NaN where it is not known; None: that of the tree itself.
        gold: a tree that a human drew, or None.
        projections: of the image, whose xy projection is put behind the tree; or None.
    """

    tree: Tree
    voxel_size: tuple[float, float, float] | None = None
    confidence: np.ndarray | None = None
    gold: Tree | None = None
    projections: Projections | None = None

    @property
    def is_thinned(self) -> bool:
        """Whether nodes between the ends of branches are left out of the drawing, for there are too many."""
        return _step(self.tree) > 1


def write_turning_tree(path: str | os.PathLike, drawn: Turned, title: str) -> Path:
    """Writes an HTML file with a tree that can be turned. It needs neither a network nor any other file.

    Args:
        path: the HTML file.
        drawn: the tree, and what is known of it.
        title: the page's name.

    Raises:
        ReportError: plotly, which brings the program for the browser, is not installed; the message says how to.
    """
    path = Path(path)
    notes = [f"{len(drawn.tree)} nodes, {drawn.tree.length:.0f} voxels long"]
    notes += [f"drawn with every {_step(drawn.tree)}th node of a branch"] if drawn.is_thinned else []
    text = page("turning_tree.html.j2", plotly=plotly_script(), title=title, figure=figure(drawn), notes=notes)
    write_whole(path, text)
    return path


def figure(drawn: Turned) -> dict[str, Any]:
    """Returns the drawing as plotly.js takes it, `{"data": [...], "layout": {...}}`; it holds no text of files."""
    sides = np.array((drawn.voxel_size or (1.0, 1.0, 1.0))[::-1], float)
    unit = "voxels" if drawn.voxel_size is None else "µm"
    data = [] if drawn.projections is None else [_floor(drawn.projections, sides, unit)]
    if drawn.gold is not None:
        data.append(_line(drawn.gold, np.ones(len(drawn.gold.branches), bool), sides, unit, "gold", _GOLD, width=8))
    data += [*_classes(drawn, sides, unit), *_start(drawn.tree, sides, unit)]
    axis = {
        "color": _AXES,
        "gridcolor": _GRID,
        "zerolinecolor": _GRID,
        "showbackground": False,
        "showspikes": False,
        "exponentformat": "none",
    }
    scene = {
        **{f"{name}axis": {**axis, "title": {"text": f"{name} ({unit})"}} for name in "xyz"},
        # As an image is looked at: x to the right, y down, z away from who looks.
        "camera": {"up": {"x": 0, "y": -1, "z": 0}, "eye": {"x": 0.6, "y": -0.5, "z": -1.9}},
        "aspectmode": "data",
        "dragmode": "orbit",
    }
    layout = {
        "scene": scene,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "paper_bgcolor": "#0d1117",
        "font": {"family": "system-ui, sans-serif", "color": _AXES, "size": 13},
        "legend": {"x": 0.01, "y": 0.99, "bgcolor": "rgba(13,17,23,0.7)", "itemsizing": "constant"},
        "showlegend": True,
        "hoverlabel": {"bgcolor": "#161b22", "font": {"color": "#ffffff"}},
    }
    return {"data": data, "layout": layout}


def _classes(drawn: Turned, sides: np.ndarray, unit: str) -> list[dict]:
    """The tree's lines, one for each class of confidence that it has."""
    tree = drawn.tree
    if not len(tree):
        return []
    known = tree.branches.confidence if drawn.confidence is None else np.asarray(drawn.confidence, float)
    if np.isnan(known).all():
        return [_line(tree, np.ones(len(known), bool), sides, unit, "tree", _UNKNOWN)]
    classes = (
        (known >= SURE, f"sure (confidence {SURE:g} or more)", _SURE),
        ((known >= DOUBTFUL) & (known < SURE), f"fair ({DOUBTFUL:g} to {SURE:g})", _FAIR),
        (known < DOUBTFUL, f"doubtful (below {DOUBTFUL:g})", _DOUBTFUL),
        (np.isnan(known), "confidence not known", _AXES),
    )
    return [_line(tree, taken, sides, unit, name, colour) for taken, name, colour in classes if taken.any()]


def _line(
    tree: Tree, taken: np.ndarray, sides: np.ndarray, unit: str, name: str, colour: str, width: int = 4
) -> dict[str, Any]:
    """Some branches of a tree (bool, of all) as one line with gaps."""
    points, branch = polylines(tree, taken, _step(tree))
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": name,
        **{axis: _packed(points[:, i] * sides[i]) for i, axis in enumerate("xyz")},
        "customdata": _packed(branch),
        "line": {"color": colour, "width": width},
        "connectgaps": False,
        "hovertemplate": f"x %{{x:.1f}}, y %{{y:.1f}}, z %{{z:.1f}} {unit}<br>branch %{{customdata}}<extra></extra>",
    }


def _step(tree: Tree) -> int:
    return max(1, math.ceil(len(tree) / _MOST_POINTS))


def _start(tree: Tree, sides: np.ndarray, unit: str) -> list[dict]:
    """The soma, or the root where no node is one."""
    if not len(tree):
        return []
    name = "soma" if (tree.types == SOMA).any() else "root"
    place = [{axis: [float(value)]} for axis, value in zip("xyz", sholl_center(tree) * sides, strict=True)]
    marker = {"size": 9, "color": _SOMA_COLOUR, "line": {"color": "#ffffff", "width": 1}}
    hover = f"{name}<br>x %{{x:.1f}}, y %{{y:.1f}}, z %{{z:.1f}} {unit}<extra></extra>"
    drawn = {"type": "scatter3d", "mode": "markers", "name": name, "marker": marker, "hovertemplate": hover}
    return [drawn | place[0] | place[1] | place[2]]


def _floor(projections: Projections, sides: np.ndarray, unit: str) -> dict[str, Any]:
    """The image's projection along z, behind all that is in it."""
    gray = projections.xy
    pixels = max(1, math.ceil(max(gray.shape) / _LARGEST_IMAGE))
    height, width = (math.ceil(side / pixels) for side in gray.shape)
    padded = np.full((height * pixels, width * pixels), gray.min(), np.float32)
    padded[: gray.shape[0], : gray.shape[1]] = gray
    small = padded.reshape(height, pixels, width, pixels).max(axis=(1, 3))
    low, high = np.percentile(small, (1, 99.7))
    high = high if high > low else float(small.max())
    shown = (np.clip((small - low) / (high - low if high > low else 1.0), 0, 1) ** 0.7 * 255).astype(np.uint8)
    places = [(np.arange(count) + 0.5) * pixels - 0.5 for count in (width, height)]
    behind = np.full(shown.shape, (projections.shape[0] - 0.5) * sides[2])
    return {
        "type": "surface",
        "name": "image (maximum along z)",
        "showlegend": True,
        "x": _packed(places[0] * sides[0]),
        "y": _packed(places[1] * sides[1]),
        "z": _packed(behind),
        "surfacecolor": _packed(shown),
        "cmin": 0,
        "cmax": 255,
        "colorscale": [[0, "#0d1117"], [1, "#d0d7de"]],
        "showscale": False,
        "opacity": 0.75,  # the tree is seen from behind, too
        "hoverinfo": "skip",
        "contours": {axis: {"highlight": False} for axis in "xyz"},
        "lighting": {"ambient": 1.0, "diffuse": 0.0, "specular": 0.0, "fresnel": 0.0, "roughness": 1.0},
    }


def _packed(values: Sequence[float] | np.ndarray) -> dict[str, str]:
    """Numbers as plotly.js reads them from a text without taking each apart (its typed arrays)."""
    array = np.asarray(values)
    array = array if array.dtype == np.uint8 else array.astype("<f4")
    packed = {"dtype": "u1" if array.dtype == np.uint8 else "f4", "bdata": base64.b64encode(array.tobytes()).decode()}
    return packed if array.ndim == 1 else packed | {"shape": ", ".join(map(str, array.shape))}
