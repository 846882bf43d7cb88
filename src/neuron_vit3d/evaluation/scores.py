"""Computes all figures for the scores of one volume: of the mask, the center lines, and the traced tree."""

from __future__ import annotations

import numpy as np

from ..morphology import Tree, tree_distance
from ..tracing import TraceError, trace
from .segmentation import overlap_scores, segmentation_scores


THRESHOLDS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.97, 0.98, 0.99)
TOLERANCE = 3.0  # voxels; hand-drawn radii are not more exact


def score_volume(
    scores: np.ndarray, threshold: float, gold: np.ndarray, gold_tree: Tree | None = None
) -> tuple[dict[str, float], Tree | None]:
    """Computes all figures that are reported of a volume, and traces its tree if there is a gold tree.

    Args:
        scores: (z, y, x) in [0, 1].
        threshold: voxels at or above it are the mask.
        gold: (z, y, x) mask.
        gold_tree: in voxels.

    Returns:
        dice, precision, recall, f1, iou, hd95, cldice: see [`segmentation_scores`];
        best_dice, best_threshold: at the threshold that is best for this volume, an upper limit;
        average_precision: over all thresholds, see [`average_precision`];
        near_precision, near_recall: share of the mask that lies within 3 voxels of the gold mask, and the reverse.
        Specks, false branches and other cells count; the coarse radii of hand-drawn traces do not;
        tree_*: figures of [`tree_distance`] for the traced tree.
    """
    mask = scores >= threshold
    best = max(THRESHOLDS, key=lambda t: overlap_scores(scores >= t, gold)["dice"])
    result = {
        **segmentation_scores(mask, gold),
        "best_dice": overlap_scores(scores >= best, gold)["dice"],
        "best_threshold": best,
        "average_precision": average_precision(scores, gold),
        "near_precision": share_within(mask, gold, TOLERANCE),
        "near_recall": share_within(gold, mask, TOLERANCE),
    }
    if gold_tree is None:
        return result, None
    try:
        tree = trace(scores, threshold=threshold)
    except TraceError:  # nothing reaches the threshold
        tree = Tree(np.empty(0, int), np.empty(0, int), np.empty((0, 3)), np.empty(0), np.empty(0, int))
    result |= {f"tree_{key}": float(value) for key, value in tree_distance(tree, gold_tree).items()}
    return result, tree


def average_precision(scores: np.ndarray, gold: np.ndarray, bins: int = 1000) -> float:
    """Averages precision over recall as the threshold falls; scores are counted in `bins` steps of equal width.

    The reports of the paper's experiment use this version, so that new runs compare with older ones. If many scores
    lie in the first or the last step, it is lower than the exact value of `ranking.average_precision`. It is 0 if the
    gold mask is empty.
    """
    edges = np.linspace(0, 1, bins + 1)
    positive, negative = (np.histogram(scores[which], edges)[0][::-1].cumsum() for which in (gold, ~gold))
    if not positive[-1]:
        return 0.0
    precision = positive / np.maximum(positive + negative, 1)
    return float((precision * np.diff(positive, prepend=0)).sum() / positive[-1])


def share_within(mask: np.ndarray, other: np.ndarray, distance: float) -> float:
    """Computes the share of a mask's voxels that are at most `distance` voxels away from another mask.

    It is 1 if both are empty, and 0 if one is.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any() or not other.any():
        return float(mask.any() == other.any())
    return float((distance_transform_edt(~other)[mask] <= distance).mean())
