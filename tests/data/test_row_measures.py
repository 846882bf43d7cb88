"""What a row of "volumes" tells of its neuron: measures beside those of `measure`, and a picture."""

import numpy as np
import pytest

from neuron_vit3d import measure, read_swc, synthetic_neuron
from neuron_vit3d.data.row_measures import as_cell, row_measures
from neuron_vit3d.morphology import Tree


@pytest.mark.parametrize("voxel_size", [None, (1.0, 0.5, 0.25)])
def test_measures_are_those_of_measure(voxel_size):
    neuron = synthetic_neuron((16, 64, 64), seed=3)
    told = row_measures(neuron.tree, (16, 64, 64), voxel_size)
    figures = measure(neuron.tree).figures
    assert {name: told[name] for name in ("nodes", "branch_points", "tips", "branches")} == {
        name: figures[name] for name in ("nodes", "branch_points", "tips", "branches")
    }
    assert told["length"] == pytest.approx(figures["length"])
    if voxel_size is None:
        assert told["length_um"] is None and told["extent_um"] is None
    else:
        assert told["length_um"] == pytest.approx(measure(neuron.tree, voxel_size=voxel_size).figures["length"])
        assert told["extent_um"] == [16.0, 32.0, 16.0]


def test_a_tree_without_edges_is_measured_too(tmp_path):
    (tmp_path / "a.swc").write_text("1 0 1 1 1 1 -1\n")
    tree = read_swc(tmp_path / "a.swc")
    assert isinstance(tree, Tree)
    told = row_measures(tree, (2, 3, 4), (1.0, 1.0, 1.0))
    assert (told["nodes"], told["length"], told["length_um"], told["tips"]) == (1, 0.0, 0.0, 0)


def test_a_picture_is_a_png():
    from PIL import Image

    cell = as_cell(Image.fromarray(np.zeros((2, 3, 3), np.uint8)))
    assert cell["bytes"].startswith(b"\x89PNG") and cell["path"] is None
