"""A tree's layer is saved as SWC that every program takes; vectors that are no tree are not."""

import numpy as np
import pytest


pytest.importorskip("napari", reason="needs napari (make test-apps)")

from napari.layers import Vectors
from napari.utils.notifications import notification_manager

from neuron_vit3d.apps.napari.editing import Draw, Reroot, apply, numbered
from neuron_vit3d.apps.napari.layers import tree_layer
from neuron_vit3d.apps.napari.writer import write_swc
from neuron_vit3d.morphology import read_swc
from support.trees import FORKED


def test_a_corrected_tree_is_saved_with_parents_first(tmp_path):
    tree = apply(apply(numbered(FORKED), Reroot(6)), Draw(((1.0, 2, 3),), (1.5,), start=1))
    data, arguments, _ = tree_layer(tree, "one")
    layer = Vectors(data, **arguments)
    path = str(tmp_path / "one.swc")
    assert write_swc(path, layer.data, layer.as_layer_data_tuple()[1]) == [path]
    back = read_swc(path)
    assert back.ids.tolist() == [1, 2, 3, 4, 5, 6, 7] and (back.parent_index < np.arange(7)).all()
    assert back.length == pytest.approx(tree.length) and back.xyz[0].tolist() == FORKED.xyz[5].tolist()


def test_vectors_without_a_tree_and_places_that_cannot_be_written_are_a_sentence(tmp_path):
    notification_manager.records.clear()
    layer = Vectors(np.zeros((1, 2, 3)), name="arrows")
    assert write_swc(str(tmp_path / "one.swc"), layer.data, layer.as_layer_data_tuple()[1]) == []
    data, arguments, _ = tree_layer(FORKED, "one")
    assert write_swc(str(tmp_path / "nowhere" / "one.swc"), data, arguments) == []
    said = [record.message for record in notification_manager.records]
    assert "arrows" in said[0] and "No such file or directory" in said[1]
    assert not any(tmp_path.iterdir())
