"""Measures of a tree: lengths, branches, orders, tortuosity, radii, extents and Sholl crossings.

They are computed here, and tests and `benchmarks/measures.py` compare them with neurom's. neurom itself cannot be what
computes them: it leaves out the edges to the soma, knows no fragments without one, and is no dependency.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from .branches import find_branches
from .critical_nodes import critical_nodes
from .swc import SWCError, Tree


# Distance of the spheres, in micrometres or voxels: that of neurom's `sholl_frequency`, and usual in the literature.
SHOLL_STEP = 10.0
_MOST_SPHERES = 1_000_000
SOMA = 1  # SWC type

MEASURED_BRANCH = np.dtype(
    [("start", np.int64), ("end", np.int64), ("order", np.int64), ("strahler", np.int64)]
    + [(name, np.float64) for name in ("length", "distance", "tortuosity", "mean_radius")]
)
SHOLL = np.dtype([("radius", np.float64), ("crossings", np.int64), ("crossings_2d", np.int64)])


@dataclass(frozen=True, eq=False)
class Measures:
    """What `measure` returns.

    Attributes:
        figures: name -> number, and `unit`, which lengths are in: "um" or "voxels".
        branches: (b,) with `start` and `end` (ids of nodes), `order`, `strahler`, `length`, `distance` (of the ends,
            straight), `tortuosity` (length over distance; NaN where the ends coincide) and `mean_radius`.
        sholl: (s,) with `radius`, `crossings` of the sphere in 3D, and `crossings_2d` of the circle in the projection
            along z.
    """

    figures: dict[str, Any]
    branches: np.recarray
    sholl: np.recarray


def measure(
    tree: Tree, *, voxel_size: tuple[float, float, float] | None = None, sholl_step: float = SHOLL_STEP
) -> Measures:
    """Measures a tree, in micrometres where the voxel size is known, else in voxels.

    A branch is a path between roots, branch points and tips; one that leaves a root has order 0, one that leaves a
    branch has one order more (centrifugal, as neurom's). Strahler orders count from the tips: 1 there, and one more
    where two branches of the highest order meet (Strahler 1957). Branch points have three edges or more and tips have
    one, so that the root's place does not matter for them. Points listed twice make edges without length, which change
    no figure but `edges_without_length`.

    A Sholl crossing (Sholl 1953) is an edge with one end nearer to the center than the sphere, and the other on it or
    farther; so a node on the sphere is counted once. The center is the mean of the soma's nodes (type 1), else the
    first root.

    Args:
        tree: coordinates and radii in voxels.
        voxel_size: z, y, x in micrometres. Radii are taken to be in units of the smallest side, as `trace` has them.
        sholl_step: distance of the spheres, in micrometres, or in voxels without a voxel size.

    Raises:
        SWCError: the tree has no edge, a position or radius that is not finite, or is so large that it has more than a
            million spheres.
        ValueError: a side of the voxel size or the step is no positive number.
    """
    sides = np.ones(3) if voxel_size is None else np.asarray(voxel_size, float)
    if sides.shape != (3,) or not (np.isfinite(sides).all() and (sides > 0).all()):
        raise ValueError(f"voxel_size must be three positive numbers (z, y, x) in micrometres, got {voxel_size}")
    if not (sholl_step > 0 and np.isfinite(sholl_step)):
        raise ValueError(f"sholl_step must be a positive number, got {sholl_step}")
    if not len(tree.edges):
        raise SWCError(f"expected a tree with edges, found {len(tree)} node(s) without any")
    if not (np.isfinite(tree.xyz).all() and np.isfinite(tree.radii).all()):
        raise SWCError("cannot measure a tree with NaN or infinite positions or radii")
    tree = dataclasses.replace(tree, xyz=tree.xyz * sides[::-1], radii=tree.radii * sides.min())
    branches = _branches(tree)
    center = sholl_center(tree)
    sholl = sholl_crossings(tree, center, sholl_step)
    figures = {"unit": "voxels" if voxel_size is None else "um"}
    figures |= _shape(tree) | _of_branches(branches) | _of_edges(tree) | _distances(tree, center)
    return Measures(figures, branches, sholl) if not len(sholl) else _with_sholl(figures, branches, sholl, sholl_step)


def sholl_center(tree: Tree) -> np.ndarray:
    """The mean of the soma's nodes, or else the first root: (3,) x y z."""
    soma = tree.xyz[tree.types == SOMA]
    return soma.mean(axis=0) if len(soma) else tree.xyz[tree.roots[0]]


def sholl_crossings(tree: Tree, center: np.ndarray, step: float = SHOLL_STEP) -> np.recarray:
    """Counts the edges that cross spheres around a center, and circles in the projection along z.

    Args:
        tree: positions and `center` (3,), x y z, in one unit.
        center: the middle of the spheres.
        step: the radius of the first sphere, and the distance of each to the next.

    Returns:
        As [`Measures.sholl`]: all spheres up to the farthest node.

    Raises:
        SWCError: there are more than a million spheres.
    """
    away = tree.xyz - center
    distances = np.linalg.norm(away, axis=1), np.linalg.norm(away[:, :2], axis=1)
    count = distances[0].max() / step
    if count > _MOST_SPHERES:
        raise SWCError(f"expected at most {_MOST_SPHERES} spheres, got {count:.0f}: choose a larger Sholl step")
    found = np.zeros(int(count), SHOLL).view(np.recarray)
    found.radius = step * np.arange(1, len(found) + 1)
    for name, distance in zip(("crossings", "crossings_2d"), distances, strict=True):
        ends = np.sort(distance[tree.edges], axis=1)
        first, after = np.searchsorted(found.radius, ends, side="right").T
        change = np.bincount(first, minlength=len(found) + 1) - np.bincount(after, minlength=len(found) + 1)
        found[name] = np.cumsum(change)[: len(found)]
    return found


def _with_sholl(figures: dict, branches: np.recarray, sholl: np.recarray, step: float) -> Measures:
    found = {"sholl_step": step}
    for kind in ("", "_2d"):
        crossings = sholl[f"crossings{kind}"]
        found |= {
            f"sholl_max{kind}": int(crossings.max()),
            f"sholl_max_radius{kind}": float(sholl.radius[crossings.argmax()]),
        }
    return Measures(figures | found, branches, sholl)


def _shape(tree: Tree) -> dict[str, Any]:
    branch_points, tips = critical_nodes(tree)
    width, height, depth = np.ptp(tree.xyz, axis=0).tolist()
    return {
        "nodes": len(tree),
        "trees": tree.num_components,
        "branch_points": len(branch_points),
        "tips": len(tips),
        "length": tree.length,
        "width": width,
        "height": height,
        "depth": depth,
    }


def _of_branches(branches: np.recarray) -> dict[str, Any]:
    bent = branches.tortuosity[np.isfinite(branches.tortuosity)]
    return {
        "branches": len(branches),
        "max_order": int(branches.order.max()),
        "strahler": int(branches.strahler.max()),
        "branch_length_mean": float(branches.length.mean()),
        "branch_length_median": float(np.median(branches.length)),
        "branch_length_max": float(branches.length.max()),
        "tortuosity_mean": float(bent.mean()) if len(bent) else np.nan,
        "tortuosity_median": float(np.median(bent)) if len(bent) else np.nan,
    }


def _of_edges(tree: Tree) -> dict[str, Any]:
    """Radii weighted by length; surface and volume of the edges as truncated cones, without their ends."""
    child, parent = tree.edges.T
    length = np.linalg.norm(tree.xyz[child] - tree.xyz[parent], axis=1)
    one, two = tree.radii[child], tree.radii[parent]
    total = length.sum()
    return {
        "edges_without_length": int((length == 0).sum()),
        "radius_mean": float(((one + two) / 2 * length).sum() / total) if total else float(tree.radii.mean()),
        "radius_min": float(tree.radii.min()),
        "radius_max": float(tree.radii.max()),
        "surface": float((np.pi * (one + two) * np.hypot(length, one - two)).sum()),
        "volume": float((np.pi / 3 * length * (one**2 + one * two + two**2)).sum()),
    }


def _distances(tree: Tree, center: np.ndarray) -> dict[str, float]:
    parent = tree.parent_index
    above = np.where(parent < 0, np.arange(len(tree)), parent)
    to_root = _sums_to_root(parent, np.linalg.norm(tree.xyz - tree.xyz[above], axis=1))
    return {
        "max_path_distance": float(to_root.max()),
        "max_radial_distance": float(np.linalg.norm(tree.xyz - center, axis=1).max()),
    }


def _branches(tree: Tree) -> np.recarray:
    """The branches with edges; a root alone is none."""
    found = find_branches(tree)[0]
    orders = _sums_to_root(found.parent_branch, np.ones(len(found), np.int64)) - 1
    result = np.zeros(len(found), MEASURED_BRANCH).view(np.recarray)
    for name in ("start", "end", "length", "mean_radius"):
        result[name] = found[name]
    result.order, result.strahler = orders, _strahler(found.parent_branch, orders)
    order_of_ids = np.argsort(tree.ids)
    rows = order_of_ids[np.searchsorted(tree.ids, np.stack([found.start, found.end]), sorter=order_of_ids)]
    distance = np.linalg.norm(tree.xyz[rows[0]] - tree.xyz[rows[1]], axis=1)
    result.distance = distance
    result.tortuosity = np.where(distance > 0, found["length"] / np.where(distance > 0, distance, 1.0), np.nan)
    return result[found.start != found.end]


def _strahler(parent: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Strahler orders (b,) of branches, from the outermost order inwards."""
    strahler = np.ones(len(parent), np.int64)
    highest, times = np.zeros(len(parent), np.int64), np.zeros(len(parent), np.int64)
    by_order = np.argsort(order, kind="stable")
    starts = np.searchsorted(order[by_order], np.arange(order.max() + 2))
    for level in range(order.max(), -1, -1):
        rows = by_order[starts[level] : starts[level + 1]]
        led_on = rows[highest[rows] > 0]
        strahler[led_on] = highest[led_on] + (times[led_on] > 1)
        rows = rows[parent[rows] >= 0]
        np.maximum.at(highest, parent[rows], strahler[rows])
        np.add.at(times, parent[rows], strahler[rows] == highest[parent[rows]])
    return strahler


def _sums_to_root(parent: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums the values (n,) of each row and of all rows above it, by pointer doubling."""
    total, above = values.copy(), parent.copy()
    while True:
        open_rows = np.flatnonzero(above >= 0)
        if not open_rows.size:
            return total
        total[open_rows] += total[above[open_rows]]
        above[open_rows] = above[above[open_rows]]
