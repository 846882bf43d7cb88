"""Judges a model on stacks that it was not taught: by the trees that come of its scores, and by the scores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ..data.pairing import TREE_SUFFIXES
from ..data.pairs import Pair, read_pair
from ..evaluation import ranking_scores
from ..inference import Segmenter
from ..inference import segment as score
from ..model import NeuronViT3DForSegmentation
from ..morphology import Tree, read_swc, tree_distance
from ..tracing import TraceError, trace
from ..volumes import Volume, read_volume


EMPTY = Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int))


@dataclass(frozen=True)
class Figures:
    """How good a model is on one stack.

    Attributes:
        f1: of the tree within 2 voxels of the gold one; None where a mask was drawn and no tree.
        f1_wide: within the gold radius, where that is larger.
        average_precision: of the scores.
        dice: the best of any threshold.
    """

    f1: float | None
    f1_wide: float | None
    average_precision: float
    dice: float

    @property
    def deciding(self) -> float:
        """The one figure that decides: the mean of both F1; Dice where there is no tree."""
        return self.dice if self.f1 is None or self.f1_wide is None else (self.f1 + self.f1_wide) / 2


# Scores below it tell nothing once a model is sure of a lab's stacks. It must be a score whose log odds the threshold
# that follows the noise takes for no background (above -3, `tracing/noise.py`).
LOWEST_SCORE = 0.05


@dataclass(frozen=True)
class Judged:
    """What a model made of a stack, beside what a human drew (`gold`; None: a mask was drawn)."""

    figures: Figures
    tree: Tree
    gold: Tree | None
    image: np.ndarray
    voxel_size: tuple[float, float, float] | None


def judge(
    segmenter: Segmenter, pair: Pair, channel: int | None, lowest_scores: Sequence[float] = (0.0,)
) -> list[Judged]:
    """Segments and traces a stack with the options that a user begins with, and compares with what was drawn.

    Args:
        segmenter: holds the model.
        pair: the stack.
        channel: of the image.
        lowest_scores: of the model's configuration, each judged on its own.

    Returns:
        One for each of `lowest_scores`.
    """
    volume = read_volume(pair.image, channel=channel)
    scores = score(volume, segmenter).array
    image = volume.array if volume.array.ndim == 3 else volume.array.max(axis=0)
    gold, drawn = None, None
    if pair.annotation.suffix.lower() in TREE_SUFFIXES:
        gold = read_swc(pair.annotation, mend_structure=True)
        ranked = ranking_scores(scores, gold)
    else:
        drawn = read_pair(pair, channel=channel).labels
        ranked = ranking_scores(scores, drawn == 1, ignore=drawn > 1)
    found = []
    for lowest in lowest_scores:
        tree = _traced(Volume(np.where(scores < lowest, 0, scores).astype(np.float32), volume.voxel_size))
        distance = tree_distance(tree, gold) if gold is not None else {}
        figures = Figures(
            distance.get("f1"), distance.get("f1_wide"), ranked["average_precision"], ranked["best_dice"]
        )
        found.append(Judged(figures, tree, gold, image, volume.voxel_size))
    return found


def _traced(scores: Volume) -> Tree:
    with _told_by_nobody():
        try:
            return trace(scores)
        except TraceError:  # nothing stands out
            return EMPTY


@torch.no_grad()
def between(
    base: NeuronViT3DForSegmentation, taught: NeuronViT3DForSegmentation, share: float
) -> NeuronViT3DForSegmentation:
    """Moves the weights of a taught model back: they end at this share of the way from the base model's to its own.

    Args:
        base, taught: of one shape.
        share: 1 leaves them as they are.

    Returns:
        The taught model, changed in place.
    """
    before = base.state_dict()
    for name, value in taught.state_dict().items():
        if value.is_floating_point():
            value.lerp_(before[name].to(value), 1 - share)
    return taught


@contextmanager
def _told_by_nobody() -> Iterator[None]:
    """Keeps quiet about what tracing leaves out: a report tells how good the tree is."""
    logger = logging.getLogger("neuron_vit3d.tracing")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
