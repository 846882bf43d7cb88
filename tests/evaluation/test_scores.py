"""All figures of one volume's scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.evaluation.scores import TOLERANCE, average_precision, score_volume, share_within
from neuron_vit3d.morphology import Tree, rasterize


def line(length: int = 20) -> Tree:
    """A straight neurite along x in the middle of a (9, 9, 30) volume."""
    xyz = np.array([[5 + i, 4, 4] for i in range(length)], float)
    ids = np.arange(1, length + 1)
    return Tree(
        ids=ids, types=np.full(length, 3), xyz=xyz, radii=np.full(length, 1.2), parents=np.append(-1, ids[:-1])
    )


def test_perfect_scores_reach_the_best_of_everything():
    tree = line()
    gold = rasterize(tree, (9, 9, 30))
    figures, traced = score_volume(gold.astype(np.float32), 0.5, gold, tree)
    for key in (
        "dice",
        "precision",
        "recall",
        "cldice",
        "best_dice",
        "average_precision",
        "near_precision",
        "near_recall",
    ):
        assert figures[key] == pytest.approx(1.0), key
    assert figures["hd95"] == 0 and figures["tree_f1"] > 0.9 and figures["tree_esa"] < 1
    assert len(traced) > 5


def test_a_speck_far_away_costs_near_precision_and_a_thick_tube_does_not():
    tree = line()
    gold = rasterize(tree, (9, 9, 30))
    thick = rasterize(tree, (9, 9, 30), min_radius=2.5).astype(np.float32)
    assert score_volume(thick, 0.5, gold)[0]["near_precision"] == 1
    speck = thick.copy()
    speck[0, 0, :2] = 1
    figures = score_volume(speck, 0.5, gold)[0]
    assert figures["near_precision"] == pytest.approx(1 - 2 / speck.sum())
    assert "tree_f1" not in figures


def test_a_volume_in_which_nothing_is_found_has_a_tree_without_nodes():
    tree = line()
    figures, traced = score_volume(np.zeros((9, 9, 30), np.float32), 0.5, rasterize(tree, (9, 9, 30)), tree)
    assert len(traced) == 0 and figures["tree_f1"] == figures["dice"] == 0 and np.isnan(figures["tree_esa"])


def test_the_best_threshold_is_the_volumes_own():
    gold = np.zeros((4, 8, 8), bool)
    gold[1:3, 2:6, 2:6] = True
    scores = np.where(gold, 0.95, 0.7).astype(np.float32)
    figures = score_volume(scores, 0.5, gold)[0]
    assert figures["best_dice"] == 1 and 0.7 < figures["best_threshold"] <= 0.95
    assert figures["dice"] == pytest.approx(2 * gold.sum() / (gold.size + gold.sum()))


@given(st.integers(0, 2**32 - 1), st.integers(20, 200))
def test_average_precision_is_that_of_ranked_voxels(seed, size):
    """Against the definition, with scores on the bins' own grid."""
    rng = np.random.default_rng(seed)
    scores, gold = (rng.integers(0, 20, size) + 0.5) / 20, rng.random(size) < 0.3
    expected, found = 0.0, 0
    for threshold in np.unique(scores)[::-1]:
        chosen = scores >= threshold
        expected += (gold[chosen].sum() - found) * gold[chosen].mean()
        found = gold[chosen].sum()
    expected = expected / gold.sum() if gold.any() else 0.0
    assert average_precision(scores, gold, bins=20) == pytest.approx(expected)


def test_share_within():
    mask, other = np.zeros((1, 1, 12), bool), np.zeros((1, 1, 12), bool)
    other[..., 0], mask[..., [2, 3, 4, 8]] = True, True
    assert share_within(mask, other, TOLERANCE) == 0.5
    assert share_within(mask, np.zeros_like(mask), TOLERANCE) == 0
    assert share_within(np.zeros_like(mask), other, TOLERANCE) == 0
    assert share_within(np.zeros_like(mask), np.zeros_like(mask), TOLERANCE) == 1
