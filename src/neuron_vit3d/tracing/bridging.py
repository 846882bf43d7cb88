"""Bridges the gaps of a mask in pieces: joins the skeletons of its components into one tree by the cheapest links.

Candidates are straight links between nodes of different components. A candidate costs the gap that it leaves between
the two surfaces, and more where an end does not point along the link. The cheapest candidate of every pair of
components enters a minimum spanning tree over the components, so that no loop arises.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..morphology.graphs import sparse_graph
from .pieces import TraceError
from .skeleton import NO_PARENT, Skeleton


# A link costs its gap times 1 + this * (sum of the misalignments of its two nodes). The misalignment is 0 for an end
# that points along the link, 0.5 for an inner or single node, which has no direction, and 1 for an end that points the
# opposite way.
MISALIGNMENT_WEIGHT = 2.0
# No link may cost more than this many bridge distances. So two ends that face each other are joined over the whole
# distance, an end and the side of a neurite over 3/4 of it, and two sides over half of it.
MAX_COST = 1.5
# The direction of an end is measured over this length, in smallest voxel sides.
DIRECTION_LENGTH = 8.0
# A component with a voxel this far from the boundary is never treated as noise, however short it is.
THICK = 5.0
QUERY_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class Links:
    """Links between components.

    nodes: (m, 2) int64, rows of the two nodes. gap: (m,) between the two surfaces. cost: (m,).
    """

    nodes: np.ndarray
    gap: np.ndarray
    cost: np.ndarray

    def __len__(self) -> int:
        return len(self.gap)

    def subset(self, keep: np.ndarray) -> "Links":
        return Links(self.nodes[keep], self.gap[keep], self.cost[keep])


def find_links(skeleton: Skeleton, bridge_distance: float) -> Links:
    """Finds the links that bridge gaps of at most `bridge_distance`: a minimum spanning forest.

    bridge_distance: in smallest voxel sides.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree

    num_components = int(skeleton.component.max()) + 1
    links = _cheapest_per_pair(_candidates(skeleton, bridge_distance), skeleton.component)
    first, second = skeleton.component[links.nodes].T
    # Data are ranks, from 1: an explicit zero would be no edge, and ties are broken the same way each time.
    rank = np.empty(len(links))
    rank[np.argsort(links.cost, kind="stable")] = np.arange(1, len(links) + 1)
    graph = sparse_graph((first, second), num_components, rank)
    chosen = np.sort(minimum_spanning_tree(graph).data).astype(np.int64)
    return links.subset(np.argsort(links.cost, kind="stable")[chosen - 1])


def drop_weak_ends(skeleton: Skeleton, links: Links, min_length: float) -> np.ndarray:
    """Cuts off end components that are too short for their link, and returns which links stay, bool (m,).

    An end component must be longer than its gap by `min_length`. The length of a component is that of all its lines,
    less its radius, so that a small ball has none; a thick component (a soma) always stays. A small speck at the end
    of a link is noise; a speck between two links may be the remnant of a neurite, and stays.
    """
    lengths = np.bincount(skeleton.component, skeleton.edge_lengths)
    thickest = np.zeros(len(lengths))
    np.maximum.at(thickest, skeleton.component, skeleton.reach)
    lengths = np.where(thickest >= THICK, np.inf, lengths - thickest)
    keep = np.ones(len(links), bool)
    pairs = skeleton.component[links.nodes]
    while True:
        degree = np.bincount(pairs[keep].ravel(), minlength=len(lengths))
        is_end = degree[pairs] == 1
        # Where two components are each other's only partner, the longer one is not an end component.
        is_end &= (degree[pairs] > 1).any(axis=1)[:, None] | (lengths[pairs] == lengths[pairs].min(axis=1)[:, None])
        weak = keep & (is_end & (lengths[pairs] < links.gap[:, None] + min_length)).any(axis=1)
        if not weak.any():
            return keep
        keep &= ~weak


def group_components(skeleton: Skeleton, links: Links) -> np.ndarray:
    """Numbers the groups of components that links connect, directly or not: (number of components,) int, from 0."""
    from scipy.sparse.csgraph import connected_components

    num_components = int(skeleton.component.max()) + 1
    first, second = skeleton.component[links.nodes].T
    graph = sparse_graph((first, second), num_components)
    return connected_components(graph, directed=False)[1]


def join_apart(skeleton: Skeleton, links: Links, roots: list[int]) -> list[Skeleton]:
    """Splits a skeleton into trees, rooted at the nodes in the rows `roots`.

    The links connect the skeleton's components without a loop; each node goes to the root that is nearest along the
    lines.

    New nodes are placed along the links, about one smallest voxel side apart; their reach is interpolated linearly.

    Raises:
        TraceError: a root is given twice.
    """
    from scipy.sparse.csgraph import breadth_first_order, dijkstra

    if len(set(roots)) < len(roots):
        raise TraceError("expected roots at different places of a tree, got two at the same place")
    all_points, all_reach, edges = [skeleton.points], [skeleton.reach], []
    child = np.flatnonzero(skeleton.parents >= 0)
    edges.append(np.stack([child, skeleton.parents[child]], axis=1))
    n, scaled = len(skeleton), skeleton.scaled
    for a, b in links.nodes.tolist():
        steps = max(1, round(float(np.linalg.norm(scaled[a] - scaled[b]))))
        at = np.arange(1, steps)[:, None] / steps
        all_points.append((1 - at) * skeleton.points[a] + at * skeleton.points[b])
        all_reach.append(((1 - at) * skeleton.reach[a] + at * skeleton.reach[b])[:, 0])
        chain = [a, *range(n, n + steps - 1), b]
        edges.append(np.stack([chain[:-1], chain[1:]], axis=1))
        n += steps - 1
    points, reach = np.concatenate(all_points), np.concatenate(all_reach)
    first, second = np.concatenate(edges).T
    if len(roots) > 1:
        lengths = np.maximum(np.linalg.norm((points[first] - points[second]) * skeleton.spacing, axis=1), 1e-9)
        graph = sparse_graph((first, second), n, lengths)
        nearest = dijkstra(graph, directed=False, indices=roots, min_only=True, return_predecessors=True)[2]
        together = nearest[first] == nearest[second]
        first, second = first[together], second[together]
    graph = sparse_graph((first, second), n)
    trees = []
    for root in roots:
        order, predecessors = breadth_first_order(graph, root, directed=False)
        row = np.empty(n, np.int64)
        row[order] = np.arange(len(order))
        parents = np.append(NO_PARENT, row[predecessors[order[1:]]])
        trees.append(Skeleton(points[order], reach[order], parents, np.zeros(len(order), np.int64), skeleton.spacing))
    return trees


def _candidates(skeleton: Skeleton, bridge_distance: float) -> Links:
    """Lists the links whose gap is at most `bridge_distance` and whose cost is at most MAX_COST times that.

    Of the links found in one step, only the cheapest for each pair of components is kept.
    """
    points, reach, component = skeleton.scaled, skeleton.reach, skeleton.component
    is_end = skeleton.degree <= 1
    direction = _end_directions(skeleton, is_end)
    found = [_no_links()]
    for source, target in _near_pairs(skeleton, is_end, bridge_distance):
        source, target = np.minimum(source, target), np.maximum(source, target)
        vector = points[target] - points[source]
        distance = np.linalg.norm(vector, axis=1)
        # `reach` ends at the first background voxel, so the gap is the number of these between the two surfaces.
        gap = np.maximum(distance - reach[source] - reach[target] + 1, 1.0)
        misalignment = np.ones(len(gap))
        for node, sign in ((source, 1.0), (target, -1.0)):
            cosine = sign * np.einsum("ij,ij->i", direction[node], vector) / distance
            misalignment += MISALIGNMENT_WEIGHT * (1 - cosine) / 2
        near = (gap <= bridge_distance) & (gap * misalignment <= MAX_COST * bridge_distance)
        nodes = np.stack([source, target], axis=1)[near]
        found.append(_cheapest_per_pair(Links(nodes, gap[near], (gap * misalignment)[near]), component))
    return Links(*(np.concatenate([getattr(part, name) for part in found]) for name in ("nodes", "gap", "cost")))


def _no_links() -> Links:
    return Links(np.empty((0, 2), np.int64), np.empty(0), np.empty(0))


def _near_pairs(
    skeleton: Skeleton, is_end: np.ndarray, bridge_distance: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs of rows, (m,) and (m,), of nodes of different components: all that a link may join, and more.

    Nodes are searched in chunks, so that memory stays bounded.

    Nodes are grouped by similar reach, so that the soma does not widen the search of all others. Ends and inner nodes
    are also searched apart, since inner nodes are joined over shorter gaps. Nodes of the largest component do not
    search: in every pair of components at least one is not the largest.
    """
    from scipy.spatial import cKDTree

    points, reach, component = skeleton.scaled, skeleton.reach, skeleton.component
    searches = component != np.argmax(np.bincount(component))
    kinds = 2 * np.floor(np.log2(reach)).astype(np.int64) + is_end
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    indices = [cKDTree(points[group]) for group in groups]
    for first in groups:
        sources = first[searches[first]]
        for start in range(0, len(sources), QUERY_CHUNK):
            chunk = sources[start : start + QUERY_CHUNK]
            own = cKDTree(points[chunk])
            for second, index in zip(groups, indices, strict=True):
                # Inner nodes have no direction, which makes links dearer: each inner node halves, or nearly halves,
                # the widest gap that is possible at MAX_COST.
                num_inner = 2 - int(is_end[first[0]]) - int(is_end[second[0]])
                widest = min(1.0, MAX_COST / (1 + MISALIGNMENT_WEIGHT / 2 * num_inner)) * bridge_distance
                furthest = widest + reach[first].max() + reach[second].max()
                near = own.sparse_distance_matrix(index, furthest, output_type="ndarray")
                source, target = chunk[near["i"]], second[near["j"]]
                other = component[source] != component[target]
                yield source[other], target[other]


def _cheapest_per_pair(links: Links, component: np.ndarray) -> Links:
    """Keeps the cheapest link of every pair of components."""
    pairs = np.sort(component[links.nodes], axis=1)
    order = np.lexsort((links.nodes[:, 1], links.nodes[:, 0], links.cost, pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    first = np.ones(len(order), bool)
    first[1:] = np.any(pairs[1:] != pairs[:-1], axis=1)
    return links.subset(order[first])


def _end_directions(skeleton: Skeleton, is_end: np.ndarray) -> np.ndarray:
    """Finds unit vectors that point out of the ends, (n, 3) float64; zero at other nodes and at single nodes."""
    points, parents = skeleton.scaled, skeleton.parents
    child = np.full(len(skeleton), NO_PARENT)
    child[parents[parents >= 0]] = np.flatnonzero(parents >= 0)
    direction = np.zeros_like(points)
    for end in np.flatnonzero(is_end).tolist():
        step = parents if parents[end] >= 0 else child
        node = end
        while step[node] >= 0 and np.linalg.norm(points[node] - points[end]) < DIRECTION_LENGTH:
            node = int(step[node])
        if node != end:
            direction[end] = (points[end] - points[node]) / np.linalg.norm(points[end] - points[node])
    return direction
