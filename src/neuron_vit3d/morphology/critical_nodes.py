"""The nodes that make a tree's shape: branch points and tips, and how many of them two trees share."""

from __future__ import annotations

import numpy as np

from .graphs import sparse_graph
from .swc import Tree


# Voxels. A hand sets a fork anywhere inside the neurite: the median radius of the fly neurons' hand-drawn trees (TuFF)
# is 3.8 voxels, and one more for the grid.
NODE_DISTANCE = 5.0


def critical_nodes(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Finds branch points and tips by the number of edges that meet in a node.

    So the root's place does not matter.

    Args:
        tree: any forest; hand-made trees often come in fragments. A fragment's root is treated as any other node.

    Returns:
        branch_points (b, 3): x y z of the nodes in which three or more edges meet.
        tips (t, 3): x y z of the nodes with one edge; both ends of a fragment are tips. A node without edges is
            neither.
    """
    num_edges = np.bincount(tree.edges.ravel(), minlength=len(tree))
    return tree.xyz[num_edges >= 3], tree.xyz[num_edges == 1]


def match_points(first: np.ndarray, second: np.ndarray, distance: float = NODE_DISTANCE) -> int:
    """Counts the pairs of the largest one-to-one matching in which the points of a pair are at most `distance` apart.

    Args:
        first, second: (n, 3) and (m, 3) points.
        distance: in the points' units.

    Returns:
        The number of pairs (Hopcroft and Karp 1973): no order of the points and no greedy choice can change it.
    """
    if not len(first) or not len(second):
        return 0
    from scipy.sparse.csgraph import maximum_bipartite_matching
    from scipy.spatial import cKDTree

    # As records: points at the same place are at distance 0, which a sparse matrix of distances would lose.
    near = cKDTree(first).sparse_distance_matrix(cKDTree(second), distance, output_type="ndarray")
    graph = sparse_graph((near["i"], near["j"]), (len(first), len(second)))
    return int(np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0))


def shared_nodes(predicted: Tree, gold: Tree, distance: float = NODE_DISTANCE) -> dict[str, float]:
    """Compares branch points with branch points and tips with tips, matched one to one.

    Args:
        predicted, gold: trees in voxels.
        distance: the farthest that matched nodes may be apart, in voxels.

    Returns:
        branch_points_precision, branch_points_recall, branch_points_f1: share of the predicted (gold) branch points
            that have a partner, and the harmonic mean of the two. 1 where neither tree has a branch point, 0 where one
            has none.
        tips_precision, tips_recall, tips_f1: the same of the tips.
    """
    result = {}
    for name, ours, theirs in zip(
        ("branch_points", "tips"), critical_nodes(predicted), critical_nodes(gold), strict=True
    ):
        both = match_points(ours, theirs, distance)
        none = float(not len(ours) and not len(theirs))
        result[f"{name}_precision"] = both / len(ours) if len(ours) else none
        result[f"{name}_recall"] = both / len(theirs) if len(theirs) else none
        result[f"{name}_f1"] = 2 * both / (len(ours) + len(theirs)) if len(ours) + len(theirs) else none
    return result


def node_distances(predicted: Tree, gold: Tree, distance: float = NODE_DISTANCE) -> dict[str, float]:
    """Measures how far matched branch points and matched tips are apart.

    Args:
        predicted, gold: trees in voxels.
        distance: the farthest that matched nodes may be apart, in voxels.

    Returns:
        branch_points_distance, tips_distance: the mean over the pairs, voxels. NaN where nothing is matched.
    """
    pairs = zip(("branch_points", "tips"), critical_nodes(predicted), critical_nodes(gold), strict=True)
    found = {f"{name}_distance": matched_distances(ours, theirs, distance) for name, ours, theirs in pairs}
    return {name: float(apart.mean()) if len(apart) else np.nan for name, apart in found.items()}


def matched_distances(first: np.ndarray, second: np.ndarray, distance: float = NODE_DISTANCE) -> np.ndarray:
    """Returns the distances (p,) of matched points: of the largest matchings the one with the least sum of them.

    Arguments as in `match_points`.
    """
    if not len(first) or not len(second):
        return np.empty(0)
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching
    from scipy.spatial import cKDTree

    near = cKDTree(first).sparse_distance_matrix(cKDTree(second), distance, output_type="ndarray")
    # Every first point may stay alone, at a price that is higher than all distances together. All weights are one
    # more, for a weight of 0 would be no edge.
    rows, price = np.arange(len(first)), distance * (len(first) + 1.0)
    edges = np.append(near["i"], rows), np.append(near["j"], len(second) + rows)
    weights = np.append(near["v"], np.full(len(rows), price)) + 1.0
    graph = sparse_graph(edges, (len(first), len(second) + len(first)), weights)
    row, column = min_weight_full_bipartite_matching(graph)
    paired = column < len(second)
    return np.linalg.norm(first[row[paired]] - second[column[paired]], axis=1)
