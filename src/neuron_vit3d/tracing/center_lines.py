"""Records that every tracing method takes and returns (rules, center lines), and the choice of components."""

from dataclasses import dataclass

import numpy as np

from .cavities import cavities
from .foreground import Foreground
from .pieces import Levels, TraceError
from .skeleton import Skeleton
from .smoothing import AlongLines, Gaussian


# Only this many components, the largest, are bridged: on a mask that is mostly noise the work on pairs of components
# must stay bounded.
MAX_COMPONENTS = 20_000
# A path over weak signal may cost this many times the bridge distance, since to follow signal is safer than to cross
# background.
WEAK_REACH = 3.5


@dataclass(frozen=True, eq=False)
class Rules:
    """The rules for what counts as signal, and what of it is traced.

    fills_cavities: whether what the foreground encloses is foreground, too. spacing: voxel sides z y x, the smallest
    being 1.
    roots: z y x in voxels.
    """

    levels: Levels
    smoothing: Gaussian | AlongLines
    fills_cavities: bool
    spacing: np.ndarray
    min_component_voxels: int
    bridge_distance: float
    roots: list[np.ndarray]

    @property
    def max_weak_cost(self) -> float:
        return WEAK_REACH * self.bridge_distance


@dataclass(frozen=True, eq=False)
class CenterLines:
    """A skeleton, and the foreground that its nodes lie in: all of it if `is_whole`, else a part.

    sizes: (k,) number of voxels of each component. too_small: (j,) the same for the components that were left out.
    """

    skeleton: Skeleton
    foreground: Foreground
    is_whole: bool
    sizes: np.ndarray
    too_small: np.ndarray


def with_cavities(
    signal: Foreground, scores: np.ndarray, is_strong: np.ndarray, is_sure: np.ndarray, rules: Rules
) -> tuple[Foreground, np.ndarray, np.ndarray, np.ndarray]:
    """Marks the voxels that strong voxels enclose as strong, where the rules fill cavities.

    Takes and returns what `Found.signal` returns; cavities get the highest possible scores.
    """
    inside = cavities(signal.subset(is_strong)) if rules.fills_cavities else ()
    if not len(inside):
        return signal, scores, is_strong, is_sure
    known = signal.contains(np.stack(np.unravel_index(inside, signal.shape), axis=1))
    signal, rows = signal.filled(inside[~known])
    scores = np.where(rows < 0, np.float32(1), scores[rows])
    is_strong, is_sure = (rows < 0) | is_strong[rows], (rows >= 0) & is_sure[rows]
    weak = signal.rows_of(np.stack(np.unravel_index(inside[known], signal.shape), axis=1))
    is_strong[weak], scores[weak] = True, 1
    return signal, scores, is_strong, is_sure


def large_components(sizes: np.ndarray, sure: np.ndarray | None, min_voxels: int) -> np.ndarray:
    """Tells which components count, bool (k,): those with at least `min_voxels` voxels, of which one is sure.

    At most MAX_COMPONENTS count, the largest. sure: (k,) bool, which components have a sure voxel; None: all.
    """
    is_large = sizes >= min_voxels
    if sure is not None:
        is_large &= sure
    is_large[np.argsort(-sizes, kind="stable")[MAX_COMPONENTS:]] = False
    if not is_large.any():
        raise TraceError(
            f"nothing to trace: none of the {len(sizes)} components of the mask has {min_voxels} voxels "
            f"(min_component_voxels), the largest has {sizes.max()}"
        )
    return is_large


def of_components(foreground: Foreground, component: np.ndarray, keep: np.ndarray) -> tuple[Foreground, np.ndarray]:
    """Keeps the voxels of some components, and numbers these from 0 without gaps; returns both."""
    if keep.all():
        return foreground, component
    is_kept = keep[component]
    return foreground.subset(is_kept), (np.cumsum(keep) - 1)[component[is_kept]]


def nearest_row(points: np.ndarray, point: np.ndarray, spacing: np.ndarray) -> int:
    """Finds the row of the point (n, 3) nearest to `point` (3,), all z y x in voxels."""
    return int(np.argmin(np.sum(((points - point) * spacing) ** 2, axis=1)))
