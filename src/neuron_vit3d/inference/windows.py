"""Finds the part of each slice that is needed: where most tiles are skipped, most of a slice is not needed."""

from dataclasses import dataclass

import numpy as np
import torch

from ..model.blocks import BlockGrid


@dataclass(frozen=True)
class Window:
    """A part of a slice, (channels, 1, height, width), whose first pixel lies at `origin` (y, x) of the plane."""

    voxels: torch.Tensor
    origin: tuple[int, int]

    def tile(self, origin: tuple[int, int], tile: tuple[int, int]) -> torch.Tensor:
        """Returns the tile (height, width) at an origin (y, x) of the plane."""
        y, x = (int(place - start) for place, start in zip(origin, self.origin, strict=True))
        return self.voxels[:, :, y : y + tile[0], x : x + tile[1]]


def windows_of(grid: BlockGrid, steps: list[int], needed: np.ndarray) -> dict[int, tuple[slice, slice]]:
    """Finds, for each slice that a needed block reads, the rows and columns that hold the tiles of all needed blocks.

    Args:
        grid: the blocks.
        steps: steps of the grid.
        needed: (steps, tiles) bool.
    """
    corners = np.array(grid.tile_origins)
    windows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for step, tiles in zip(steps, needed, strict=True):
        if not tiles.any():
            continue
        first, last = corners[tiles].min(axis=0), corners[tiles].max(axis=0) + grid.tile
        for z in grid.slices_of(step).tolist():
            of_others = windows.get(z, (first, last))
            windows[z] = np.minimum(first, of_others[0]), np.maximum(last, of_others[1])
    ends = {z: np.stack(both, axis=1).tolist() for z, both in windows.items()}  # for y and x, first and last
    return {z: (slice(*y), slice(*x)) for z, (y, x) in ends.items()}


def block_of(slices: list[Window], origin: tuple[int, int], tile: tuple[int, int]) -> torch.Tensor:
    """Returns the block (channels, slices, height, width) of the tile at an origin (y, x) of the plane."""
    return torch.cat([one.tile(origin, tile) for one in slices], dim=1)
