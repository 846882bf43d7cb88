"""Pictures to judge a result by: maximum projections with trees drawn on, or with what differs from the gold one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import replacing
from ..morphology.branches import DOUBTFUL as THRESHOLD
from ..morphology.branches import doubtful_nodes
from ..volumes.names import SEGMENTED_BY


PREDICTED, GOLD, DOUBTFUL = (255, 80, 60), (60, 220, 120), (255, 210, 0)
# Told apart by those who see no red or no green, too.
AGREES, MISSED, EXTRA = (86, 180, 255), (255, 210, 0), (255, 60, 60)
_LEGEND = (("agrees", AGREES), ("missed", MISSED), ("extra", EXTRA))
_LARGEST_SIDE, _SMALLEST_SIDE = 1600, 1000


class Projections:
    """Maximum projections along z, y and x of a volume that comes part by part.

    It comes slab by slab, or box by box from its first voxel on; memory is that of the projections.
    """

    def __init__(self, shape: tuple[int, int, int]):
        depth, height, width = shape
        self.shape = tuple(shape)
        self.xy = np.zeros((height, width), np.float32)
        self.xz = np.zeros((depth, width), np.float32)
        self.zy = np.zeros((height, depth), np.float32)

    def add(self, z: int, slab: np.ndarray) -> None:
        """Slices (slices, height, width) from slice z on."""
        self.add_box((slice(z, z + len(slab)), slice(0, slab.shape[1]), slice(0, slab.shape[2])), slab)

    def add_box(self, box: tuple[slice, slice, slice], voxels: np.ndarray) -> None:
        """Voxels (z, y, x) of a box."""
        z, y, x = box
        voxels = voxels.astype(np.float32, copy=False)
        for projection, place, highest, start in (
            (self.xy, (y, x), voxels.max(0), z.start),
            (self.xz, (z, x), voxels.max(1), y.start),
            (self.zy, (y, z), voxels.max(2).T, x.start),
        ):
            # The first along a line of sight replaces the 0 that is there before.
            projection[place] = highest if start == 0 else np.maximum(projection[place], highest)


def write_overlay(path: str | os.PathLike, projections: Projections, trees=(), gold=None) -> Path:
    """Writes a PNG: the three projections alone on the left, and on the right with the trees drawn on.

    Args:
        path: the picture's file.
        projections: of the image.
        trees: predicted trees (red), coordinates in the image's voxels. Branches whose confidence is known and below
            0.5 (`branches.DOUBTFUL`) are yellow; where there are any, a legend says so.
        gold: the gold tree (green, drawn beneath), or None.
    """
    plain = _panel(projections)
    lines = [] if gold is None else [_lines(gold, GOLD)]
    doubtful = [doubtful_nodes(tree) for tree in trees]
    for tree, nodes in zip(trees, doubtful, strict=True):
        lines += [_lines(tree, PREDICTED, ~nodes), _lines(tree, DOUBTFUL, nodes)]
    legend = (("traced", PREDICTED), (f"doubtful: confidence below {THRESHOLD:g}", DOUBTFUL))
    return _write(path, plain, _panel(projections, lines), legend if any(map(np.any, doubtful)) else ())


def write_tree_difference(
    path: str | os.PathLike, projections: Projections, predicted, gold, *, threshold: float = 2.0
) -> Path:
    """Writes a PNG of the projections alone on the left, and with both trees on the right.

    There the length of the predicted tree lies within `threshold` voxels of the gold one (agrees) or does not (extra),
    and of the gold tree that length is drawn which the predicted one misses.
    """
    from ..morphology.distance import parts_apart

    begin, end, apart = parts_apart(predicted, gold, threshold)
    lines = [Lines(begin[~apart], end[~apart], AGREES), Lines(begin[apart], end[apart], EXTRA)]
    begin, end, apart = parts_apart(gold, predicted, threshold)
    lines.append(Lines(begin[apart], end[apart], MISSED))
    return _write(path, _plain(projections), _panel(projections, lines), _LEGEND)


def write_mask_difference(
    path: str | os.PathLike, projections: Projections, predicted: np.ndarray, gold: np.ndarray
) -> Path:
    """Writes a PNG of the projections alone on the left, and with both masks on the right.

    There the voxels (z, y, x) are drawn that both masks hold (agrees), the gold one alone (missed), and the predicted
    one alone (extra). Where a line of sight meets several of them, their colours are mixed.
    """
    paints = [(predicted & gold, AGREES), (predicted & ~gold, EXTRA), (gold & ~predicted, MISSED)]
    return _write(path, _plain(projections), _panel(projections, paints=paints), _LEGEND)


def _plain(projections: Projections):
    """The panel without anything drawn on; None where there is no image."""
    return _panel(projections) if projections.xy.any() else None


class Lines(NamedTuple):
    """Lines from begin (n, 3) to end (n, 3), x y z in voxels, in a colour; rings (r, 3) around single points."""

    begin: np.ndarray
    end: np.ndarray
    colour: tuple[int, int, int]
    rings: np.ndarray = np.empty((0, 3))


def _lines(tree, colour: tuple[int, int, int], nodes: np.ndarray | None = None) -> Lines:
    """Returns the edges of a tree and its roots.

    Or, of some nodes, bool (n,): the edges to their parents, and the roots among them.
    """
    nodes = np.ones(len(tree), bool) if nodes is None else nodes
    child, parent = np.asarray(tree.edges).reshape(-1, 2).T
    taken, roots = nodes[child], tree.roots
    return Lines(tree.xyz[child[taken]], tree.xyz[parent[taken]], colour, tree.xyz[roots[nodes[roots]]])


def _write(path: str | os.PathLike, plain, drawn, legend=()) -> Path:
    """Writes two panels side by side (or the second alone), with the words of a legend in their colours below."""
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    path, below = Path(path), 16 if legend else 0
    left = 0 if plain is None else plain.width + 8
    picture = Image.new("RGB", (left + drawn.width, drawn.height + below), (40, 40, 40))
    if plain is not None:
        picture.paste(plain, (0, 0))
    picture.paste(drawn, (left, 0))
    left += 4
    for word, colour in legend:
        draw = ImageDraw.Draw(picture)
        draw.text((left, drawn.height + 2), word, fill=colour)
        left += round(draw.textlength(word)) + 16
    info = PngInfo()
    info.add_text("Software", SEGMENTED_BY)
    with replacing(path) as partial:
        picture.save(partial, format="PNG", pnginfo=info)
    return path


def _panel(projections: Projections, lines: Sequence[Lines] = (), paints: Sequence[tuple[np.ndarray, tuple]] = ()):
    """Draws xy with xz below and zy at the right, in one gray scale.

    Masks (z, y, x) are painted on with their colours, and lines drawn.
    """
    from PIL import Image, ImageDraw

    depth, height, width = projections.shape
    longest = max(height + depth, width + depth)
    # Small stacks are enlarged so that lines of a pixel do not hide the neurite they follow.
    scale = min(max(1, _SMALLEST_SIDE // longest), 8) if longest < _LARGEST_SIDE else _LARGEST_SIDE / longest
    gap = 4
    views = (
        (projections.xy, (0, 0), (0, 1), lambda mask: mask.sum(0)),
        (projections.xz, (0, height * scale + gap), (0, 2), lambda mask: mask.sum(1)),
        (projections.zy, (width * scale + gap, 0), (2, 1), lambda mask: mask.sum(2).T),
    )
    low, high = np.percentile(projections.xy, (1, 99.7))
    high = high if high > low else float(projections.xy.max())  # a neuron smaller than the percentile leaves out
    span = high - low if high > low else 1.0
    size = (round((width + depth) * scale) + gap, round((height + depth) * scale) + gap)
    panel = Image.new("RGB", size, (40, 40, 40))
    draw = ImageDraw.Draw(panel)
    for projection, (left, top), axes, project in views:
        gray = (np.clip((projection - low) / span, 0, 1) ** 0.7 * 255).astype(np.uint8)
        pixels = np.repeat(gray[..., None], 3, axis=2)
        if paints:
            counts = np.stack([project(mask) for mask, _ in paints], axis=-1)
            seen = counts.any(-1)
            mixed = counts[seen] @ np.array([colour for _, colour in paints]) / counts[seen].sum(-1, keepdims=True)
            pixels[seen] = mixed.round().astype(np.uint8)
        side = (max(1, round(projection.shape[1] * scale)), max(1, round(projection.shape[0] * scale)))
        resampling = Image.Resampling.NEAREST if paints else Image.Resampling.BICUBIC
        panel.paste(Image.fromarray(pixels).resize(side, resampling), (round(left), round(top)))
        for begin, end, colour, rings in lines:
            ends = [(points[:, axes] + 0.5) * scale + (left, top) for points in (begin, end)]
            for start, stop in zip(*ends, strict=True):
                draw.line([tuple(start), tuple(stop)], fill=colour, width=1)
            for x, y in (rings[:, axes] + 0.5) * scale + (left, top):
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], outline=colour)
    return panel
