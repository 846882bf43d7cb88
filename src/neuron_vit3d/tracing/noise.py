"""Measures the noise of a stack in its scores: finds a threshold that follows it, and how sure the model was.

How high a model scores neurites, and how high the tissue around them, differs from stack to stack: for fly neurons of
one set the best thresholds lie between 0.02 and 0.9. What differs less is how far neurites stand out from their
surroundings, relative to how much these vary.
"""

import math

import numpy as np

from .pieces import Pieces
from .smoothing import FARTHEST, log_odds


# The threshold lies this many upper deviations above the median of the log odds. For the default's scores of the eight
# fly neurons that it was chosen on (tuff, the training part of the fixed split) the values that are nearly best lie
# about 5, from 4 to 5.3.
DEVIATIONS = 5.0
LOWEST, HIGHEST = 0.02, 0.99
# Scores say nothing about noise if their median is higher than HIGHEST_MEDIAN (there is no background), or their upper
# deviation is larger than MOST_DEVIATION (what lies above the background is neurite). Medians of stacks lie between
# -9.2 and -7.4, upper deviations between 0.6 and 2.9.
HIGHEST_MEDIAN, MOST_DEVIATION = -3.0, 3.5
_WIDTH = 0.01  # width of the bins of log odds
# Sample size in voxels: enough for a volume of any size.
_VOXELS = 1 << 26


class LogOdds:
    """Histogram of the log odds in a stack.

    Scores of exactly 0 are left out: the model did not look there. The counts are kept with the scores (in `Pieces`),
    since `segment` asks for the threshold of scores and then traces them.
    """

    def __init__(self, scores: Pieces):
        self.values = np.arange(int(2 * FARTHEST / _WIDTH) + 1) * _WIDTH - FARTHEST
        if scores.log_odds is None:
            self.counts = np.zeros(len(self.values), np.int64)
            every = max(1, math.ceil(math.prod(scores.shape) / _VOXELS))
            for number, box in enumerate(scores.boxes()):
                if number % every == 0:
                    self._add(scores.read(box))
            scores.log_odds = self.counts
        self.counts = scores.log_odds

    def _add(self, scores: np.ndarray) -> None:
        odds = log_odds(scores[(scores > 0) & (scores <= 1)].astype(np.float32))
        bins = np.rint((np.clip(odds, -FARTHEST, FARTHEST) + FARTHEST) / _WIDTH).astype(np.int64)
        self.counts += np.bincount(bins, minlength=len(self.counts))

    def threshold(self) -> float:
        """Finds the score above which a voxel stands out from the stack's noise, from LOWEST to HIGHEST.

        It lies DEVIATIONS upper deviations above the median of the log odds. The upper deviation is the root mean
        square distance from the median of all values above it. Where the scores say nothing about noise, the threshold
        is 0.5.
        """
        median = self._median(self.counts >= 0)
        above = self.values > median
        if median > HIGHEST_MEDIAN or not self.counts[above].any():
            return 0.5
        deviation = math.sqrt(np.average((self.values[above] - median) ** 2, weights=self.counts[above]))
        if deviation > MOST_DEVIATION:
            return 0.5
        return min(max(1 / (1 + math.exp(-median - DEVIATIONS * deviation)), LOWEST), HIGHEST)

    def sureness(self, threshold: float) -> float:
        """Computes how far the median of the log odds above the threshold lies above it; infinite where there are
        none."""
        level = min(float(log_odds(np.float64(threshold))), FARTHEST)
        above = self.values >= level
        return self._median(above) - level if self.counts[above].any() else math.inf

    def _median(self, where: np.ndarray) -> float:
        """Computes the median of the log odds in some bins; the lowest value where these are empty."""
        counts = np.cumsum(np.where(where, self.counts, 0))
        return float(self.values[np.searchsorted(counts, counts[-1] / 2)])


def threshold_from_noise(scores) -> float:
    """Finds the threshold that `trace` uses where none is given: voxels above it stand out from the scores' own noise.

    Args:
        scores: array (z, y, x) of floats in [0, 1], a Volume that holds one, what `open_volume` returns, or
            `tracing.pieces.Pieces` of these, which keep the counts for `trace`.

    Returns:
        A score, from 0.02 to 0.99.
    """
    return LogOdds(Pieces.of(scores)).threshold()
