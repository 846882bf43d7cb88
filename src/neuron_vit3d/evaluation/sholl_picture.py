"""Draws trees and their Sholl crossings: a row for each tree, with the tree on the left and its curves on the
right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import replacing
from ..morphology.measures import sholl_center
from ..volumes.names import SEGMENTED_BY
from .axes import BACKGROUND, FAINT, INK, LEFT, TOP, Key, draw_curves, draw_scale_bar, draw_ticks, font


if TYPE_CHECKING:
    from .measured import Measured


_ROW, _TREE, _CURVES, _GAP = 380, 460, 520, 16
_HEAD = 26  # pixels for the file's name
IN_3D, IN_2D, _TREE_COLOUR = (
    Key("3D", (255, 176, 0), 3),
    Key("in the xy projection", (86, 180, 255), 2),
    (235, 235, 235),
)


def write_sholl_picture(path: Path, measured: list[Measured]) -> Path:
    """Writes a PNG: for each tree the xy projection with axes, scale bar and every fifth sphere, and its crossings."""
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    width = LEFT + _TREE + 2 * _GAP + LEFT + _CURVES
    picture = Image.new("RGB", (width, len(measured) * _ROW + _GAP), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, one in enumerate(measured):
        top = number * _ROW + _GAP // 2
        figures = one.measures.figures
        unit = figures["unit"]
        told = f"{figures['length']:.0f} {unit}, {figures['branches']} branches, {figures['tips']} tips"
        draw.text((8, top + 8), f"{Path(*one.path.parts[-2:])}: {told}", fill=INK, font=font(), anchor="lm")
        box = (LEFT, top + _HEAD + TOP, LEFT + _TREE, top + _ROW - _GAP)
        _draw_tree(draw, box, one)
        left = box[2] + 2 * _GAP + LEFT
        sholl = one.measures.sholl
        draw_curves(
            draw, (left, top + _HEAD + TOP, width - _GAP, top + _ROW - _GAP - 44), sholl.radius,
            [(sholl.crossings, IN_3D), (sholl.crossings_2d, IN_2D)],
            (f"distance from the soma or root ({unit})", "Sholl crossings"),
        )  # fmt: skip
    info = PngInfo()
    info.add_text("Software", SEGMENTED_BY)
    with replacing(path) as partial:
        picture.save(partial, format="PNG", pnginfo=info)
    return path


def _draw_tree(draw, box: tuple[float, float, float, float], one: Measured) -> None:
    left, top, right, bottom = box
    sides = np.ones(3) if one.voxel_size is None else np.array(one.voxel_size)[::-1]
    xy = (one.tree.xyz * sides)[:, :2]
    center = sholl_center(one.tree) * sides
    lowest, span = xy.min(axis=0), np.ptp(xy, axis=0)
    scale = min((right - left) / max(span[0], 1e-9), (bottom - top) / max(span[1], 1e-9))
    scale = scale if np.isfinite(scale) and scale < 1e6 else 1.0
    drawn = (left, top, left + span[0] * scale, top + span[1] * scale)
    places = (xy - lowest) * scale + (left, top)
    middle = (center[:2] - lowest) * scale + (left, top)
    draw.rectangle([left, top, drawn[2] + 1, drawn[3] + 1], fill=(0, 0, 0))
    spheres = one.measures.sholl.radius[4::5] * scale
    for radius in spheres[:50]:
        _draw_circle(draw, middle, radius, drawn)
    for child, parent in one.tree.edges.tolist():
        draw.line([tuple(places[child]), tuple(places[parent])], fill=_TREE_COLOUR, width=2)
    x, y = middle
    draw.ellipse([x - 5, y - 5, x + 5, y + 5], outline=IN_3D.colour, width=2)
    unit = one.measures.figures["unit"]
    draw_ticks(draw, drawn, float(span[0]), f"x ({unit})", upright=False)
    draw_ticks(draw, drawn, float(span[1]), "y", upright=True)
    draw_scale_bar(draw, drawn, scale, unit)


def _draw_circle(draw, middle: np.ndarray, radius: float, box: tuple[float, float, float, float]) -> None:
    """Draws the part of a circle that lies inside of a box."""
    angles = np.linspace(0, 2 * np.pi, 181)
    points = middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    left, top, right, bottom = box
    inside = np.all((points >= (left, top)) & (points <= (right, bottom)), axis=1).tolist()
    for i in range(len(points) - 1):
        if not (inside[i] and inside[i + 1]):
            continue
        draw.line([tuple(points[i]), tuple(points[i + 1])], fill=FAINT)
