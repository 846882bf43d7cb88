"""How wide a neurite is where a part of it is missing: as wide as it is nearby.

The distance from the boundary says how wide a neurite is only where it is whole. Beside a cut, or in a shell, it is
small, and balls of that radius leave half of the neurite uncovered. Where everything around is thick, the greatest
distance nearby is the better radius. Where any of it is thin, as in a tuft, it is not: thin branches would be lost
beside thick ones.
"""

import numpy as np

from .foreground import Foreground


# What is near is found over cells of about two voxels, of which there are several times fewer.
CELL = 2.0  # smallest voxel sides
# The greatest distance is looked for within NEAR, in smallest voxel sides. F1 on cut tubes (128^3, four seeds), whose
# cuts are left open, is 0.80 with 12, and 0.86 with 16 to 24.
NEAR = 16.0
# Nothing within AROUND may be thinner than THICK. It reaches so far beyond NEAR that a thin branch is not taken for
# the thick one that it comes from: with 24, F1 on synthetic stacks and on the demo's neuron is 0.01 lower; with 40, on
# cut tubes.
AROUND = 30.0
# F1 on the demo's neuron is 0.864 with 2.8 and 0.879 with 3.0, on cut tubes 0.949 and 0.947.
THICK = 3.0


def radius_nearby(foreground: Foreground, reach: np.ndarray) -> np.ndarray:
    """(n,) float64: the greatest distance from the boundary near every voxel, 0 where anything around is thin.

    Args:
        foreground: n voxels.
        reach: (n,) distance from the boundary.
    """
    if not len(reach) or reach.max() < THICK:
        return np.zeros(len(reach))
    size = np.maximum(np.rint(CELL / foreground.spacing), 1).astype(np.int64)
    shape = tuple((-(-np.array(foreground.shape) // size)).tolist())
    indices, cell_of = np.unique(np.ravel_multi_index((foreground.voxels // size).T, shape), return_inverse=True)
    cells = Foreground.from_indices(indices, shape, foreground.spacing)
    rows, neighbours, _ = cells.edges()
    deepest = np.zeros(len(cells))
    np.maximum.at(deepest, cell_of, reach)
    return _where_all_is_thick(deepest, rows, neighbours, CELL)[cell_of]


def radius_along(reach: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """(n,) float64: as `radius_nearby`, of the nodes of lines, which are about one voxel apart."""
    rows = np.flatnonzero(parents >= 0)
    return _where_all_is_thick(reach, rows, parents[rows], 1.0)


def _where_all_is_thick(reach: np.ndarray, rows: np.ndarray, neighbours: np.ndarray, step: float) -> np.ndarray:
    """The greatest value within NEAR, over edges as long as a step; 0 where it is below THICK within AROUND."""
    own = np.arange(len(reach))  # everything is near itself, so that nothing has no neighbour
    begins, ends = np.concatenate([rows, neighbours, own]), np.concatenate([neighbours, rows, own])
    ends = ends[np.argsort(begins, kind="stable")]
    first = np.cumsum(np.bincount(begins)) - np.bincount(begins)
    for _ in range(round(NEAR / step)):
        reach = np.maximum.reduceat(reach[ends], first)
    least = reach
    for _ in range(round(AROUND / step)):
        least = np.minimum.reduceat(least[ends], first)
    return np.where(least >= THICK, reach, 0.0)
