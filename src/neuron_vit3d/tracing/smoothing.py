"""Smooths a mask or scores before tracing, by what the neighbours of each voxel show.

A mask is smoothed by a Gaussian. Scores are averaged along lines: a neurite is a line, so a voxel inside it has
similar neighbours in at least one direction, while a false detection in a single slice does not. The log odds (in
which evidence adds up) are averaged along lines in 13 directions, and the best line counts. Filters that choose the
best of several oriented lines are old (Koller et al., Multiscale detection of curvilinear structures in 2-D and 3-D
image data, ICCV 1995); a Gaussian with the same effect on noise would erase thin neurites.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np


# Log odds relative to the threshold are clipped to MOST_OF_SURENESS times the sureness (how far neurites lie above the
# threshold), and at most to MOST_EVIDENCE. Otherwise one voxel could outweigh a line of others, and a background of
# nearly 0 would outweigh neurites of which the model is less sure. The limit is at least LEAST_EVIDENCE, so that
# background still counts against a line, and is not weak signal, where neurites lie just at the threshold.
LEAST_EVIDENCE, MOST_EVIDENCE, MOST_OF_SURENESS = 2.5, 8.0, 2.0
# float32 has no scores nearer to 1 than FARTHEST in log odds. ROUNDING makes sure that a score equal to the threshold
# reaches it, however it was rounded.
FARTHEST, ROUNDING = 16.0, 1e-5
# If the sureness (the median of the log odds above the threshold, relative to it) is less than UNSURE, neighbours
# count in full; if it is more than SURE they do not count, so that neurites side by side stay apart. It is 3.4 to 4.8
# on the fly neurons, and 5.6 to 9 on most synthetic ones.
UNSURE, SURE = 4.8, 5.8
# A line goes this far to both sides, in smallest voxel sides. Over the default's scores of the eight fly neurons that
# it was chosen on (tuff, the training part of the fixed split), the mean average precision without lines is 0.377;
# with 2, 3 and 4 to both sides it is 0.445, 0.483 and 0.500, and 0.528 with a Gaussian before it. With 5 the trees get
# worse: corners are cut.
HALF_LINE = 4.0
# One of each pair of opposite directions to the 26 neighbours.
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
_NEAR = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
Lookup = Callable[[np.ndarray], np.ndarray]  # scores (m,) of the voxels (m, 3; z y x)


class Gaussian:
    """Smooths masks, whose voxels are 1 and 0. deviation: standard deviation (3,) z y x in voxels."""

    def __init__(self, deviation: np.ndarray):
        self.deviation = np.asarray(deviation, float)
        self.halo = [int(4 * along + 0.5) for along in self.deviation]
        self.is_sure = True

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns float32 of the shape of the scores; beyond the volume the values at its faces go on."""
        from scipy.ndimage import gaussian_filter

        scores = np.asarray(scores, np.float32)
        if not self.deviation.any():
            return scores
        return gaussian_filter(scores, self.deviation, mode="nearest", truncate=4.0)

    def relative(self, scores: np.ndarray) -> np.ndarray:
        """Returns the scores as they are: a mask has no threshold that they could be relative to."""
        return scores

    def at(self, voxels: np.ndarray, lookup: Lookup) -> np.ndarray:
        """Computes the smoothed scores in single voxels (m, 3; z y x), (m,) float64, from the nearest 27 voxels
        alone."""
        with np.errstate(divide="ignore"):
            along = np.exp(-0.5 / self.deviation**2)  # weight at a distance of one voxel
        weights = np.prod(np.where(_NEAR == 0, 1.0, along), axis=1)
        near = _NEAR[weights > 0]
        found = lookup((voxels[:, None] + near).reshape(-1, 3)).reshape(len(voxels), -1)
        return found @ weights[weights > 0] / weights.sum()


class AlongLines:
    """Smooths scores: makes them relative to the threshold, which is 0.5 then, and averages them along the best line.

    Args:
        threshold: of the scores, in (0, 1].
        sureness: the median of the log odds above the threshold, relative to it. The lower it is, the more the line
            counts, and the less the voxel's own score.
        deviation: (3,) standard deviation of a Gaussian that is applied first, z y x in voxels.
        spacing: (3,) voxel sides z y x, the smallest being 1.
    """

    def __init__(self, threshold: float, sureness: float, deviation: np.ndarray, spacing: np.ndarray):
        self.level = min(float(log_odds(np.float64(threshold))), FARTHEST) - ROUNDING
        self.share = np.float32(np.clip((SURE - sureness) / (SURE - UNSURE), 0, 1))
        self.is_sure = bool(self.share < 0.5)
        self.most = np.float32(np.clip(MOST_OF_SURENESS * sureness, LEAST_EVIDENCE, MOST_EVIDENCE))
        self.deviation = np.asarray(deviation, float)
        self.lines = [
            (step, max(1, round(HALF_LINE / np.linalg.norm(step * spacing)))) for step in np.array(_DIRECTIONS)
        ]
        blur = [math.ceil(3 * along) for along in self.deviation]
        reach = np.max([np.abs(step) * half for step, half in self.lines], axis=0)
        self.halo = [int(one + more) if self.share else 0 for one, more in zip(blur, reach, strict=True)]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns float32 in (0, 1), of the shape of the scores; beyond the volume the values at its faces go on."""
        from scipy.ndimage import gaussian_filter
        from scipy.special import expit

        own = self._evidence(scores)
        if not self.share:
            return expit(own)
        widest, shape = max(half for _, half in self.lines), scores.shape
        padded = np.pad(gaussian_filter(own, self.deviation, mode="nearest", truncate=3.0), widest, mode="edge")
        best = np.full(shape, -np.inf, np.float32)
        for step, half in self.lines:
            along = np.zeros(shape, np.float32)
            for number in range(-half, half + 1):
                begin = widest + number * step
                along += padded[tuple(slice(at, at + length) for at, length in zip(begin, shape, strict=True))]
            np.maximum(best, along / np.float32(2 * half + 1), out=best)
        return expit(own + self.share * (best - own))

    def relative(self, scores: np.ndarray) -> np.ndarray:
        """Makes scores relative to the threshold, float32 in (0, 1): a score at the threshold becomes 0.5."""
        from scipy.special import expit

        return expit(self._evidence(scores))

    def at(self, voxels: np.ndarray, lookup: Lookup) -> np.ndarray:
        """Computes the smoothed scores in single voxels (m, 3; z y x), (m,) float64, but without the Gaussian."""
        from scipy.special import expit

        own = self._evidence(lookup(voxels)).astype(np.float64)
        if not self.share:
            return expit(own)
        best = np.full(len(voxels), -np.inf)
        for step, half in self.lines:
            points = voxels[:, None] + np.arange(-half, half + 1)[:, None] * step
            along = self._evidence(lookup(points.reshape(-1, 3))).reshape(len(voxels), -1)
            best = np.maximum(best, along.mean(axis=1))
        return expit(own + self.share * (best - own))

    def before(self, level: float) -> float:
        """Returns the score that is at this level relative to the threshold."""
        return float(1 / (1 + np.exp(-log_odds(np.float64(level)) - self.level)))

    def _evidence(self, scores: np.ndarray) -> np.ndarray:
        odds = log_odds(np.asarray(scores, np.float32))
        return np.clip(odds - np.float32(self.level), -self.most, self.most)


def log_odds(scores: np.ndarray | np.floating) -> np.ndarray:
    """Computes the log odds of scores, log(score / (1 - score)); infinite for 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(scores) - np.log1p(-scores)
