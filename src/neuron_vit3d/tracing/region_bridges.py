"""Bridges gaps over weak signal between components that were found region by region.

Weak signal is searched only where lines of several components come near one another. A path between two of them is
found in the region that holds most of it, if the path is no longer than the halos allow. The cheapest paths over all
regions are taken.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..morphology.graphs import sparse_graph
from .center_lines import Rules
from .foreground import Foreground
from .pieces import Box, Pieces, Window, look_through, with_halo
from .weak_bridges import weak_bridges


MAX_HALO = 64


@dataclass(frozen=True, eq=False)
class _Bridge:
    """A path from a line of one component to a line of another: voxels z y x in the volume (m, 3).

    reach and scores are (m,); the first `num_weak` voxels belong to no component.
    """

    cost: float
    num_weak: int
    components: tuple[int, int]
    voxels: np.ndarray
    reach: np.ndarray
    scores: np.ndarray


def bridge_regions(
    source: Pieces,
    regions: Iterable[Box],
    lines: Foreground,
    reach: np.ndarray,
    scores: np.ndarray,
    sizes: np.ndarray,
    rules: Rules,
    most: int,
) -> tuple[Foreground, np.ndarray, np.ndarray, np.ndarray]:
    """Adds bridges to lines; returns the lines with them, their reach and scores, and the sizes of the components.

    lines: n voxels of center lines. sizes: (k,) sizes of `lines.components()`. most: how many weak voxels of a region
    are searched at most.
    """
    component = lines.components()
    if component.max() == 0:
        return lines, reach, scores, sizes
    found = []
    halo = [min(math.ceil(rules.max_weak_cost / 2), MAX_HALO) + more for more in rules.smoothing.halo]
    for region in regions:
        around, _ = with_halo(region, halo, lines.shape)
        near = _rows_in(lines, around)
        if len(near) and (component[near] != component[near[0]]).any():
            found += _bridges_in(source, around, lines.voxels[near], component[near], rules, most)
    chosen = _cheapest_forest(found, len(sizes))
    if not chosen:
        return lines, reach, scores, sizes
    voxels = np.concatenate([lines.voxels, *(one.voxels for one in chosen)])
    indices, first, row = np.unique(
        np.ravel_multi_index(voxels.T, lines.shape), return_index=True, return_inverse=True
    )
    bridged = Foreground.from_indices(indices, lines.shape, rules.spacing)
    new_sizes = np.zeros(bridged.components().max() + 1, np.int64)
    of_old = np.empty(len(sizes), np.int64)
    of_old[component] = bridged.components()[row[: len(lines)]]
    np.add.at(new_sizes, of_old, sizes)
    for one in chosen:
        new_sizes[of_old[one.components[0]]] += one.num_weak
    reach = np.concatenate([reach, *(one.reach for one in chosen)])[first]
    scores = np.concatenate([scores, *(one.scores for one in chosen)])[first]
    return bridged, reach, scores, new_sizes


def _rows_in(lines: Foreground, box: Box) -> np.ndarray:
    begin, end = np.searchsorted(lines.voxels[:, 0], [box[0].start, box[0].stop])
    voxels = lines.voxels[begin:end]
    low, high = (np.array([getattr(one, side) for one in box]) for side in ("start", "stop"))
    return begin + np.flatnonzero(np.all((voxels >= low) & (voxels < high), axis=1))


def _bridges_in(
    source: Pieces, box: Box, line_voxels: np.ndarray, line_component: np.ndarray, rules: Rules, most: int
) -> list[_Bridge]:
    """Finds the bridges within a box between the components (l,) of these line voxels (l, 3)."""
    signal, scores, is_strong, _ = look_through(Window(source, box), rules.levels, rules.smoothing, most=most).signal(
        rules.spacing
    )
    corner = np.array([one.start for one in box])
    strong = signal.subset(is_strong)
    if not len(strong):
        return []  # too much weak signal
    is_here = strong.contains(line_voxels - corner)  # smoothing differs at the very edge of the box
    on_line = strong.rows_of(line_voxels[is_here] - corner)
    names, numbers = np.unique(line_component[is_here], return_inverse=True)
    if len(names) < 2:
        return []
    part = strong.components()
    of_part = np.full(part.max() + 1, -1)
    of_part[part[on_line]] = numbers
    component = np.full(len(signal), -1)
    component[is_strong] = of_part[part]
    bridges = weak_bridges(signal, scores.astype(np.float64), rules.levels.strong, component, rules.max_weak_cost)
    if not bridges:
        return []
    to_line, reach = _ways_to_lines(strong, on_line), strong.boundary_distance()
    in_signal, in_strong = np.flatnonzero(is_strong), np.cumsum(is_strong) - 1
    found = []
    for bridge in bridges:
        ways = []
        for end in bridge.ends:
            node = int(in_strong[end])
            while node >= 0:
                ways.append(node)
                node = int(to_line[node])
        rows = np.concatenate([np.array(bridge.rows, np.int64), in_signal[ways]])
        reach_along = np.concatenate([np.ones(len(bridge.rows)), reach[ways]])
        first, second = (int(names[one]) for one in bridge.components)
        found.append(
            _Bridge(
                bridge.cost, len(bridge.rows), (first, second), signal.voxels[rows] + corner, reach_along, scores[rows]
            )
        )
    return found


def _ways_to_lines(strong: Foreground, on_line: np.ndarray) -> np.ndarray:
    """Finds the next voxel on the shortest path to a voxel of a line, (n,); negative where there is none."""
    from scipy.sparse.csgraph import dijkstra

    rows, neighbours, lengths = strong.edges()
    graph = sparse_graph((rows, neighbours), len(strong), lengths)
    return dijkstra(graph, directed=False, indices=on_line, min_only=True, return_predecessors=True)[1]


def _cheapest_forest(bridges: list[_Bridge], num_components: int) -> list[_Bridge]:
    """Chooses the cheapest bridges that join the components without a loop (Kruskal's method)."""
    root = list(range(num_components))

    def root_of(one: int) -> int:
        while root[one] != one:
            root[one] = root[root[one]]
            one = root[one]
        return one

    chosen = []
    for bridge in sorted(bridges, key=lambda one: one.cost):
        first, second = map(root_of, bridge.components)
        if first != second:
            root[first] = second
            chosen.append(bridge)
    return chosen
