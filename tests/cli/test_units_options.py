"""Tests of --units and --swc-units."""

import json

import numpy as np
import pytest

from neuron_vit3d import Volume, read_swc, read_volume, write_volume
from support.program import fail, run, succeed


VOXEL_SIZE = (2.0, 0.5, 0.25)


@pytest.fixture
def mask(tmp_path):
    voxels = np.zeros((8, 24, 48), np.uint8)
    voxels[3:5, 11:13, 4:44] = 255
    write_volume(tmp_path / "mask.tif", Volume(voxels, VOXEL_SIZE))
    return tmp_path / "mask.tif"


def coordinates(path) -> np.ndarray:
    return np.loadtxt(path)[:, 2:6]


def numbers(path) -> list[str]:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    return [number for row in rows for number in row[2:6]]


def test_trace_writes_micrometres_that_are_read_as_voxels(mask, tmp_path):
    succeed("trace", mask, "-o", tmp_path / "voxels.swc")
    succeed("trace", mask, "-o", tmp_path / "um.swc", "--units", "um")
    voxels, um = coordinates(tmp_path / "voxels.swc"), coordinates(tmp_path / "um.swc")
    np.testing.assert_allclose(um, voxels * (0.25, 0.5, 2.0, 0.25), atol=2e-4)
    assert all(len(number.partition(".")[2]) <= 3 for number in numbers(tmp_path / "voxels.swc"))
    assert all(len(number.partition(".")[2]) <= 4 for number in numbers(tmp_path / "um.swc"))
    text = (tmp_path / "um.swc").read_text(encoding="utf-8")
    assert "# All positions and radii in µm\n# Voxel separation (x,y,z): 0.25, 0.5, 2\n" in text
    assert "mask.tif" in text
    np.testing.assert_allclose(read_swc(tmp_path / "um.swc").xyz, voxels[:, :3], atol=2e-4)


def test_convert_takes_a_tree_from_one_to_the_other(mask, tmp_path):
    succeed("trace", mask, "-o", tmp_path / "a.swc")
    succeed("convert", tmp_path / "a.swc", tmp_path / "um.swc", "--units", "um", "--voxel-size", "2,0.5,0.25")
    succeed("convert", tmp_path / "um.swc", tmp_path / "again.swc")
    np.testing.assert_allclose(coordinates(tmp_path / "again.swc"), coordinates(tmp_path / "a.swc"), atol=2e-4)
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
    np.testing.assert_allclose(coordinates(tmp_path / "again.swc"), coordinates(tmp_path / "a.swc"), atol=2e-4)
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


@pytest.fixture
def um(tmp_path):
    """A tree in the mask's voxels, but in micrometres, as its header says; how large a voxel is it does not."""
    text = "# All positions and radii in µm\n1 3 1.5 6 8 1 -1\n2 3 10.5 6 8 1 1\n"
    (tmp_path / "um.swc").write_text(text, encoding="utf-8")
    return tmp_path / "um.swc"


def test_a_tree_that_says_micrometres_alone_lies_on_an_image_of_known_voxel_size(mask, um, tmp_path):
    succeed("convert", um, tmp_path / "drawn.tif", "--like", mask)
    assert (read_volume(tmp_path / "drawn.tif").array[4, 12, 10:40] != 0).all()
    succeed("view", mask, um, "-o", tmp_path / "view.png", "--gold", um)
    assert "dice" in succeed("evaluate", mask, um)
    bare = tmp_path / "bare.tif"
    voxels = read_volume(mask).array
    write_volume(bare, Volume(voxels))
    commands = {
        "drawn.tif": ("convert", um, tmp_path / "new.tif", "--like", bare),
        "view.png": ("view", bare, um, "-o", tmp_path / "new.png"),
        "": ("evaluate", bare, um),
    }
    for words in commands.values():
        said = fail(*words)
        assert "um.swc: its header says micrometres, but not how large a voxel is, nor does the image" in said
        assert "--voxel-size z,y,x" in said and "--swc-units voxels" in said
    assert not list(tmp_path.glob("new*"))
    for name, words in commands.items():
        succeed(*words, "--voxel-size", "2,0.5,0.25")
        if name.endswith(".tif"):
            again = read_volume(tmp_path / "new.tif")
            assert np.array_equal(again.array, read_volume(tmp_path / name).array) and again.voxel_size == VOXEL_SIZE
        assert "is the voxel size wrong (--voxel-size)" in fail(*words, "--voxel-size", "0.001,0.001,0.001")


def test_without_an_image_a_tree_that_says_micrometres_alone_stays_in_them(um, tmp_path):
    for name in ("again.swc", "units.swc"):
        words = ("--units", "um") if name == "units.swc" else ()
        said = run("convert", um, tmp_path / name, *words).stderr
        assert "um.swc: stays in micrometres, as its header says: --voxel-size z,y,x takes it to voxels" in said
        assert np.array_equal(coordinates(tmp_path / name), coordinates(um))
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("# All positions and radii in µm\n") and "separation" not in text
    succeed("convert", um, tmp_path / "voxels.swc", "--voxel-size", "2,0.5,0.25")
    assert coordinates(tmp_path / "voxels.swc")[:, 2].tolist() == [4, 4]
    for words in ((), ("--voxel-size", "2,0.5,0.25")):
        (measured,) = json.loads(succeed("measure", um, "--json", *words))
        assert (measured["unit"], measured["length"]) == ("um", pytest.approx(9))


def test_evaluate_compares_trees_in_the_same_units(um, tmp_path):
    succeed("convert", um, tmp_path / "voxels.swc", "--voxel-size", "2,0.5,0.25")
    assert json.loads(succeed("evaluate", tmp_path / "voxels.swc", um, "--json"))["esa"] == pytest.approx(0)
    both = run("evaluate", um, um, "--json")
    assert json.loads(both.stdout)["length_gold"] == pytest.approx(9)
    assert "um.swc: compared in micrometres, as both headers say, and so is the threshold" in both.stderr
    bare = tmp_path / "bare.swc"
    bare.write_text("1 3 6 12 4 1 -1\n2 3 42 12 4 1 1\n")
    assert "um.swc: its header says micrometres" in fail("evaluate", bare, um)
    assert json.loads(succeed("evaluate", bare, um, "--json", "--voxel-size", "2,0.5,0.25"))["esa"] == pytest.approx(0)
    (tmp_path / "silent.swc").write_text("1 3 1.5 6 8 1 -1\n2 3 10.5 6 8 1 1\n")
    words = ("--json", "--voxel-size", "2,0.5,0.25", "--swc-units", "um")
    assert json.loads(succeed("evaluate", bare, tmp_path / "silent.swc", *words))["esa"] == pytest.approx(0)


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


def test_the_type_of_all_nodes_but_the_soma(mask, tmp_path):
    succeed("trace", mask, "-o", tmp_path / "a.swc", "--type", "axon")
    assert set(read_swc(tmp_path / "a.swc").types.tolist()) <= {1, 2}
    (tmp_path / "b.swc").write_text("1 1 5 5 4 1 -1\n2 0 9 5 4 1 1\n3 2 12 5 4 1 2\n")
    succeed("convert", tmp_path / "b.swc", tmp_path / "c.swc", "--type", "apical")
    assert read_swc(tmp_path / "c.swc").types.tolist() == [1, 4, 4]
    said = "--type: expected one of undefined, axon, dendrite, apical, got 'glia'"
    assert said in fail("trace", mask, "-o", tmp_path / "d.swc", "--type", "glia")
    assert said in fail("segment", mask, "--type", "glia")
    assert "--type: is for trees" in fail(
        "convert", tmp_path / "b.swc", tmp_path / "d.tif", "--like", mask, "--type", "axon"
    )
