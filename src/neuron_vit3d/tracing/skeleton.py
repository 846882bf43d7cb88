"""Extracts the skeleton of a mask: the center lines of every connected component, by TEASAR.

The method is that of Sato, Bitter, Bender, Kaufman and Nakajima, "TEASAR: tree-structure extraction algorithm for
accurate and robust skeletons" (Pacific Graphics 2000). Shortest paths run from a root over the foreground; voxels near
its boundary cost more, so that paths run along the center. Each next path leads to the farthest end of a branch not
yet covered, and covers all that lies within a multiple of the local radius. Three things differ from the paper. The
root is the thickest voxel, which in a neuron is the soma. One run of Dijkstra's algorithm serves all paths of all
components, since shortest paths from one root form a tree. And paths do not lead to every voxel that is not covered,
but only to the ends of branches (see `ends.py`), since balls around its center line never cover a rough or flat
neurite. Where neurites are thin, and the foreground is sure, a path also leads to every branch that goes on uncovered.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..morphology.graphs import sparse_graph
from .ends import branch_ends
from .foreground import Foreground


NO_PARENT = -1
# The cost of a voxel falls with this power of its distance from the boundary. The paper's cost, 5000 (1 - d /
# d_max)^16, depends on the thickest place of the mask; this one does not, so that thin neurites stay centered beside a
# large soma.
CENTERING_POWER = 3.0
# A path covers what is nearer than this multiple of the local radius, and a little more.
COVERED = 1.1
# Where a ball of at least this radius was drawn, no further balls are drawn around nodes near its center.
LARGE_BALL = 8.0
# Neurites are thin up to this radius, in smallest voxel sides. In a tuft thin neurites touch each other, so that one
# front runs along several of them and ends in fewer places than they do.
THIN = 2.3
# The extra paths to thin branches start only where the trunk is at most this thick: a thick neurite that is cut or
# hollow has thin flakes, too.
THIN_TRUNK = 3.0
# A branch that goes on uncovered for this many voxels counts, however wide its trunk is, so that a sheet takes bounded
# time.
MOST_STEPS = 64


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A forest of center lines, one tree for each component of the mask.

    points: (n, 3) float64, z y x in voxels.
    reach: (n,) float64, distance from the boundary in units of the smallest voxel side.
    parents: (n,) int64, rows, NO_PARENT at roots.
    component: (n,) int64, from 0, without gaps.
    spacing: (3,) voxel sides z y x, the smallest being 1.
    """

    points: np.ndarray
    reach: np.ndarray
    parents: np.ndarray
    component: np.ndarray
    spacing: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @property
    def scaled(self) -> np.ndarray:
        """The points in units of the smallest voxel side, (n, 3) float64."""
        return self.points * self.spacing

    @property
    def edge_lengths(self) -> np.ndarray:
        """Distance of every node to its parent, 0 at roots, (n,) float64."""
        scaled = self.scaled
        return np.where(self.parents < 0, 0.0, np.linalg.norm(scaled - scaled[self.parents], axis=1))

    @property
    def num_children(self) -> np.ndarray:
        return np.bincount(self.parents[self.parents >= 0], minlength=len(self))

    @property
    def degree(self) -> np.ndarray:
        """Number of edges at each node, (n,) int64."""
        return self.num_children + (self.parents >= 0)

    def subset(self, keep: np.ndarray) -> "Skeleton":
        """Keeps the nodes where `keep` is set.

        A node may only be dropped together with everything below it, or with its whole tree.
        """
        new_row = np.append(np.cumsum(keep) - 1, NO_PARENT)
        component = np.unique(self.component[keep], return_inverse=True)[1]
        return Skeleton(
            self.points[keep], self.reach[keep], new_row[self.parents[keep]], component.astype(np.int64), self.spacing
        )


def extract_skeleton(
    foreground: Foreground,
    component: np.ndarray,
    *,
    confidence: np.ndarray,
    roots: Sequence[int] = (),
    reach: np.ndarray | None = None,
    is_sure: bool = False,
) -> Skeleton:
    """Finds the center lines of the foreground (TEASAR; see the text at the top of this module).

    component: (n,) int, the component of every voxel, from 0, without gaps.
    confidence: (n,) in (0, 1], scores of the voxels; paths prefer high ones.
    roots: rows of voxels from which the paths of their components start; in other components they start at the
    thickest voxel.
    reach: (n,) distances from the boundary, where they are known.
    is_sure: whether bumps of the foreground are branches (see `ends.py`); then paths also lead to what no ball covers,
    where the foreground is thin.
    """
    if reach is None:
        reach = foreground.boundary_distance()
    parents, on_path = center_lines(foreground, component, reach, confidence, roots=roots, is_sure=is_sure)
    everything = Skeleton(
        foreground.voxels.astype(np.float64), reach, parents.astype(np.int64), component, foreground.spacing
    )
    return everything.subset(on_path)


def center_lines(
    foreground: Foreground,
    component: np.ndarray,
    reach: np.ndarray,
    confidence: np.ndarray,
    *,
    roots: Sequence[int] = (),
    targets: Sequence[int] = (),
    is_sure: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the path of every voxel to its root, and the voxels on center lines.

    Takes the arguments of [`extract_skeleton`], and targets: rows of voxels to which a line leads in any case. A path
    covers what is nearer than COVERED local radii and half a voxel's diagonal, the most by which the voxel grid may
    keep it from the middle.

    Returns for every voxel the next one on its path, (n,) int32, and whether it lies on a center line, (n,) bool.
    """
    from scipy.sparse.csgraph import dijkstra

    n = len(foreground)
    thickest_first = np.lexsort((np.arange(n), -reach))
    sources = thickest_first[np.unique(component[thickest_first], return_index=True)[1]]
    for root in reversed(roots):  # of several in one component the first is used
        sources[component[root]] = root

    cost = reach**-CENTERING_POWER / confidence
    rows, neighbours, lengths = foreground.edges()
    graph = sparse_graph((rows, neighbours), n, lengths * (cost[rows] + cost[neighbours]))
    _, predecessors, _ = dijkstra(graph, directed=False, indices=sources, min_only=True, return_predecessors=True)
    del graph
    parents = np.where(predecessors < 0, NO_PARENT, predecessors).astype(np.int32)
    way = _distance_from_root(foreground.points, parents)
    paths = _Paths(foreground, reach, parents, component)
    for target in targets:
        paths.lead_to(target)
    for end in branch_ends(foreground, (rows, neighbours, lengths), parents, way, reach, is_sure=is_sure).tolist():
        if (last := paths.last_uncovered(end)) >= 0:
            paths.lead_to(last)
    if is_sure:
        thin = np.flatnonzero(_is_thin((rows, neighbours), reach) & ~paths.covered)
        for end in thin[np.argsort(-way[thin], kind="stable")].tolist():
            if paths.goes_on_uncovered(end, way):
                paths.lead_to(end)
    return parents, paths.on_path


class _Paths:
    """The paths laid so far, and what they cover.

    on_path: (n,) bool, the voxels of the paths. covered: (n,) bool, the voxels within COVERED local radii and half a
    voxel's diagonal of a path.

    Where a neurite is an even number of voxels thick, two paths may run along its middle, side by side. So where the
    end of a path runs beside the skeleton, that end is left out, and `parents` is changed to join the path there.
    """

    def __init__(self, foreground: Foreground, reach: np.ndarray, parents: np.ndarray, component: np.ndarray):
        from scipy.spatial import cKDTree

        n = len(foreground)
        self.foreground, self.component = foreground, component
        self.points = foreground.points
        self.index = cKDTree(self.points, balanced_tree=False)
        self.ball = COVERED * reach + np.linalg.norm(foreground.spacing) / 2
        self.on_path, self.covered = np.zeros((2, n), bool)
        self.widest = np.zeros(n)  # local radius of the widest path that covers a voxel
        self.reach = reach
        self.joins = np.full(n, NO_PARENT, np.int32)  # the first voxel of the skeleton that a voxel touches
        self.served = np.zeros(n, bool)  # so near a large ball's center that their own ball adds little
        # Single lookups in the loops are several times faster through memory views than by indexing the arrays.
        self.parent_of, self.joined_by = memoryview(parents), memoryview(self.joins)
        self.is_on_path, self.is_covered = memoryview(self.on_path), memoryview(self.covered)
        self.is_served = memoryview(self.served)

    def last_uncovered(self, end: int) -> int:
        """Finds the first voxel that is not covered on the path from an end to its root; -1 where there is none.

        Where a branch comes back to another one (in a mask any touch closes a loop), only its end is covered.
        """
        is_covered, is_on_path, parent_of = self.is_covered, self.is_on_path, self.parent_of
        while is_covered[end] and not is_on_path[end] and parent_of[end] >= 0:
            end = parent_of[end]
        return -1 if is_covered[end] else end

    def goes_on_uncovered(self, end: int, way: np.ndarray) -> bool:
        """Tells whether a path from an end runs uncovered for longer than its trunk is wide, and the trunk is thin."""
        is_covered, parent_of = self.is_covered, self.parent_of
        node, steps = end, 0
        while node >= 0 and not is_covered[node] and steps < MOST_STEPS:
            node, steps = parent_of[node], steps + 1
        if node < 0 or not is_covered[node]:
            return True
        return self.widest[node] <= THIN_TRUNK and 0 < COVERED * self.widest[node] <= way[end] - way[node]

    def lead_to(self, target: int) -> None:
        """Lays the path from a voxel to the skeleton found so far, and covers what is near the path."""
        parent_of, is_on_path, joined_by = self.parent_of, self.is_on_path, self.joined_by
        path = [target]
        while (node := parent_of[path[-1]]) >= 0 and not is_on_path[node]:
            path.append(node)
        if node >= 0 and joined_by[path[-1]] >= 0 and not is_on_path[target]:
            while len(path) > 1 and joined_by[path[-2]] >= 0:
                path.pop()
            parent_of[path[-1]] = joined_by[path[-1]]
        rows = np.array(path)
        self.on_path[rows] = True
        beside, touched = self.foreground.around(rows)
        is_new = self.joins[beside] < 0
        self.joins[beside[is_new]] = rows[touched[is_new]]
        self._cover(path)

    def _cover(self, path: list[int]) -> None:
        ball = self.ball
        # Neighbouring balls overlap almost wholly: in thick places a few balls cover what all of them would.
        centers, next_center = [], 0
        for step, node in enumerate(path):
            if (step >= next_center or step == len(path) - 1) and not self.is_served[node]:
                centers.append(node)
                next_center = step + max(1, int(0.5 * ball[node]))
        if not centers:
            centers = path[:1]
        balls = self.index.query_ball_point(self.points[centers], ball[centers], return_sorted=False)
        hits = np.fromiter(itertools.chain.from_iterable(balls), np.int64)
        wide = np.repeat(self.reach[centers], [len(one) for one in balls])
        is_own = self.component[hits] == self.component[path[0]]
        self.covered[hits[is_own]] = True
        np.maximum.at(self.widest, hits[is_own], wide[is_own])
        for center in centers:
            if ball[center] >= LARGE_BALL:
                self.served[self.index.query_ball_point(self.points[center], 0.25 * ball[center])] = True


def _is_thin(edges: tuple[np.ndarray, np.ndarray], reach: np.ndarray) -> np.ndarray:
    """Finds the voxels within two steps of which no voxel is farther than THIN from the boundary; bool (n,)."""
    rows, neighbours = edges
    for _ in range(2):
        widest = reach.copy()
        np.maximum.at(widest, rows, reach[neighbours])
        np.maximum.at(widest, neighbours, reach[rows])
        reach = widest
    return reach <= THIN


def _distance_from_root(points: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Computes the length of the path from every node to its root, (n,) float64, by pointer doubling."""
    has_parent = parents >= 0
    ancestor = np.where(has_parent, parents, np.arange(len(parents)))
    distance = np.linalg.norm(points - points[ancestor], axis=1)
    while True:
        further = ancestor[ancestor]
        if np.array_equal(further, ancestor):
            return distance
        distance = distance + distance[ancestor]
        ancestor = further


def prune_spurs(skeleton: Skeleton, *, min_length: float, radius_factor: float = 1.5) -> Skeleton:
    """Removes end branches shorter than max(min_length, radius_factor * radius at the branch point).

    The shortest go first. At a branch point with several short branches only the shortest goes at a time, since what
    is left may then be one long branch. A component without a branch point stays as it is.
    """
    while True:
        children, lengths, parents = skeleton.num_children, skeleton.edge_lengths, skeleton.parents
        shortest: dict[int, tuple[float, int]] = {}
        branches: dict[int, list[int]] = {}
        for tip in np.flatnonzero((children == 0) & (parents >= 0)).tolist():
            branch, length, node = [], 0.0, tip
            while children[node] < 2 and parents[node] >= 0:
                branch.append(node)
                length += lengths[node]
                node = int(parents[node])
            is_end_of_line = children[node] < 3 and parents[node] < 0  # a root inside a line is no branch point
            if is_end_of_line or length >= max(min_length, radius_factor * skeleton.reach[node]):
                continue
            if (length, tip) < shortest.get(node, (np.inf, -1)):
                shortest[node] = (length, tip)
                branches[node] = branch
        if not branches:
            return skeleton
        keep = np.ones(len(skeleton), bool)
        for branch in branches.values():
            keep[branch] = False
        skeleton = skeleton.subset(keep)


def trim_tips(skeleton: Skeleton, shape: tuple[int, int, int]) -> Skeleton:
    """Shortens end branches by the local radius: paths run to the surface of the mask, center lines end before it.

    A tip on a face of the volume stays, since the neurite goes on there. Every end branch keeps at least one node.
    """
    children, lengths, parents = skeleton.num_children, skeleton.edge_lengths, skeleton.parents
    on_face = np.any((skeleton.points < 1) | (skeleton.points > np.array(shape) - 2), axis=1)
    keep = np.ones(len(skeleton), bool)
    for tip in np.flatnonzero((children == 0) & (parents >= 0) & ~on_face).tolist():
        branch, way, node = [tip], [0.0], tip
        while children[parents[node]] < 2 and parents[parents[node]] >= 0:
            way.append(way[-1] + lengths[node])
            node = int(parents[node])
            branch.append(node)
        arc, reach = np.array(way), skeleton.reach[branch]
        for i in range(len(branch) - 1):
            # Inside the round tip the radius ahead grows as fast as the length passed; behind the tip the length
            # becomes larger.
            ahead = np.median(reach[(arc >= arc[i]) & (arc <= 2 * arc[i] + 3)])
            if arc[i] >= ahead - 0.5:
                break
            keep[branch[i]] = False
    return skeleton.subset(keep)


def smooth(skeleton: Skeleton, foreground: Foreground, *, is_whole: bool = True, rounds: int = 3) -> Skeleton:
    """Smooths the stair steps of the center lines: each inner node becomes the mean of itself and its two neighbours.

    Ends and branch points stay, and a node that was in the foreground never leaves it. If only a part of the
    foreground is given (`is_whole` is False), a node also counts as inside while it is nearer to its old place than
    the background was.
    """
    points, parents = skeleton.points, skeleton.parents
    inner = np.flatnonzero((skeleton.num_children == 1) & (parents >= 0))
    child = np.full(len(skeleton), NO_PARENT)
    child[parents[parents >= 0]] = np.flatnonzero(parents >= 0)
    was_inside = foreground.contains(points)
    for _ in range(rounds):
        moved = points.copy()
        moved[inner] = (points[inner] + points[parents[inner]] + points[child[inner]]) / 3
        is_inside = foreground.contains(moved)
        if not is_whole:
            off = (np.rint(moved) - np.rint(skeleton.points)) * skeleton.spacing
            is_inside |= np.linalg.norm(off, axis=1) < skeleton.reach
        stays = was_inside & ~is_inside
        moved[stays] = points[stays]
        points = moved
    return Skeleton(points, skeleton.reach, parents, skeleton.component, skeleton.spacing)
