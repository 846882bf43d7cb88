"""Measures how good a model is on whole volumes, and finds the threshold that suits it."""

import numpy as np
import torch

from ..data.pairs import IGNORE_INDEX, LabelledVolume
from ..evaluation.scores import THRESHOLDS
from ..evaluation.segmentation import overlap_scores
from ..inference import Segmenter, segment
from ..model import NeuronViT3DForSegmentation
from ..volumes import Volume


def validation_dice(segmenter: Segmenter, volumes: list[LabelledVolume]) -> dict[str, dict[float, float]]:
    """Measures the Dice of whole stitched volumes: name -> threshold -> Dice, without the ignored voxels."""
    result = {}
    for name, volume in zip(unique_names(volumes), volumes, strict=True):
        valid = volume.labels != IGNORE_INDEX
        gold = volume.labels[valid] == 1
        scores = segment_labelled(segmenter, volume)[valid]
        result[name] = {t: overlap_scores(scores >= t, gold)["dice"] for t in THRESHOLDS}
    return result


def unique_names(volumes: list[LabelledVolume]) -> list[str]:
    """Returns the volumes' names; of equal names, from several folders, each further one gets a prime."""
    names = []
    for volume in volumes:
        name = volume.name
        while name in names:
            name += "'"
        names.append(name)
    return names


def segment_labelled(segmenter: Segmenter, volume: LabelledVolume) -> np.ndarray:
    """Segments the image of a labelled volume. Returns scores (slices, height, width), float32."""
    image = volume.image if segmenter.processor.num_channels > 1 else volume.image[0]
    return segment(Volume(image, source=volume.name), segmenter).array


def best_threshold(dice_by_volume: dict[str, dict[float, float]]) -> tuple[float, float]:
    """Returns the threshold with the highest mean Dice over the volumes, and that Dice."""
    mean = {t: float(np.mean([dice[t] for dice in dice_by_volume.values()])) for t in THRESHOLDS}
    threshold = max(mean, key=mean.__getitem__)
    return threshold, mean[threshold]


@torch.no_grad()
def shift_threshold(model: NeuronViT3DForSegmentation, threshold: float) -> None:
    """Changes the classifier's bias in place so that scores of `threshold` become 0.5; the masks stay the same.

    Training blocks hold more neuron than volumes do. So a trained model is too sure of it, and the best threshold lies
    above 0.5. After the shift 0.5 is the best threshold. For two labels the mask p >= t is the mask
    logit(p) - logit(t) >= 0. Where tiles overlap, scores are averaged, and a voxel near the threshold may change
    sides.
    """
    num_labels, num_slices = model.config.num_labels, model.config.num_output_slices
    bias = model.decoder.classifier.bias.view(num_labels, num_slices)
    bias[1:] -= float(np.log(threshold / (1 - threshold)))
