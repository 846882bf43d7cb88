"""Cutting and stitching: tiles cover every pixel, and what is cut apart is put together again."""

import doctest
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.model import blocks
from neuron_vit3d.model.blocks import BlockGrid, Stitcher, cut, stitch, tile_side, tile_starts


def test_examples_in_the_docstrings_are_true():
    results = doctest.testmod(blocks)
    assert (results.failed, results.attempted) == (0, 5)


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


@settings(max_examples=300, deadline=None)
@given(axes(), st.sampled_from([1, 4, 14, 16]))
def test_sides_of_tiles_cover_an_axis_with_no_more_pixels_than_the_one_asked_for(axis, patch):
    length, tile, overlap = axis
    side = tile_side(length, tile, overlap, patch)

    def pixels(side: int) -> int:
        return len(tile_starts(length, side, overlap)) * -(-min(side, length) // patch) * patch

    assert side == tile or (side % patch == 0 and 5 * tile <= 6 * side and 3 * side <= 4 * tile)
    assert pixels(side) <= pixels(tile)
    assert side == tile or pixels(side) < pixels(tile)  # not without a reason
    assert side > overlap


def test_a_plane_a_little_larger_than_a_tile_is_one_tile_and_an_uneven_one_is_not_covered_three_times():
    assert [tile_side(length, 192, 32, 16) for length in (20, 192, 256, 257, 288)] == [192, 192, 256, 160, 160]
    assert [len(tile_starts(length, tile_side(length, 192, 32, 16), 32)) for length in (256, 257, 288)] == [1, 2, 2]


def test_a_side_is_not_planned_for_an_overlap_of_a_whole_tile():
    with pytest.raises(ValueError, match="less than the tile's side 32; got 32"):
        tile_side(100, 32, 32)


# -- blocks of a volume ----------------------------------------------------------------------------------------------


@st.composite
def grids(draw):
    """Grids of small volumes, with 1, 3 or 5 labelled slices a block; tiles may be larger than the plane."""
    tile = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    num_output_slices = draw(st.sampled_from([1, 3, 5]))
    return BlockGrid(
        shape=draw(st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))),
        tile=tile,
        overlap=tuple(draw(st.integers(0, side - 1)) for side in tile),
        num_slices=draw(st.sampled_from([size for size in (1, 3, 5, 7) if size >= num_output_slices])),
        num_output_slices=num_output_slices,
        slice_overlap=draw(st.integers(0, num_output_slices - 1)),
    )


@settings(max_examples=200, deadline=None)
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
def test_every_slice_is_labelled_with_its_neighbours_around_it(grid):
    before = (grid.num_slices - grid.num_output_slices) // 2
    labelled = []
    for step in grid.steps:
        slices = grid.slices_of(step)
        assert len(slices) == grid.num_slices
        wanted = np.arange(step - before, step - before + grid.num_slices)
        np.testing.assert_array_equal(slices, np.clip(wanted, 0, grid.shape[0] - 1))  # repeats the outer slices
        assert [*grid.labelled(step)] == [z for z in range(grid.shape[0]) if 0 <= z - step < grid.num_output_slices]
        labelled += grid.labelled(step)
    assert sorted(set(labelled)) == list(range(grid.shape[0]))


@settings(max_examples=200, deadline=None)
@given(grids())
def test_steps_lie_inside_share_enough_slices_and_are_no_more_than_needed(grid):
    depth, outputs, steps = grid.shape[0], grid.num_output_slices, grid.steps
    if depth >= outputs:
        assert steps[0] == 0 and steps[-1] + outputs == depth
        assert all(second - first <= outputs - grid.slice_overlap for first, second in pairwise(steps))
        assert len(steps) == len(range(0, max(depth - grid.slice_overlap, 1), outputs - grid.slice_overlap))
    else:  # in the middle of its one step; an odd slice more lies after it
        before, after = -steps[0], steps[0] + outputs - depth
        assert len(steps) == 1 and after - before in (0, 1)


def test_without_overlap_every_slice_is_its_own_step_where_one_is_labelled():
    assert BlockGrid(shape=(7, 4, 4), tile=(4, 4), overlap=(0, 0), num_slices=5).steps == list(range(7))


@pytest.mark.parametrize(
    ("depth", "outputs", "overlap", "steps"),
    [
        (9, 3, 0, [0, 3, 6]),
        (8, 3, 0, [0, 2, 5]),  # a third is needed; no block reaches beyond slice 7
        (6, 3, 2, [0, 1, 2, 3]),
        (9, 5, 2, [0, 2, 4]),
        (1, 5, 0, [-2]),  # the one slice is the center one
        (2, 5, 0, [-1]),
    ],
)
def test_steps_by_example(depth, outputs, overlap, steps):
    grid = BlockGrid((depth, 4, 4), (4, 4), (0, 0), num_slices=5, num_output_slices=outputs, slice_overlap=overlap)
    assert grid.steps == steps


@pytest.mark.parametrize(("outputs", "overlap"), [(1, 1), (3, 3), (3, -1), (3, 4)])
def test_overlap_of_all_labelled_slices_is_refused(outputs, overlap):
    message = f"slice_overlap must be at least 0 and less than num_output_slices = {outputs}; got {overlap}"
    with pytest.raises(ValueError, match=message):
        BlockGrid((9, 4, 4), (4, 4), (0, 0), num_slices=5, num_output_slices=outputs, slice_overlap=overlap)


@settings(max_examples=50, deadline=None)
@given(grids())
def test_window_falls_off_towards_the_border_and_is_never_zero(grid):
    window = grid.window()
    assert window.shape == (grid.num_output_slices, *grid.tile) and window.dtype == np.float32
    assert (window > 0).all() and (window <= 1).all()
    for axis, side in enumerate(window.shape):
        np.testing.assert_array_equal(window, np.flip(window, axis))
        rising = np.diff(window, axis=axis).take(range((side - 1) // 2), axis=axis)
        assert (rising >= 0).all()


def test_overlapping_tiles_are_blended_by_a_ramp():
    grid = BlockGrid(shape=(1, 1, 8), tile=(1, 5), overlap=(0, 2), num_slices=1)
    assert grid.tile_origins == [(0, 0), (0, 3)]
    np.testing.assert_allclose(grid.window()[0, 0], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], rtol=1e-6)
    predictions = np.stack([np.zeros((1, 1, 1, 5)), np.ones((1, 1, 1, 5))]).astype(np.float32)
    expected = [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]
    np.testing.assert_allclose(stitch(predictions, grid)[0, 0, 0], expected, rtol=1e-6)


def test_slices_labelled_more_than_once_are_averaged_by_how_near_a_blocks_center_they_are():
    grid = BlockGrid((8, 1, 1), (1, 1), (0, 0), num_slices=5, num_output_slices=5, slice_overlap=2)
    assert grid.steps == [0, 3]
    np.testing.assert_allclose(grid.window()[:, 0, 0], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], rtol=1e-6)
    predictions = np.stack([np.zeros((1, 5, 1, 1)), np.ones((1, 5, 1, 1))]).astype(np.float32)
    expected = [0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]
    np.testing.assert_allclose(stitch(predictions, grid)[0, :, 0, 0], expected, rtol=1e-6)


def test_labels_beyond_a_volume_of_few_slices_are_left_out():
    predictions = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1, 1)
    for depth, expected in ((1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3, 4])):
        grid = BlockGrid((depth, 1, 1), (1, 1), (0, 0), num_slices=5, num_output_slices=5)
        assert stitch(predictions, grid)[0, :, 0, 0].tolist() == expected


def test_blocks_come_step_by_step_and_row_by_row():
    volume = np.arange(2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
    grid = BlockGrid(shape=(2, 4, 4), tile=(2, 2), overlap=(0, 0), num_slices=1)
    assert cut(volume, grid)[:, 0, 0, 0, 0].tolist() == [0, 2, 8, 10, 16, 18, 24, 26]


@settings(max_examples=50, deadline=None)
@given(grids(), st.integers(0, 99))
def test_stitcher_takes_blocks_in_any_order_and_gives_slices_in_theirs(grid, seed):
    rng = np.random.default_rng(seed)
    predictions = rng.random((len(grid), 2, grid.num_output_slices, *grid.tile), np.float32)
    places = list(product(grid.steps, grid.tile_origins))
    stitcher, slices = Stitcher(grid, num_labels=2), []
    for index in rng.permutation(len(grid)):
        assert len(slices) < grid.shape[0]
        stitcher.add(*places[index], predictions[index])
        slices += stitcher.finished()
    assert [z for z, _ in slices] == list(range(grid.shape[0]))
    stitched = np.stack([plane for _, plane in slices], axis=1)
    np.testing.assert_allclose(stitched, stitch(predictions, grid), rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(grids())
def test_slices_are_finished_as_soon_as_no_block_to_come_labels_them(grid):
    stitcher, known = Stitcher(grid), []
    prediction = np.zeros((1, grid.num_output_slices, *grid.tile), np.float32)
    for index, step in enumerate(grid.steps):
        for origin in grid.tile_origins:
            assert [*stitcher.finished()] == []  # a tile of this step is missing
            stitcher.add(step, origin, prediction)
            assert len(stitcher.sums) <= grid.num_output_slices
        known += [z for z, _ in stitcher.finished()]
        assert len(known) == (grid.steps[index + 1] if step != grid.steps[-1] else grid.shape[0])
    assert known == list(range(grid.shape[0])) and not stitcher.sums and not stitcher.weights


def test_means_stay_within_limits_and_what_no_block_covers_is_0():
    grid = BlockGrid(shape=(2, 9, 6), tile=(3, 4), overlap=(0, 2), num_slices=1)
    assert grid.tile_origins[2:4] == [(3, 0), (3, 2)]
    for limits, expected in (((0.0, 1.0), 1.0), (None, 2.0)):
        stitcher = Stitcher(grid, limits=limits)
        for step in grid.steps:
            for origin in grid.tile_origins:
                if step == 1 and origin == (3, 2):
                    stitcher.add(step, origin, np.full((1, 1, 3, 4), 2.0, np.float32))
                else:
                    stitcher.skip(step)
        (_, empty), (_, plane) = stitcher.finished()
        assert not empty.any() and (plane[0, 3:6, 2:] == expected).all() and plane.sum() == 12 * expected


def test_wrong_number_of_predictions_is_refused():
    grid = BlockGrid(shape=(2, 4, 4), tile=(2, 2), overlap=(0, 0), num_slices=1)
    with pytest.raises(ValueError, match="the grid has 8 blocks, got predictions for 7"):
        stitch(np.zeros((7, 1, 1, 2, 2), np.float32), grid)
