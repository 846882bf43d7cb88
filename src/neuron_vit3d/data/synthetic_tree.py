"""Random neurons as trees: a trunk, arbors of short twigs on it, tapering radii, beads, perhaps a soma.

A branch is a persistent walk: its heading wanders around a preferred direction as an Ornstein-Uhlenbeck process, so it
is smooth over a few voxels and forgets where it came from over tens of them. Growth works in lateral voxels; where
slices are far apart (`anisotropy` > 1) the z axis is squeezed, as it is in such an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuron_vit3d.morphology import Tree


STEP = 2.0  # voxels between neighbouring nodes
SOMA, AXON, DENDRITE = 1, 2, 3  # SWC types
THINNEST = 0.9  # voxels; a thinner tube would fall between the voxels of a mask


@dataclass(frozen=True)
class Habit:
    """How a kind of neuron grows. Pairs are ranges of which one value is drawn per neuron; lengths are voxels."""

    trunk_radius: tuple[float, float]
    wander: tuple[float, float]  # radians by which a heading strays from its preferred direction
    memory: tuple[float, float]  # steps after which a twig's heading is forgotten
    tilt: tuple[float, float]  # typical angle out of the plane, radians
    num_sites: tuple[int, int]  # places where an arbor grows; 0: branches leave anywhere
    site_spread: tuple[float, float]
    branch_length: tuple[float, float]
    max_order: int  # of branching; the trunk has order 0
    beads: tuple[float, float]  # relative swelling of varicosities on thin branches
    density: tuple[float, float]  # tree length per 1000 voxels of the volume (hand-traced neurons: 0.06 to 0.29)
    soma_chance: float
    swc_type: int


HABITS = {
    "arbor": Habit(
        trunk_radius=(1.6, 3.4),
        wander=(0.5, 1.1),
        memory=(2, 9),
        tilt=(0.2, 0.8),
        num_sites=(1, 4),
        site_spread=(12, 40),
        branch_length=(14, 40),
        max_order=5,
        beads=(0.1, 1.0),
        density=(0.15, 0.75),
        soma_chance=0.2,
        swc_type=AXON,
    ),
    "dendrite": Habit(
        trunk_radius=(1.8, 3.8),
        wander=(0.2, 0.5),
        memory=(8, 20),
        tilt=(0.0, 0.4),
        num_sites=(0, 0),
        site_spread=(1, 2),
        branch_length=(70, 150),
        max_order=2,
        beads=(0.0, 0.2),
        density=(0.08, 0.3),
        soma_chance=0.35,
        swc_type=DENDRITE,
    ),
    "axon": Habit(
        trunk_radius=(1.0, 1.9),
        wander=(0.25, 0.7),
        memory=(5, 18),
        tilt=(0.1, 0.5),
        num_sites=(0, 2),
        site_spread=(20, 60),
        branch_length=(40, 110),
        max_order=3,
        beads=(0.0, 0.8),
        density=(0.1, 0.6),
        soma_chance=0.15,
        swc_type=AXON,
    ),
}


def grow_tree(shape: tuple[int, int, int], rng: np.random.Generator, *, kind: str, anisotropy: float = 1.0) -> Tree:
    """Grow one random neuron inside a volume.

    Args:
        shape: (z, y, x) of the volume.
        rng: where the randomness comes from.
        kind: "arbor" (a trunk with tufts of short twigs), "dendrite" (few, thick, smooth) or "axon" (long and thin).
        anisotropy: slice distance over pixel size; z runs that much slower.

    Returns:
        Tree in voxels with one root, parents before children, every node inside the volume.
    """
    return grow_habit(shape, rng, HABITS[kind], anisotropy)


def grow_habit(
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    habit: Habit,
    anisotropy: float = 1.0,
    *,
    trunk_radius: float | None = None,
) -> Tree:
    """Grow one random neuron of any habit, as `grow_tree` does; `trunk_radius` replaces the one that is drawn."""
    growth = _Growth(shape, rng, habit, anisotropy)
    if trunk_radius is not None:
        growth.trunk_radius = trunk_radius
    return growth.grow()


class _Growth:
    """A tree while it grows: one array per branch, joined at the end."""

    def __init__(self, shape: tuple[int, int, int], rng: np.random.Generator, habit: Habit, anisotropy: float) -> None:
        self.rng, self.habit, self.anisotropy = rng, habit, anisotropy
        self.extent = np.array(shape[::-1], dtype=np.float64) - 1  # the largest x, y, z
        self.wander = rng.uniform(*habit.wander)
        self.tilt = rng.uniform(*habit.tilt)
        self.beads = rng.uniform(*habit.beads)
        self.branch_length = rng.uniform(*habit.branch_length)
        self.memory = 20.0  # the trunk is straighter than its twigs
        # A thick tube in a small volume would fill it.
        self.trunk_radius = min(rng.uniform(*habit.trunk_radius), max(THINNEST, min(shape[1:]) / 20))
        self.size = 0
        self.xyz: list[np.ndarray] = []
        self.radii: list[np.ndarray] = []
        self.parents: list[np.ndarray] = []
        self.orders: list[np.ndarray] = []
        self.headings: list[np.ndarray] = []

    def grow(self) -> Tree:
        rng, habit = self.rng, self.habit
        target = rng.uniform(*habit.density) * 1e-3 * np.prod(self.extent + 1)
        target = max(target, 1.2 * self.extent.max())
        soma_radius = self._plant_trunk()
        num_sites = rng.integers(habit.num_sites[0], habit.num_sites[1] + 1)
        sites = self._points()[rng.integers(0, self.size, size=num_sites)]
        spread = rng.uniform(*habit.site_spread)
        self.memory = rng.uniform(*habit.memory)
        self.axis = rng.uniform(0, 2 * np.pi)  # arbors are drawn out along one direction
        self.axis_pull = rng.uniform(0, 1) if num_sites else 0.0
        for _ in range(400):
            if self.size * STEP >= target:
                break
            self._branch_off(sites, spread)
        types = np.full(self.size, habit.swc_type)
        if soma_radius:
            types[0] = SOMA
        parents = np.concatenate(self.parents)
        return Tree.from_parents(self._points(), np.concatenate(self.radii), parents, types=types)

    def _points(self) -> np.ndarray:
        return np.concatenate(self.xyz)

    def _plant_trunk(self) -> float:
        """Grow the trunk, from a soma or from near a border. Returns the soma's radius, 0.0 without one."""
        rng, extent = self.rng, self.extent
        soma_radius = 0.0
        if rng.random() < self.habit.soma_chance:
            soma_radius = min(rng.uniform(5, 12), 0.3 * extent[2], 0.12 * extent[:2].min())
            soma_radius = soma_radius if soma_radius > 1.5 * self.trunk_radius else 0.0
        trials = []
        for _ in range(8):  # of a few trials the longest, lest it leaves the volume at once
            if soma_radius:
                place = rng.uniform(0.15, 0.85, size=3)
                azimuth = rng.uniform(0, 2 * np.pi)
            else:
                azimuth = rng.uniform(0, 2 * np.pi)
                place = np.array([0.5 - 0.45 * np.cos(azimuth), 0.5 - 0.45 * np.sin(azimuth), 0.5])
                place += rng.normal(0, [0.12, 0.12, 0.18])
            start = np.clip(place, 0.03, 0.97) * extent
            path = self._walk(start, azimuth, rng.normal(0, 0.3 * self.tilt), rng.uniform(0.6, 1.5) * extent[:2].max())
            trials.append((start, path))
        start, (points, headings) = max(trials, key=lambda trial: len(trial[1][0]))  # the first of equals
        points, headings = np.vstack([start, points]), np.concatenate([headings[:1], headings])
        radii = self._radii(self.trunk_radius, len(points), taper=rng.uniform(0.5, 1.0))
        if soma_radius:
            # Pear-shaped: a radius that fell faster than the distance grows would leave its surface unclear.
            along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
            radii = np.maximum(radii, soma_radius - rng.uniform(0.7, 0.95) * along)
            radii[0] = soma_radius
        self._add(points, radii, headings, parent=-1, order=0)
        return soma_radius

    def _branch_off(self, sites: np.ndarray, spread: float) -> None:
        """Grow one branch from a random node, near a site if there are any."""
        rng = self.rng
        orders, points = np.concatenate(self.orders), self._points()
        weight = (orders < self.habit.max_order).astype(np.float64)
        if len(sites):
            away = points[:, None] - sites
            along = away[..., 0] * np.cos(self.axis) + away[..., 1] * np.sin(self.axis)
            distance = ((away**2).sum(axis=2) - 0.8 * self.axis_pull * along**2).min(axis=1)
            weight *= np.exp(-0.5 * distance / spread**2) + 0.004
            weight[orders > 0] *= 2  # tufts grow outwards rather than make the trunk a brush
        weight[0] = 1e-6  # a soma's first branch is its trunk
        node = int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()))
        node = min(node, self.size - 1)
        heading = np.concatenate(self.headings)[node] + rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        if rng.random() < self.axis_pull:
            heading = self.axis + np.pi * rng.integers(0, 2) + rng.normal(0, 0.5)
        order = int(orders[node]) + 1
        length = self.branch_length * rng.gamma(2.0, 0.5) * 0.8 ** (order - 1) + 4
        path, headings = self._walk(points[node], heading, rng.normal(0, 1.3 * self.tilt), length)
        if len(path) < 3:
            return
        parent_radius = min(np.concatenate(self.radii)[node], self.trunk_radius)
        radius = np.clip(parent_radius * rng.uniform(0.4, 0.85), THINNEST, 3.0)
        radii = self._radii(radius, len(path), taper=rng.uniform(0.5, 0.9))
        if rng.random() < 0.35 * self.beads + 0.1:  # a bouton at the tip
            radii[-1:] *= rng.uniform(1.3, 1.9)
        self._add(path, np.maximum(radii, THINNEST), headings, parent=node, order=order)

    def _walk(
        self, start: np.ndarray, azimuth: float, elevation: float, length: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Walks from `start` until the walk leaves the volume.

        Returns the points (n, 3) x y z after `start`, and their headings (n,) in the plane.
        """
        steps = max(2, int(length / STEP))
        headings = azimuth + self.wander * self._wandering(steps) + 0.12 * self.rng.standard_normal(steps)
        slopes = elevation + self.tilt * self._wandering(steps)
        moves = np.stack(
            [np.cos(slopes) * np.cos(headings), np.cos(slopes) * np.sin(headings), np.sin(slopes)], axis=1
        )
        moves[:, 2] /= self.anisotropy
        points = start + STEP * np.cumsum(moves, axis=0)
        # Volumes are flat: a walk that meets the first or last slice is turned back, one that meets a side ends.
        depth = max(self.extent[2], 1e-9)
        points[:, 2] = depth - np.abs(depth - np.mod(points[:, 2], 2 * depth))
        outside = ((points[:, :2] < 0) | (points[:, :2] > self.extent[:2])).any(axis=1)
        inside = int(np.argmax(outside)) if outside.any() else steps
        return points[:inside], headings[:inside]

    def _wandering(self, steps: int) -> np.ndarray:
        """(steps,) an Ornstein-Uhlenbeck path from 0, of unit variance in the long run."""
        from scipy.signal import lfilter

        keep = np.exp(-1 / self.memory)
        return lfilter([np.sqrt(1 - keep**2)], [1, -keep], self.rng.standard_normal(steps))

    def _radii(self, radius: float, count: int, *, taper: float) -> np.ndarray:
        """(count,) radii that fall from `radius` to `taper` of it, jitter, and swell into beads where thin."""
        radii = radius * np.linspace(1, taper, count) * np.exp(0.12 * self._wandering(count))
        if radius < 2.3 and self.beads > 0.1:
            spacing = self.rng.uniform(7, 18) / STEP
            phase = np.cumsum(self.rng.uniform(0.6, 1.4, size=count)) / spacing
            radii *= 1 + self.beads * np.maximum(0, np.sin(2 * np.pi * (phase + self.rng.random()))) ** 4
        return np.maximum(radii, THINNEST)

    def _add(self, points: np.ndarray, radii: np.ndarray, headings: np.ndarray, *, parent: int, order: int) -> None:
        parents = np.arange(self.size - 1, self.size - 1 + len(points))
        parents[0] = parent
        self.xyz.append(points)
        self.radii.append(radii)
        self.parents.append(parents)
        self.orders.append(np.full(len(points), order))
        self.headings.append(headings)
        self.size += len(points)
