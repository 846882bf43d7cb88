"""A mask, or the scores it comes from, becomes one tree: `trace`."""

import logging
import math

import numpy as np

from .bridging import Links, drop_weak_ends, find_links, group_components, join
from .foreground import Foreground
from .skeleton import Skeleton, extract_skeleton, prune_spurs, smooth, trim_tips
from .swc import Tree
from .weak_bridges import bridging_voxels


logger = logging.getLogger(__name__)

# About 650 bytes are taken for each foreground voxel at the peak.
MAX_FOREGROUND_VOXELS = 10_000_000
# So many components are bridged at most, the largest: the work on pairs of them must stay bounded on a mask that is noise.
MAX_COMPONENTS = 20_000
# Of the threshold, where scores are smoothed.
SMOOTHED = 0.7
# Voxels with at least this share of the threshold tell where a faded neurite runs.
WEAK_SIGNAL = 0.2
# Following a signal is safer than crossing background: its paths may cost so many times the bridge distance.
WEAK_REACH = 2.5
_VOXELS_AT_ONCE = 1 << 24  # of scores that are smoothed


class TraceError(ValueError):
    """What was given cannot be traced."""


def trace(
    scores_or_mask,
    *,
    threshold: float = 0.5,
    voxel_size: tuple[float, float, float] | None = None,
    bridge_distance: float = 16.0,
    min_branch_length: float = 5.0,
    min_component_voxels: int = 10,
    root: tuple[float, float, float] | None = None,
    smoothing: float = 0.7,
) -> Tree:
    """Trace the neuron in a mask or in scores into one tree with radii.

    Center lines come from TEASAR (Sato et al. 2000; see `skeleton.py`), gaps between components are bridged by a minimum
    spanning tree (see `bridging.py`), spurs are pruned and tips trimmed by the local radius.

    Args:
        scores_or_mask: array (z, y, x), or a Volume that holds one: bool or integers (foreground where not 0), or floats in
            [0, 1] (foreground where >= `threshold`; center lines prefer high scores).
        threshold: of float scores, in (0, 1].
        voxel_size: z, y, x in any one unit; None: that of the Volume, or else isotropic. Only its ratios count: lengths and
            radii below are in units of the smallest voxel side.
        bridge_distance: the widest gap that is bridged between two ends that face each other; an end and the side of a
            neurite are joined over at most 3/4 of it, two sides over half of it. 0 bridges none.
        min_branch_length: shorter end branches are pruned, and those shorter than 1.5 radii of the branch they leave. A
            component that would be the end of a branch must be longer than its gap by as much.
        min_component_voxels: connected components (26 neighbours) with fewer voxels are dropped before anything else.
        root: x, y, z in voxels: the tree's root is the traced node nearest to it, and the connected tree it lies on is kept.
            None: the root is the thickest point, which in a neuron is the soma, and the connected tree with the largest
            surface (length times radius) is kept: the stained neuron is thicker than what else is long.
        smoothing: standard deviation of the Gaussian that float scores are smoothed by first. A model labels slice by slice,
            and what is rough or porous grows twigs. Foreground is then where smoothed scores are at least 0.7 times the
            threshold, for the Gaussian lowers what is thin. 0: none.

    Returns:
        A Tree with one root, parents before children, coordinates x y z in voxels, nodes about one voxel apart and radii in
        units of the smallest voxel side. What was left out is counted in `comments`, and logged as a warning.

    Raises:
        TraceError: not a 3D array, scores outside [0, 1] or not finite, no foreground left, too much foreground to trace, a
            root outside the volume, or a parameter out of its range.
    """
    array = np.asarray(getattr(scores_or_mask, "array", scores_or_mask))
    if voxel_size is None:
        voxel_size = getattr(scores_or_mask, "voxel_size", None)
    _check_parameters(threshold, voxel_size, bridge_distance, min_branch_length, min_component_voxels, smoothing)
    _check_array(array)
    _check_root(root, array.shape)
    spacing = np.ones(3) if voxel_size is None else np.array(voxel_size, float) / min(voxel_size)

    if np.issubdtype(array.dtype, np.floating):
        lowered = threshold * (SMOOTHED if smoothing else 1.0)
        faintest = lowered * (WEAK_SIGNAL if bridge_distance else 1.0)
        weak, scores, sure = _signal(array, faintest, threshold, smoothing / spacing, spacing)
        strong = scores >= lowered
        for voxels in (sure, strong):
            _check_size(np.count_nonzero(voxels), array.shape)
        foreground, edges, component, too_small = _large_components(
            weak.subset(strong), min_component_voxels, sure[strong]
        )
        if bridged := _bridge_weak_signal(foreground, component, weak, scores, lowered, bridge_distance):
            foreground, edges, component, _ = _large_components(bridged, 1)
        confidence = scores[np.searchsorted(weak.keys, foreground.keys)].astype(np.float64)
    else:
        _check_size(np.count_nonzero(array), array.shape)
        whole = Foreground.from_indices(np.flatnonzero(array), array.shape, spacing)
        foreground, edges, component, too_small = _large_components(whole, min_component_voxels)
        confidence = None
    root_zyx = None if root is None else np.array(root, float)[::-1]
    root_row = None if root is None else _nearest(foreground.voxels, root_zyx, spacing)

    skeleton = extract_skeleton(foreground, edges, component, confidence=confidence, root=root_row)
    skeleton = prune_spurs(skeleton, min_length=min_branch_length)
    skeleton = trim_tips(skeleton, array.shape)
    skeleton, left_out = _join_components(skeleton, bridge_distance, min_branch_length, root_zyx)
    skeleton = smooth(skeleton, foreground)

    comments = _report(too_small, np.bincount(component)[left_out], min_component_voxels, bridge_distance)
    # A voxel's boundary runs half a voxel before the center of the background voxel next to it.
    radii = np.maximum(skeleton.reach - 0.5, 0.5)
    return Tree.from_parents(skeleton.points[:, ::-1], radii, skeleton.parents, comments=comments)


def _large_components(
    foreground: Foreground, min_voxels: int, sure: np.ndarray | None = None
) -> tuple[Foreground, tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """The foreground of the components with at least `min_voxels`, one of them `sure` (and among the MAX_COMPONENTS
    largest), its edges, its component numbers (n,) from 0, and the sizes (k,) of the other components."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, neighbours, lengths = foreground.edges()
    graph = coo_array((np.ones(len(rows), np.int8), (rows, neighbours)), shape=(len(foreground),) * 2)
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component)
    is_large = sizes >= min_voxels
    if sure is not None:
        is_large &= np.bincount(component, sure) > 0
    is_large[np.argsort(-sizes, kind="stable")[MAX_COMPONENTS:]] = False
    if not is_large.any():
        raise TraceError(
            f"nothing to trace: none of the {len(sizes)} components of the mask has {min_voxels} voxels "
            f"(min_component_voxels), the largest has {sizes.max()}"
        )
    keep = is_large[component]
    if not keep.all():
        keep_edge = keep[rows]
        new_row = (np.cumsum(keep) - 1).astype(np.int32)
        rows, neighbours, lengths = new_row[rows[keep_edge]], new_row[neighbours[keep_edge]], lengths[keep_edge]
        foreground = foreground.subset(keep)
        component = (np.cumsum(is_large) - 1)[component[keep]]
    return foreground, (rows, neighbours, lengths), component, sizes[~is_large]


def _signal(
    scores: np.ndarray, faintest: float, threshold: float, deviation: np.ndarray, spacing: np.ndarray
) -> tuple[Foreground, np.ndarray, np.ndarray]:
    """The voxels whose smoothed scores are at least `faintest`, those scores (n,) float32, and in which voxels (n,) bool the
    scores themselves are at least `threshold`.

    Slab by slab: memory grows with the signal, not with the volume. deviation: of the Gaussian, z y x in voxels.
    """
    from scipy.ndimage import gaussian_filter

    plane = scores.shape[1] * scores.shape[2]
    halo, thickness = int(4 * deviation[0] + 0.5), max(8, _VOXELS_AT_ONCE // plane)
    indices, values, sure = [], [], []
    for z in range(0, len(scores), thickness):
        first, last = max(0, z - halo), min(len(scores), z + thickness + halo)
        slab = np.asarray(scores[first:last], np.float32)
        if slab.max() < faintest:
            continue
        if deviation.any():
            slab = gaussian_filter(slab, deviation, mode="nearest", truncate=4.0)
        slab = slab[z - first : z - first + thickness].ravel()
        found = np.flatnonzero(slab >= faintest)
        indices.append(found + z * plane)
        values.append(slab[found])
        sure.append(np.asarray(scores[z : z + thickness]).ravel()[found] >= threshold)
    if not indices:
        indices, values, sure = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, bool)]
    foreground = Foreground.from_indices(np.concatenate(indices), scores.shape, spacing)
    return foreground, np.minimum(np.concatenate(values), 1.0), np.concatenate(sure)


def _bridge_weak_signal(
    foreground: Foreground,
    component: np.ndarray,
    weak: Foreground,
    scores: np.ndarray,
    threshold: float,
    bridge_distance: float,
) -> Foreground | None:
    """The foreground with the voxels below the threshold over which its components are joined; None if there are none."""
    if component.max() == 0 or not bridge_distance or len(weak) > MAX_FOREGROUND_VOXELS:
        return None
    of_weak = np.full(len(weak), -1)
    of_weak[np.searchsorted(weak.keys, foreground.keys)] = component
    on_path = bridging_voxels(weak, scores.astype(np.float64), threshold, of_weak, WEAK_REACH * bridge_distance)
    return weak.subset(on_path | (of_weak >= 0)) if on_path.any() else None


def _join_components(
    skeleton: Skeleton, bridge_distance: float, min_branch_length: float, root_zyx: np.ndarray | None
) -> tuple[Skeleton, np.ndarray]:
    """One rooted tree, and which components (number of components,) bool are not in it."""
    surfaces = np.bincount(skeleton.component, skeleton.edge_lengths * skeleton.reach)
    links = find_links(skeleton, bridge_distance)
    links = links.subset(drop_weak_ends(skeleton, links, min_branch_length))
    group = group_components(skeleton, links)
    if root_zyx is None:
        kept_group = np.argmax(np.bincount(group, surfaces))
    else:
        kept_group = group[skeleton.component[_nearest(skeleton.points, root_zyx, skeleton.spacing)]]
    left_out = group != kept_group

    keep = ~left_out[skeleton.component]
    links = links.subset(keep[links.nodes[:, 0]])
    links = Links((np.cumsum(keep) - 1)[links.nodes], links.gap, links.cost)
    skeleton = skeleton.subset(keep)
    if root_zyx is None:
        root = int(np.argmax(skeleton.reach))
    else:
        root = _nearest(skeleton.points, root_zyx, skeleton.spacing)
    return join(skeleton, links, root), left_out


def _nearest(points: np.ndarray, point: np.ndarray, spacing: np.ndarray) -> int:
    """Row of the point (n, 3) nearest to `point` (3,), all z y x in voxels."""
    return int(np.argmin(np.sum(((points - point) * spacing) ** 2, axis=1)))


def _report(
    too_small: np.ndarray, left_out: np.ndarray, min_component_voxels: int, bridge_distance: float
) -> list[str]:
    """Say, in the log and as comments of the tree, which components (their sizes in voxels) are not in it."""
    comments = []
    if len(too_small):
        comments.append(
            f"dropped {len(too_small)} components, {too_small.sum()} voxels: too small (min_component_voxels "
            f"{min_component_voxels}), the largest has {too_small.max()}"
        )
    if len(left_out):
        comments.append(
            f"dropped {len(left_out)} components, {left_out.sum()} voxels: not to be bridged to the tree "
            f"(bridge_distance {bridge_distance:g})"
        )
    for comment in comments:
        logger.warning("%s", comment)
    return comments


def _check_size(count: int, shape: tuple[int, int, int]) -> None:
    """Raises TraceError for a mask of `count` voxels that is empty or too large to trace."""
    size = math.prod(shape)
    if count == 0:
        raise TraceError(f"mask is empty: nothing to trace in a volume of shape {shape}; a lower threshold may help")
    if count > MAX_FOREGROUND_VOXELS:
        raise TraceError(
            f"mask has {count} foreground voxels ({count / size:.0%} of shape {shape}), at most "
            f"{MAX_FOREGROUND_VOXELS} are traced: raise the threshold or cut the volume"
        )


def _check_array(array: np.ndarray) -> None:
    if array.ndim != 3 or 0 in array.shape:
        raise TraceError(f"expected a mask or scores with axes (z, y, x) and no empty axis, got shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        low, high = array.min(), array.max()  # NaN wherever there is one
        if not (low >= 0 and high <= 1):
            raise TraceError(f"scores must lie in [0, 1], got {low} to {high}; pass a mask as bool or integers")
    elif array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise TraceError(f"expected a mask (bool or integers) or scores (floats), got dtype {array.dtype}")


def _check_parameters(
    threshold: float,
    voxel_size: tuple[float, float, float] | None,
    bridge_distance: float,
    min_branch_length: float,
    min_component_voxels: int,
    smoothing: float,
) -> None:
    if not 0 < threshold <= 1:
        raise TraceError(f"threshold must lie in (0, 1], got {threshold}")
    if voxel_size is not None:
        sides = np.asarray(voxel_size, float)
        if sides.shape != (3,) or not (np.isfinite(sides).all() and (sides > 0).all()):
            raise TraceError(f"voxel_size must be three positive numbers (z, y, x), got {voxel_size}")
    for name, value in (
        ("bridge_distance", bridge_distance),
        ("min_branch_length", min_branch_length),
        ("min_component_voxels", min_component_voxels),
        ("smoothing", smoothing),
    ):
        if not 0 <= value < np.inf:
            raise TraceError(f"{name} must be a number of at least 0, got {value}")


def _check_root(root: tuple[float, float, float] | None, shape: tuple[int, int, int]) -> None:
    if root is None:
        return
    point = np.asarray(root, float)
    if point.shape != (3,) or not (np.all(point >= -0.5) and np.all(point <= np.array(shape[::-1]) - 0.5)):
        raise TraceError(f"root must be a point (x, y, z) in the volume of shape (z, y, x) {shape}, got {root}")
