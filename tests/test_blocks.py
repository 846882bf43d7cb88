"""Cutting and stitching: tiles cover every pixel, and what is cut apart is put together again."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.model import blocks
from neuron_vit3d.model.blocks import BlockGrid, PlaneStitcher, cut, stitch, tile_starts


def test_examples_in_the_docstrings_are_true():
    results = doctest.testmod(blocks)
    assert (results.failed, results.attempted) == (0, 3)


# -- tiles along an axis ---------------------------------------------------------------------------------------------


@st.composite
def axes(draw):
    """(length, tile, overlap) of an axis."""
    tile = draw(st.integers(1, 60))
    return draw(st.integers(1, 300)), tile, draw(st.integers(0, tile - 1))


@settings(max_examples=300, deadline=None)
@given(axes())
def test_tiles_lie_inside_cover_the_axis_and_overlap_enough(axis):
    length, tile, overlap = axis
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] + tile == length
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= tile - overlap).all()
    assert steps.max() - steps.min() <= 1  # evenly spread


@settings(max_examples=100, deadline=None)
@given(axes())
def test_there_is_not_a_tile_more_than_needed(axis):
    length, tile, overlap = axis
    reached = tile + (len(tile_starts(length, tile, overlap)) - 2) * (tile - overlap)  # by one tile less
    assert reached < length or length <= tile


@pytest.mark.parametrize("overlap", [-1, 4, 5])
def test_overlap_of_a_whole_tile_is_refused(overlap):
    with pytest.raises(ValueError, match=f"less than the tile's side 4; got {overlap}"):
        tile_starts(10, 4, overlap)


# -- blocks of a volume ----------------------------------------------------------------------------------------------


@st.composite
def grids(draw):
    """Grids of small volumes, with 1 or 3 labelled slices a block; tiles may be larger than the plane."""
    tile = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    num_output_slices = draw(st.sampled_from([1, 3]))
    return BlockGrid(
        shape=draw(st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))),
        tile=tile,
        overlap=tuple(draw(st.integers(0, side - 1)) for side in tile),
        num_slices=draw(st.sampled_from([size for size in (1, 3, 5, 7) if size >= num_output_slices])),
        num_output_slices=num_output_slices,
    )


@settings(max_examples=100, deadline=None)
@given(grids(), st.integers(1, 3), st.integers(0, 99))
def test_stitching_the_middle_slices_gives_the_volume_back(grid, channels, seed):
    volume = np.random.default_rng(seed).normal(size=(channels, *grid.shape)).astype(np.float32)
    cut_blocks = cut(volume, grid)
    assert cut_blocks.shape == (len(grid), channels, grid.num_slices, *grid.tile)
    first = (grid.num_slices - grid.num_output_slices) // 2
    middle = cut_blocks[:, :, first : first + grid.num_output_slices]
    np.testing.assert_allclose(stitch(middle, grid), volume, rtol=1e-5, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(grids())
def test_every_slice_is_labelled_once_with_its_neighbours_around_it(grid):
    before = (grid.num_slices - grid.num_output_slices) // 2
    labelled = []
    for step in grid.steps:
        slices = grid.slices_of(step)
        assert len(slices) == grid.num_slices
        wanted = np.arange(step - before, step - before + grid.num_slices)
        np.testing.assert_array_equal(slices, np.clip(wanted, 0, grid.shape[0] - 1))  # repeats the outer slices
        labelled += [z for z in range(step, step + grid.num_output_slices) if z < grid.shape[0]]
    assert labelled == list(range(grid.shape[0]))


@settings(max_examples=50, deadline=None)
@given(grids())
def test_window_falls_off_towards_the_border_and_is_never_zero(grid):
    window = grid.window()
    assert window.shape == grid.tile
    assert (window > 0).all() and (window <= 1).all()
    np.testing.assert_array_equal(window, window[::-1, ::-1])
    for axis in (0, 1):
        rising = np.diff(window, axis=axis).take(range((grid.tile[axis] - 1) // 2), axis=axis)
        assert (rising >= 0).all()


def test_overlapping_tiles_are_blended_by_a_ramp():
    grid = BlockGrid(shape=(1, 1, 8), tile=(1, 5), overlap=(0, 2), num_slices=1)
    assert grid.tile_origins == [(0, 0), (0, 3)]
    np.testing.assert_allclose(grid.window()[0], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], rtol=1e-6)
    predictions = np.stack([np.zeros((1, 1, 1, 5)), np.ones((1, 1, 1, 5))]).astype(np.float32)
    expected = [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]
    np.testing.assert_allclose(stitch(predictions, grid)[0, 0, 0], expected, rtol=1e-6)


def test_blocks_come_step_by_step_and_row_by_row():
    volume = np.arange(2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
    grid = BlockGrid(shape=(2, 4, 4), tile=(2, 2), overlap=(0, 0), num_slices=1)
    assert cut(volume, grid)[:, 0, 0, 0, 0].tolist() == [0, 2, 8, 10, 16, 18, 24, 26]


def test_stitcher_takes_tiles_in_any_order():
    rng = np.random.default_rng(0)
    grid = BlockGrid(shape=(1, 10, 9), tile=(4, 4), overlap=(2, 1), num_slices=1)
    predictions = rng.random((len(grid), 2, 1, 4, 4), np.float32)
    stitcher = PlaneStitcher(grid, num_labels=2)
    for index in rng.permutation(len(grid)):
        stitcher.add(grid.tile_origins[index], predictions[index])
    np.testing.assert_allclose(stitcher.result(), stitch(predictions, grid), rtol=1e-6)


def test_wrong_number_of_predictions_is_refused():
    grid = BlockGrid(shape=(2, 4, 4), tile=(2, 2), overlap=(0, 0), num_slices=1)
    with pytest.raises(ValueError, match="the grid has 8 blocks, got predictions for 7"):
        stitch(np.zeros((7, 1, 1, 2, 2), np.float32), grid)
