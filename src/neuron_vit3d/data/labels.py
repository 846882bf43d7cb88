"""Turns a tree into labels of an image's voxels: with which radii, and what is left out as uncertain.

Hand-drawn trees have good center lines and poor radii. Near the surface of a tube, and on neurites that nobody traced,
a label would be a guess. A `LabelPolicy` says what is done about it. `prepare_tree` (radii) and `signal_level` are
called once for a volume, then `draw_labels` for the volume or for each window of it.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from ..morphology import Tree, points_along, rasterize
from .radii import checked_image, estimate_radii, some_slices


IGNORE_INDEX = 255
# A tube of this radius leaves no gap between voxel centers, wherever it runs: half a voxel's diagonal (`rasterize`).
THINNEST_WITHOUT_GAPS = 0.87
# Bright voxels that far from the tree's surface belong to its own blurred edge.
UNTRACED_MARGIN = 3.0
# A label of untraced signal depends on the image up to that many voxels away in y and x (and on no other slice).
UNTRACED_REACH = 5


@dataclass(frozen=True)
class LabelPolicy:
    """How a tree becomes labels.

    Attributes:
        radius: "given" (those of the tree) or "image" (`estimate_radii`).
        min_radius: radii are raised to it, in voxels; None: they are not.
        max_radius: radii are lowered to it, in voxels; None: they are not.
        edge_band: voxels nearer than this to the surface of the tube, inside or outside, are ignored; the center line
            stays neuron. In voxels.
        ignore_untraced: ignore voxels that are as bright as the traced neuron and that the tree does not explain.

    Raises:
        ValueError: a value outside what is said above.
    """

    radius: str = "given"
    min_radius: float | None = 1.0
    max_radius: float | None = None
    edge_band: float = 0.0
    ignore_untraced: bool = False

    def __post_init__(self) -> None:
        if self.radius not in ("given", "image"):
            raise ValueError(f"label policy: radius must be 'given' or 'image', got {self.radius!r}")
        for name in ("min_radius", "max_radius", "edge_band"):
            value = getattr(self, name)
            if value is None and name != "edge_band":
                continue
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not is_number or not 0 <= value < math.inf:
                raise ValueError(f"label policy: {name} must be a number of voxels, 0 or more, got {value!r}")
        if self.min_radius is not None and self.max_radius is not None and self.min_radius > self.max_radius:
            raise ValueError(
                f"label policy: min_radius must not exceed max_radius, got {self.min_radius} and {self.max_radius}"
            )
        if not isinstance(self.ignore_untraced, bool | np.bool_):
            raise ValueError(f"label policy: ignore_untraced must be True or False, got {self.ignore_untraced!r}")


def prepare_tree(tree: Tree, image: np.ndarray | None, policy: LabelPolicy) -> Tree:
    """Gives the tree the policy's radii: those given, or estimated from the image, then clipped. Once for a volume.

    Args:
        tree: in voxels of the image.
        image: (z, y, x); needed for radii from the image only.
        policy: what is wanted.

    Raises:
        ValueError: the image is missing or not (z, y, x).
    """
    if policy.radius == "image":
        if image is None:
            raise ValueError("label policy with radius='image' needs the image, got None")
        tree = estimate_radii(tree, image)
    low = 0.0 if policy.min_radius is None else policy.min_radius
    high = math.inf if policy.max_radius is None else policy.max_radius
    return replace(tree, radii=np.clip(tree.radii, low, high))


def draw_labels(
    tree: Tree,
    shape: tuple[int, int, int],
    policy: LabelPolicy,
    *,
    image: np.ndarray | None = None,
    level: float | None = None,
    origin: tuple[int, int, int] = (0, 0, 0),
) -> np.ndarray:
    """Draws the labels of a volume, or of a window of it.

    They are 1 inside the tubes, 0 outside, and 255 (ignored) within `edge_band` of a surface, except on the center
    line and inside another tube. So a tree with radii r + band is labelled, and the part inside radii r - band (but at
    least so much that no gap is left) is certain.

    With `ignore_untraced`, background is 255, too, where its brightness (mean of 3 x 3 pixels of the slice) reaches
    `level` in at least 10 of 5 x 5 pixels, so that a lone speck does not count, and up to two pixels around. Within
    three voxels of what the tree explains it stays background: the glow there is the neuron's own.

    A window is asked for by `origin` (or by a tree that was moved by minus the origin) and the window of the image. It
    equals that window of the whole labels; with `ignore_untraced`, from five pixels inside its borders in y and x on.

    Args:
        tree: as `prepare_tree` gave it, in voxels.
        shape: (z, y, x) of the labels.
        policy: what is wanted; its radius settings are not applied again.
        image: (z, y, x) of that shape; needed for `ignore_untraced` only.
        level: `signal_level` of the whole volume; needed for `ignore_untraced` only.
        origin: (z, y, x) of the window's first voxel.

    Returns:
        (z, y, x) uint8: 0 background, 1 neuron, 255 ignored.

    Raises:
        ValueError: image or level are missing, or the image has not the shape of the labels.
        SWCError: a position or radius of the tree is not finite, or a parent is missing.
    """
    band = float(policy.edge_band)
    if not band:
        labels = rasterize(tree, shape, origin=origin).view(np.uint8)
    else:
        inner = np.maximum(tree.radii - band, np.minimum(tree.radii, THINNEST_WITHOUT_GAPS))
        certain, touched = (rasterize(_with_radii(tree, r), shape, origin=origin) for r in (inner, tree.radii + band))
        labels = touched.view(np.uint8) * np.uint8(IGNORE_INDEX)
        np.copyto(labels, 1, where=certain)
    if policy.ignore_untraced:
        if image is None or level is None:
            raise ValueError("label policy with ignore_untraced needs the image and its signal level, got None")
        image = np.asarray(image)
        if image.shape != labels.shape:
            raise ValueError(f"expected an image of the labels' shape {labels.shape}, got {image.shape}")
        untraced = _connected_signal(image, level)
        if untraced.any():
            explained = rasterize(_with_radii(tree, tree.radii + band + UNTRACED_MARGIN), shape, origin=origin)
            labels[untraced & ~explained] = IGNORE_INDEX
    return labels


def labels_of_window(
    tree: Tree, image: np.ndarray, window: tuple[slice, ...], policy: LabelPolicy, level: float | None
) -> np.ndarray:
    """Draws the labels of a window (slices along z, y, x) inside the volume `image` (z, y, x).

    They equal that window of the labels that `draw_labels` draws for the whole volume.
    """
    grown = window
    if policy.ignore_untraced:
        grown = (
            window[0],
            *(
                slice(max(0, along.start - UNTRACED_REACH), min(side, along.stop + UNTRACED_REACH))
                for along, side in zip(window[1:], image.shape[1:], strict=True)
            ),
        )
    shape, origin = tuple(along.stop - along.start for along in grown), tuple(along.start for along in grown)
    labels = draw_labels(tree, shape, policy, image=image[grown], level=level, origin=origin)
    return labels[tuple(slice(w.start - g.start, w.stop - g.start) for w, g in zip(window, grown, strict=True))]


def signal_level(tree: Tree, image: np.ndarray) -> float:
    """Finds the intensity (mean of 3 x 3 pixels) from which voxels are signal as bright as the traced neuron.

    It lies two thirds of the way from the background (median of the image) to the median along the traced center line,
    which all of the inside of a tube reaches; but at least four standard deviations of the background above the
    background (from the median absolute deviation). It is inf where the tree does not meet the image, since then
    nothing is known of the neuron's brightness. Once for a volume.

    Args:
        tree: in voxels of the image.
        image: (z, y, x).

    Raises:
        ValueError: the image is not (z, y, x).
    """
    image = checked_image(image)
    points = points_along(tree, shape=image.shape)
    voxels = np.rint(points[:, ::-1]).astype(np.int64)
    voxels = np.unique(voxels[((voxels >= 0) & (voxels < image.shape)).all(axis=1)], axis=0)
    if not len(voxels):
        return math.inf
    z, y, x = voxels.T
    height, width = image.shape[1:]
    neighbours = [
        image[z, (y + dy).clip(0, height - 1), (x + dx).clip(0, width - 1)].astype(np.float64)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    traced = np.mean(neighbours, axis=0)
    smooth = _sum_of_9(some_slices(image)) / 9
    background = float(np.median(smooth))
    noise = 1.4826 * float(np.median(np.abs(smooth - background)))
    return max(background + 2 / 3 * (float(np.median(traced)) - background), background + 4 * noise)


def _connected_signal(image: np.ndarray, level: float) -> np.ndarray:
    """Finds bright pixels in bright company, and up to two pixels around them, slice by slice: (z, y, x) bool."""
    found = np.zeros(image.shape, dtype=bool)
    depth = max(4_000_000 // (image.shape[1] * image.shape[2]), 1)
    for first in range(0, len(image), depth):  # bounds the memory
        bright = (_sum_of_9(image[first : first + depth]) >= 9 * level).view(np.uint8)
        if bright.any():
            core = (_box_sum(bright, 2) >= 10) & bright.view(bool)
            found[first : first + depth] = _box_sum(core.view(np.uint8), 2) > 0
    return found


def _sum_of_9(image: np.ndarray) -> np.ndarray:
    """Sums 3 x 3 pixels of each slice; pixels beyond a border are as at the border. Exact for whole numbers."""
    wider = {"u1": np.uint16, "i1": np.int16, "u2": np.uint32, "i2": np.int32, "f4": np.float32}
    dtype = wider.get(image.dtype.str[1:], np.float64)
    return _box_sum(np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(dtype), 1)[:, 1:-1, 1:-1]


def _box_sum(array: np.ndarray, reach: int) -> np.ndarray:
    """Sums (2 reach + 1)^2 pixels of each slice; beyond the border there is nothing."""
    for axis in (1, 2):
        total = array.copy()
        for shift in range(1, reach + 1):
            ahead = tuple(slice(shift, None) if i == axis else slice(None) for i in range(3))
            behind = tuple(slice(None, -shift) if i == axis else slice(None) for i in range(3))
            total[behind] += array[ahead]
            total[ahead] += array[behind]
        array = total
    return array


def _with_radii(tree: Tree, radii: np.ndarray) -> Tree:
    """Replaces the radii, and keeps the index of parents that the tree has worked out already."""
    tree.parent_index  # noqa: B018
    twin = copy(tree)
    object.__setattr__(twin, "radii", radii)
    return twin
