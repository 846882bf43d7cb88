"""Tests of `evaluation/fit.py`: whether a tree lies in its image."""

from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d.evaluation.fit import FitError, fitted
from neuron_vit3d.morphology import SWCError, Tree
from neuron_vit3d.morphology.units import told_voxel_size


SHAPE, NAME = (10, 40, 60), Path("a.swc")


def tree(*points, comments=()) -> Tree:
    parents = np.arange(len(points)) - 1
    return Tree.from_parents(np.array(points, float), np.ones(len(points)), parents, comments=comments)


def test_a_tree_inside_is_given_back():
    inside = tree((0, 0, 0), (59, 39, 9), (61, 41, 11))
    assert fitted(inside, NAME, SHAPE) is inside


def test_a_tree_outside_is_refused_with_where_it_is():
    with pytest.raises(FitError, match=r"a\.swc: expected a tree in the 60 x 40 x 10 voxels .* 33% of its nodes"):
        fitted(tree((0, 0, 0), (90, 0, 0), (95, 0, 0)), NAME, SHAPE)


def test_a_tree_in_micrometres_is_told_and_taken_to_voxels():
    um = tree((50, 80, 20), (100, 70, 18))
    with pytest.raises(FitError, match=r"it would lie inside if it were in micrometres \(--swc-units um"):
        fitted(um, NAME, SHAPE, (2.5, 2.5, 2.5))
    assert fitted(um, NAME, SHAPE, (2.5, 2.5, 2.5), units="um").xyz.tolist() == [[20, 32, 8], [40, 28, 7.2]]
    with pytest.raises(SWCError, match=r"a\.swc: --swc-units um: needs a voxel size"):
        fitted(um, NAME, SHAPE, units="um")


def test_the_image_takes_a_tree_to_voxels_whose_header_tells_no_size():
    um = tree((50, 80, 20), (100, 70, 18), comments=("All positions and radii in µm",))
    assert fitted(um, NAME, SHAPE, (2.5, 2.5, 2.5)).xyz.tolist() == [[20, 32, 8], [40, 28, 7.2]]
    with pytest.raises(SWCError, match=r"a\.swc: its header says micrometres, .*--voxel-size.*--swc-units voxels"):
        fitted(um, NAME, SHAPE)
    with pytest.raises(FitError, match=r"0% of its nodes inside, .*--swc-units um"):
        fitted(um, NAME, SHAPE, (2.5, 2.5, 2.5), units="voxels")
    with pytest.raises(FitError, match="is the voxel size wrong"):
        fitted(um, NAME, SHAPE, (0.1, 0.1, 0.1))


def test_a_header_of_another_voxel_size_is_named():
    other = tree((500, 80, 20), (510, 70, 18), comments=(told_voxel_size((1.0, 0.5, 0.5)),))
    with pytest.raises(FitError, match=r"its header says voxels of 1 0\.5 0\.5 um \(z y x\), the image says 2 2 2"):
        fitted(other, NAME, SHAPE, (2.0, 2.0, 2.0))


def test_on_a_projection_z_does_not_count():
    fitted(tree((5, 5, 80), (6, 6, 90)), NAME, (1, 40, 60))
