"""Tests of --image: a file that holds several images."""

import numpy as np
import pytest
import tifffile

from neuron_vit3d import read_volume
from support.program import fail, names, run


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
    assert "--image N of segment, trace, convert and view reads another" in told.stderr
    assert read_volume(tmp_path / "stack.tif").shape == (4, 20, 40)
    run("convert", two, tmp_path / "overview.tif", "--image", "0")
    assert read_volume(tmp_path / "overview.tif").shape == (1, 5, 8)


def test_trace_and_view_take_the_image_by_its_number(two, tmp_path):
    assert run("trace", two, "-o", tmp_path / "a.swc", "--image", "1").exit_code == 0
    assert run("view", two, tmp_path / "a.swc", "-o", tmp_path / "a.png", "--image", "1").exit_code == 0
    assert "expected an image from 0 to 1" in fail("trace", two, "-o", tmp_path / "b.swc", "--image", "2")
    assert "--image: is for images" in fail("convert", tmp_path / "a.swc", tmp_path / "c.swc", "--image", "0")


@pytest.mark.parametrize("kind", ["--tiff", "--zarr"])
def test_segment_takes_the_image_by_its_number(two, tmp_path, model, kind):
    pytest.importorskip("zarr")
    words = ("segment", two, "--model", model, "-o", tmp_path / "out", kind, "--no-trace", "--quiet")
    for number, shape in ((0, (1, 5, 8)), (1, (4, 20, 40))):
        result = run(*words[:5], tmp_path / f"out{number}", *words[6:], "--image", number)
        if number == 0:  # the overview has one value alone
            assert result.exit_code == 2 and "expected an image, got the value 7" in result.stderr
            continue
        assert result.exit_code == 0, result.stderr
        suffix = "tif" if kind == "--tiff" else "ome.zarr"
        assert read_volume(tmp_path / f"out{number}" / f"two.scores.{suffix}").shape == shape
        assert "two.png" in names(tmp_path / f"out{number}")
    assert "expected an image from 0 to 1" in run(*words, "--image", "2").stderr


def test_evaluate_draws_over_the_image_by_its_number(two, tmp_path):
    run("trace", two, "-o", tmp_path / "a.swc")
    words = ("evaluate", tmp_path / "a.swc", tmp_path / "a.swc", "--picture", tmp_path / "a.png")
    assert run(*words, "--image", two, "--image-number", 1).exit_code == 0
    assert "expected an image from 0 to 1" in run(*words, "--image", two, "--image-number", 2).stderr
    assert "--image-number: is for --image" in fail(*words, "--image-number", 1)
