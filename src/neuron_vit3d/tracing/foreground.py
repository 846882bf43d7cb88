"""The foreground voxels of a mask: their neighbours and their distance to the background.

Voxels are rows of sorted arrays and are found by binary search, so that work and memory grow with the foreground, not
with the volume.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from ..morphology.geometry import repeated
from ..morphology.graphs import sparse_graph


_AROUND = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]


@dataclass(frozen=True, eq=False)
class Foreground:
    """The foreground voxels of a mask, in C order. Lengths are in units of the smallest voxel side.

    voxels: (n, 3) int32, z y x.
    keys: (n,) int64, ascending, flat indices into a volume padded by one voxel on each side.
    strides: the strides (z, y) of these flat indices.
    spacing: (3,) float64, voxel sides z y x, the smallest being 1.
    shape: of the volume, z y x.
    """

    voxels: np.ndarray
    keys: np.ndarray
    strides: tuple[int, int]
    spacing: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def from_mask(cls, mask: np.ndarray, spacing: np.ndarray) -> "Foreground":
        return cls.from_indices(np.flatnonzero(mask), mask.shape, spacing)

    @classmethod
    def from_indices(cls, indices: np.ndarray, shape: tuple[int, int, int], spacing: np.ndarray) -> "Foreground":
        """Makes a foreground from flat indices into the volume, ascending."""
        strides = ((shape[1] + 2) * (shape[2] + 2), shape[2] + 2)
        z, y, x = np.unravel_index(indices, shape)
        keys = (z + 1) * strides[0] + (y + 1) * strides[1] + (x + 1)
        return cls(np.stack([z, y, x], axis=1).astype(np.int32), keys, strides, spacing, shape)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def points(self) -> np.ndarray:
        """The voxels' centers z y x in units of the smallest voxel side, (n, 3) float64."""
        return self.voxels * self.spacing

    def subset(self, keep: np.ndarray) -> "Foreground":
        """Keeps the voxels where `keep`, a bool (n,) array, is set."""
        return Foreground(self.voxels[keep], self.keys[keep], self.strides, self.spacing, self.shape)

    def filled(self, indices: np.ndarray) -> tuple["Foreground", np.ndarray]:
        """Adds further voxels to the foreground, given by flat indices into the volume (m,).

        Returns the new foreground and, for each of its voxels, the row that it has in this one: -1 for new voxels.
        """
        own = np.ravel_multi_index(self.voxels.T, self.shape)
        indices = np.concatenate([own, indices])
        order = np.argsort(indices, kind="stable")
        rows = np.where(order < len(self), order, -1)
        return Foreground.from_indices(indices[order], self.shape, self.spacing), rows

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Tells whether the voxel around each point (m, 3; z y x in voxels) is foreground, bool (m,)."""
        keys = self._keys_of(np.rint(points))
        return self.keys[np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)] == keys

    def rows_of(self, voxels: np.ndarray) -> np.ndarray:
        """Finds the rows (m,) int64 of voxels (m, 3; z y x) that are foreground."""
        return np.searchsorted(self.keys, self._keys_of(voxels))

    def _keys_of(self, voxels: np.ndarray) -> np.ndarray:
        z, y, x = voxels.astype(np.int64).T + 1
        return z * self.strides[0] + y * self.strides[1] + x

    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lists the pairs of voxels that touch by a face, an edge or a corner, every pair once.

        Returns the rows of the two voxels, and the distance between them, each (m,).
        """
        rows, neighbours, lengths = [], [], []

        def add(found: np.ndarray, at: np.ndarray, dz: int, dy: int, dx: int) -> None:
            source = np.flatnonzero(found).astype(np.int32)
            rows.append(source)
            neighbours.append(at[source].astype(np.int32))
            lengths.append(np.full(len(source), np.linalg.norm(np.multiply((dz, dy, dx), self.spacing)), np.float32))

        n = len(self)
        following = np.arange(1, n + 1)
        add(np.append(np.diff(self.keys) == 1, False), following, 0, 0, 1)
        for dz, dy in ((0, 1), (1, -1), (1, 0), (1, 1)):
            # Three neighbours lie side by side along x, so one binary search finds the first, and the others come
            # right after it.
            target = self.keys + (dz * self.strides[0] + dy * self.strides[1] - 1)
            at = np.searchsorted(self.keys, target)
            for dx in (-1, 0, 1):
                found = self.keys[np.minimum(at, n - 1)] == target
                add(found, at, dz, dy, dx)
                at = at + found
                target = target + 1
        return np.concatenate(rows), np.concatenate(neighbours), np.concatenate(lengths)

    def around(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the voxels that touch those of `rows` (m,) by a face, an edge or a corner.

        Returns their rows (k,), and (k,) which of the m voxels they touch. A voxel that touches several is listed once
        for each.
        """
        steps = np.array([z * self.strides[0] + y * self.strides[1] + x for z, y, x in _AROUND])
        keys = self.keys[rows][:, None] + steps
        at = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        touched, _ = found = np.nonzero(self.keys[at] == keys)
        return at[found], touched

    def components(self) -> np.ndarray:
        """Numbers the connected components of the voxels (26 neighbours): (n,) int32, from 0, by their first voxels.

        Works on runs of voxels along x, of which there are several times fewer than voxels.
        """
        from scipy.sparse.csgraph import connected_components

        first = np.flatnonzero(np.diff(self.keys, prepend=-2) != 1)
        lengths = np.diff(np.append(first, len(self)))
        begin = self.keys[first]
        end = begin + lengths - 1
        runs: list[np.ndarray] = []
        touched: list[np.ndarray] = []
        for dz, dy in ((0, 1), (1, -1), (1, 0), (1, 1)):
            shift = dz * self.strides[0] + dy * self.strides[1]
            low = np.searchsorted(end, begin + (shift - 1))
            high = np.searchsorted(begin, end + (shift + 1), side="right")
            run, number = repeated(high - low)
            runs.append(run)
            touched.append(low[run] + number)
        graph = sparse_graph((np.concatenate(runs), np.concatenate(touched)), len(first))
        return np.repeat(connected_components(graph, directed=False)[1], lengths)

    def boundary_distance(self) -> np.ndarray:
        """Computes the Euclidean distance from each voxel's center to the nearest background voxel's: (n,) float64,
        exact.

        It works along one axis after the other, like the method of Saito and Toriwaki (Pattern Recognition 1994), but
        on the foreground alone. Nothing is known beyond the volume's faces, so they do not count as background: a
        neurite that a face cuts is not thinner there. If the volume has no background at all, its faces count as
        background.
        """
        is_full = len(self) == np.prod(self.shape)
        squared = self._squared_distance_along_row(end_at_faces=is_full)
        squared = self._spread(squared, axis=1, end_at_faces=is_full)
        return np.sqrt(self._spread(squared, axis=0, end_at_faces=is_full))

    def _squared_distance_along_row(self, *, end_at_faces: bool) -> np.ndarray:
        """Computes the squared distance along x to the background, (n,) float64; infinite where the row has none."""
        breaks = np.flatnonzero(np.diff(self.keys) != 1) + 1
        first = np.concatenate([[0], breaks])
        lengths = np.diff(np.append(first, len(self)))
        to_left = np.arange(1, len(self) + 1.0) - np.repeat(first, lengths)
        to_right = np.repeat(lengths, lengths) - to_left + 1
        if not end_at_faces:
            x_left = self.voxels[first, 2]
            to_left[np.repeat(x_left == 0, lengths)] = np.inf
            to_right[np.repeat(x_left + lengths == self.shape[2], lengths)] = np.inf
        return (np.minimum(to_left, to_right) * self.spacing[2]) ** 2

    def _spread(self, squared: np.ndarray, *, axis: int, end_at_faces: bool) -> np.ndarray:
        """Computes, (n,) float64, the min over all steps k along the axis of squared[k steps away] + (k * voxel
        side)^2."""
        spread = squared.copy()
        for sign in (-1, 1):
            active, k = np.arange(len(self)), 0
            while len(active):
                k += 1
                step = (k * self.spacing[axis]) ** 2
                active = active[spread[active] > step]  # the others cannot get smaller, now or later
                at = self.voxels[active, axis] + sign * k
                if not end_at_faces:
                    active = active[(at >= 0) & (at < self.shape[axis])]
                target = self.keys[active] + sign * k * self.strides[axis]
                row = np.minimum(np.searchsorted(self.keys, target), len(self) - 1)
                is_foreground = self.keys[row] == target
                there = np.where(is_foreground, squared[row], 0.0)
                spread[active] = np.minimum(spread[active], there + step)
                active = active[is_foreground]
        return spread
