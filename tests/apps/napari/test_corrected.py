"""The folder of corrections: sessions that go on, a training set of what is done, and nothing written over."""

import numpy as np
import pytest

from neuron_vit3d import read_swc, read_volume
from neuron_vit3d.apps.napari.corrected import Folder, FolderError, stack_name, together
from neuron_vit3d.apps.napari.editing import Delete, numbered
from neuron_vit3d.apps.napari.history import SessionError
from neuron_vit3d.apps.napari.layers import Stack
from neuron_vit3d.morphology import Tree
from support.trees import FORKED


IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50, 120), dtype=np.uint8)
STACK = Stack("my image!", IMAGE, (0.5, 0.1, 0.1))
BOX = (slice(0, 30), slice(5, 45), slice(10, 110))
TREE = numbered(
    Tree.from_parents(FORKED.xyz + np.array([12, 10, 2]), FORKED.radii, FORKED.parent_index, comments=["by somebody"])
)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "mine")


def begin(folder, neuron=1, box=BOX, **more):
    return folder.begin(TREE, STACK, box, image="image.tif", neuron=neuron, **more)


def test_a_done_neuron_is_a_pair_of_the_training_set(folder):
    session = begin(folder)
    session.do(Delete(5))
    assert folder.unfinished() == [session.name] and folder.stacks() == []
    written = folder.done(session, STACK)
    assert folder.stacks() == ["my_image_z0-30_y5-45_x10-110"] and folder.unfinished() == []
    volume = read_volume(written.with_suffix(".tif"))
    np.testing.assert_array_equal(volume.array, IMAGE[BOX])
    assert volume.voxel_size == pytest.approx(STACK.voxel_size)
    np.testing.assert_array_equal(read_swc(written).xyz, session.tree.xyz - [10, 5, 0])


def test_neurons_of_one_stack_are_one_tree_file_and_one_done_again_replaces_itself(folder):
    for number in (1, 2):
        session = begin(folder, number)
        written = folder.done(session, STACK)
        session.close()
    assert len(read_swc(written).roots) == 2 and len(folder.stacks()) == 1
    session = begin(folder, 2)
    session.do(Delete(5))
    folder.done(session, STACK)
    assert len(read_swc(written)) == 2 * len(TREE) - 1


def test_after_a_kill_all_is_there_but_what_is_unfinished_is_not_written_over(folder):
    scores = np.random.default_rng(1).random((30, 40, 100)).astype(np.float32)
    session = begin(folder, scores=scores)
    session.do(Delete(5))
    session.close()
    with pytest.raises(SessionError, match="unfinished"):
        begin(folder)
    again, kept = folder.go_on(session.name)
    np.testing.assert_array_equal(again.tree.xyz, session.tree.xyz)
    np.testing.assert_array_equal(kept, scores)
    assert again.stack.offset == (0, 5, 10) and again.stack.image == "image.tif"
    again.close()
    (folder.sessions / f"{session.name}.scores.tif").write_bytes(b"II*\0cut off")
    again, kept = folder.go_on(session.name)
    assert kept is None
    again.close()
    folder.discard(session.name)
    assert folder.unfinished() == []
    begin(folder).close()


def test_another_image_of_the_same_name_is_not_mixed_in(folder):
    session = begin(folder)
    folder.done(session, STACK)
    with pytest.raises(FolderError, match="another image of this name"):
        folder.done(session, Stack(STACK.name, IMAGE[::-1], STACK.voxel_size))
    with pytest.raises(FolderError, match="larger image than small"):
        folder.done(session, Stack("small", IMAGE[:20], STACK.voxel_size))


def test_what_leaves_the_box_is_left_out_of_the_training_set(folder):
    box = (slice(0, 30), slice(5, 45), slice(10, 60))
    session = begin(folder, box=box)
    written = folder.done(session, STACK)
    kept = read_swc(written)
    assert len(kept) < len(TREE) and (kept.xyz <= [49.5, 39.5, 29.5]).all()
    far = begin(folder, box=(slice(30, 40), slice(40, 50), slice(0, 10)))
    with pytest.raises(FolderError, match="nothing of the tree"):
        folder.done(far, STACK)


def test_other_stacks_make_another_model_and_the_same_ones_the_same(folder):
    assert folder.taught() is None
    session = begin(folder)
    folder.done(session, STACK)
    first = folder.model_for("default")
    assert first == folder.model_for("default") != folder.model_for("mine")
    session.do(Delete(5))
    folder.done(session, STACK)
    assert folder.model_for("default") != first and first.parent == folder.path
    first.mkdir()
    assert folder.taught() is None
    (first / "config.json").write_text("{}")
    assert folder.taught() == first


def test_names_are_good_for_files():
    assert stack_name(STACK, STACK.whole) == "my_image"
    assert stack_name(Stack("../..", IMAGE, None), STACK.whole) == "image"


def test_a_forest_keeps_every_edge():
    forest = together([TREE, FORKED])
    assert forest.length == pytest.approx(TREE.length + FORKED.length) and len(forest.roots) == 2
