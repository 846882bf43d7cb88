"""Tests of `cli/content.py`: trees that do not lie on their neuron are warned of."""

from dataclasses import replace

import numpy as np
import pytest

from neuron_vit3d import Volume, read_swc, synthetic_neuron, write_volume
from support.program import run, succeed


SHAPE = (12, 96, 160)


@pytest.fixture(scope="module")
def neuron():
    return synthetic_neuron(SHAPE, seed=1, quality="clean")


def moved(path, **axes):
    """Writes the gold tree with other coordinates."""
    tree = read_swc(path)
    columns = dict(zip("xyz", tree.xyz.T, strict=True))
    xyz = np.stack([axes.get(axis, lambda c, own=axis: c[own])(columns) for axis in "xyz"], axis=1)
    return replace(tree, xyz=xyz).write(path.with_name("moved.swc"))


def commands(swc):
    return {
        "view": ("view", "image.tif", swc, "-o", "a.png"),
        "convert": ("convert", swc, "mask.tif", "--like", "image.tif"),
        "picture": ("evaluate", "gold.swc", swc, "--picture", "b.png", "--image", "image.tif"),
        "mask": ("evaluate", "drawn.tif", swc),
    }


@pytest.mark.parametrize("command", ["view", "convert", "picture", "mask"])
def test_a_flipped_tree_is_warned_of_once_and_the_right_one_is_not(command, files):
    swc = moved(files / "gold.swc", y=lambda c: SHAPE[1] - 1 - c["y"])
    result = run(*commands(swc)[command])
    name = "drawn.tif" if command == "mask" else "image.tif"
    assert result.exit_code == 0
    assert f"moved.swc: seems to miss the neuron of {name}, on which it lies with y flipped: y is" in result.stderr
    assert result.stderr.count("\n") == 1
    succeed(*commands(files / "gold.swc")[command])


def test_swapped_axes_are_named_with_what_mends_them(files):
    swc = moved(files / "gold.swc", x=lambda c: c["y"], y=lambda c: c["x"])
    tree = read_swc(swc)
    assert (tree.xyz[:, 1] < SHAPE[1]).mean() > 0.5, "it lies in the image, so that it is not refused"
    result = run(*commands(swc)["view"])
    assert "x and y are swapped: exchanging the columns mends it" in result.stderr


def test_a_large_image_is_not_read_for_it(files, monkeypatch):
    swc = moved(files / "gold.swc", y=lambda c: SHAPE[1] - 1 - c["y"])
    monkeypatch.setattr("neuron_vit3d.cli.content.MOST_VOXELS", 1000)
    succeed(*commands(swc)["convert"])


def test_an_image_without_signal_is_not_warned_of(files):
    noise = np.random.default_rng(0).integers(90, 110, SHAPE).astype(np.uint8)
    write_volume(files / "image.tif", Volume(noise))
    succeed(*commands(files / "gold.swc")["view"])
