"""Draws pictures to judge a result by: maximum projections with trees, or with the differences from the gold one.

A gold tree is a wide line beneath a thin one, so that both are visible where they agree. Views have axes and a scale
bar. If the voxel size is known, these are in micrometres, and the views are stretched accordingly.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import replacing
from ..morphology.branches import DOUBTFUL as THRESHOLD
from ..morphology.branches import doubtful_nodes
from ..volumes.names import SEGMENTED_BY
from .axes import BACKGROUND, LEFT, LEGEND_HEIGHT, TOP, Key, draw_legend, draw_scale_bar, draw_ticks


PREDICTED, GOLD, DOUBTFUL = (255, 80, 60), (60, 220, 120), (255, 210, 0)
# Colours that people with red-green colour blindness can tell apart, too.
AGREES, MISSED, EXTRA, FOUND = (86, 180, 255), (255, 210, 0), (255, 60, 60), (0, 96, 96)
_LEGEND = (Key("agrees", AGREES, 5), Key("missed", MISSED, 5), Key("extra", EXTRA, 5))
_LARGEST_SIDE, _SMALLEST_SIDE, _GAP = 1600, 1000, 4
_WIDE = 4  # pixels by which a gold line is wider than a predicted one
_MOST_STRETCHED = 20.0  # largest ratio of voxel sides: a larger one is a mistake, or leaves some views too thin to see


class Projections:
    """Maximum projections along z, y and x of a volume that is added part by part.

    Parts are slabs, or boxes that begin with the one at the first voxel. Only the projections are in memory.

    Args:
        shape: (z, y, x) of the volume.
        voxel_size: z, y, x in micrometres, or None.
    """

    def __init__(self, shape: tuple[int, int, int], voxel_size: tuple[float, float, float] | None = None):
        depth, height, width = shape
        self.shape, self.voxel_size = (depth, height, width), voxel_size
        self.xy = np.zeros((height, width), np.float32)
        self.xz = np.zeros((depth, width), np.float32)
        self.zy = np.zeros((height, depth), np.float32)

    def add(self, z: int, slab: np.ndarray) -> None:
        """Adds slices (slices, height, width) from slice z on."""
        self.add_box((slice(z, z + len(slab)), slice(0, slab.shape[1]), slice(0, slab.shape[2])), slab)

    def add_box(self, box: tuple[slice, slice, slice], voxels: np.ndarray) -> None:
        """Adds the voxels (z, y, x) of a box."""
        z, y, x = box
        voxels = voxels.astype(np.float32, copy=False)
        for projection, place, highest, start in (
            (self.xy, (y, x), voxels.max(0), z.start),
            (self.xz, (z, x), voxels.max(1), y.start),
            (self.zy, (y, z), voxels.max(2).T, x.start),
        ):
            # The first box along a line of sight replaces the initial 0.
            projection[place] = highest if start == 0 else np.maximum(projection[place], highest)


def write_overlay(path: str | os.PathLike, projections: Projections, trees=(), gold=None) -> Path:
    """Writes a PNG: the three projections alone on the left, and with the trees on the right.

    Args:
        path: the picture's file.
        projections: projections of the image.
        trees: predicted trees (red), coordinates in the image's voxels. Branches with a known confidence below 0.75
            (`branches.DOUBTFUL`) are yellow; a legend then explains it.
        gold: the gold tree (green, wide, drawn beneath), or None.
    """
    plain = _panel(projections)
    lines = [] if gold is None else [_lines(gold, GOLD)._replace(wide=True)]
    doubtful = [doubtful_nodes(tree) for tree in trees]
    for tree, nodes in zip(trees, doubtful, strict=True):
        lines += [_lines(tree, PREDICTED, ~nodes), _lines(tree, DOUBTFUL, nodes)]
    legend = [Key("gold", GOLD, 1 + _WIDE)] if gold is not None else []
    legend += [Key("traced", PREDICTED, 2)] if trees else []
    if any(map(np.any, doubtful)):
        legend.append(Key(f"doubtful: confidence below {THRESHOLD:g}", DOUBTFUL, 2))
    return _write(path, plain, _panel(projections, lines), legend)


def write_tree_difference(
    path: str | os.PathLike, projections: Projections, predicted, gold, *, threshold: float = 2.0
) -> Path:
    """Writes a PNG: the projections alone on the left, and with both trees on the right.

    The gold tree is a wide line; it has another colour where no predicted tree lies within `threshold` voxels
    (missed). The predicted tree is a thin line on top of it, coloured by whether it lies within `threshold` voxels of
    the gold tree (agrees) or not (extra).
    """
    from ..morphology.distance import parts_apart

    begin, end, apart = parts_apart(gold, predicted, threshold)
    lines = [Lines(begin[part], end[part], colour, wide=True) for part, colour in ((~apart, FOUND), (apart, MISSED))]
    begin, end, apart = parts_apart(predicted, gold, threshold)
    lines += [Lines(begin[part], end[part], colour) for part, colour in ((~apart, AGREES), (apart, EXTRA))]
    legend = (
        Key("gold, found", FOUND, 1 + _WIDE),
        Key("gold, missed", MISSED, 1 + _WIDE),
        Key("traced, agrees", AGREES, 2),
        Key("traced, extra", EXTRA, 2),
    )
    return _write(path, _plain(projections), _panel(projections, lines), legend)


def write_mask_difference(
    path: str | os.PathLike, projections: Projections, predicted: np.ndarray, gold: np.ndarray
) -> Path:
    """Writes a PNG: the projections alone on the left, and with both masks on the right.

    The voxels (z, y, x) of both masks (agrees), of the gold one alone (missed), and of the predicted one alone (extra)
    have different colours. Where a line of sight meets several of them, their colours are mixed.
    """
    paints = [(predicted & gold, AGREES), (predicted & ~gold, EXTRA), (gold & ~predicted, MISSED)]
    return _write(path, _plain(projections), _panel(projections, paints=paints), _LEGEND)


def _plain(projections: Projections):
    """Draws the panel without anything on it; None if there is no image."""
    return _panel(projections) if projections.xy.any() else None


class Lines(NamedTuple):
    """Lines from begin (n, 3) to end (n, 3), x y z in voxels, in a colour; rings (r, 3) around single points."""

    begin: np.ndarray
    end: np.ndarray
    colour: tuple[int, int, int]
    rings: np.ndarray = np.empty((0, 3))
    wide: bool = False


def _lines(tree, colour: tuple[int, int, int], nodes: np.ndarray | None = None) -> Lines:
    """Returns the edges of a tree and its roots.

    With `nodes`, bool (n,), only the edges from these nodes to their parents, and the roots among them.
    """
    nodes = np.ones(len(tree), bool) if nodes is None else nodes
    child, parent = np.asarray(tree.edges).reshape(-1, 2).T
    taken, roots = nodes[child], tree.roots
    return Lines(tree.xyz[child[taken]], tree.xyz[parent[taken]], colour, tree.xyz[roots[nodes[roots]]])


def _write(path: str | os.PathLike, plain, drawn, legend: Sequence[Key] = ()) -> Path:
    """Writes two panels side by side (or the second alone), with a legend below the second."""
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    path, below = Path(path), LEGEND_HEIGHT if legend else 0
    left = 0 if plain is None else plain.width + 8
    picture = Image.new("RGB", (left + drawn.width, drawn.height + below), BACKGROUND)
    if plain is not None:
        picture.paste(plain, (0, 0))
    picture.paste(drawn, (left, 0))
    draw_legend(ImageDraw.Draw(picture), left + LEFT, drawn.height, legend)
    info = PngInfo()
    info.add_text("Software", SEGMENTED_BY)
    with replacing(path) as partial:
        picture.save(partial, format="PNG", pnginfo=info)
    return path


class _Layout(NamedTuple):
    """The layout of a panel: pixels per voxel (x, y, z), pixels per unit of the axes, and the unit."""

    scale: np.ndarray
    per_unit: float
    unit: str


def _layout(projections: Projections) -> _Layout:
    shape, size = np.array(projections.shape[::-1]), projections.voxel_size
    known = size is not None and max(size) <= _MOST_STRETCHED * min(size)
    sides = np.array(size[::-1], float) if known and size is not None else np.ones(3)
    stretched = sides / sides.min()
    width, height, depth = shape * stretched
    longest = max(height + depth, width + depth)
    # Small stacks are enlarged, so that a line of one pixel does not hide the neurite that it follows.
    scale = min(max(1, _SMALLEST_SIDE / longest), 8) if longest < _LARGEST_SIDE else _LARGEST_SIDE / longest
    return _Layout(stretched * scale, scale / sides.min(), "um" if known else "voxels")


def _panel(projections: Projections, lines: Sequence[Lines] = (), paints: Sequence[tuple[np.ndarray, tuple]] = ()):
    """Draws xy with xz below and zy at the right, in one gray scale, with axes and a scale bar.

    Masks (z, y, x) are painted on with their colours, and lines drawn.
    """
    from PIL import Image, ImageDraw

    scale, per_unit, unit = _layout(projections)
    width, height, depth = np.array(projections.shape[::-1]) * scale
    views = (
        (projections.xy, (LEFT, TOP), (0, 1), lambda mask: mask.sum(0)),
        (projections.xz, (LEFT, TOP + height + _GAP), (0, 2), lambda mask: mask.sum(1)),
        (projections.zy, (LEFT + width + _GAP, TOP), (2, 1), lambda mask: mask.sum(2).T),
    )
    low, high = np.percentile(projections.xy, (1, 99.7))
    high = high if high > low else float(projections.xy.max())  # where a neuron is too small for the percentile
    span = high - low if high > low else 1.0
    size = (LEFT + round(width + depth) + _GAP, TOP + round(height + depth) + _GAP)
    panel = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(panel)
    thin = 2 if scale.min() >= 1 else 1
    for projection, (left, top), axes, project in views:
        gray = (np.clip((projection - low) / span, 0, 1) ** 0.7 * 255).astype(np.uint8)
        pixels = np.repeat(gray[..., None], 3, axis=2)
        if paints:
            counts = np.stack([project(mask) for mask, _ in paints], axis=-1)
            seen = counts.any(-1)
            mixed = counts[seen] @ np.array([colour for _, colour in paints]) / counts[seen].sum(-1, keepdims=True)
            pixels[seen] = mixed.round().astype(np.uint8)
        across, down = scale[list(axes)]
        side = (max(1, round(projection.shape[1] * across)), max(1, round(projection.shape[0] * down)))
        resampling = Image.Resampling.NEAREST if paints else Image.Resampling.BICUBIC
        view = Image.fromarray(pixels).resize(side, resampling)
        _draw_lines(ImageDraw.Draw(view), lines, list(axes), scale, thin)
        panel.paste(view, (round(left), round(top)))
    _draw_axes(draw, projections, _Layout(scale, per_unit, unit))
    return panel


def _draw_lines(draw, lines: Sequence[Lines], axes: list[int], scale: np.ndarray, thin: int) -> None:
    """Draws lines and rings onto a view; its pixels begin with the first voxel."""
    for begin, end, colour, rings, wide in lines:
        width = thin + _WIDE if wide else thin
        ends = [(points + 0.5)[:, axes] * scale[axes] for points in (begin, end)]
        for start, stop in zip(*ends, strict=True):
            draw.line([tuple(start), tuple(stop)], fill=colour, width=width)
        ring = 6 if wide else 3
        for x, y in (rings + 0.5)[:, axes] * scale[axes]:
            draw.ellipse([x - ring, y - ring, x + ring, y + ring], outline=colour, width=2 if wide else 1)


def _draw_axes(draw, projections: Projections, layout: _Layout) -> None:
    """Draws numbers along the views' outer sides, from the middle of the first voxel on, and a scale bar into xy."""
    scale, per_unit, unit = layout
    width, height, depth = np.array(projections.shape[::-1]) * scale
    right, bottom = LEFT + width, TOP + height
    xy = (LEFT, TOP, right, bottom)
    xz, zy = (LEFT, bottom + _GAP, right, bottom + _GAP + depth), (right + _GAP, TOP, right + _GAP + depth, bottom)
    for box, axis, name, upright in ((xy, 0, f"x ({unit})", False), (xy, 1, "y", True), (xz, 2, "z", True),
                                     (zy, 2, "z", False)):  # fmt: skip
        half = scale[axis] / 2
        moved = (box[0] + half * (not upright), box[1] + half * upright, box[2], box[3])
        pixels = box[3] - moved[1] if upright else box[2] - moved[0]
        draw_ticks(draw, moved, float(pixels / per_unit), name, upright=upright)
    draw_scale_bar(draw, xy, per_unit, unit)
