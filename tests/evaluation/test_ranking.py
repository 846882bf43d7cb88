"""Average precision and the best Dice: against the definition, their laws, and what a gold tree is sure of."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Volume, average_precision, rasterize
from neuron_vit3d.evaluation.ranking import center_line_labels, ranking_scores
from neuron_vit3d.evaluation.segmentation import overlap_scores
from support.tubes import line


def random_case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, gold, and voxels to ignore."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels, (3, 5, 4)).astype(np.float32) / 7
    return scores, rng.random(scores.shape) < rng.choice([0.1, 0.6]), rng.random(scores.shape) < 0.3


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_equals_the_definition(seed, levels):
    scores, gold, ignore = random_case(seed, levels)
    result = ranking_scores(scores, gold, ignore=ignore)
    kept, truth = scores[~ignore], gold[~ignore]
    average, found, best = 0.0, 0, 0.0
    for threshold in np.unique(kept)[::-1]:
        chosen = kept >= threshold
        average += (truth[chosen].sum() - found) * truth[chosen].mean()
        found = truth[chosen].sum()
        best = max(best, overlap_scores(chosen, truth)["dice"])
    if not truth.any():
        assert result["average_precision"] == result["best_dice"] == 0 and math.isnan(result["best_threshold"])
        return
    assert result["average_precision"] == pytest.approx(average / truth.sum())
    assert result["best_dice"] == pytest.approx(best)
    assert overlap_scores(kept >= result["best_threshold"], truth)["dice"] == pytest.approx(best)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_only_the_order_counts_and_what_is_ignored_does_not(seed):
    scores, gold, ignore = random_case(seed, 20)
    expected = average_precision(scores, gold, ignore=ignore)
    assert average_precision(np.exp(3 * scores.astype(float)) - 9, gold, ignore=ignore) == expected
    changed = np.where(ignore, 99, scores)
    assert average_precision(Volume(changed), Volume(gold), ignore=Volume(ignore)) == expected
    assert average_precision(scores, gold & ~ignore, ignore=ignore) == expected


def test_perfect_and_useless_scores():
    gold = np.zeros((4, 6, 6), bool)
    gold[1:3, 2, 1:5] = True
    assert ranking_scores(gold, gold) == {"average_precision": 1, "best_dice": 1, "best_threshold": 1}
    assert average_precision(np.ones(gold.shape), gold) == pytest.approx(gold.mean())
    assert average_precision(-gold.astype(int), gold) == pytest.approx(gold.mean())


def test_between_the_center_line_and_the_surface_anything_goes():
    tree, shape = line([4, 10, 10], [26, 10, 10], 4.0), (21, 21, 31)
    center, band = center_line_labels(tree, shape)
    assert not (center & band).any()
    assert np.array_equal(center, rasterize(line([4, 10, 10], [26, 10, 10], 1.0), shape))
    assert np.array_equal(center | band, rasterize(line([4, 10, 10], [26, 10, 10], 5.0), shape))
    for radius in (1.0, 2.5, 4.0, 5.0):
        assert average_precision(rasterize(line([4, 10, 10], [26, 10, 10], radius), shape), tree) == 1
    assert average_precision(rasterize(line([4, 10, 10], [26, 10, 10], 6.0), shape), tree) < 1
    assert average_precision(rasterize(line([4, 10, 10], [15, 10, 10], 1.0), shape), tree) < 0.6
    more = np.zeros(shape, bool)
    more[:, :, :3] = True
    speck = rasterize(tree, shape).astype(np.float32)
    speck[2, 2, 1] = 2
    assert average_precision(speck, tree) < 1 == average_precision(speck, tree, ignore=more)


def test_nonsense_is_refused():
    gold = np.zeros((2, 3, 4), bool)
    with pytest.raises(ValueError, match="of one shape"):
        average_precision(np.zeros((2, 3, 5)), gold)
    with pytest.raises(ValueError, match="of one shape"):
        average_precision(np.zeros((3, 4)), gold[0])
    with pytest.raises(ValueError, match="axes"):
        average_precision(np.zeros((3, 4)), line([0, 0, 0], [1, 1, 1], 1))
    with pytest.raises(ValueError, match="finite"):
        average_precision(np.full((2, 3, 4), np.nan), gold)
