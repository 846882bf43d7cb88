"""How far two trees are from one another: BigNeuron's distances, and precision and recall by length."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .geometry import repeated
from .swc import SWCError, Tree


_MAX_SAMPLES = 50_000_000  # of one tree, which has about one a voxel: more are no voxels, or no neuron
_MAX_PIECES = 2_000_000
_PIECE = 0.5  # voxels; shorter ones bound a segment's distance more closely, but there are more
_DISTANCES_AT_ONCE = 1 << 20


def tree_distance(predicted: Tree, gold: Tree, *, threshold: float = 2.0) -> dict[str, float]:
    """Compare a tree with the one a human drew; everything in voxels, regardless of radii, types and connections.

    Every edge is sampled at `int(1 + length + 0.5)` evenly spaced points, both ends included (an edge shorter than half a
    voxel: its child; a node without edges: itself). A sample's distance is the exact one to the nearest line segment of
    the other tree (Peng et al. 2010, Nat. Biotechnol. 28:348; the figures of BigNeuron, Manubens-Gil et al. 2023, Nat.
    Methods 20:824). 12 is from predicted to gold, 21 from gold to predicted. A sample is different when its distance is
    at least `threshold`.

    Returns:
        esa12, esa21: mean distance of the samples. esa: the mean of the two, "entire structure average".
        pds12, pds21: fraction of the samples that are different. pds: the mean of the two.
        dsa: "different structure average", the mean distance of the different samples, averaged over the directions
            that have any; 0 if none has.
        precision, recall: fraction of the length of predicted (gold) that lies within `threshold` of the other tree: each
            sample counts for the length it stands for, so that nodes packed more densely weigh no more (nodes without
            edges count as one voxel). f1: their harmonic mean, 0 if both are 0.
        length_predicted, length_gold, threshold: voxels.

        A prediction without nodes has NaN distances (esa, esa12, esa21, dsa), pds 1, and precision, recall and f1 0.

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
    if not len(predicted):
        distances = dict.fromkeys(("esa", "dsa", "esa12", "esa21"), math.nan) | dict.fromkeys(
            ("pds", "pds12", "pds21"), 1.0
        )
        return distances | {"precision": 0.0, "recall": 0.0, "f1": 0.0} | rest

    with ThreadPoolExecutor(2) as threads:  # what is slow lets go of the interpreter
        ways = threads.map(_one_way, (predicted, gold), (gold, predicted), (threshold, threshold))
        (esa12, dsa12, pds12, precision), (esa21, dsa21, pds21, recall) = ways
    dsa = [value for value in (dsa12, dsa21) if value is not None]
    return {
        "esa": (esa12 + esa21) / 2,
        "dsa": sum(dsa) / len(dsa) if dsa else 0.0,
        "pds": (pds12 + pds21) / 2,
        "esa12": esa12,
        "esa21": esa21,
        "pds12": pds12,
        "pds21": pds21,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    } | rest


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
    return first, first + step, _distance_to_segments(first + step / 2, *_segments(other)) > threshold


def _one_way(source: Tree, target: Tree, threshold: float) -> tuple[float, float | None, float, float]:
    """Mean distance, mean distance of the different samples (None: no such), their fraction, fraction of length within."""
    points, sample, weights = _samples(source)
    distance = _distance_to_segments(points, *_segments(target))[sample]
    different = distance >= threshold
    within = float(weights[distance <= threshold].sum() / weights.sum())
    dsa = float(distance[different].mean()) if different.any() else None
    return float(distance.mean()), dsa, float(different.mean()), within


def _segments(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end, (m, 3) each, of every edge, child first; a node without edges is a segment of length zero."""
    child, parent = tree.segments.T
    return tree.xyz[child], tree.xyz[parent]


def _samples(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3) on the tree; of each sample its point (s,), for many share a node's; and the length (s,) that it stands
    for: half a step at the ends of an edge, else a step."""
    child, parent = tree.segments.T
    begin, end = tree.xyz[child], tree.xyz[parent]
    length = np.linalg.norm(end - begin, axis=1)
    if length.sum() > _MAX_SAMPLES:
        raise SWCError(f"a tree of length {length.sum():.3g} cannot be in voxels (at most {_MAX_SAMPLES:.0e})")
    count = (1 + length + 0.5).astype(np.int64)
    edge, number = repeated(count)
    last = np.maximum(count - 1, 1)
    inner = np.flatnonzero((number > 0) & (number < last[edge]))
    points = begin[edge[inner]] + (number[inner] / last[edge[inner]])[:, None] * (end - begin)[edge[inner]]
    sample = np.where(number == 0, child[edge], parent[edge])
    sample[inner] = len(tree) + np.arange(len(inner))
    is_end = (number == 0) | (number == count[edge] - 1)
    weights = np.where(count == 1, length, length / last)[edge] * np.where(is_end & (count[edge] > 1), 0.5, 1.0)
    num_lone = len(begin) - len(tree.edges)
    weights[len(weights) - num_lone :] = 1.0
    return np.concatenate([tree.xyz, points]), sample, weights if weights.any() else np.ones_like(weights)


def _distance_to_segments(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(s,) exact distance of (s, 3) points to the nearest of m segments (m, 3) -> (m, 3).

    The segments are cut into pieces, each at most `2 h` long, and a k-d tree over the midpoints of the pieces gives the k
    nearest ones. A piece is never nearer than its midpoint less h. So once the best exact distance among the k plus h
    is no more than the distance of the k-th midpoint, no piece further away can be nearer, and the point is done; the
    points that are not are asked again with a larger k, in the end with all pieces.
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
    best, seen, k = np.full(len(points), np.inf), 0, min(8, len(middle))
    while open_rows.size:
        still_open = []
        step = max(_DISTANCES_AT_ONCE // k, 1)
        for rows in (open_rows[i : i + step] for i in range(0, len(open_rows), step)):
            to_middle, near = search.query(points[rows], k=[*range(seen + 1, k + 1)], workers=-1)
            best[rows] = np.minimum(best[rows], segments.nearest(points[rows], segment[near]))
            if k < len(middle):
                still_open.append(rows[best[rows] + half > to_middle[:, -1]])
        open_rows = np.concatenate(still_open) if still_open else np.empty(0, dtype=np.int64)
        seen, k = k, min(2 * k, len(middle))
    return best


class _Segments:
    """Line segments, each coordinate in an array of its own: numpy is slow on axes of length 3."""

    def __init__(self, begin: np.ndarray, end: np.ndarray):
        self.begin, self.along = begin.T.copy(), (end - begin).T.copy()
        squared = (self.along**2).sum(axis=0)
        self.squared = np.where(squared > 0, squared, 1.0)  # a segment may have length zero

    def nearest(self, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) distances of points (n, 3) to the nearest of the segments in rows (n, k)."""
        best = np.full(len(points), np.inf)
        points = points.T.copy()
        for candidate in rows.T:
            along = self.along[:, candidate]
            offset = points - self.begin[:, candidate]
            position = (offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / self.squared[candidate]
            offset -= np.clip(position, 0, 1) * along
            np.minimum(best, offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2, out=best)
        return np.sqrt(best)
