"""Bridges gaps in a mask where the scores below the threshold still show the path.

Where a neurite fades, the threshold cuts it into pieces, with weak scores between them. Shortest paths through the
weak voxels join the pieces; the weaker a voxel, the higher its cost. The cheapest path of every pair of neighbouring
components enters a minimum spanning tree (Kruskal's, by scipy), so that no loop arises. Where there is only background
between two pieces, there is no such path.
"""

from dataclasses import dataclass

import numpy as np

from ..morphology.graphs import sparse_graph
from .foreground import Foreground


@dataclass(frozen=True)
class WeakBridge:
    """A path between two components.

    cost: of the path. components: the two that it joins. rows: its weak voxels. ends: the voxels of the two components
    at its ends, in the order of `components`.
    """

    cost: float
    components: tuple[int, int]
    rows: list[int]
    ends: tuple[int, int]


def weak_bridges(
    foreground: Foreground, scores: np.ndarray, threshold: float, component: np.ndarray, max_cost: float
) -> list[WeakBridge]:
    """Finds the paths over voxels below the threshold that join components.

    Args:
        foreground: n voxels: those of the components and the weaker ones between them.
        scores: (n,) scores of the voxels, in (0, 1].
        threshold: the score from which voxels belong to components.
        component: (n,) int from 0 without gaps, -1 for voxels of no component.
        max_cost: highest cost of a path; a step of one smallest voxel side costs threshold / score, at least 1.
    """
    # Most of the signal surrounds a single component. Only what leads from one component to another is searched.
    together = np.flatnonzero(_with_several(foreground.components(), component))
    if not len(together):
        return []
    found = _cheapest_paths(foreground.subset(together), scores[together], threshold, component[together], max_cost)
    row_of = together.tolist()
    return [
        WeakBridge(
            one.cost, one.components, [row_of[row] for row in one.rows], (row_of[one.ends[0]], row_of[one.ends[1]])
        )
        for one in found
    ]


def _with_several(part: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Finds the voxels of those connected parts, (n,) int, that hold more than one component; bool (n,)."""
    is_strong = component >= 0
    lowest, highest = np.full(part.max() + 1, component.max() + 1), np.full(part.max() + 1, -1)
    np.minimum.at(lowest, part[is_strong], component[is_strong])
    np.maximum.at(highest, part[is_strong], component[is_strong])
    return (lowest < highest)[part]


def _cheapest_paths(
    foreground: Foreground, scores: np.ndarray, threshold: float, component: np.ndarray, max_cost: float
) -> list[WeakBridge]:
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

    num_components = int(component.max()) + 1
    rows, neighbours, lengths = foreground.edges()
    cost = np.maximum(threshold / scores, 1.0)
    weight = lengths * (cost[rows] + cost[neighbours]) / 2
    inside = (component[rows] >= 0) & (component[rows] == component[neighbours])
    # Edges inside a component do not matter; paths start at the components' voxels beside weak ones.
    rows, neighbours, weight = rows[~inside], neighbours[~inside], weight[~inside]
    graph = sparse_graph((rows, neighbours), len(foreground), weight)
    beside = np.zeros(len(foreground), bool)
    beside[rows] = beside[neighbours] = True
    starts = np.flatnonzero(beside & (component >= 0))
    if not len(starts):
        return []
    distance, predecessor, source = dijkstra(
        graph, directed=False, indices=starts, min_only=True, return_predecessors=True, limit=max_cost
    )
    # Every voxel reached belongs to its nearest component. Where two of these areas meet, a path leads over the edge
    # between them.
    origin = np.where(source >= 0, component[np.maximum(source, 0)], -1)
    meets = (origin[rows] >= 0) & (origin[neighbours] >= 0) & (origin[rows] != origin[neighbours])
    rows, neighbours = rows[meets], neighbours[meets]
    total = distance[rows] + weight[meets] + distance[neighbours]
    order = np.argsort(total, kind="stable")
    order = order[total[order] <= max_cost]
    pairs = np.sort(np.stack([origin[rows], origin[neighbours]], axis=1), axis=1)[order]
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = np.sort(first)  # the cheapest of each pair, the cheapest pair first
    if not len(first):
        return []
    rank = np.arange(1, len(first) + 1)  # ties are broken the same way each time
    tree = minimum_spanning_tree(sparse_graph(pairs[first].T, num_components, rank))
    found = []
    for edge in order[first[tree.data.astype(np.int64) - 1]].tolist():
        rows_of_path, ends = [], []
        for node in (int(rows[edge]), int(neighbours[edge])):
            while component[node] < 0:
                rows_of_path.append(node)
                node = int(predecessor[node])
            ends.append(node)
        between = (int(component[ends[0]]), int(component[ends[1]]))
        found.append(WeakBridge(float(total[edge]), between, rows_of_path, (ends[0], ends[1])))
    return found
