"""A stack's own noise, as its scores tell it: the threshold that follows it, and how sure the model was.

How high a model scores a neurite, and how high the tissue around it, differs from stack to stack: of fly neurons in
one set the best thresholds lie between 0.02 and 0.9. What differs less is how far neurites stand out from what is
around them, measured by how much that itself varies.
"""

import math

import numpy as np

from .pieces import Pieces
from .smoothing import FARTHEST, log_odds


# Neurites are where the log odds are so many upper deviations above their median. For the default's scores of the
# eight fly neurons that it was chosen on (tuff, the training part of the fixed split) what is nearly best lies about
# 5, within 4 and 5.3.
DEVIATIONS = 5.0
LOWEST, HIGHEST = 0.02, 0.99
# Scores tell of no noise where half of them are higher than this (there is no background), or vary more (what is above
# the background is neurite). Medians of stacks lie between -9.2 and -7.4, upper deviations between 0.6 and 2.9.
HIGHEST_MEDIAN, MOST_DEVIATION = -3.0, 3.5
_WIDTH = 0.01  # of the bins that log odds are counted in
# So many voxels tell enough of a volume of any size.
_VOXELS = 1 << 26


class LogOdds:
    """How often which log odds occur in a stack.

    Scores of exactly 0 are left out: there was nothing that a model looked at. The scores keep what was counted:
    `segment` asks for their threshold, and then traces them.
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
        """Finds the score above which something stands out from the stack's noise, from LOWEST to HIGHEST.

        It is 0.5 where the scores tell of no noise.

        It lies DEVIATIONS upper deviations above the median of the log odds; the upper deviation is the root mean
        square distance from the median of what is above it.
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
        """How far above the threshold half of what is above it is, in log odds; infinite where nothing is."""
        level = min(float(log_odds(np.float64(threshold))), FARTHEST)
        above = self.values >= level
        return self._median(above) - level if self.counts[above].any() else math.inf

    def _median(self, where: np.ndarray) -> float:
        """Of the log odds in some bins; of none the lowest."""
        counts = np.cumsum(np.where(where, self.counts, 0))
        return float(self.values[np.searchsorted(counts, counts[-1] / 2)])


def threshold_from_noise(scores) -> float:
    """The threshold that `trace` takes where none is given: what stands out from the scores' own noise.

    Args:
        scores: array (z, y, x) of floats in [0, 1], a Volume that holds one, what `open_volume` gives, or
            `tracing.pieces.Pieces` of these, which keep what was counted for `trace`.

    Returns:
        A score, from 0.02 to 0.99.
    """
    return LogOdds(Pieces.of(scores)).threshold()
