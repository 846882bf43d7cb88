"""The `evaluate` module "neuron_segmentation": masks of neurons against gold masks, volume by volume.

A thin wrapper over `neuron_vit3d.segmentation_scores`. `neuron_vit3d.evaluation.metrics.pairs` says how masks of any
shape are stored until they are scored.
"""

import math
import warnings

import evaluate
import numpy as np

from neuron_vit3d.evaluation.metrics.pairs import FEATURES, StoredAsBytes, check_exists, is_path, means, pack, unpack
from neuron_vit3d.evaluation.ranking import ranking_scores
from neuron_vit3d.evaluation.segmentation import segmentation_scores
from neuron_vit3d.volumes import Volume, check_finite, read_volume, single_channel
from neuron_vit3d.volumes.volume import checked_voxel_size


_DESCRIPTION = """\
How well 3D masks of neurons agree with gold masks: overlap (Dice, precision, recall, F1, IoU), surface distance (HD95)
and center lines (clDice), as the mean over volumes and for each volume.
"""

_INPUTS = """
Args:
    predictions: list of masks with axes (z, y, x), whose shapes may differ. A mask is an array of bools or numbers, a
        `neuron_vit3d.Volume`, or the path of a file that `neuron_vit3d.read_volume` reads, with one channel. Bools and
        integers are neuron where they are not 0. Floats are scores, neuron where they are at least 0.5.
    references: list of gold masks, one of the same shape for each prediction, in the same forms.
    voxel_size: z, y, x in micrometres, of all volumes; `hd95` is then in micrometres, otherwise in voxels.
    ignore_index: label in the references whose voxels are left out: they count as background in both masks.

Returns:
    dice, precision, recall, f1, iou, cldice: means over the volumes, in [0, 1].
    hd95: mean over the volumes in which it is finite; infinite if it is in none. It is infinite where one mask is
        empty and the other is not, and one such volume would hide all others in the mean.
    average_precision, best_dice, best_threshold: where all predictions are floats, means over the volumes of what
        `neuron_vit3d.evaluation.ranking_scores` says of them as scores.
    hd95_infinite: number of volumes that the mean of hd95 leaves out for that reason.
    by_volume: list of dicts, for each volume in order what `neuron_vit3d.segmentation_scores` returns, and of scores
        what `neuron_vit3d.evaluation.ranking_scores` returns.

Raises:
    ValueError: different numbers of predictions and references, a mask that is not 3D, masks of different shapes, NaN,
        a file that is missing or holds no volume. Nothing of that batch is added.

Warns:
    UserWarning: hd95_infinite is not 0.

Examples:
    >>> import evaluate, numpy as np
    >>> from neuron_vit3d.evaluation.metrics import METRICS
    >>> metric = evaluate.load(str(METRICS["neuron_segmentation"]))
    >>> gold = np.zeros((8, 32, 32), bool)
    >>> gold[4, 16, 4:28] = True
    >>> predicted = gold & (np.arange(32) < 20)
    >>> metric.compute(predictions=[predicted], references=[gold])["dice"]
    0.8
"""

_CITATION = """\
@inproceedings{shit2021cldice,
  title = {clDice - A Novel Topology-Preserving Loss Function for Tubular Structure Segmentation},
  author = {Shit, Suprosanna and Paetzold, Johannes C. and Sekuboyina, Anjany and Ezhov, Ivan and Unger, Alexander and
            Zhylka, Andrey and Pluim, Josien P. W. and Bauer, Ulrich and Menze, Bjoern H.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {16560--16569},
  year = {2021}
}
"""


class NeuronSegmentation(StoredAsBytes, evaluate.Metric):
    """Mean of `neuron_vit3d.segmentation_scores` over pairs of masks (z, y, x); see `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=FEATURES,
            license="apache-2.0",
            reference_urls=["https://arxiv.org/abs/2003.07311"],
        )

    def compute(self, *, predictions=None, references=None, voxel_size=None, ignore_index=None):
        """Scores of all masks that were added, and of those given here."""
        voxel_size = checked_voxel_size(voxel_size, "compute")
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer | None):
            raise ValueError(f"expected ignore_index to be a label of the references, an int, got {ignore_index!r}")
        return super().compute(
            predictions=predictions, references=references, voxel_size=voxel_size, ignore_index=ignore_index
        )

    def _packed(self, prediction, reference, names):
        predicted, labels = map(_labels, (prediction, reference), names)
        if predicted.shape != labels.shape:
            raise ValueError(
                f"expected masks of one shape (z, y, x), got {names[0]} {predicted.shape} and {names[1]} "
                f"{labels.shape}"
            )
        # Which label is to be ignored is known in `compute` only, so references keep theirs.
        is_scores = predicted.dtype.kind == "f"
        return pack(scores=predicted) if is_scores else pack(mask=_mask(predicted)), pack(labels=labels)

    def _compute(self, predictions, references, voxel_size=None, ignore_index=None):
        by_volume = [
            _scores(*unpack(prediction).values(), unpack(reference)["labels"], voxel_size, ignore_index)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        infinite = sum(math.isinf(scores["hd95"]) for scores in by_volume)
        if infinite:
            warnings.warn(
                f"hd95 is infinite in {infinite} of {len(by_volume)} volumes, where one of the masks is empty; the "
                "mean of hd95 leaves them out",
                stacklevel=2,
            )
        return means(by_volume) | {"hd95_infinite": infinite, "by_volume": by_volume}


def _scores(predicted, labels, voxel_size, ignore_index) -> dict[str, float]:
    ignore = None if ignore_index is None else labels == ignore_index
    scores = segmentation_scores(_mask(predicted), _mask(labels), ignore=ignore, voxel_size=voxel_size)
    if predicted.dtype.kind == "f":
        scores |= ranking_scores(predicted, _mask(labels), ignore=ignore)
    return {name: float(score) for name, score in scores.items()}


def _labels(item, name: str) -> np.ndarray:
    """The array (z, y, x) of whatever stands for a mask; raises ValueError."""
    if is_path(item):
        check_exists(item, name)
        item = read_volume(item)
    if isinstance(item, Volume):
        volume = single_channel(item)
    else:
        expected = f"{name}: expected a mask with axes (z, y, x)"
        try:
            array = np.asarray(item)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{expected}, got a {type(item).__name__}: {error}") from error
        if array.ndim != 3:
            raise ValueError(f"{expected}, got a {type(item).__name__} of shape {array.shape}")
        volume = Volume(array, source=name)
    check_finite(volume)
    return volume.array


def _mask(labels: np.ndarray) -> np.ndarray:
    return labels >= 0.5 if labels.dtype.kind == "f" else labels != 0
