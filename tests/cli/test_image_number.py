"""Tests of --image: a file that holds several images."""

import numpy as np
import pytest
import tifffile

from neuron_vit3d import read_volume
from support.program import fail, run


@pytest.fixture
def two(tmp_path):
    """A file with an overview and a stack; the stack is a mask of a line."""
    stack = np.zeros((4, 20, 40), np.uint8)
    stack[2, 9:11, 4:36] = 255
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        writer.write(np.full((1, 5, 8), 7, np.uint8), photometric="minisblack", metadata={"axes": "ZYX"})
        writer.write(stack, photometric="minisblack", metadata={"axes": "ZYX"})
    return tmp_path / "two.ome.tif"


def test_the_stack_is_read_and_told_and_another_one_on_demand(two, tmp_path):
    told = run("convert", two, tmp_path / "stack.tif")
    assert "--image N of convert, trace and view reads another" in told.stderr
    assert read_volume(tmp_path / "stack.tif").shape == (4, 20, 40)
    run("convert", two, tmp_path / "overview.tif", "--image", "0")
    assert read_volume(tmp_path / "overview.tif").shape == (1, 5, 8)


def test_trace_and_view_take_the_image_by_its_number(two, tmp_path):
    assert run("trace", two, "-o", tmp_path / "a.swc", "--image", "1").exit_code == 0
    assert run("view", two, tmp_path / "a.swc", "-o", tmp_path / "a.png", "--image", "1").exit_code == 0
    assert "expected an image from 0 to 1" in fail("trace", two, "-o", tmp_path / "b.swc", "--image", "2")
    assert "--image: is for images" in fail("convert", tmp_path / "a.swc", tmp_path / "c.swc", "--image", "0")
