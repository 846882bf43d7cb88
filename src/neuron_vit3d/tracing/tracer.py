"""Turns a mask, or the scores it comes from, into one tree (`trace`) or several (`trace_neurons`)."""

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np

from ..morphology.branches import prune_branches
from ..morphology.swc import Tree
from ..volumes import VolumeError, as_mask_or_scores
from .bridging import Links, drop_weak_ends, find_links, group_components, join_apart
from .center_lines import Rules, nearest_row
from .centering import centered, without_doubles
from .elongation import seen_spacing
from .evidence import with_scores
from .fragments import join_groups, side_by_side
from .methods import method
from .noise import LogOdds
from .options import TraceError, TraceOptions
from .pieces import Levels, Pieces
from .skeleton import Skeleton, prune_spurs, smooth, trim_tips
from .smoothing import AlongLines, Gaussian


logger = logging.getLogger(__name__)

# The threshold of a smoothed mask is this share of 0.5, since a Gaussian lowers thin neurites.
SMOOTHED = 0.7
# Voxels with at least this share of the threshold (for scores: of 0.5, once they are relative to it) show where a
# faded neurite runs.
WEAK_SIGNAL = 0.2
# The root is marked as a soma (SWC type 1) if its radius is at least SOMA_RADIUS, and SOMA_TO_NEURITE times the median
# radius of the tree.
SOMA, SOMA_RADIUS, SOMA_TO_NEURITE = 1, 5.0, 3.0


def trace(
    scores_or_mask,
    options: TraceOptions | None = None,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    root: tuple[float, float, float] | None = None,
    label: int | None = None,
    scale: float | None = None,
    **keywords,
) -> Tree:
    """Traces the neuron in a mask or in scores into one tree with radii.

    Center lines come from TEASAR (Sato et al. 2000; see `skeleton.py`). Gaps between components are bridged by a
    minimum spanning tree (see `bridging.py`). Spurs are pruned, and tips trimmed by the local radius.

    Up to 10 million foreground voxels are traced at once, with at most 650 bytes for each. If there are more, center
    lines are found region by region and joined where the regions meet (see `by_region.py`), so that memory grows with
    a region and with the length of the lines. The tree is nearly the same, with two limits at the planes between
    regions: a neurite thicker than 64 voxels there may get that radius, and weak signal is followed over at most 64
    voxels.

    Three things are refused: a foreground of more than a billion voxels; a foreground of a fifth of the volume or
    more, where that is over 10 million voxels; and center lines of more than 10 million voxels.

    Args:
        scores_or_mask: array (z, y, x), a Volume that holds one, or what `open_volume` returns for one too large for
            memory. It holds a mask (bool, or integers with one value beside 0), scores (floats in [0, 1]; foreground
            is where they reach the threshold, and center lines prefer high scores), or other integers, see
            `as_mask_or_scores`.
        options: what becomes a tree.
        voxel_size: z, y, x in any one unit. None: that of the Volume, or else isotropic. Only the ratios count:
            lengths and radii are in units of the smallest voxel side. Microscopes blur along z: where the foreground
            is deeper than wide in micrometres, z counts for less; where it is very flat and no size is known, z counts
            for more (see `elongation.py`).
        root: x, y, z in voxels. The tree's root is the traced node nearest to this point, and the connected tree with
            this node is kept. None: the connected tree with the largest surface (length times radius) is kept, since
            the stained neuron is thicker than other long things, and its root is the thickest point, which in a neuron
            is the soma.
        label: the value that the neuron has, if the volume holds labels.
        scale: the value that stands for a score of 1.
        keywords: single options of [`TraceOptions`], instead of `options` or to change them.

    Returns:
        A Tree with one root (or more, with `fragments`), with its scores and with marks where it bridges gaps. Parents
        come before children, coordinates are x y z in voxels, nodes are about one voxel apart, and radii are in units
        of the smallest voxel side. (`rasterize` does not know voxel sizes: where voxels are anisotropic it draws radii
        too thick in z.) What was left out is counted in `comments`, and logged as a warning.

    Raises:
        TraceError: not a 3D array, scores outside [0, 1] or not finite, no foreground left, too much foreground to
            trace, a root outside the volume, or an option out of its range.
        TypeError: there is no option of that name.
    """
    options = TraceOptions.of(trace, options, keywords)
    neurons = 1 if root is None else [root]
    return trace_neurons(scores_or_mask, neurons, options, voxel_size=voxel_size, label=label, scale=scale)[0]


def trace_neurons(
    scores_or_mask,
    neurons: int | Sequence[tuple[float, float, float]],
    options: TraceOptions | None = None,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    label: int | None = None,
    scale: float | None = None,
    **keywords,
) -> list[Tree]:
    """Traces several neurons of one volume, a tree for each.

    Args:
        scores_or_mask, options, voxel_size, label, scale, keywords: as in [`trace`]; `fragments` works for one neuron
            only.
        neurons: how many neurons: the connected trees with the largest surface are kept. Or points where they begin,
            such as their somata (x, y, z in voxels): each becomes the root of a tree, in the order given. Neurons that
            touch are cut apart where the paths along the branches to their roots are equally long.

    Returns:
        The trees, the largest first, or in the order of their roots. There may be fewer than asked for.

    Raises:
        TraceError: as [`trace`]; also if two roots lie at the same place of a tree.
    """
    options = TraceOptions.of(trace_neurons, options, keywords)
    source = _meant(scores_or_mask, label, scale)
    if voxel_size is None:
        voxel_size = source.voxel_size
    _check_voxel_size(voxel_size)
    roots = [] if isinstance(neurons, int) else [np.array(_checked_root(root, source.shape))[::-1] for root in neurons]
    if not roots and (not isinstance(neurons, int) or neurons < 1):
        raise TraceError(f"expected at least one neuron to trace, got {neurons!r}")
    count = neurons if isinstance(neurons, int) else len(roots)
    if options.fragments and count > 1:
        raise TraceError(
            f"fragments: cannot be kept of {count} neurons, since it is not known to which neuron a fragment belongs"
        )
    spacing = np.ones(3) if voxel_size is None else np.array(voxel_size, float) / min(voxel_size)

    rules = _rules(source, options, spacing, roots, is_known=voxel_size is not None)
    lines = method(options.method)(source, rules)
    skeleton = prune_spurs(lines.skeleton, min_length=options.min_branch_length)
    skeleton = trim_tips(skeleton, source.shape)
    # Lengths of gaps follow the voxel size as given, not the spacing that makes neurites round.
    apart = dataclasses.replace(skeleton, spacing=spacing)
    skeletons, left_out = _join_components(apart, options, roots or None, count)
    skeletons = [dataclasses.replace(one, spacing=rules.spacing) for one in skeletons]

    comments = _report(lines.too_small, lines.sizes[left_out], options)
    if lines.is_whole:  # by region only the lines are known, not what is around them
        skeletons = [centered(one, lines.foreground, is_sure=rules.smoothing.is_sure) for one in skeletons]
    skeletons = [without_doubles(one) for one in skeletons]
    trees = [_tree_of(smooth(one, lines.foreground, is_whole=lines.is_whole), comments) for one in skeletons]
    trees = [with_scores(tree, source, rules.spacing, rules) for tree in trees]
    fragments = options.fragments
    return [_told(prune_branches(tree, options.min_confidence, fragments=fragments), fragments) for tree in trees]


def _rules(
    source: Pieces, options: TraceOptions, spacing: np.ndarray, roots: list[np.ndarray], *, is_known: bool
) -> Rules:
    threshold, smoothing = options.threshold, options.smoothing
    weak = WEAK_SIGNAL if options.bridge_distance else 1.0
    if source.is_mask:
        spacing = seen_spacing(source, 0.5, spacing, is_known=is_known)
        smoother: Gaussian | AlongLines = Gaussian(smoothing / spacing)
        strong = 0.5 * (SMOOTHED if smoothing else 1.0)
        levels = Levels(weak * strong, strong, 0.5, before=weak * strong, keep_sure=True)
    else:
        if threshold is None or smoothing:
            odds = LogOdds(source)
            sure = odds.threshold() if threshold is None else threshold
            sureness = odds.sureness(sure) if smoothing else math.inf
        else:
            sure, sureness = threshold, math.inf
        spacing = seen_spacing(source, sure, spacing, is_known=is_known)
        smoother = AlongLines(sure, sureness, smoothing / spacing, spacing)
        levels = Levels(0.5 * weak, 0.5, sure, before=smoother.before(0.5 * weak))
    return Rules(
        levels, smoother, smoothing > 0, spacing, options.min_component_voxels, options.bridge_distance, roots
    )


def _tree_of(skeleton: Skeleton, comments: list[str]) -> Tree:
    types = np.zeros(len(skeleton), np.int64)
    if skeleton.reach[0] >= max(SOMA_RADIUS, SOMA_TO_NEURITE * np.median(skeleton.reach)):
        types[0] = SOMA
    # Trees are drawn as the voxels whose centers lie within their radii, so the distance to the nearest background
    # center is about the radius.
    return Tree.from_parents(skeleton.points[:, ::-1], skeleton.reach, skeleton.parents, types, comments=comments)


def _told(tree: Tree, fragments: bool) -> Tree:
    """Adds a comment on the number of fragments to a tree, if they were asked for."""
    if not fragments:
        return tree
    return dataclasses.replace(
        tree, comments=(*tree.comments, f"kept {len(tree.roots) - 1} fragments as further roots")
    )


def _join_components(
    skeleton: Skeleton, options: TraceOptions, roots: list[np.ndarray] | None, count: int
) -> tuple[list[Skeleton], np.ndarray]:
    """Makes rooted trees of the components: those of the roots (z y x), or the `count` largest.

    Returns them, and which components are in none, bool (number of components,). With `fragments` all other components
    that are long enough go into the first tree.
    """
    surfaces = np.bincount(skeleton.component, skeleton.edge_lengths * skeleton.reach)
    links = find_links(skeleton, options.bridge_distance)
    links = links.subset(drop_weak_ends(skeleton, links, options.min_branch_length))
    group = group_components(skeleton, links)
    if roots is None:
        largest = np.argsort(-np.bincount(group, surfaces), kind="stable")[:count]
        members = (np.flatnonzero(group[skeleton.component] == one) for one in largest)
        rows = [int(of_one[np.argmax(skeleton.reach[of_one])]) for of_one in members]
    else:
        rows = [nearest_row(skeleton.points, root, skeleton.spacing) for root in roots]
    trees: dict[int, Skeleton] = {}
    for one in dict.fromkeys(group[skeleton.component[rows]].tolist()):
        keep = (group == one)[skeleton.component]
        new_row = np.cumsum(keep) - 1
        own = links.subset(keep[links.nodes[:, 0]])
        own = Links(new_row[own.nodes], own.gap, own.cost)
        own_rows = [row for row in rows if keep[row]]
        parts = join_apart(skeleton.subset(keep), own, new_row[own_rows].tolist())
        trees |= dict(zip(own_rows, parts, strict=True))
    is_taken = np.isin(group, group[skeleton.component[rows]])
    skeletons = [trees[row] for row in rows]
    if options.fragments:
        lengths = np.bincount(group, np.bincount(skeleton.component, skeleton.edge_lengths))
        others = np.setdiff1d(np.flatnonzero(lengths >= options.min_branch_length), group[is_taken])
        others = others[np.argsort(-np.bincount(group, surfaces)[others], kind="stable")]
        skeletons[0] = side_by_side([skeletons[0], *join_groups(skeleton, links, group, others)])
        is_taken |= np.isin(group, others)
    return skeletons, ~is_taken


def _report(too_small: np.ndarray, left_out: np.ndarray, options: TraceOptions) -> list[str]:
    """Reports, in the log and as comments of the tree, which components (with their sizes in voxels) are not in it."""
    comments = []
    if len(too_small):
        comments.append(
            f"dropped {len(too_small)} components, {too_small.sum()} voxels: too small (min_component_voxels "
            f"{options.min_component_voxels}), the largest has {too_small.max()}"
        )
    if len(left_out):
        comments.append(
            f"dropped {len(left_out)} components, {left_out.sum()} voxels: not to be bridged to the tree "
            f"(bridge_distance {options.bridge_distance:g})"
        )
    for comment in comments:
        logger.warning("%s", comment)
    return comments


def _meant(scores_or_mask, label: int | None, scale: float | None) -> Pieces:
    """Interprets the input as a mask or scores, by `label` or `scale` if they are given."""
    source = Pieces.of(scores_or_mask)
    _check_kind(source)
    try:
        meant = as_mask_or_scores(source.source, label=label, scale=scale)
        return source if meant is source.source else Pieces(meant)
    except VolumeError as error:
        raise TraceError(str(error)) from error


def _check_kind(source: Pieces) -> None:
    if len(source.shape) != 3 or 0 in source.shape:
        raise TraceError(f"expected a mask or scores with axes (z, y, x) and no empty axis, got shape {source.shape}")
    if source.dtype.kind not in "buif":
        raise TraceError(f"expected a mask (bool or integers) or scores (floats), got dtype {source.dtype}")


def _check_voxel_size(voxel_size: tuple[float, float, float] | None) -> None:
    if voxel_size is not None:
        sides = np.asarray(voxel_size, float)
        if sides.shape != (3,) or not (np.isfinite(sides).all() and (sides > 0).all()):
            raise TraceError(f"voxel_size must be three positive numbers (z, y, x), got {voxel_size}")


def _checked_root(root: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """Checks a root, and returns it as an array x, y, z."""
    point = np.asarray(root, float)
    if point.shape != (3,) or not (np.all(point >= -0.5) and np.all(point <= np.array(shape[::-1]) - 0.5)):
        raise TraceError(f"root must be a point (x, y, z) in the volume of shape (z, y, x) {shape}, got {root}")
    return point
