"""Corrections in a viewer without a window: the keys' actions, clicks in 2D and 3D, and what cannot be done."""

import dataclasses

import numpy as np
import pytest


pytest.importorskip("napari", reason="needs napari (make test-apps)")

from napari.components import ViewerModel

from neuron_vit3d.apps.napari.correcting import CHOSEN, CURRENT, Correction
from neuron_vit3d.apps.napari.editing import EditError, numbered
from neuron_vit3d.apps.napari.history import Session
from neuron_vit3d.apps.napari.history import Stack as Place
from neuron_vit3d.apps.napari.layers import Stack, tree_layer
from neuron_vit3d.morphology import Tree, check_tree, rasterize, tree_distance
from support.trees import FORKED


# FORKED in the middle of an image, with a doubtful twig, and a neurite (y 40, x 20 to 90) of which it knows nothing.
MOVED = dataclasses.replace(FORKED, xyz=FORKED.xyz + 10, scores=np.array([1, 0.9, 0.9, 0.9, 0.3, 0.9]))
SHAPE = (40, 60, 110)
MISSED = Tree.from_parents([[40.0, 10, 10], [40, 45, 10], [90, 45, 10]], np.full(3, 2.0), [-1, 0, 1])
SCORES = np.maximum(rasterize(MOVED, SHAPE), rasterize(MISSED, SHAPE)).astype(np.float32)
VOXEL_SIZE = (1.0, 0.5, 0.5)


@pytest.fixture
def correction():
    """A correction whose scores begin 5 voxels inside the image."""
    viewer = ViewerModel()
    data, arguments, _ = tree_layer(MOVED, "tree", scale=VOXEL_SIZE, translate=(100, 0, 0))
    layer = viewer.add_vectors(data, **arguments)
    box = tuple(slice(5, side) for side in SHAPE)
    stack = Stack("scores", SCORES[box], VOXEL_SIZE)
    session = Session.in_memory(MOVED, "one", Place("image", (5, 5, 5), stack.shape, VOXEL_SIZE))
    return Correction(viewer, layer, stack, box, session)


def world(correction, x, y, z) -> np.ndarray:
    return np.array(correction.layer.data_to_world((z, y, x)))


def test_the_least_sure_branch_is_shown_first_and_deleted(correction):
    correction.next()
    assert correction.current == 5 and "confidence 0.30" in correction.status
    shown = correction.viewer.layers[CURRENT].data
    np.testing.assert_array_equal(shown[0], [[10, 30, 40], [0, -20, 0]])
    np.testing.assert_allclose(correction.viewer.scene.camera.center, world(correction, 40, 30, 10))
    assert correction.viewer.dims.point[0] == 110
    correction.delete()
    assert 5 not in correction.tree.ids and len(correction.layer.data) == len(correction.tree) - 1
    assert correction.current is not None, "the next one is looked at"
    correction.undo()
    assert 5 in correction.tree.ids and len(correction.layer.data) == 5
    correction.redo()
    assert 5 not in correction.tree.ids


def test_what_is_kept_is_no_longer_doubtful(correction):
    correction.next()
    correction.keep()
    assert "0 doubtful" in correction.status and correction.current != 5
    assert correction.layer.features["confidence"].max() == 1


def test_a_missing_branch_is_drawn_between_two_clicks_along_the_scores(correction):
    correction.click(world(correction, 40.5, 10, 10))
    correction.click(world(correction, 90, 45, 10))
    assert len(correction.viewer.layers[CHOSEN].data) == 2
    correction.draw()
    assert check_tree(correction.tree) == [] and correction.tree.num_components == 1
    gold = Tree.from_parents(np.concatenate([MOVED.xyz, MISSED.xyz[1:]]), np.ones(8), [*MOVED.parent_index, 1, 6])
    measured = tree_distance(correction.tree, gold)
    assert measured["f1"] > 0.97, measured
    assert len(correction.viewer.layers[CHOSEN].data) == 0
    correction.undo()
    assert len(correction.tree) == 6


def test_in_3d_a_ray_finds_the_node_in_front_and_the_brightest_voxel(correction):
    correction.viewer.dims.ndisplay = 3
    down = np.array([1.0, 0, 0])
    correction.click(world(correction, 70, 10, -100), down)
    assert correction.places[0].tolist() == [70, 10, 10]
    correction.click(world(correction, 90, 45, -100), down)
    assert correction.places[1][:2].tolist() == [90, 45] and abs(correction.places[1][2] - 10) <= 2
    with pytest.raises(EditError, match="beside the image"):
        correction.click(world(correction, 500, 45, -100), down)


def test_cut_join_and_reroot_take_the_nodes_that_were_clicked(correction):
    correction.click(world(correction, 70, 10, 10))
    correction.cut()
    assert correction.tree.num_components == 2
    correction.click(world(correction, 70, 10, 30))
    correction.reroot()
    assert correction.tree.parents[correction.tree.ids == 6] == -1
    correction.click(world(correction, 10, 10, 10))
    correction.click(world(correction, 100, 10, 10))
    correction.join()
    assert correction.tree.num_components == 1 and check_tree(correction.tree) == []


def test_what_cannot_be_done_is_a_sentence(correction):
    for action, sentence in [
        (correction.delete, "no branch is chosen"),
        (correction.keep, "no branch is chosen"),
        (correction.cut, "click the node at which to cut"),
        (correction.reroot, "click the node that shall be the root"),
        (correction.join, "click two nodes"),
        (correction.draw, "click where"),
        (correction.undo, "nothing to undo"),
        (correction.redo, "nothing to make again"),
    ]:
        with pytest.raises(EditError, match=sentence):
            action()
    correction.previous()
    with pytest.raises(EditError, match="last branch"):
        correction.next()
    correction.click(world(correction, 10, 10, 10))
    correction.forget()
    assert correction.places == [] and len(correction.viewer.layers[CHOSEN].data) == 0
    correction.click(world(correction, 2, 2, 2))
    correction.click(world(correction, 60, 30, 10))
    with pytest.raises(EditError, match="outside"):
        correction.draw()


def test_of_a_large_image_a_window_is_read():
    asked = []

    class Lazy:
        shape, dtype = (500, 4000, 4000), np.dtype(np.uint8)

        def __getitem__(self, box):
            asked.append(box)
            return np.full([one.stop - one.start for one in box], 9, np.uint8)

        def __array__(self, *args, **kwargs):
            raise AssertionError("all of it was read")

    viewer = ViewerModel()
    far = dataclasses.replace(MOVED, xyz=MOVED.xyz + 2000 * np.array([1, 1, 0]))
    data, arguments, _ = tree_layer(far, "tree")
    stack = Stack("large", Lazy(), None)
    correction = Correction(viewer, viewer.add_vectors(data, **arguments), stack, stack.whole, Session.in_memory(far))
    correction.click(world(correction, 2100, 2010, 10))
    correction.click(world(correction, 2140, 2030, 10))
    assert asked == []
    correction.draw()
    (box,) = asked
    assert max(one.stop - one.start for one in box) < 120 and correction.tree.num_components == 1
    with pytest.raises(EditError, match="turn to 2D"):
        correction.click(world(correction, 2200, 2030, 0), np.array([1.0, 0, 0]))


def test_a_click_does_not_move_the_walk(correction):
    correction.next()
    correction.click(world(correction, 100, 10, 10))
    assert correction.current == 4
    correction.next()
    assert correction._place == 1


def test_the_helping_layers_go(correction):
    correction.close()
    assert [layer.name for layer in correction.viewer.layers] == ["tree"]


def test_a_tree_of_a_million_nodes_is_corrected_in_seconds():
    import time

    count = 1_000_000
    rng = np.random.default_rng(0)
    parents = np.arange(-1, count - 1)
    starts = np.arange(1000, count, 1000)
    parents[starts] = rng.integers(0, starts)
    xyz = np.cumsum(rng.normal(0, 0.5, (count, 3)), axis=0)
    tree = numbered(Tree.from_parents(xyz - xyz.min(axis=0), np.ones(count), parents))
    viewer = ViewerModel()
    data, arguments, _ = tree_layer(tree, "large")
    layer = viewer.add_vectors(data, **arguments)
    size = (np.ptp(xyz, axis=0)[::-1] + 2).astype(int)
    stack = Stack("image", np.broadcast_to(np.float32(0), size), None)
    correction = Correction(viewer, layer, stack, stack.whole, Session.in_memory(tree))
    began = time.monotonic()
    for step in ("next", "delete", "undo"):
        getattr(correction, step)()
    assert len(correction.tree) == count
    assert time.monotonic() - began < 60, "about 5 seconds on one core"
