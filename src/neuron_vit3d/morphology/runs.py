"""How far one can run along a gold tree before the predicted one is in error: splits, merges, omitted edges, and the
expected run length.

The figures are those of Januszewski et al. 2018 (Nat. Methods 15:605, flood-filling networks) as the README of
segmentation-skeleton-metrics (Allen Institute, MIT) describes them. There, gold nodes take the label of the segment
they lie in. Here they take the fragment of the predicted tree that is near.
"""

from __future__ import annotations

import numpy as np

from .distance import nearest_segments
from .geometry import repeated
from .graphs import sparse_graph
from .swc import SWCError, Tree


# Voxels, where segmentation-skeleton-metrics has micrometres: a fragment that goes farther from gold than the first
# has merged it with something else, from where it is nearer than the second on, if it is gold's over the third.
MERGE_DISTANCE, MERGE_SITE, MERGE_RUN = 50.0, 6.0, 50.0
_NONE = -1


def run_lengths(predicted: Tree, gold: Tree, *, threshold: float = 2.0) -> dict[str, float]:
    """Follows a gold tree, and tells where the predicted one breaks off, changes or has merged it with something else.

    Gold edges are cut into pieces of at most a voxel. A piece's end belongs to a fragment (connected component) of the
    predicted tree that lies within the larger of `threshold` and the gold radius there, or to none; to the one that is
    near most of this fragment of gold, where there are several.
    Where the tree leaves gold for a stretch and both sides belong to one fragment, the stretch belongs to it, too.
    A piece is omitted if one of its ends belongs to none, and split if they belong to different fragments. All
    fragments of the gold tree are one neuron: joining them is no merge.

    Args:
        predicted, gold: trees in voxels.
        threshold: voxels.

    Returns:
        splits: the pieces of gold that remain when omitted and split ones are taken out, less one for each fragment of
            gold that has any.
        merges: the parts of predicted fragments that leave gold and go farther than 50 voxels from it, where the
            fragment holds a run of gold of at least 50 voxels.
        split_edges, omitted_edges, merged_edges: shares of gold's length; merged is what belongs to a fragment with a
            merge. edge_accuracy: what is left of 1.
        expected_run_length: voxels from a random point of gold to the ends of the run it lies in, 0 where that is
            omitted or merged: the sum of squared run lengths over gold's length. normalized_run_length: that over what
            gold itself has, which is its length if it is one piece.

    Raises:
        SWCError: gold has no edge with a length, or a tree has positions that are not finite.
    """
    if not gold.length > 0:
        raise SWCError("expected a gold tree with edges, found none")
    for name, tree in (("predicted", predicted), ("gold", gold)):
        if not np.isfinite(tree.xyz).all():
            raise SWCError(f"the {name} tree has NaN or infinite positions")
    points, radii, pieces = _cut(gold)
    lengths = np.linalg.norm(points[pieces[:, 0]] - points[pieces[:, 1]], axis=1)
    total = lengths.sum()
    fragment = _components(len(points), pieces)
    labels = _labels(predicted, points, np.maximum(radii, threshold), fragment)
    labels = _without_gaps(labels, pieces)
    ends = labels[pieces]
    omitted = (ends == _NONE).any(axis=1)
    split = ~omitted & (ends[:, 0] != ends[:, 1])
    right = ~omitted & ~split
    run = _components(len(points), pieces[right])
    run_length = np.bincount(run[pieces[right, 0]], lengths[right], minlength=len(points))
    merged_labels, merges = _merges(predicted, gold, run_length, run, labels)
    in_merge = right & np.isin(ends[:, 0], merged_labels)
    run_is_merged = np.zeros(len(points), bool)
    run_is_merged[run[pieces[in_merge, 0]]] = True
    shares = {
        "split_edges": lengths[split].sum() / total,
        "omitted_edges": lengths[omitted].sum() / total,
        "merged_edges": lengths[in_merge].sum() / total,
    }
    expected = (run_length[~run_is_merged] ** 2).sum() / total
    perfect = (np.bincount(fragment[pieces[:, 0]], lengths) ** 2).sum() / total
    return {
        "splits": _splits(pieces, fragment, run, labels),
        "merges": merges,
        **{name: float(share) for name, share in shares.items()},
        "edge_accuracy": float(1 - sum(shares.values())),
        "expected_run_length": float(expected),
        "normalized_run_length": float(expected / perfect),
    }


def _cut(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts edges into pieces of at most a voxel: points (p, 3), radii (p,), and pieces (m, 2), rows of points."""
    child, parent = tree.edges.T
    begin, along = tree.xyz[child], tree.xyz[parent] - tree.xyz[child]
    count = np.maximum(np.ceil(np.linalg.norm(along, axis=1)), 1).astype(np.int64)
    edge, number = repeated(count)
    share = number / count[edge]
    inner = number > 0
    points = np.concatenate([tree.xyz, (begin[edge] + share[:, None] * along[edge])[inner]])
    radii = np.where(np.isfinite(tree.radii), tree.radii, 0.0)
    between = radii[child][edge] + share * (radii[parent] - radii[child])[edge]
    row = child[edge]
    row[inner] = len(tree) + np.arange(inner.sum())
    following = np.append(row[1:], 0)
    is_last = number == count[edge] - 1
    following[is_last] = parent[edge[is_last]]
    return points, np.concatenate([radii, between[inner]]), np.stack([row, following], axis=1)


def _labels(predicted: Tree, points: np.ndarray, reach: np.ndarray, fragment: np.ndarray) -> np.ndarray:
    """The fragment of the predicted tree that each gold point (n,) belongs to: the one near most of its gold fragment.

    Where two are near, as at forks, the nearest alone would change from point to point.
    """
    labels = np.full(len(points), _NONE)
    if not len(predicted):
        return labels
    segments = predicted.segments
    begin, end = predicted.xyz[segments[:, 0]], predicted.xyz[segments[:, 1]]
    own = _components(len(predicted), predicted.edges)[segments[:, 0]]
    distance, segment = nearest_segments(points, begin, end)
    near = np.flatnonzero(distance <= reach)
    by_label = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[by_label], np.arange(own.max() + 2))
    by_fragment = np.argsort(fragment, kind="stable")
    firsts = np.searchsorted(fragment[by_fragment], np.arange(fragment.max() + 2))
    found = []
    for gold, label in np.unique(np.stack([fragment[near], own[segment[near]]], axis=1), axis=0).tolist():
        of_label = by_label[starts[label] : starts[label + 1]]
        rows = by_fragment[firsts[gold] : firsts[gold + 1]]
        low = np.minimum(begin[of_label], end[of_label]).min(axis=0)
        high = np.maximum(begin[of_label], end[of_label]).max(axis=0)
        inside = (points[rows] >= low - reach[rows, None]) & (points[rows] <= high + reach[rows, None])
        rows = rows[inside.all(axis=1)]
        if len(rows):
            rows = rows[nearest_segments(points[rows], begin[of_label], end[of_label])[0] <= reach[rows]]
        found.append((len(rows), label, rows))
    for _, label, rows in sorted(found, key=lambda one: one[:2]):  # what is near most has the last word
        labels[rows] = label
    return labels


def _without_gaps(labels: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Gives stretches of points without a label the one that they have at two of their ends or more, if it is one."""
    no_label = labels == _NONE
    stretch = _components(len(labels), pieces[no_label[pieces].all(axis=1)])
    border = pieces[no_label[pieces].sum(axis=1) == 1]
    inner = np.where(no_label[border[:, 0]], border[:, 0], border[:, 1])
    outer = np.where(no_label[border[:, 0]], border[:, 1], border[:, 0])
    times = np.bincount(stretch[inner], minlength=len(labels))
    lowest, highest = np.full(len(labels), np.iinfo(np.int64).max), np.full(len(labels), _NONE)
    np.minimum.at(lowest, stretch[inner], labels[outer])
    np.maximum.at(highest, stretch[inner], labels[outer])
    filled = no_label & (times[stretch] >= 2) & (lowest[stretch] == highest[stretch])
    return np.where(filled, highest[stretch], labels)


def _splits(pieces: np.ndarray, fragment: np.ndarray, run: np.ndarray, labels: np.ndarray) -> int:
    """Counts runs, points with a label alone among them, less one for each gold fragment that has any."""
    used = np.zeros(len(labels), bool)
    used[pieces] = True
    rows = np.flatnonzero(used & (labels != _NONE))
    return len(np.unique(run[rows])) - len(np.unique(fragment[rows]))


def _merges(
    predicted: Tree, gold: Tree, run_length: np.ndarray, run: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, int]:
    """The fragments of the predicted tree with a merge, and the number of merges of all."""
    if not len(predicted.edges):
        return np.empty(0, np.int64), 0
    longest = np.zeros(len(predicted))
    has_label = labels != _NONE
    np.maximum.at(longest, labels[has_label], run_length[run[has_label]])
    points, _, pieces = _cut(predicted)
    segments = gold.segments
    distance, _ = nearest_segments(points, gold.xyz[segments[:, 0]], gold.xyz[segments[:, 1]])
    fragment = _components(len(points), pieces)
    first_row = np.full(len(points), len(points))
    np.minimum.at(first_row, fragment, np.arange(len(points)))
    own = _components(len(predicted), predicted.edges)  # numbered as `labels` are
    label = own[first_row[fragment]]
    away = distance > MERGE_SITE
    part = _components(len(points), pieces[away[pieces].all(axis=1)])
    attached = pieces[away[pieces].sum(axis=1) == 1]
    leaves = np.zeros(len(points), bool)
    leaves[part[np.where(away[attached[:, 0]], attached[:, 0], attached[:, 1])]] = True
    farthest = np.zeros(len(points))
    np.maximum.at(farthest, part[away], distance[away])
    merged = away & leaves[part] & (farthest[part] > MERGE_DISTANCE) & (longest[label] >= MERGE_RUN)
    return np.unique(label[merged]), len(np.unique(part[merged]))


def _components(count: int, edges: np.ndarray) -> np.ndarray:
    """The number (n,) of the connected component of each node."""
    from scipy.sparse.csgraph import connected_components

    return connected_components(sparse_graph(edges.T, count), directed=False)[1].astype(np.int64)
