"""Measures how far two trees are from one another.

By BigNeuron's distances, precision and recall by length, and shared branch points.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .critical_nodes import shared_nodes
from .geometry import repeated
from .swc import SWCError, Tree


_MAX_SAMPLES = 50_000_000  # of one tree, which has about one a voxel: more are no voxels, or no neuron
_MAX_PIECES = 2_000_000
_PIECE = 0.5  # voxels; shorter ones bound a segment's distance more closely, but there are more
_DISTANCES_AT_ONCE = 1 << 20


def tree_distance(predicted: Tree, gold: Tree, *, threshold: float = 2.0) -> dict[str, float]:
    """Compares a tree with the one a human drew, in voxels.

    Types, directions of edges and predicted radii do not count; gold radii count where "wide" is said, connections for
    branch points and tips.

    Every edge is sampled at `int(1 + length + 0.5)` evenly spaced points, both ends included (an edge shorter than
    half a
    voxel: its child; a node without edges: itself). A sample's distance is the exact one to the nearest line segment
    of the other tree (Peng et al. 2010, Nat. Biotechnol. 28:348; the figures of BigNeuron, Manubens-Gil et al. 2023,
    Nat. Methods 20:824). 12 is from predicted to gold, 21 from gold to predicted. A sample is different when its
    distance is at least `threshold`.

    Returns:
        esa12, esa21: mean distance of the samples. esa: the mean of the two, "entire structure average".
        pds12, pds21: fraction of the samples that are different. pds: the mean of the two.
        dsa: "different structure average", the mean distance of the different samples, averaged over the directions
            that have any; 0 if none has.
        precision, recall: fraction of the length of predicted (gold) that lies within `threshold` of the other tree:
            each sample counts for the length it stands for, so that nodes packed more densely weigh no more (nodes
            without edges count as one voxel). f1: their harmonic mean, 0 if both are 0.
        length_predicted, length_gold, threshold: voxels.
        precision_wide, recall_wide, f1_wide: precision, recall and f1 within the larger of `threshold` and the gold
            radius
            there: at the gold point nearest to the sample of predicted; at the sample of gold. Inside a thick neurite
                any
            line agrees. Gold radii are the annotator's: where they are placeholders, so are these. (Radii that are not
            finite count as 0.)
        branch_points_precision, branch_points_recall, branch_points_f1: share of the predicted (gold) branch points,
            nodes with three edges or more, that have a partner in the other tree within 5 voxels, one to one; and
            their harmonic mean. 1 where neither tree has any, 0 where one has none.
        tips_precision, tips_recall, tips_f1: the same of the tips, nodes with one edge, the root among them. Fragments
            are taken as they are: each has tips at its ends, and no branch point where it was not joined to another.
        length_ratio: length_predicted over length_gold; where gold has no length 1 if predicted has none either, else
            infinite.

        A prediction without nodes has NaN distances (esa, esa12, esa21, dsa), pds 1, and every precision, recall and
        f1 0.

    Raises:
        ValueError: threshold is not positive, or gold has no node.
        SWCError: a tree has NaN or infinite positions, a missing parent, or is too long to be in voxels.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    if not len(gold):
        raise ValueError("the gold tree has no node: nothing to compare with")
    for name, tree in (("predicted", predicted), ("gold", gold)):
        if not np.isfinite(tree.xyz).all():
            raise SWCError(f"the {name} tree has NaN or infinite positions")
    rest = {"length_predicted": predicted.length, "length_gold": gold.length, "threshold": float(threshold)}
    ratio = {"length_ratio": _ratio(rest["length_predicted"], rest["length_gold"])}
    if not len(predicted):
        nodes = dict.fromkeys(shared_nodes(predicted, gold), 0.0)
        distances = dict.fromkeys(("esa", "dsa", "esa12", "esa21"), math.nan) | dict.fromkeys(
            ("pds", "pds12", "pds21"), 1.0
        )
        return distances | _precision_recall(0, 0) | rest | _precision_recall(0, 0, "_wide") | nodes | ratio

    with ThreadPoolExecutor(3) as threads:  # what is slow lets go of the interpreter
        there = threads.submit(_one_way, predicted, gold, threshold, gold_is_source=False)
        back = threads.submit(_one_way, gold, predicted, threshold, gold_is_source=True)
        shared = threads.submit(shared_nodes, predicted, gold)
        one, two, nodes = there.result(), back.result(), shared.result()
    dsa = [way.dsa for way in (one, two) if way.dsa is not None]
    distances = {
        "esa": (one.esa + two.esa) / 2,
        "dsa": sum(dsa) / len(dsa) if dsa else 0.0,
        "pds": (one.pds + two.pds) / 2,
        "esa12": one.esa,
        "esa21": two.esa,
        "pds12": one.pds,
        "pds21": two.pds,
    }
    wide = _precision_recall(one.within_wide, two.within_wide, "_wide")
    return distances | _precision_recall(one.within, two.within) | rest | wide | nodes | ratio


def _precision_recall(precision: float, recall: float, suffix: str = "") -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {f"precision{suffix}": float(precision), f"recall{suffix}": float(recall), f"f1{suffix}": f1}


def _ratio(predicted: float, gold: float) -> float:
    if gold:
        return predicted / gold
    return math.inf if predicted else 1.0


def parts_apart(tree: Tree, other: Tree, threshold: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tree in pieces at most a voxel long, and which of them lie apart from the other tree: for pictures.

    Returns:
        begin, end (n, 3) in voxels, apart (n,) bool: the middle of the piece is farther than `threshold` from `other`.
    """
    begin, end = _segments(tree)
    length = np.linalg.norm(end - begin, axis=1)
    if length.sum() > _MAX_SAMPLES:
        raise SWCError(f"a tree of length {length.sum():.3g} cannot be in voxels (at most {_MAX_SAMPLES:.0e})")
    count = np.maximum(np.ceil(length), 1).astype(np.int64)
    edge, number = repeated(count)
    step = ((end - begin) / count[:, None])[edge]
    first = begin[edge] + number[:, None] * step
    if not len(other):
        return first, first + step, np.ones(len(first), bool)
    return first, first + step, nearest_segments(first + step / 2, *_segments(other))[0] > threshold


class _Way(NamedTuple):
    """What is said of the samples of one tree against the other tree."""

    esa: float  # mean distance
    dsa: float | None  # mean distance of the different samples; None: there are none
    pds: float  # fraction of the samples that are different
    within: float  # fraction of the length within the threshold
    within_wide: float  # or within the gold radius, where that is larger


def _one_way(source: Tree, target: Tree, threshold: float, *, gold_is_source: bool) -> _Way:
    points, sample, weights, radii = _samples(source)
    distance, segment = nearest_segments(points, *_segments(target))
    within = distance <= threshold
    if gold_is_source:
        within_wide = within | (distance <= radii)
    else:
        within_wide = within.copy()
        # Few points are left that the radius decides on: those too far for the threshold, and not for the widest
        # radius.
        open_rows = np.flatnonzero(~within & (distance <= _finite(target.radii).max()))
        reach = _radii_at(target, segment[open_rows], points[open_rows])
        within_wide[open_rows] = distance[open_rows] <= reach
    distance = distance[sample]
    different = distance >= threshold
    total = weights.sum()
    return _Way(
        float(distance.mean()),
        float(distance[different].mean()) if different.any() else None,
        float(different.mean()),
        float(weights[within[sample]].sum() / total),
        float(weights[within_wide[sample]].sum() / total),
    )


def _radii_at(tree: Tree, segment: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) the tree's radius at the point of a segment (n,) that is nearest to a point (n, 3)."""
    child, parent = tree.segments[segment].T
    along = tree.xyz[parent] - tree.xyz[child]
    squared = (along**2).sum(axis=1)
    position = ((points - tree.xyz[child]) * along).sum(axis=1) / np.where(squared > 0, squared, 1.0)
    radii = _finite(tree.radii)
    return radii[child] + np.clip(position, 0, 1) * (radii[parent] - radii[child])


def _finite(radii: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(radii), radii, 0.0)


def _segments(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end, (m, 3) each, of every edge, child first; a node without edges is a segment of length zero."""
    child, parent = tree.segments.T
    return tree.xyz[child], tree.xyz[parent]


def _samples(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples a tree evenly along its edges.

    Returns points (n, 3) on the tree; of each sample its point (s,), for many share a node's; the length (s,) that it
    stands for: half a step at the ends of an edge, else a step; and the tree's radius at each point (n,).
    """
    child, parent = tree.segments.T
    begin, end = tree.xyz[child], tree.xyz[parent]
    length = np.linalg.norm(end - begin, axis=1)
    if length.sum() > _MAX_SAMPLES:
        raise SWCError(f"a tree of length {length.sum():.3g} cannot be in voxels (at most {_MAX_SAMPLES:.0e})")
    count = (1 + length + 0.5).astype(np.int64)
    edge, number = repeated(count)
    last = np.maximum(count - 1, 1)
    inner = np.flatnonzero((number > 0) & (number < last[edge]))
    share = number[inner] / last[edge[inner]]
    points = begin[edge[inner]] + share[:, None] * (end - begin)[edge[inner]]
    radii = _finite(tree.radii)
    inner_radii = radii[child[edge[inner]]] + share * (radii[parent] - radii[child])[edge[inner]]
    sample = np.where(number == 0, child[edge], parent[edge])
    sample[inner] = len(tree) + np.arange(len(inner))
    is_end = (number == 0) | (number == count[edge] - 1)
    weights = np.where(count == 1, length, length / last)[edge] * np.where(is_end & (count[edge] > 1), 0.5, 1.0)
    num_lone = len(begin) - len(tree.edges)
    weights[len(weights) - num_lone :] = 1.0
    if not weights.any():
        weights = np.ones_like(weights)
    return np.concatenate([tree.xyz, points]), sample, weights, np.concatenate([radii, inner_radii])


def nearest_segments(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the exact distance (s,) of points (s, 3) to the nearest of m segments, and which segment (s,) that is.

    Segments go from (m, 3) to (m, 3).

    The segments are cut into pieces, each at most `2 h` long, and a k-d tree over the midpoints of the pieces gives
    the k nearest ones. A piece is never nearer than its midpoint less h. So once the best exact distance among the k
    plus h is no more than the distance of the k-th midpoint, no piece further away can be nearer, and the point is
    done; the points that are not are asked again with a larger k, in the end with all pieces.
    """
    from scipy.spatial import cKDTree

    length = np.linalg.norm(end - begin, axis=1)
    count = np.maximum(np.ceil(length / max(_PIECE, length.sum() / _MAX_PIECES)), 1).astype(np.int64)
    segment, number = repeated(count)
    half = float((length / count).max()) / 2 * (1 + 1e-9)
    middle = begin[segment] + ((number + 0.5) / count[segment])[:, None] * (end - begin)[segment]
    search = cKDTree(middle, balanced_tree=False, compact_nodes=False)
    segments = _Segments(begin, end)

    # Neighbours in space ask for the same branches of the tree, which the processor then still holds.
    open_rows = cKDTree(points, leafsize=64, balanced_tree=False, compact_nodes=False).indices
    best, row, seen, k = np.full(len(points), np.inf), np.zeros(len(points), np.int64), 0, min(8, len(middle))
    while open_rows.size:
        still_open = []
        step = max(_DISTANCES_AT_ONCE // k, 1)
        for rows in (open_rows[i : i + step] for i in range(0, len(open_rows), step)):
            to_middle, near = search.query(points[rows], k=[*range(seen + 1, k + 1)], workers=-1)
            best[rows], row[rows] = segments.nearest(points[rows], segment[near], best[rows], row[rows])
            if k < len(middle):
                still_open.append(rows[best[rows] + half > to_middle[:, -1]])
        open_rows = np.concatenate(still_open) if still_open else np.empty(0, dtype=np.int64)
        seen, k = k, min(2 * k, len(middle))
    return best, row


class _Segments:
    """Line segments, each coordinate in an array of its own: numpy is slow on axes of length 3."""

    def __init__(self, begin: np.ndarray, end: np.ndarray):
        self.begin, self.along = begin.T.copy(), (end - begin).T.copy()
        squared = (self.along**2).sum(axis=0)
        self.squared = np.where(squared > 0, squared, 1.0)  # a segment may have length zero

    def nearest(
        self, points: np.ndarray, rows: np.ndarray, best: np.ndarray, row: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the distances (n,) of points (n, 3) to the nearest segments, and their rows (n,).

        Segments are those in rows (n, k) and that in row (n,), whose distance is best (n,).
        """
        best = best**2
        points = points.T.copy()
        for candidate in rows.T:
            along = self.along[:, candidate]
            offset = points - self.begin[:, candidate]
            position = (offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / self.squared[candidate]
            offset -= np.clip(position, 0, 1) * along
            squared = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2
            nearer = squared < best
            np.copyto(best, squared, where=nearer)
            np.copyto(row, candidate, where=nearer)
        return np.sqrt(best), row
