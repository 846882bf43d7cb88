"""Masks compared: cases counted by hand, laws, and scipy's own distance transform as a second opinion."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from scipy.spatial.distance import dice as scipy_dissimilarity

from neuron_vit3d.evaluation import segmentation_scores
from neuron_vit3d.evaluation.segmentation import overlap_scores
from neuron_vit3d.volumes import Volume


SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
MASKS = SHAPES.flatmap(lambda shape: arrays.arrays(bool, shape))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(bool, shape)] * 2))
KEYS = ["dice", "precision", "recall", "f1", "iou", "hd95", "cldice"]


def row(*values, shape=(1, 1, 6)) -> np.ndarray:
    return np.array(values, bool).reshape(shape)


def test_counted_by_hand():
    predicted, gold = row(1, 1, 1, 0, 0, 0), row(0, 1, 1, 1, 1, 0)
    scores = segmentation_scores(predicted, gold)
    assert list(scores) == KEYS
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["recall"] == pytest.approx(2 / 4)
    assert scores["dice"] == scores["f1"] == pytest.approx(4 / 7)
    assert scores["iou"] == pytest.approx(2 / 5)
    # Distances to gold 1, 0, 0 (95th percentile 0.9), to predicted 0, 0, 1, 2 (1.85).
    assert scores["hd95"] == pytest.approx(1.85)
    assert scores["cldice"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))  # lines are their own skeletons


def test_thickness_counts_in_dice_and_not_along_the_center_line():
    thin, thick = np.zeros((2, 9, 9, 30), bool)
    thin[4, 4, 5:25] = True
    thick[3:6, 3:6, 5:25] = True
    scores = segmentation_scores(thin, thick)
    assert scores["dice"] == pytest.approx(2 * 20 / (20 + 180))
    assert scores["cldice"] == 1.0


def test_a_shift_of_parallel_planes_is_their_distance():
    predicted, gold = np.zeros((2, 10, 8, 8), bool)
    predicted[2], gold[5] = True, True
    assert segmentation_scores(predicted, gold)["hd95"] == 3.0
    assert segmentation_scores(predicted, gold, voxel_size=(0.5, 0.1, 0.1))["hd95"] == pytest.approx(1.5)


def test_only_the_surface_counts_for_the_distance():
    """The two balls' surfaces are two voxels apart; their insides would halve the percentile."""
    z, y, x = np.mgrid[:31, :31, :31] - 15
    radius = np.sqrt(z**2 + y**2 + x**2)
    assert segmentation_scores(radius <= 12, radius <= 10)["hd95"] == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1)])
def test_empty_masks(shape):
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert segmentation_scores(empty, empty) == dict.fromkeys(KEYS, 1.0) | {"hd95": 0.0}
    for predicted, gold in ((empty, full), (full, empty)):
        assert segmentation_scores(predicted, gold) == dict.fromkeys(KEYS, 0.0) | {"hd95": math.inf}


def test_any_number_but_zero_is_neuron_and_volumes_are_taken():
    predicted, gold = np.array([[[0, 255, 7]]], np.uint8), np.array([[[0.0, -1.0, 0.0]]])
    expected = segmentation_scores(row(0, 1, 1, shape=(1, 1, 3)), row(0, 1, 0, shape=(1, 1, 3)))
    assert segmentation_scores(predicted, gold) == expected
    assert segmentation_scores(Volume(predicted), Volume(gold)) == expected


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_ignored_voxels_are_left_out(dtype):
    predicted, gold = row(1, 1, 0, 0, 1, 1), row(1, 0, 1, 0, 0, 1)
    ignore = row(0, 1, 1, 0, 1, 0).astype(dtype)
    scores = segmentation_scores(predicted, gold, ignore=ignore)
    assert [scores[key] for key in ("dice", "precision", "recall", "iou", "cldice", "hd95")] == [1, 1, 1, 1, 1, 0]
    with pytest.raises(ValueError, match=r"expected ignore of the masks' shape \(1, 1, 6\)"):
        segmentation_scores(predicted, gold, ignore=ignore[..., :3])


@pytest.mark.parametrize(
    ("predicted", "gold", "message"),
    [
        ((2, 3, 4), (2, 4, 3), r"one shape, got predicted \(2, 3, 4\) and gold \(2, 4, 3\)"),
        ((3, 4), (3, 4), r"a predicted mask with axes \(z, y, x\), got shape \(3, 4\)"),
        ((2, 3, 4), (1, 2, 3, 4), r"a gold mask with axes \(z, y, x\), got shape \(1, 2, 3, 4\)"),
    ],
)
def test_other_shapes_are_refused(predicted, gold, message):
    with pytest.raises(ValueError, match=message):
        segmentation_scores(np.ones(predicted), np.ones(gold))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_a_mask_agrees_with_itself(mask):
    assert segmentation_scores(mask, mask) == dict.fromkeys(KEYS, 1.0) | {"hd95": 0.0}


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_who_is_gold_matters_for_precision_and_recall_alone(pair):
    one, other = segmentation_scores(*pair), segmentation_scores(*pair[::-1])
    assert all(one[key] == pytest.approx(other[key]) for key in ("dice", "f1", "iou", "hd95", "cldice"))
    assume(pair[0].any() == pair[1].any())  # else 0 / 0 is told by the other mask
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_overlap_and_distance_by_scipy(pair):
    predicted, gold = pair
    assume(predicted.any() and gold.any())
    scores = segmentation_scores(predicted, gold)
    assert scores["dice"] == pytest.approx(1 - scipy_dissimilarity(predicted.ravel(), gold.ravel()))
    assert scores["iou"] == pytest.approx(scores["dice"] / (2 - scores["dice"]))
    assert all(0 <= scores[key] <= 1 for key in KEYS if key != "hd95")
    faces = ndimage.generate_binary_structure(3, 1)
    predicted_surface, gold_surface = (mask & ~ndimage.binary_erosion(mask, faces) for mask in pair)
    to_gold = ndimage.distance_transform_edt(~gold_surface)[predicted_surface]
    to_predicted = ndimage.distance_transform_edt(~predicted_surface)[gold_surface]
    assert scores["hd95"] == pytest.approx(max(np.percentile(to_gold, 95), np.percentile(to_predicted, 95)))


def test_overlap_alone_is_the_same():
    rng = np.random.default_rng(0)
    predicted, gold = rng.random((2, 4, 5, 6)) < 0.4
    scores = segmentation_scores(predicted, gold)
    assert overlap_scores(predicted, gold) == {key: scores[key] for key in KEYS[:5]}
