"""Tests of --units and --swc-units."""

import numpy as np
import pytest

from neuron_vit3d import Volume, read_swc, read_volume, write_volume
from support.program import fail, succeed


VOXEL_SIZE = (2.0, 0.5, 0.25)


@pytest.fixture
def mask(tmp_path):
    voxels = np.zeros((8, 24, 48), np.uint8)
    voxels[3:5, 11:13, 4:44] = 255
    write_volume(tmp_path / "mask.tif", Volume(voxels, VOXEL_SIZE))
    return tmp_path / "mask.tif"


def coordinates(path) -> np.ndarray:
    return np.loadtxt(path)[:, 2:6]


def test_trace_writes_micrometres_that_are_read_as_voxels(mask, tmp_path):
    succeed("trace", mask, "-o", tmp_path / "voxels.swc")
    succeed("trace", mask, "-o", tmp_path / "um.swc", "--units", "um")
    voxels, um = coordinates(tmp_path / "voxels.swc"), coordinates(tmp_path / "um.swc")
    np.testing.assert_allclose(um, voxels * (0.25, 0.5, 2.0, 0.25))
    text = (tmp_path / "um.swc").read_text(encoding="utf-8")
    assert "# All positions and radii in µm\n# Voxel separation (x,y,z): 0.25, 0.5, 2\n" in text
    assert "mask.tif" in text
    np.testing.assert_allclose(read_swc(tmp_path / "um.swc").xyz, voxels[:, :3])


def test_convert_takes_a_tree_from_one_to_the_other(mask, tmp_path):
    succeed("trace", mask, "-o", tmp_path / "a.swc")
    succeed("convert", tmp_path / "a.swc", tmp_path / "um.swc", "--units", "um", "--voxel-size", "2,0.5,0.25")
    succeed("convert", tmp_path / "um.swc", tmp_path / "again.swc")
    np.testing.assert_allclose(coordinates(tmp_path / "again.swc"), coordinates(tmp_path / "a.swc"))
    for words in (
        ("again2.swc",),
        ("mask2.tif", "--like", mask),
    ):  # what is in voxels by its header is not divided again
        said = fail("convert", tmp_path / "um.swc", tmp_path / words[0], *words[1:], "--swc-units", "um")
        assert "its header says what it is in" in said
    bare = tmp_path / "bare.swc"
    bare.write_text("".join(line for line in (tmp_path / "um.swc").open(encoding="utf-8") if line[0] != "#"))
    words = ("--swc-units", "um", "--voxel-size", "2,0.5,0.25")
    succeed("convert", bare, tmp_path / "again.swc", *words)
    np.testing.assert_allclose(coordinates(tmp_path / "again.swc"), coordinates(tmp_path / "a.swc"))
    succeed("convert", bare, tmp_path / "drawn.tif", "--like", mask, "--swc-units", "um")
    assert (read_volume(tmp_path / "drawn.tif").array[4, 12, 10:40] != 0).all()


def test_a_tree_outside_its_image_is_refused_and_nothing_is_written(mask, tmp_path):
    far = tmp_path / "far.swc"
    far.write_text("1 3 500 10 4 1 -1\n2 3 510 10 4 1 1\n")
    for words in (
        ("view", mask, far, "-o", tmp_path / "new.png"),
        ("convert", far, tmp_path / "new.tif", "--like", mask),
        ("evaluate", mask, far),
    ):
        said = fail(*words)
        assert "far.swc: expected a tree in the 48 x 24 x 8 voxels (x y z) of the image, got 0% of its nodes" in said
        assert "--swc-units um" in said or words[0] == "evaluate"
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trace", "mask.tif", "--units", "miles"), "--units: expected voxels or um, got 'miles'"),
        (("view", "mask.tif", "a.swc", "-o", "a.png", "--swc-units", "nm"), "--swc-units: expected voxels or um"),
        (("convert", "a.swc", "b.swc", "--units", "um"), "b.swc: --units um: no voxel size is known"),
        (("convert", "a.swc", "b.swc", "--swc-units", "um"), "a.swc: --swc-units um: needs a voxel size"),
        (("convert", "mask.tif", "b.tif", "--units", "um"), "are for trees, but mask.tif is an image"),
        (("convert", "a.swc", "a.traces", "--units", "um", "--voxel-size", "1,1,1"), "in micrometres by itself"),
    ],
)
def test_units_that_cannot_be_are_refused(words, said, mask, monkeypatch):
    monkeypatch.chdir(mask.parent)
    (mask.parent / "a.swc").write_text("1 3 5 5 4 1 -1\n2 3 9 5 4 1 1\n")
    assert said in fail(*words)
