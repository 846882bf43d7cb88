"""Validation on whole volumes, and the shift that makes 0.5 the best threshold."""

import numpy as np
import pytest
import torch

from neuron_vit3d import NeuronViT3DImageProcessor, Segmenter, Volume, segment
from neuron_vit3d.data.pairs import LabelledVolume
from neuron_vit3d.evaluation.segmentation import overlap_scores
from neuron_vit3d.model.image_processing_neuron_vit3d import scores_from_logits
from neuron_vit3d.training.validation import THRESHOLDS, best_threshold, shift_threshold, validation_dice
from support.tiny_models import tiny_block, tiny_model


def labelled(seed: int, name: str) -> LabelledVolume:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (1, 6, 40, 40)).astype(np.uint8)
    return LabelledVolume(name, image, (rng.random((6, 40, 40)) < 0.2).astype(np.uint8))


def test_dice_is_that_of_whole_volumes_without_what_is_ignored():
    model = tiny_model()
    segmenter = Segmenter(model, processor=NeuronViT3DImageProcessor.for_model(model.config))
    first, second = labelled(0, "a"), labelled(1, "a")  # of the same name, from another folder
    first.labels[2:4] = 255
    result = validation_dice(segmenter, [first, second])
    assert list(result) == ["a", "a'"]
    scores = segment(Volume(first.image[0]), segmenter).array
    valid = first.labels != 255
    for threshold, value in result["a"].items():
        assert value == overlap_scores(scores[valid] >= threshold, first.labels[valid] == 1)["dice"]
    assert result["a"] != result["a'"]


def test_the_best_threshold_is_that_of_the_mean():
    dice = {"a": dict.fromkeys(THRESHOLDS, 0.1), "b": dict.fromkeys(THRESHOLDS, 0.2)}
    dice["a"][0.3], dice["b"][0.8], dice["a"][0.8] = 0.5, 0.6, 0.45
    assert best_threshold(dice) == (0.8, pytest.approx(0.525))


@pytest.mark.parametrize("num_output_slices", [1, 3])
@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.9])
def test_after_the_shift_one_half_gives_the_mask_that_the_threshold_gave(threshold, num_output_slices):
    model = tiny_model(num_output_slices=num_output_slices)
    block = tiny_block()
    with torch.no_grad():
        before = scores_from_logits(model(block).logits)
        shift_threshold(model, threshold)
        after = scores_from_logits(model(block).logits)
    clear = (before - threshold).abs() > 1e-5
    assert torch.equal((before >= threshold)[clear], (after >= 0.5)[clear])
    assert (before >= threshold).any() and not (before >= threshold).all()
