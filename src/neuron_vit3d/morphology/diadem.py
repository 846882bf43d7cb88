"""The DIADEM score: which branch points and tips of a gold tree a predicted one has, connected in the same way.

Written from the description by Gillette, Brown and Ascoli (2011, Neuroinformatics 9:233-245, and its web page "The
DIADEM metric"). A node of gold is matched by a node of the prediction that lies within a cylinder around it and whose
path to an ancestor is as long as the gold node's to the ancestor there. Each weighs as many tips as it leads to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .critical_nodes import NODE_DISTANCE
from .swc import SWCError, Tree


# Of a path's length: the defaults of the authors' program. Of paths shorter than the cylinder's sizes the second.
PATH_ERROR, LOCAL_PATH_ERROR = 0.05, 0.4
_FARTHER = 3.0  # times the cylinder's sizes: where the place at which two matched branches meet may still lie


def diadem_score(
    predicted: Tree, gold: Tree, *, distance: float = NODE_DISTANCE, path_error: float = PATH_ERROR
) -> float:
    """Computes the DIADEM score of a predicted tree, in [0, 1].

    The metric is made for trees that begin at one place: a fragment of the prediction whose root is far from gold's is
    rooted anew, at its node nearest to a root of gold in the cylinder around that. A node with more than two branches
    is one node. A gold branch point that has no match is a continuation, and counts as matched, where the paths
    through it are there from a matched ancestor to a match of a node below it. Nodes of the prediction without a
    partner are excess, unless they are continuations in gold; a tip weighs 1, a branch point as many excess tips as
    it leads to.

    Args:
        predicted, gold: trees in voxels.
        distance: voxels: radius of the cylinder in the xy plane, and half its height.
        path_error: the difference of two paths, in the xy plane and along z, over the length of gold's.

    Returns:
        Weight of the matched gold nodes over that of all gold nodes and all excess ones. 1 for two trees without a
        node but their roots.

    Raises:
        SWCError: a tree has no edge, or positions that are not finite.
    """
    for name, tree in (("predicted", predicted), ("gold", gold)):
        if not len(tree.edges):
            raise SWCError(f"expected a {name} tree with edges, found none")
        if not np.isfinite(tree.xyz).all():
            raise SWCError(f"the {name} tree has NaN or infinite positions")
    theirs = _Shape(gold, gold.parent_index, distance)
    ours = _Shape(predicted, _rooted_like(predicted, gold, distance), distance)
    match = _Matching(theirs, ours, path_error)
    weight = matched = 0
    for node in theirs.downwards:
        if theirs.above[node] >= 0:
            weight += theirs.tips[node]
            matched += theirs.tips[node] * match.direct(node)
    for node in [node for node in theirs.downwards if theirs.above[node] >= 0 and node not in match.partner]:
        matched += theirs.tips[node] * match.continues(node)
    total = weight + match.excess()
    return matched / total if total else 1.0


def _rooted_like(tree: Tree, gold: Tree, distance: float) -> np.ndarray:
    """The parents (n,) of a tree whose fragments begin where gold does, as far as they come near."""
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    from .graphs import sparse_graph

    parent = tree.parent_index.copy()
    graph = sparse_graph(tree.edges.T, len(tree))
    component = connected_components(graph, directed=False)[1]
    nearest = np.full(len(tree), np.inf)
    for root in gold.roots.tolist():
        gap = tree.xyz - gold.xyz[root]
        inside = (np.hypot(gap[:, 0], gap[:, 1]) <= distance) & (np.abs(gap[:, 2]) <= distance)
        nearest = np.minimum(nearest, np.where(inside, np.linalg.norm(gap, axis=1), np.inf))
    begins = np.isin(component, component[tree.roots[np.isfinite(nearest[tree.roots])]])  # where gold does already
    order = np.argsort(nearest, kind="stable")
    order = order[np.isfinite(nearest[order]) & ~begins[order]]
    for row in order[np.unique(component[order], return_index=True)[1]].tolist():
        reached, before = breadth_first_order(graph, row, directed=False)
        parent[reached] = before[reached]
        parent[row] = -1
    return parent


class _Shape:
    """The branch points and tips of a rooted tree, and the paths between them.

    Attributes:
        xyz: (n, 3) of all nodes.
        nodes: rows of roots, branch points and tips.
        above: row -> the next such node on the way to the root, -1 at a root; for `nodes` only.
        tips: row -> how many tips it leads to, itself among them.
        downwards: `nodes`, each after the one above.
        cylinder: radius and half height.
    """

    def __init__(self, tree: Tree, parent: np.ndarray, cylinder: float):
        from scipy.spatial import cKDTree

        self.xyz, self.cylinder = tree.xyz, cylinder
        self.places = list(map(tuple, tree.xyz.tolist()))  # the same, quicker to look at one by one
        count = len(tree)
        num_children = np.bincount(parent[parent >= 0], minlength=count)
        has_edges = (num_children > 0) | (parent >= 0)
        is_node = ((parent < 0) | (num_children != 1)) & has_edges
        self.nodes = np.flatnonzero(is_node).tolist()
        order = _downwards(parent)
        step = tree.xyz - tree.xyz[np.where(parent < 0, np.arange(count), parent)]
        lengths = np.stack([np.hypot(step[:, 0], step[:, 1]), np.abs(step[:, 2]), np.linalg.norm(step, axis=1)], 1)
        self.to_root = np.zeros((count, 3))  # path lengths in the xy plane, along z, and in space
        above = np.full(count, -1)
        self.steps = np.zeros(count, np.int64)  # edges to the root
        tips = np.zeros(count, np.int64)
        for row in order:
            up = parent[row]
            if up >= 0:
                self.to_root[row] = self.to_root[up] + lengths[row]
                self.steps[row] = self.steps[up] + 1
                above[row] = up if is_node[up] else above[up]
        for row in reversed(order):
            tips[row] += num_children[row] == 0
            if parent[row] >= 0:
                tips[parent[row]] += tips[row]
        self.above = {row: int(above[row]) for row in self.nodes}
        self.tips = {row: int(tips[row]) for row in self.nodes}
        self.downwards = [row for row in order if is_node[row]]
        self.below: dict[int, list[int]] = {row: [] for row in self.nodes}
        for row in self.downwards:
            if self.above[row] >= 0:
                self.below[self.above[row]].append(row)
        self.search = cKDTree(tree.xyz[self.nodes])
        # Rows from each node up to the one above, which is left out: in `order` a branch is one piece, tip last.
        place = np.zeros(count, np.int64)
        place[order] = np.arange(count)
        rows = np.array(order)
        self.branch = {row: self._rows_up(rows, place, row) for row in self.nodes}
        # What hangs on a node comes right after it in `order`.
        last = place.copy()
        for row in reversed(order):
            if parent[row] >= 0:
                last[parent[row]] = max(last[parent[row]], last[row])
        self.first, self.last = place, last

    def _rows_up(self, order: np.ndarray, place: np.ndarray, row: int) -> np.ndarray:
        """The rows from a node up to the node above, without that: neighbours in `order`, where all nodes between have
        one child."""
        if self.above[row] < 0:
            return order[place[row] : place[row] + 1]
        end, count = place[row] + 1, int(self.steps[row] - self.steps[self.above[row]])
        return order[end - count : end][::-1]

    def is_above(self, high: int, low: int) -> bool:
        """Whether a node is an ancestor of another."""
        return bool(high != low and self.first[high] <= self.first[low] <= self.last[high])

    def near(self, place: np.ndarray) -> list[int]:
        """The nodes in the cylinder around a place, the nearest first."""
        found = self.search.query_ball_point(place, self.cylinder * 2**0.5 * (1 + 1e-9))
        rows = np.array(self.nodes)[np.sort(found)] if found else np.empty(0, np.int64)
        away = np.abs(self.xyz[rows] - place)
        inside = (np.hypot(away[:, 0], away[:, 1]) <= self.cylinder) & (away[:, 2] <= self.cylinder)
        order = np.argsort((away[inside] ** 2).sum(axis=1), kind="stable")
        return rows[inside][order].tolist()

    def is_near(self, row: int, place: Sequence[float], farther: float = 1.0) -> bool:
        """Whether a place lies in the cylinder around a node, or in one so many times as large."""
        x, y, z = self.places[row]
        size = self.cylinder * farther
        return math.hypot(x - place[0], y - place[1]) <= size and abs(z - place[2]) <= size

    def path_length(self, low: int, high: int) -> np.ndarray:
        """Length (3,) of the path from a node up to one of its ancestors: in the xy plane, along z, in space."""
        return self.to_root[low] - self.to_root[high]

    def ancestors(self, row: int) -> Iterator[int]:
        """The nodes above one, the nearest first."""
        row = self.above[row]
        while row >= 0:
            yield row
            row = self.above[row]

    def leaves_at(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the path from a node to an ancestor leaves the cylinder of the one and of the other, x y z each."""
        pieces = [self.branch[low]]
        while (low := self.above[low]) != high:
            pieces.append(self.branch[low])
        path = self.xyz[np.append(np.concatenate(pieces), high)]
        return _first_outside(path, self.cylinder), _first_outside(path[::-1], self.cylinder)


class _Matching:
    """Pairs the nodes of a gold and a predicted tree.

    Attributes:
        partner: gold node -> predicted node; taken: the other way round.
    """

    def __init__(self, gold: _Shape, predicted: _Shape, path_error: float):
        self.gold, self.predicted, self.path_error = gold, predicted, path_error
        self.partner: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        for root in (row for row in gold.nodes if gold.above[row] < 0):
            for row in predicted.near(gold.xyz[root]):
                if predicted.above[row] < 0 and row not in self.taken:
                    self._pair(root, row)
                    break

    def _pair(self, gold: int, predicted: int) -> None:
        self.partner[gold], self.taken[predicted] = predicted, gold

    def direct(self, node: int) -> bool:
        """Pairs a gold node with the nearest free one in its cylinder whose way to an ancestor is as long."""
        for row in self.predicted.near(self.gold.xyz[node]):
            if row not in self.taken and self._same_way_up(node, row):
                self._pair(node, row)
                return True
        return False

    def _same_way_up(self, node: int, row: int) -> bool:
        """Goes up both trees, in the one where the way is shorter so far, until two ancestors are near each other."""
        if self.predicted.above[row] < 0:
            return False
        up, other = self.gold.above[node], self.predicted.above[row]
        passed_up: list[int] = []
        passed_other: list[int] = []
        while up >= 0 and other >= 0:
            if self.gold.is_near(up, self.predicted.places[other]):
                return _same_length(self.gold, node, up, self.predicted, row, other, self.path_error)
            if self.gold.path_length(node, up)[2] < self.predicted.path_length(row, other)[2]:
                # An ancestor whose counterpart was left behind tells that the ways differ.
                if any(self.gold.is_near(up, self.predicted.places[one]) for one in passed_other):
                    return False
                passed_up.append(up)
                up = self.gold.above[up]
            else:
                if any(self.gold.is_near(one, self.predicted.places[other]) for one in passed_up):
                    return False
                passed_other.append(other)
                other = self.predicted.above[other]
        return False

    def continues(self, node: int) -> bool:
        """Whether the ways through a gold branch point are there, though no branch point is."""
        found = _ends_through(self.gold, node, self.predicted, self.partner, self.path_error)
        if len(found) > 1:  # two ways part somewhere: nearby that is the branch point
            meeting = _meeting(self.predicted, *found[:2])
            if meeting >= 0 and meeting not in self.taken:
                if self.predicted.is_near(meeting, self.gold.places[node], _FARTHER):
                    self._pair(node, meeting)
        return bool(found)

    def excess(self) -> int:
        """The weight of predicted nodes that have no partner."""
        excess: dict[int, int] = {}
        total = 0
        free = {row for row in self.gold.nodes if row not in self.partner}
        for row in reversed(self.predicted.downwards):
            below = self.predicted.below[row]
            weight = sum(excess[one] for one in below) if below else 1
            if row in self.taken or self.predicted.above[row] < 0:
                weight = 0
            elif below and _ends_through(self.predicted, row, self.gold, self.taken, self.path_error):
                excess[row] = weight  # what hangs on it is still excess, but it is none itself
                continue
            else:
                nearby = [one for one in self.gold.near(self.predicted.xyz[row]) if one in free]
                if nearby:  # it stands for a gold node that was missed, which has cost its weight
                    free.discard(nearby[0])
                    weight = 0
            excess[row] = weight
            total += weight
        return total


def _ends_through(one: _Shape, node: int, other: _Shape, partner: dict[int, int], path_error: float) -> list[int]:
    """Follows the ways through a branch point of one tree in the other one.

    From the nearest ancestor with a partner, to the first node below on each branch that has a partner, or one near
    it, that hangs on the ancestor's and is as far from it.

    Returns:
        The nodes of the other tree where the ways end, one for each branch that goes on there.
    """
    if not one.below[node]:
        return []
    ancestor = next((up for up in one.ancestors(node) if up in partner), -1)
    if ancestor < 0:
        return []
    start, found = partner[ancestor], []
    for branch in one.below[node]:
        waiting = [branch]
        while waiting:
            low = waiting.pop()
            ends = [partner[low]] if low in partner else other.near(one.xyz[low])
            end = next(
                (
                    end
                    for end in ends
                    if other.is_above(start, end) and _same_length(one, low, ancestor, other, end, start, path_error)
                ),
                None,
            )
            if end is not None:
                found.append(end)
                break
            if low not in partner:
                waiting += one.below[low]
    return found


def _same_length(
    one: _Shape, low: int, high: int, other: _Shape, other_low: int, other_high: int, path_error: float
) -> bool:
    """Whether two paths are equally long, in the plane and along z, but for where their ends lie in the cylinders."""
    wanted, length = one.path_length(low, high), other.path_length(other_low, other_high).copy()
    if not wanted[2] > 0:
        return True
    for row, counterpart, leaves in zip((low, high), (other_low, other_high), one.leaves_at(low, high), strict=True):
        ours, theirs = np.abs(one.xyz[row] - leaves), np.abs(other.xyz[counterpart] - leaves)
        length[0] += np.hypot(*ours[:2]) - np.hypot(*theirs[:2])
        length[1] += ours[2] - theirs[2]
    for axis in (0, 1):
        limit, error = path_error, abs(wanted[axis] - length[axis]) / wanted[2]
        if wanted[axis] < one.cylinder:
            if length[axis] < one.cylinder:
                continue
            limit = max(LOCAL_PATH_ERROR, path_error)
        if error >= limit:
            return False
    return True


def _first_outside(path: np.ndarray, cylinder: float) -> np.ndarray:
    """The first point of a path beyond the cylinder around its first, in xy, and in z; else its last."""
    away = np.abs(path - path[0])
    in_plane = np.flatnonzero(np.hypot(away[:, 0], away[:, 1]) > cylinder)
    along_z = np.flatnonzero(away[:, 2] > cylinder)
    x, y, _ = path[in_plane[0] if len(in_plane) else -1]
    return np.array([x, y, path[along_z[0] if len(along_z) else -1][2]])


def _meeting(shape: _Shape, one: int, two: int) -> int:
    """The lowest node that lies above two nodes, or -1."""
    above = set(shape.ancestors(one))
    return next((row for row in shape.ancestors(two) if row in above), -1)


def _downwards(parent: np.ndarray) -> list[int]:
    """All rows, each after its parent."""
    above = parent.tolist()
    children: list[list[int]] = [[] for _ in above]
    waiting: list[int] = []
    for row, up in enumerate(above):
        (children[up] if up >= 0 else waiting).append(row)
    order = []
    while waiting:
        row = waiting.pop()
        order.append(row)
        waiting += children[row][::-1]
    return order
