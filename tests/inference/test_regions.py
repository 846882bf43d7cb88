"""The regions of a large volume: every voxel is written once, no tile is looked at twice, and none reaches outside."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.inference import regions as regions_module
from neuron_vit3d.inference.regions import RegionGrid
from neuron_vit3d.model.blocks import BlockGrid, cut, stitch


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(regions_module, "_SLICES", 6)
    monkeypatch.setattr(regions_module, "_PIXELS", 24)
    monkeypatch.setattr(regions_module, "_CHUNK_SLICES", 4)
    monkeypatch.setattr(regions_module, "_CHUNK_PIXELS", 10)


@st.composite
def grids(draw):
    tile = draw(st.integers(2, 16))
    outputs = draw(st.sampled_from([1, 2, 3, 5]))
    overlap = draw(st.integers(0, tile - 1))
    whole = BlockGrid(
        tuple(draw(st.integers(1, limit)) for limit in (20, 60, 60)),
        tile=(tile, draw(st.integers(overlap + 1, 20))),
        overlap=(overlap, overlap),
        num_slices=outputs + draw(st.integers(0, 4)),
        num_output_slices=outputs,
        slice_overlap=draw(st.integers(0, outputs - 1)),
    )
    return RegionGrid(whole)


@settings(max_examples=150, deadline=None)
@given(grids())
def test_cores_cover_the_volume_once_and_lie_in_what_is_labelled_and_seen(grid):
    count = np.zeros(grid.shape, int)
    for region in grid:
        count[region.core] += 1
        for core, labelled, seen, inner, side, length in zip(
            region.core, region.labelled, region.seen, region.inner, grid.side, grid.shape, strict=True
        ):
            assert 0 <= seen.start <= labelled.start <= core.start < core.stop <= labelled.stop <= seen.stop <= length
            assert core.start % side == 0 and inner.stop - inner.start == core.stop - core.start
            assert labelled.start + inner.start == core.start
    assert (count == 1).all() and sum(region.voxels for region in grid) == count.size
    assert all(whole % part == 0 for whole, part in zip(grid.side, grid.chunk, strict=True))
    with pytest.raises(IndexError, match="expected a region from 0"):
        grid[len(grid)]


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 5))
def test_blocks_of_a_region_are_made_of_the_slices_that_the_whole_volume_has_there(grid, seed):
    volume = np.random.default_rng(seed).random((1, *grid.shape), np.float32)
    region = grid[seed % len(grid)]
    seen = volume[(slice(None), *region.seen)]
    for step in region.grid.steps:
        z = region.grid.slices_of(step)
        expected = np.clip(
            region.labelled[0].start + step - (grid.whole.num_slices - grid.whole.num_output_slices) // 2
            + np.arange(grid.whole.num_slices), 0, grid.shape[0] - 1
        )  # fmt: skip
        np.testing.assert_array_equal(z + region.grid.above + region.seen[0].start, expected)
        np.testing.assert_array_equal(
            seen[:, z + region.grid.above], volume[(slice(None), expected, *region.labelled[1:])]
        )


def test_what_is_cut_and_stitched_region_by_region_is_the_volume():
    grid = RegionGrid(BlockGrid((13, 50, 41), (12, 14), (5, 5), num_slices=3))
    volume = np.random.default_rng(0).random((1, *grid.shape), np.float32)
    result = np.zeros(grid.shape, np.float32)
    for region in grid:
        part = volume[(slice(None), *region.labelled)]
        blocks = cut(part, replace(region.grid, above=0, below=0))
        result[region.core] = stitch(blocks[:, :, 1:2], region.grid)[0][region.inner]
    np.testing.assert_allclose(result, volume[0], atol=1e-6)


@pytest.mark.parametrize("overlap", [0, 3, 4, 5])
@pytest.mark.parametrize("side", [20, 32, 33, 60, 97, 160, 163])
def test_regions_cost_hardly_more_tiles_than_the_volume_as_a_whole(side, overlap, monkeypatch):
    whole = BlockGrid((6, side, side), (12, 12), (overlap, overlap), num_slices=5)

    def tiles() -> int:
        return sum(len(region.grid.tile_origins) for region in RegionGrid(whole))

    planned = tiles()
    assert planned <= (len(whole.tile_origins) ** 0.5 + side / 48 + 1) ** 2  # hardly one more where regions meet
    monkeypatch.setattr(regions_module, "_side", lambda *_: 3 * (12 - overlap))
    assert planned <= tiles()


@pytest.mark.parametrize("plane", [1, 7, 12, 32, 33])
def test_a_plane_of_one_tile_or_little_larger_than_a_region_is_one_region(plane):
    for tile in (12, 50):
        regions = RegionGrid(BlockGrid((6, plane, plane), (tile, tile), (4, 4), num_slices=5))
        is_one = plane <= max(tile, 32)
        assert (len(regions) == 1) == is_one
        if is_one:
            assert regions[0].grid.tile_origins == regions.whole.tile_origins


@pytest.mark.parametrize(
    ("tile", "overlap"), [(224, 32), (518, 64), (256, 29), (392, 30), (512, 63), (192, 32), (32, 8)]
)
@pytest.mark.parametrize("plane", [1, 29, 61, 400, 463, 640, 1009, 3000])
def test_chunks_are_neither_tiny_nor_huge(tile, overlap, plane, monkeypatch):
    monkeypatch.undo()
    grid = RegionGrid(BlockGrid((100, plane, plane), (tile, tile), (overlap, overlap), num_slices=5))
    assert all(whole % part == 0 for whole, part in zip(grid.side, grid.chunk, strict=True))
    assert 16 <= grid.chunk[0] <= 64 and 32 <= grid.chunk[1] == grid.chunk[2] <= 512
    if plane <= tile:
        assert grid.chunk[1:] == (128, 128) and grid.side[1] < plane + 128
