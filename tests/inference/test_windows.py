"""Windows hold all that the needed blocks see, and no more rows and columns than their tiles take together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.inference.windows import Window, block_of, windows_of
from neuron_vit3d.model.blocks import BlockGrid, cut


@st.composite
def grids(draw) -> tuple[BlockGrid, np.ndarray]:
    shape = tuple(draw(st.integers(1, 12)) for _ in range(3))
    outputs = draw(st.sampled_from([1, 3]))
    grid = BlockGrid(shape, (4, 5), (1, 2), num_slices=3, num_output_slices=outputs)
    size = len(grid.steps) * len(grid.tile_origins)
    needed = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return grid, np.array(needed).reshape(len(grid.steps), -1)


@given(grids())
def test_blocks_out_of_windows_are_those_of_the_volume(given):
    grid, needed = given
    volume = np.random.default_rng(0).normal(size=(2, *grid.shape)).astype(np.float32)
    windows = windows_of(grid, grid.steps, needed)
    slices = {
        z: Window(torch.from_numpy(volume[:, z : z + 1, rows, columns]), (rows.start, columns.start))
        for z, (rows, columns) in windows.items()
    }
    blocks = iter(cut(volume, grid))
    for step, tiles in zip(grid.steps, needed, strict=True):
        for origin, is_needed in zip(grid.tile_origins, tiles, strict=True):
            block = next(blocks)
            if is_needed:
                seen = [slices[z] for z in grid.slices_of(step)]
                assert np.array_equal(block_of(seen, origin, grid.tile).numpy(), block)


@given(grids())
def test_a_window_has_a_needed_tile_at_each_of_its_sides(given):
    grid, needed = given
    windows = windows_of(grid, grid.steps, needed)
    seen = [z for step, tiles in zip(grid.steps, needed, strict=True) if tiles.any() for z in grid.slices_of(step)]
    assert windows.keys() == set(seen)
    for z, (rows, columns) in windows.items():
        steps = [row for row, step in enumerate(grid.steps) if z in grid.slices_of(step)]
        tiles = np.flatnonzero(needed[steps].any(axis=0))
        ys, xs = zip(*(grid.tile_origins[tile] for tile in tiles), strict=True)
        assert (rows.start, rows.stop) == (min(ys), max(ys) + grid.tile[0])
        assert (columns.start, columns.stop) == (min(xs), max(xs) + grid.tile[1])
