"""A picture to judge a tracing by: maximum projections with the tree drawn on."""

import os
from pathlib import Path

import numpy as np


PREDICTED, GOLD = (255, 80, 60), (60, 220, 120)
_LARGEST_SIDE, _SMALLEST_SIDE = 1600, 1000


class Projections:
    """Maximum projections along z, y and x of a volume that comes slab by slab; memory is that of the projections."""

    def __init__(self, shape: tuple[int, int, int]):
        depth, height, width = shape
        self.shape = tuple(shape)
        self.xy = np.zeros((height, width), np.float32)
        self.xz = np.zeros((depth, width), np.float32)
        self.zy = np.zeros((height, depth), np.float32)

    def add(self, z: int, slab: np.ndarray) -> None:
        """Slices (slices, height, width) from slice z on."""
        slab = slab.astype(np.float32, copy=False)
        if z == 0:
            self.xy[:] = slab[0]
        np.maximum(self.xy, slab.max(0), out=self.xy)
        self.xz[z : z + len(slab)] = slab.max(1)
        self.zy[:, z : z + len(slab)] = slab.max(2).T


def write_overlay(path: str | os.PathLike, projections: Projections, trees=(), gold=None) -> Path:
    """Writes a PNG: the three projections alone on the left, and on the right with the trees drawn on.

    Args:
        path: the picture's file.
        projections: of the image.
        trees: predicted trees (red), coordinates in the image's voxels.
        gold: the gold tree (green, drawn beneath), or None.
    """
    from PIL import Image

    path = Path(path)
    plain = _panel(projections, ())
    drawn = _panel(projections, [(gold, GOLD)] * (gold is not None) + [(tree, PREDICTED) for tree in trees])
    gap = 8
    picture = Image.new("RGB", (plain.width + drawn.width + gap, plain.height), (40, 40, 40))
    picture.paste(plain, (0, 0))
    picture.paste(drawn, (plain.width + gap, 0))
    partial = path.with_name(f".{path.name}.partial")
    try:
        picture.save(partial, format="PNG")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _panel(projections: Projections, trees):
    """xy with xz below and zy at the right, one gray scale; trees as (tree, colour)."""
    from PIL import Image, ImageDraw

    depth, height, width = projections.shape
    longest = max(height + depth, width + depth)
    # Small stacks are enlarged so that lines of a pixel do not hide the neurite they follow.
    scale = min(max(1, _SMALLEST_SIDE // longest), 8) if longest < _LARGEST_SIDE else _LARGEST_SIDE / longest
    gap = 4
    views = (
        (projections.xy, (0, 0), (0, 1)),
        (projections.xz, (0, height * scale + gap), (0, 2)),
        (projections.zy, (width * scale + gap, 0), (2, 1)),
    )
    low, high = np.percentile(projections.xy, (1, 99.7))
    high = high if high > low else float(projections.xy.max())  # a neuron smaller than the percentile leaves out
    span = high - low if high > low else 1.0
    size = (round((width + depth) * scale) + gap, round((height + depth) * scale) + gap)
    panel = Image.new("RGB", size, (40, 40, 40))
    draw = ImageDraw.Draw(panel)
    for projection, (left, top), axes in views:
        gray = (np.clip((projection - low) / span, 0, 1) ** 0.7 * 255).astype(np.uint8)
        side = (max(1, round(projection.shape[1] * scale)), max(1, round(projection.shape[0] * scale)))
        panel.paste(Image.fromarray(gray).resize(side), (round(left), round(top)))
        for tree, colour in trees:
            points = (tree.xyz[:, axes] + 0.5) * scale + (left, top)
            for child, parent in tree.edges:
                draw.line([tuple(points[child]), tuple(points[parent])], fill=colour, width=1)
            for root in tree.roots:
                x, y = points[root]
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], outline=colour)
    return panel
