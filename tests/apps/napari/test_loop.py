"""The whole loop in a viewer without a window: segment, walk, delete, undo, draw, killed, teach, segment again."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest


pytest.importorskip("napari", reason="needs napari (make test-apps)")
pytest.importorskip("qtpy.QtWidgets", reason="needs Qt (make test-apps)")

from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from neuron_vit3d import read_swc, synthetic_neuron, write_volume
from neuron_vit3d.apps.napari import correct_widget, teach_widget
from neuron_vit3d.apps.napari.correct_widget import CorrectWidget
from neuron_vit3d.apps.napari.history import Session
from neuron_vit3d.apps.napari.layers import tree_layer, tree_of
from neuron_vit3d.apps.napari.segment_widget import SegmentWidget
from neuron_vit3d.apps.napari.teach_widget import TeachWidget
from neuron_vit3d.apps.napari.teaching import command
from neuron_vit3d.morphology import check_tree
from support.napari_plugin import registered


NEURON = synthetic_neuron((16, 96, 96), seed=5, quality="clean", kind="dendrite")


@pytest.fixture
def viewer():
    application = QApplication.instance() or QApplication([])
    notification_manager.records.clear()
    yield ViewerModel()
    application.processEvents()


def add_neuron(viewer):
    return viewer.add_image(NEURON.volume.array, name="neuron", scale=NEURON.volume.voxel_size, units=("um",) * 3)


def wait(widget, seconds: float = 120) -> None:
    """Until the widget's work is done."""
    until = time.monotonic() + seconds
    while widget.background.is_working:
        QApplication.processEvents()
        time.sleep(0.01)
        assert time.monotonic() < until, "it takes too long"
    QApplication.processEvents()


def press(viewer, key: str) -> None:
    """Does what the viewer does for a key."""
    viewer.keymap[coerce_keybinding(key)](viewer)


def said() -> list[str]:
    return [record.message for record in notification_manager.records]


def segmented(viewer) -> SegmentWidget:
    add_neuron(viewer)
    widget = SegmentWidget(viewer)
    widget.start()
    assert widget.cancel.enabled and not widget.run.enabled
    wait(widget)
    assert widget.progress.value == 100 and widget.run.enabled
    return widget


def click(widget, viewer, x, y, z) -> None:
    """A click at a voxel of the tree's layer, as the canvas reports it."""

    class Event:
        button, modifiers, type = 1, (), "mouse_release"
        position = widget.correction.layer.data_to_world((z, y, x))

    callback = widget._clicked(viewer, Event)
    next(callback)
    assert list(callback) == []


@pytest.mark.slow
def test_the_whole_loop(viewer, tmp_path, monkeypatch):
    segment = segmented(viewer)
    assert [layer.name for layer in viewer.layers] == ["neuron", "neuron scores", "neuron tree"]
    layer = viewer.layers["neuron tree"]
    assert np.array_equal(layer.scale, viewer.layers["neuron"].scale) and check_tree(tree_of(layer)) == []

    correct = CorrectWidget(viewer, tmp_path)
    correct.start()
    press(viewer, "N")
    first = correct.correction.current
    tree = correct.correction.tree
    assert "branch 1 of" in correct.status.value
    press(viewer, "D")
    left = correct.correction.tree
    assert len(left) < len(tree) and len(tree_of(layer)) == len(left)
    press(viewer, "U")
    assert correct.correction.tree is tree
    press(viewer, "Shift-U")
    # It is drawn again between its ends.
    gone = next(one for one in tree.branches if one.end == first)
    start, end = (tree.xyz[node - 1] for node in (gone.start, gone.end))
    click(correct, viewer, *start)
    click(correct, viewer, *end)
    press(viewer, "P")
    drawn = correct.correction.tree
    assert len(drawn) > len(left) and check_tree(drawn) == []
    assert [one for one in said() if not one.startswith("dropped")] == [
        f"neuron: 1 tree(s), {tree.length:.0f} voxels long, yellow where they are doubtful"
    ]

    # Killed here: another window goes on with all of it.
    correct.correction.session.close()
    other = ViewerModel()
    add_neuron(other)
    again = CorrectWidget(other, tmp_path)
    assert again.unfinished.choices == ("neuron.1",)
    again.go_on()
    np.testing.assert_array_equal(again.correction.tree.xyz, drawn.xyz)
    np.testing.assert_array_equal(again.correction.stack.data, viewer.layers["neuron scores"].data)
    press(other, "F")
    assert again.unfinished.choices == () and (tmp_path / "corrected" / "neuron.tif").is_file()
    assert read_swc(tmp_path / "corrected" / "neuron.swc").length == pytest.approx(drawn.length)

    few = ["--max-steps", "2", "--batch-size", "2", "--tile-size", "32", "--num-workers", "0"]
    monkeypatch.setattr(teach_widget, "command", lambda *words: [*command(*words), *few])
    teach = TeachWidget(other, tmp_path)
    assert teach.stacks.value == "1: neuron" and not teach.again.enabled
    teach.start()
    wait(teach, 300)
    assert teach.again.enabled, teach.log.value
    assert "neuron-vit3d train --data" in teach.log.value

    assert said()[-1].endswith(f"({teach.place.taught()})"), said()[-1]
    segment.model.value = teach.place.taught()
    segment.start()
    wait(segment)
    assert "neuron scores [1]" in viewer.layers, said()


def test_bad_input_is_one_sentence_each(viewer, tmp_path):
    segment, correct, teach = SegmentWidget(viewer), CorrectWidget(viewer, tmp_path), TeachWidget(viewer, tmp_path)
    segment.run.native.click()
    correct.start_button.native.click()
    correct.buttons["delete"].native.click()
    correct.go_on_button.native.click()
    correct.done_button.native.click()
    teach.run.native.click()
    viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True, name="color")
    segment.run.native.click()
    viewer.layers.clear()
    viewer.add_image(np.zeros((20, 30)), name="flat")
    segment.run.native.click()
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 8, 40, 40), np.uint8), name="series")
    segment.run.native.click()
    viewer.layers.clear()
    viewer.add_image(np.full((8, 40, 40), 7, np.uint8), name="constant", contrast_limits=(0, 10))
    segment.run.native.click()
    wait(segment)
    expected = [
        *("there is no image", "there is no tree", "no tree is being corrected", "no unfinished", "no tree is being"),
        *("holds no corrected stack", "color: is a colored", "flat: is one 2D", "series: has 4 axes"),
        "constant: expected an image, got the value 7 in every voxel",
    ]
    for sentence, part in zip(said(), expected, strict=True):
        assert part in sentence and "\n" not in sentence
    assert segment.run.enabled and not segment.cancel.enabled


def test_a_box_is_segmented_and_its_tree_lies_in_the_image(viewer):
    add_neuron(viewer)
    widget = SegmentWidget(viewer)
    widget.add_box()
    assert widget.box.value is viewer.layers["box"]
    widget.run.native.click()
    assert "no rectangle is drawn" in said()[-1]
    z = 0
    viewer.layers["box"].add_rectangles(np.array([[z, 20, 10], [z, 20, 73], [z, 83, 73], [z, 83, 10]]))
    widget.start()
    wait(widget)
    scores = viewer.layers["neuron scores"]
    assert scores.data.shape == (16, 64, 64)
    np.testing.assert_allclose(scores.translate, np.array(NEURON.volume.voxel_size) * [0, 20, 10])
    if "neuron tree" in viewer.layers:
        xyz = tree_of(viewer.layers["neuron tree"]).xyz
        assert (xyz >= [9.5, 19.5, -0.5]).all() and (xyz <= [73.5, 83.5, 15.5]).all()


def test_it_can_be_cancelled_and_closed_while_it_works(viewer):
    add_neuron(viewer)
    widget = SegmentWidget(viewer)
    widget.start()
    widget.cancel.native.click()
    wait(widget)
    assert [layer.name for layer in viewer.layers] == ["neuron"] and widget.run.enabled
    widget.start()
    widget.background.close()
    wait(widget)
    assert [layer.name for layer in viewer.layers] == ["neuron"] and said() == []


def test_two_neurons_become_two_trees(viewer):
    other = synthetic_neuron((16, 96, 96), seed=6, quality="clean", kind="dendrite").volume.array
    dark = np.full((16, 96, 30), NEURON.volume.array.min())
    viewer.add_image(np.concatenate([NEURON.volume.array, dark, other], axis=2), name="two")
    widget = SegmentWidget(viewer)
    widget.neurons.value = 2
    widget.start()
    wait(widget)
    names = [layer.name for layer in viewer.layers]
    assert names == ["two", "two scores", "two tree 1", "two tree 2"]
    sides = sorted(tree_of(viewer.layers[name]).xyz[:, 0].mean() > 111 for name in names[2:])
    assert sides == [False, True]


def teaching(viewer, tmp_path, monkeypatch, code: str) -> TeachWidget:
    """The widget with a corrected stack, while a program of our own runs in the place of the training."""
    (tmp_path / "corrected").mkdir()
    for suffix in ("tif", "swc"):
        (tmp_path / "corrected" / f"one.{suffix}").write_text("")
    monkeypatch.setattr(teach_widget, "command", lambda *_: [sys.executable, "-u", "-c", code])
    widget = TeachWidget(viewer, tmp_path)
    widget.run.native.click()
    assert widget.cancel.enabled and not widget.run.enabled
    return widget


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_teaching_can_be_cancelled_and_closed(viewer, tmp_path, monkeypatch, how):
    code = "import time\nprint('step 1')\ntime.sleep(60)"
    widget = teaching(viewer, tmp_path, monkeypatch, code)
    until = time.monotonic() + 20
    while "step 1" not in widget.log.value and time.monotonic() < until:
        QApplication.processEvents()
    widget.cancel.native.click() if how == "cancel" else widget.background.close()
    wait(widget, 20)
    assert said() == [] and "step 1" in widget.log.value


def test_why_teaching_failed_is_said(viewer, tmp_path, monkeypatch):
    code = "print('begun'); print('one.swc: no node in the file'); raise SystemExit(1)"
    widget = teaching(viewer, tmp_path, monkeypatch, code)
    wait(widget, 20)
    assert said() == ["one.swc: no node in the file"] and widget.run.enabled and not widget.again.enabled


def test_a_tree_from_a_file_is_corrected_on_its_image(viewer, tmp_path):
    image = add_neuron(viewer)

    def add(tree, name):
        data, arguments, _ = tree_layer(tree, name)
        return viewer.add_vectors(data, **arguments)

    layer = add(NEURON.tree, "mine")
    widget = CorrectWidget(viewer, tmp_path)
    widget.start()
    assert np.array_equal(layer.scale, image.scale) and widget.correction.stack.shape == NEURON.volume.shape
    press(viewer, "N")
    viewer.layers.remove(layer)
    assert widget.correction is None and not any("N" == str(key) for key in viewer.keymap)
    add(replace(NEURON.tree, xyz=NEURON.tree.xyz * 20), "far")
    widget.start_button.native.click()
    assert "nodes lie outside of neuron" in said()[-1]


def test_going_on_opens_the_image_that_was_corrected(viewer, tmp_path):
    write_volume(tmp_path / "mine.v3draw", NEURON.volume)
    with registered():
        (image,) = viewer.open(str(tmp_path / "mine.v3draw"), plugin="neuron_vit3d")
    data, arguments, _ = tree_layer(NEURON.tree, "tree")
    viewer.add_vectors(data, **arguments)
    widget = CorrectWidget(viewer, tmp_path)
    widget.start()
    press(viewer, "N")
    press(viewer, "D")
    number, left = len(widget.correction.tree), widget.correction.tree
    widget.stop()
    other = ViewerModel()
    again = CorrectWidget(other, tmp_path)
    with registered():
        again.go_on_button.native.click()
    assert said() == [] and [layer.name for layer in other.layers][:2] == ["mine", "mine.1"]
    assert len(again.correction.tree) == number
    np.testing.assert_array_equal(again.correction.tree.parents, left.parents)
    press(other, "U")
    assert len(again.correction.tree) > number
    again.discard_button.native.click()
    assert again.correction is None and again.unfinished.choices == ()
    assert image.data.shape == NEURON.volume.shape


def test_a_widget_that_was_closed_leaves_the_viewer_alone(viewer, tmp_path):
    add_neuron(viewer)
    data, arguments, _ = tree_layer(NEURON.tree, "mine")
    viewer.add_vectors(data, **arguments)
    widgets = [SegmentWidget(viewer), CorrectWidget(viewer, tmp_path), TeachWidget(viewer, tmp_path)]
    keys, session = set(viewer.keymap), None
    widgets[1].start()
    session = widgets[1].correction.session
    assert set(viewer.keymap) > keys
    for widget in widgets:
        widget.native.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    assert widgets[1].correction is None and set(viewer.keymap) == keys
    assert [layer.name for layer in viewer.layers] == ["neuron", "mine"]
    viewer.add_image(NEURON.volume.array, name="another")
    viewer.layers.clear()
    Session.go_on(tmp_path / "sessions", session.name).close()
    assert said() == []


def test_a_box_of_a_pyramid_is_segmented(viewer):
    import dask.array

    large = np.zeros((20, 1200, 1200), np.uint8)
    large[2:18, 700:796, 900:996] = (NEURON.volume.array / NEURON.volume.array.max() * 255).astype(np.uint8)
    levels = [dask.array.from_array(large[:, ::step, ::step], chunks=(10, 64, 64)) for step in (1, 2, 4)]
    layer = viewer.add_image(levels, multiscale=True, name="large", scale=(2, 0.5, 0.5), contrast_limits=(0, 255))
    layer.data_level = 2
    widget = SegmentWidget(viewer)
    shapes = viewer.add_shapes(ndim=3, name="box", scale=(2, 0.5, 0.5))
    shapes.add_rectangles(np.array([[5, 690, 890], [5, 690, 1005], [5, 805, 1005], [5, 805, 890]]))
    widget.start()
    wait(widget)
    assert viewer.layers["large scores"].data.shape == (20, 116, 116)
    xyz = tree_of(viewer.layers["large tree"]).xyz
    assert (xyz.min(axis=0) > [889, 689, -1]).all() and (xyz.max(axis=0) < [1006, 806, 20]).all()
    np.testing.assert_allclose(viewer.layers["large tree"].scale, (2, 0.5, 0.5))


def test_the_widgets_know_each_others_keys():
    keys = [key for key, _, _ in correct_widget.KEYS] + [correct_widget.DONE_KEY]
    assert len(set(keys)) == len(keys)
