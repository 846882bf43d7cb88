"""Layers are checked in a sentence, boxes and voxel sizes understood, and a tree's layer shows its confidence."""

import dataclasses

import numpy as np
import pytest


pytest.importorskip("napari", reason="needs napari (make test-apps)")

from napari.layers import Image, Labels, Vectors

from neuron_vit3d.apps.napari.editing import Delete, apply, numbered
from neuron_vit3d.apps.napari.layers import (
    DOUBT_COLOR,
    SURE_COLOR,
    LayerError,
    box_of,
    show,
    stack_of,
    tree_layer,
    tree_of,
    voxel_size_of,
)
from neuron_vit3d.volumes import VolumeError
from support.trees import FORKED


IMAGE = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
SCORED = numbered(dataclasses.replace(FORKED, scores=np.array([1, 0.95, 0.95, 0.2, 0.8, 0.95])))


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (None, "there is no image"),
        (Image(np.zeros((4, 6, 3), np.uint8), rgb=True, name="one"), "one: is a colored"),
        (Image(IMAGE[0], name="one"), "one: is one 2D image"),
        (Image(IMAGE[:1], name="one"), "one: is one 2D image"),
        (Image(np.stack([IMAGE, IMAGE]), name="one"), r"one: has 4 axes \(shape 2 x 4 x 6 x 8\), as a time series"),
        (Labels(IMAGE, name="one"), "one: expected an image layer, got one of labels"),
    ],
)
def test_what_is_no_stack_is_refused_in_a_sentence(layer, sentence):
    with pytest.raises(LayerError, match=sentence):
        stack_of(layer)


def test_of_a_stack_only_a_box_is_read():
    stack = stack_of(Image(IMAGE[None], name="one", scale=(1, 2, 0.5, 0.5)))
    assert stack.shape == (4, 6, 8) and stack.voxel_size == (2, 0.5, 0.5)
    box = (slice(1, 3), slice(2, 6), slice(0, 5))
    volume = stack.volume(box)
    np.testing.assert_array_equal(volume.array, IMAGE[box])
    assert volume.voxel_size == (2, 0.5, 0.5)
    with pytest.raises(LayerError, match="outside"):
        stack.volume((slice(1, 1), slice(0, 2), slice(0, 2)))


def test_of_a_pyramid_the_highest_resolution_is_taken():
    asked = []

    class Lazy:
        shape, dtype, ndim, size = (2000, 2000, 2000), np.dtype(np.uint8), 3, 8_000_000_000

        def __getitem__(self, box):
            asked.append(box)
            return np.zeros([one.stop - one.start for one in box], np.uint8)

        def __array__(self, *args, **kwargs):
            raise AssertionError("all of it was read")

    layer = Image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], multiscale=True, name="large")
    stack = dataclasses.replace(stack_of(layer), data=Lazy())
    with pytest.raises(LayerError, match="2000 x 2000 x 2000 voxels are too many"):
        stack.volume(stack.whole)
    box = (slice(100, 110), slice(0, 5), slice(0, 5))
    assert stack.volume(box).shape == (10, 5, 5) and asked == [box]
    assert stack_of(layer).shape == (8, 8, 8)


def test_voxels_that_are_no_numbers_are_refused():
    stack = dataclasses.replace(stack_of(Image(IMAGE)), data=IMAGE.astype("M8[s]"))
    with pytest.raises(VolumeError):
        stack.volume(stack.whole)


def test_units_of_length_become_micrometres():
    assert voxel_size_of(Image(IMAGE)) is None
    assert voxel_size_of(Image(IMAGE, scale=(3, 1, 1))) == (3, 1, 1)
    assert voxel_size_of(Image(IMAGE, scale=(500, 100, 100), units=("nm",) * 3)) == pytest.approx((0.5, 0.1, 0.1))
    assert voxel_size_of(Image(IMAGE, units=("um",) * 3)) == (1, 1, 1)
    assert voxel_size_of(Image(IMAGE, scale=(1, -2, 2))) == (1, 2, 2)


def test_a_rectangle_marks_a_box():
    layer = Image(IMAGE, scale=(2, 0.5, 0.5), translate=(10, 0, 0))
    flat = np.array([[14, 0.5, 1.0], [14, 0.5, 2.0], [14, 2.0, 2.0], [14, 2.0, 1.0]])
    assert box_of(flat, layer) == (slice(0, 4), slice(1, 5), slice(2, 5))
    assert box_of(flat[:, 1:], layer) == (slice(0, 4), slice(1, 5), slice(2, 5))
    deep = flat + [[-2], [-2], [0], [0]] * np.array([1, 0, 0])
    assert box_of(deep, layer)[0] == slice(1, 3)
    assert box_of(flat + np.array([0, 1.5, 0]), layer)[1] == slice(4, 6)
    with pytest.raises(LayerError, match="outside"):
        box_of(flat + np.array([0, 50, 0]), layer)


def test_a_tree_is_vectors_colored_by_confidence():
    data, arguments, kind = tree_layer(SCORED, "tree")
    layer = Vectors(data, **arguments)
    assert kind == "vectors" and tree_of(layer) is SCORED
    ends = layer.data.sum(axis=1)[:, ::-1]
    np.testing.assert_array_equal(ends, SCORED.xyz[SCORED.parent_index[1:]])
    np.testing.assert_allclose(layer.edge_color[0, :3], SURE_COLOR)
    np.testing.assert_allclose(layer.edge_color[2, :3], DOUBT_COLOR)
    assert DOUBT_COLOR[1] > layer.edge_color[3, 1] > SURE_COLOR[1]
    assert layer.features["confidence"].tolist() == [0.95, 0.95, 0.2, 0.8, 0.95]
    show(layer, apply(SCORED, Delete(4)))
    assert len(layer.data) == 4 and len(layer.edge_color) == 4 and len(tree_of(layer)) == 5


def test_a_lone_node_is_seen_and_an_ordinary_layer_is_no_tree():
    data, _, _ = tree_layer(numbered(dataclasses.replace(FORKED, parents=[-1, -1, 2, 3, 2, 3])), "tree")
    assert (data[:, 1] == 0).all(axis=1).sum() == 1
    with pytest.raises(LayerError, match="there is no tree"):
        tree_of(None)
    with pytest.raises(LayerError, match="one: is no tree"):
        tree_of(Vectors(np.zeros((1, 2, 3)), name="one"))
