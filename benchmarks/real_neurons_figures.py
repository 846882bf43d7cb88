"""The figures that real_neurons.py gives of a tree and of scores."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neuron_vit3d import Tree, rasterize, tree_distance
from neuron_vit3d.evaluation import ranking_scores
from neuron_vit3d.evaluation.ranking import center_line_labels
from neuron_vit3d.morphology.distance import parts_apart


LOOSE = 4.0  # voxels, the second tolerance
DILATION = 2.0  # voxels around the gold tube
TILE = 192  # pixels: the side of the default's own tiles


def tree_figures(tree: Tree, gold: Tree, shape: tuple[int, int, int]) -> dict[str, float]:
    """What is said of a tree.

    Returns:
        All that `tree_distance` gives at 2 voxels; precision_4, recall_4, f1_4: within 4 voxels; wrong_inside: see
        `wrong_length_inside`; nodes.
    """
    figures = tree_distance(tree, gold)
    loose = tree_distance(tree, gold, threshold=LOOSE)
    figures |= {f"{key}_4": loose[key] for key in ("precision", "recall", "f1")}
    return figures | {"wrong_inside": wrong_length_inside(tree, gold, shape), "nodes": len(tree)}


def wrong_length_inside(tree: Tree, gold: Tree, shape: tuple[int, int, int]) -> float:
    """Computes the share of a tree's wrong length that lies in the gold tube dilated by 2 voxels.

    Wrong length lies beyond 2 voxels from the gold lines. Inside the tube are parallel lines and twigs in thick
    neurites, not false neurites. NaN where no length is wrong.
    """
    begin, end, apart = parts_apart(tree, gold)
    begin, end = begin[apart], end[apart]
    length = np.linalg.norm(end - begin, axis=1)
    if not length.sum():
        return math.nan
    tube = rasterize(replace(gold, radii=gold.radii + DILATION), shape)
    middle = np.rint((begin + end) / 2).astype(int)[:, ::-1]
    inside = tube[tuple(np.clip(middle, 0, np.array(shape) - 1).T)]
    return float(length[inside].sum() / length.sum())


def score_figures(scores: np.ndarray, gold: Tree) -> dict[str, float]:
    """What is said of scores against the gold center lines, the band between them and the gold surface left out.

    Returns:
        average_precision, best_dice, best_threshold: of the whole stack, see `neuron_vit3d.average_precision`.
        average_precision_tiles: of the tiles, 192 x 192 pixels of a slice, that a gold line runs through: neurites
            elsewhere in the stack that nobody traced count as errors in the first, and not here.
    """
    near = tiles_of(center_line_labels(gold, scores.shape)[0])
    in_tiles = ranking_scores(scores, gold, ignore=~near)
    return ranking_scores(scores, gold) | {"average_precision_tiles": in_tiles["average_precision"]}


def tiles_of(mask: np.ndarray, side: int = TILE) -> np.ndarray:
    """bool (z, y, x): the tiles (one slice, side x side) of which a mask holds any voxel."""
    ends = [np.arange(0, length, side) for length in mask.shape[1:]]
    held = np.add.reduceat(np.add.reduceat(mask, ends[0], axis=1, dtype=np.int64), ends[1], axis=2) > 0
    return held.repeat(side, axis=1).repeat(side, axis=2)[:, : mask.shape[1], : mask.shape[2]]
