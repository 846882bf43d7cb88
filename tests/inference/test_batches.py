import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.inference.batches import Batches, to_host
from neuron_vit3d.model.blocks import BlockGrid, Stitcher, iterate_blocks


class Device:
    """Tells what is asked of it; a block's scores are its middle slice."""

    def __init__(self):
        self.told = []

    def begin(self, blocks):
        number, batch = sum(what == "begin" for what, *_ in self.told), torch.stack(blocks)
        self.told.append(("begin", number, len(blocks)))

        def wait():
            self.told.append(("wait", number))
            return batch[:, 0, batch.shape[2] // 2][:, None].numpy()

        return wait


@given(size=st.integers(1, 9), slices=st.integers(1, 5), width=st.integers(4, 11))
def test_the_blocks_of_a_volume_come_back_as_the_volume(size, slices, width):
    volume = np.random.default_rng(0).random((1, slices, 6, width), np.float32)
    grid, device = BlockGrid((slices, 6, width), (4, 4), (2, 2), num_slices=3), Device()
    stitcher = Stitcher(grid)
    batches = Batches(device.begin, size, stitcher)
    places = [(step, origin) for step in grid.steps for origin in grid.tile_origins]
    for place, block in zip(places, iterate_blocks(volume, grid), strict=True):
        batches.add(place, torch.from_numpy(block.copy()))
    batches.finish()
    stitched = [plane for _, plane in stitcher.finished()]
    np.testing.assert_allclose(np.concatenate(stitched), volume[0], rtol=1e-5)
    assert [told[2] for told in device.told if told[0] == "begin"] == [
        min(size, len(places) - first) for first in range(0, len(places), size)
    ]


def test_a_batch_is_begun_before_the_one_before_is_waited_for():
    grid, device = BlockGrid((5, 4, 4), (4, 4), (0, 0), num_slices=1), Device()
    batches = Batches(device.begin, 2, Stitcher(grid))
    for step in grid.steps:
        batches.add((step, (0, 0)), torch.zeros(1, 1, 4, 4))
    batches.finish()
    assert device.told == [
        ("begin", 0, 2),
        ("begin", 1, 2),
        ("wait", 0),
        ("begin", 2, 1),
        ("wait", 1),
        ("wait", 2),
    ]


def test_nothing_is_sent_where_there_is_nothing():
    device = Device()
    Batches(device.begin, 2, Stitcher(BlockGrid((1, 4, 4), (4, 4), (0, 0), num_slices=1))).finish()
    assert device.told == []


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
def test_a_tensor_comes_to_the_processor_as_it_is(device):
    tensor = torch.arange(12.0, device=device).view(3, 4)
    wait = to_host(tensor)
    np.testing.assert_array_equal(wait(), np.arange(12.0).reshape(3, 4))
