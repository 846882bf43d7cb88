"""Tests of `morphology/units.py`: trees in micrometres and in voxels."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d import read_swc
from neuron_vit3d.morphology import SWCError, Tree
from neuron_vit3d.morphology.units import (
    UnitsWarning,
    expecting_micrometres,
    in_micrometres,
    in_voxels,
    rounded,
    says_micrometres,
    to_voxels,
    told_voxel_size,
    voxel_size_of,
)


SIDE = st.floats(0.01, 50)
SNT = "# Exported from SNT v4.2.0\n# All positions and radii in {}\n# Voxel separation (x,y,z): 0.5, 0.25, 2.0\n"


def tree(comments=()) -> Tree:
    xyz = np.array([[10, 20, 3], [11, 21, 3], [14, 25, 5]], float)
    return Tree.from_parents(xyz, np.array([2.0, 1.0, 1.5]), np.array([-1, 0, 1]), comments=comments)


@given(SIDE, SIDE, SIDE)
def test_there_and_back_is_the_same_tree(z, y, x):
    there = in_micrometres(tree(("traced",)), (z, y, x))
    assert says_micrometres(there) and voxel_size_of(there) == pytest.approx((z, y, x))
    back = in_voxels(there, (z, y, x))
    np.testing.assert_allclose(back.xyz, tree().xyz, rtol=1e-12)
    np.testing.assert_allclose(back.radii, tree().radii, rtol=1e-12)
    assert not says_micrometres(back) and voxel_size_of(back) == pytest.approx((z, y, x))
    assert back.comments[0] == "traced"


@given(st.floats(0.001, 100))
def test_rounded_numbers_are_within_a_thousandth_of_a_voxel(side):
    exact = Tree.from_parents(np.pi * side * np.arange(9).reshape(3, 3), [side / 3, 1e-9, side], [-1, 0, 1])
    found = rounded(exact, side)
    assert np.abs(found.xyz - exact.xyz).max() <= 0.5001e-3 * min(side, 1)
    assert (found.radii > 0).all() and found.radii[1] == 1e-9


def test_decimals_are_three_and_more_where_voxels_are_small():
    exact = Tree.from_parents([[1 / 3] * 3], [1 / 3], [-1])
    assert rounded(exact).xyz[0, 0] == rounded(exact, 7.0).xyz[0, 0] == 0.333
    assert rounded(exact, 0.5).radii[0] == 0.3333 and rounded(exact, 0.05).radii[0] == 0.33333


def test_a_file_in_micrometres_is_read_in_voxels(tmp_path):
    there = in_micrometres(tree(), (2.0, 0.25, 0.5))
    assert there.xyz[0].tolist() == [5, 5, 6] and there.radii[0] == 0.5
    again = read_swc(there.write(tmp_path / "um.swc"))
    assert np.array_equal(again.xyz, tree().xyz) and np.array_equal(again.radii, tree().radii)


@pytest.mark.parametrize("unit", ["µm", "\u03bcm", "um", "microns", "micrometers"])
def test_snt_says_its_units_and_voxel_size(unit, tmp_path):
    (tmp_path / "a.swc").write_text(SNT.format(unit) + "1 3 5 5 6 0.5 -1\n", encoding="utf-8")
    found = read_swc(tmp_path / "a.swc")
    assert found.xyz.tolist() == [[10, 20, 3]] and found.radii.tolist() == [2]
    assert voxel_size_of(found) == (2.0, 0.25, 0.5)


@pytest.mark.parametrize("header", [SNT.format("pixels"), "# Voxel separation (x,y,z): 1, nan, 2\n"])
def test_what_says_no_micrometres_stays(header, tmp_path):
    (tmp_path / "a.swc").write_text(header + "1 3 5 5 6 0.5 -1\n", encoding="utf-8")
    assert read_swc(tmp_path / "a.swc").xyz.tolist() == [[5, 5, 6]]


def test_micrometres_without_a_voxel_size_stay_and_are_told_of(tmp_path):
    path = tmp_path / "a.swc"
    path.write_text("# All positions and radii in µm\n1 3 5 5 6 0.5 -1\n", encoding="utf-8")
    with pytest.warns(UnitsWarning, match=r"a\.swc: its header says micrometres, .*it stays in micrometres"):
        found = read_swc(path)
    assert found.xyz.tolist() == [[5, 5, 6]] and says_micrometres(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with expecting_micrometres():
            assert read_swc(path).xyz.tolist() == [[5, 5, 6]]


def test_to_voxels_goes_by_what_is_said_or_by_the_header():
    size, bare, um = (2.0, 0.25, 0.5), tree(), tree(("All positions and radii in µm",))
    assert to_voxels(bare, "a.swc", size) is bare
    for one, units in ((bare, "um"), (um, None), (um, "um")):
        assert to_voxels(one, "a.swc", size, units).xyz[0].tolist() == [20, 80, 1.5]
    said = to_voxels(um, "a.swc", size, "voxels")
    assert np.array_equal(said.xyz, um.xyz) and not says_micrometres(said)
    with pytest.raises(SWCError, match=r"a\.swc: its header says micrometres, but not how large a voxel is"):
        to_voxels(um, "a.swc", None)
    with pytest.raises(SWCError, match=r"a\.swc: --swc-units um: needs a voxel size"):
        to_voxels(bare, "a.swc", None, "um")
    with pytest.raises(SWCError, match="its header says what it is in"):
        to_voxels(in_voxels(um, size), "a.swc", size, "um")


def test_lengths_are_those_that_other_programs_read(tmp_path):
    morphio = pytest.importorskip("morphio")
    path = in_micrometres(tree(), (2.0, 0.25, 0.5)).write(tmp_path / "um.swc")
    edges = np.diff(tree().xyz * (0.5, 0.25, 2.0), axis=0)
    length = np.linalg.norm(edges, axis=1).sum()
    # As SNT reads a line: positions in the units that the header names.
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    points = {row[0]: np.array(row[2:5], float) for row in rows}
    as_snt = sum(np.linalg.norm(points[row[0]] - points[row[6]]) for row in rows if row[6] != "-1")
    points = morphio.Morphology(str(path)).root_sections[0].points
    assert as_snt == pytest.approx(length, rel=1e-6)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).sum() == pytest.approx(length, rel=1e-6)


def test_a_comment_tells_the_voxel_size():
    assert voxel_size_of(tree((told_voxel_size((1.0, 0.2, 0.3)),))) == (1.0, 0.2, 0.3)
    assert voxel_size_of(tree(("voxel size z y x in um: 1 0 2",))) is None
