"""What the voxels around one say of it: smoothing before tracing.

A mask is smoothed by a Gaussian. Scores are looked at along lines: a neurite is a line, so what is true of a voxel of
it holds for its neighbours in one direction at least, and what a model takes for a neurite in one slice alone does
not. The logarithms of the odds (evidence adds up in these) are averaged along lines in 13 directions, and the best
line counts. Filters that choose the best of several oriented lines are old (Koller et al., Multiscale detection of
curvilinear structures in 2-D and 3-D image data, ICCV 1995); a Gaussian as strong would wash thin neurites away.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np


# Log odds farther from the threshold count as so far: one voxel may not outvote a line of others. And no farther than
# so many times what neurites are above it, or a background that is all but 0 would outvote whoever is not as sure of a
# neurite; but where these are just at the threshold it still counts, and is no weak signal.
LEAST_EVIDENCE, MOST_EVIDENCE, MOST_OF_SURENESS = 2.5, 8.0, 2.0
# float32 knows no scores nearer to 1 than these log odds; and a score that is the threshold reaches it, however it was
# rounded.
FARTHEST, ROUNDING = 16.0, 1e-5
# Where half of the voxels above the threshold are less than UNSURE above it (in log odds), their neighbours are asked;
# where half are more than SURE, no voxel needs that, and neurites side by side stay apart. That half is 3.4 to 4.8 on
# the fly neurons, and 5.6 to 9 on most synthetic ones.
UNSURE, SURE = 4.8, 5.8
# A line goes so far to both sides, in smallest voxel sides. Over the default's scores of the eight fly neurons that it
# was chosen on (tuff, the training part of the fixed split), the mean average precision without lines is 0.377; with
# 2, 3 and 4 to both sides 0.445, 0.483 and 0.500, and 0.528 with a Gaussian before it. With 5 the trees get worse:
# corners are cut.
HALF_LINE = 4.0
# One of each pair of opposite directions to the 26 neighbours.
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
_NEAR = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
Lookup = Callable[[np.ndarray], np.ndarray]  # scores (m,) of the voxels (m, 3; z y x)


class Gaussian:
    """For masks, whose voxels are 1 and 0. deviation: (3,) z y x in voxels."""

    def __init__(self, deviation: np.ndarray):
        self.deviation = np.asarray(deviation, float)
        self.halo = [int(4 * along + 0.5) for along in self.deviation]
        self.is_sure = True

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """float32, of the shape of the scores; what lies beyond them is as at their faces."""
        from scipy.ndimage import gaussian_filter

        scores = np.asarray(scores, np.float32)
        if not self.deviation.any():
            return scores
        return gaussian_filter(scores, self.deviation, mode="nearest", truncate=4.0)

    def relative(self, scores: np.ndarray) -> np.ndarray:
        """The scores as they are: a mask has no threshold that they could be relative to."""
        return scores

    def at(self, voxels: np.ndarray, lookup: Lookup) -> np.ndarray:
        """(m,) float64: what the smoothed scores are in single voxels (m, 3; z y x), nearly: of the nearest 27
        alone."""
        with np.errstate(divide="ignore"):
            along = np.exp(-0.5 / self.deviation**2)  # of a step of one voxel
        weights = np.prod(np.where(_NEAR == 0, 1.0, along), axis=1)
        near = _NEAR[weights > 0]
        found = lookup((voxels[:, None] + near).reshape(-1, 3)).reshape(len(voxels), -1)
        return found @ weights[weights > 0] / weights.sum()


class AlongLines:
    """For scores: they become relative to the threshold, which is 0.5 then, and are averaged along the best line.

    Args:
        threshold: of the scores, in (0, 1].
        sureness: how far above the threshold half of what is above it is, in log odds. The less sure, the more a line
            counts, and the less the voxel's own score.
        deviation: (3,) of a Gaussian before it, z y x in voxels.
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
        """float32 in (0, 1), of the shape of the scores; what lies beyond them is as at their faces."""
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
        """float32 in (0, 1): 0.5 is where the scores are at the threshold."""
        from scipy.special import expit

        return expit(self._evidence(scores))

    def at(self, voxels: np.ndarray, lookup: Lookup) -> np.ndarray:
        """(m,) float64: what the smoothed scores are in single voxels (m, 3; z y x), nearly: without the Gaussian."""
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
        """The score that is at this level relative to the threshold."""
        return float(1 / (1 + np.exp(-log_odds(np.float64(level)) - self.level)))

    def _evidence(self, scores: np.ndarray) -> np.ndarray:
        odds = log_odds(np.asarray(scores, np.float32))
        return np.clip(odds - np.float32(self.level), -self.most, self.most)


def log_odds(scores: np.ndarray | np.floating) -> np.ndarray:
    """Logarithms of the odds, score to 1 - score; infinite for 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(scores) - np.log1p(-scores)
