"""Compares scores with gold at all thresholds at once: average precision, and the best Dice with its threshold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..morphology import Tree, rasterize


# Voxels this near to a gold center line are certainly neuron; with less (below half a voxel's diagonal, 0.87) the line
# has gaps.
LINE_RADIUS = 1.0
# Voxels up to this far beyond the gold radius are left out as well: the surface of a hand-drawn tube is not known more
# precisely.
MARGIN = 1.0


def average_precision(scores, gold, *, ignore=None) -> float:
    """Computes the average precision: precision averaged over recall, as the threshold falls through all scores.

    It is 1 if every neuron voxel has a higher score than any other voxel. No threshold has to be chosen, and only
    the order of the scores counts.

    Args:
        scores: (z, y, x) numbers, or a Volume of them: probabilities, or the response of a filter in any unit.
        gold: mask (z, y, x), or a Volume of one; or a gold tree in voxels. For a tree, the voxels within 1 voxel of
            its lines are neuron. The others within its radius, and 1 voxel beyond, are left out: radii are the least
            exact part of hand-drawn trees, and a thin mask in a thick tube is no error (see [`center_line_labels`]).
        ignore: mask of voxels that are left out.

    Returns:
        The mean, over the neuron voxels, of the precision at each voxel's score (voxels of equal score count
        together); 0 if gold has no neuron voxel.

    Raises:
        ValueError: shapes differ or are not 3D, or scores are not finite.
    """
    return ranking_scores(scores, gold, ignore=ignore)["average_precision"]


def ranking_scores(scores, gold, *, ignore=None) -> dict[str, float]:
    """Computes how well scores rank the voxels, which no single threshold shows.

    Args:
        scores, gold, ignore: as in [`average_precision`].

    Returns:
        average_precision: see [`average_precision`].
        best_dice, best_threshold: the highest Dice of any threshold, on the voxels that are not left out, and that
        threshold (voxels at or above it are the mask); 0 and NaN if gold has no voxel.
    """
    scores = np.asarray(getattr(scores, "array", scores))
    if isinstance(gold, Tree):
        if scores.ndim != 3:
            raise ValueError(f"expected scores with axes (z, y, x), got shape {scores.shape}")
        gold, band = center_line_labels(gold, scores.shape)
        ignore = band if ignore is None else band | _mask(ignore)
    gold = _mask(gold)
    ignore = None if ignore is None else _mask(ignore)
    shapes = {array.shape for array in (scores, gold, ignore) if array is not None}
    if len(shapes) > 1 or scores.ndim != 3:
        raise ValueError(f"expected scores, gold and ignore of one shape (z, y, x), got {sorted(shapes)}")
    if scores.dtype.kind == "f" and not np.isfinite(scores).all():
        raise ValueError("expected finite scores, got NaN or infinite ones")
    positive, negative = gold, ~gold
    if ignore is not None:
        positive, negative = gold & ~ignore, negative & ~ignore
    return _ranked(scores[positive], scores[negative])


def center_line_labels(tree: Tree, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the voxels that a gold tree certainly labels as neuron, and those of which it is not sure.

    Args:
        tree: in voxels. If its radii are placeholders the band is narrow, and other voxels of the neurite count as
            errors.
        shape: (z, y, x).

    Returns:
        (line, band), bool (z, y, x): the voxels within 1 voxel of the tree's lines; and the others within its radius
        (at least that 1 voxel) and 1 voxel beyond. All other voxels are background, if the tree is complete.
    """
    line = rasterize(tree, shape, min_radius=LINE_RADIUS, max_radius=LINE_RADIUS)
    wide = replace(tree, radii=np.maximum(tree.radii, LINE_RADIUS) + MARGIN)
    return line, rasterize(wide, shape) & ~line


def _ranked(positive: np.ndarray, negative: np.ndarray) -> dict[str, float]:
    """Computes the figures from the scores (p,) of neuron voxels and (n,) of the others."""
    if not len(positive):
        return {"average_precision": 0.0, "best_dice": 0.0, "best_threshold": math.nan}
    thresholds, counts = np.unique(positive, return_counts=True)
    true = counts[::-1].cumsum()[::-1]  # neuron voxels at or above each threshold
    # Only the order around the neuron's scores matters; most of the background is below all of them.
    num_negative = np.count_nonzero(negative >= thresholds[0])
    above = np.sort(negative[negative > thresholds[0]])
    false = len(above) - np.searchsorted(above, thresholds, side="left")
    false[0] = num_negative
    dice = 2 * true / (len(positive) + true + false)
    best = int(np.argmax(dice))
    return {
        "average_precision": float((true / (true + false) * counts).sum() / len(positive)),
        "best_dice": float(dice[best]),
        "best_threshold": float(thresholds[best]),
    }


def _mask(mask) -> np.ndarray:
    array = np.asarray(getattr(mask, "array", mask))
    return array if array.dtype == bool else array != 0
