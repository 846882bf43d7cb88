"""The plugin in a real napari window: python benchmarks/napari_window.py FOLDER [SAMPLE]

Opens a sample (synthetic, or dendrites, which are real), segments it, shows its most doubtful branch, deletes it,
draws it again, marks the neuron done, and opens "Teach", as a person would: by the widgets' buttons, keys and clicks.
A picture of the window is saved at every step. Without a screen: xvfb-run -s "-screen 0 1600x1000x24" (software
OpenGL: LIBGL_ALWAYS_SOFTWARE=1).
"""

import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from napari.utils.key_bindings import coerce_keybinding
from npe2 import DynamicPlugin, PluginManager, PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

import neuron_vit3d.apps.napari as plugin
from neuron_vit3d.apps.napari.layers import KEY


SIZE = (1500, 950)


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    manager = PluginManager.instance()
    manager.discover()
    if "neuron_vit3d" in manager:
        work(folder)
    else:  # the package is not installed, but on the path
        manifest = PluginManifest.from_file(Path(plugin.__file__).with_name("napari.yaml"))
        with DynamicPlugin("neuron_vit3d", manager, manifest):
            work(folder)
    return 0


def work(folder: Path) -> None:
    """Does what a person would."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    (image,) = viewer.open_sample("neuron_vit3d", sys.argv[2] if len(sys.argv) > 2 else "synthetic")
    _, segment = viewer.window.add_plugin_dock_widget("neuron_vit3d", "Segment and trace")
    segment.run.native.click()
    wait(lambda: segment.progress.value > 40)
    save(viewer, folder / "1_segmenting.png")
    wait(lambda: not segment.background.is_working)
    settle()
    save(viewer, folder / "2_segmented.png")

    _, correct = viewer.window.add_plugin_dock_widget("neuron_vit3d", "Correct", tabify=True)
    viewer.window.resize(*SIZE)
    with tempfile.TemporaryDirectory() as place:
        correct.folder.value = Path(place)
        correct.start_button.native.click()
        viewer.dims.ndisplay = 3
        image.rendering = "mip"
        press(viewer, "N")
        save(viewer, folder / "3_doubtful_branch.png")
        tree = correct.correction.tree
        end = correct.correction.current
        branch = next(one for one in tree.branches if one.end == end)
        ends = [tree.xyz[int(np.flatnonzero(tree.ids == one)[0])] for one in (branch.start, branch.end)]
        click(viewer, correct, ends[1])  # by the mouse, on the branch itself
        assert correct.correction.places and correct.correction.current == end, correct.correction.status
        QTest.keyClick(canvas_of(viewer), Qt.Key.Key_Escape)
        QTest.keyClick(canvas_of(viewer), Qt.Key.Key_D)
        assert len(correct.correction.tree) < len(tree), "the key was not heard"
        correct.correction._look_at(np.array(ends)[:, ::-1])
        for point in ends:
            correct.correction.choose(point, None)
        save(viewer, folder / "4_deleted_and_two_places_chosen.png")
        QTest.keyClick(canvas_of(viewer), Qt.Key.Key_P)
        correct.correction._look_at(np.array(ends)[:, ::-1])
        save(viewer, folder / "5_drawn.png")
        viewer.dims.ndisplay = 2
        press(viewer, "N")
        save(viewer, folder / "6_in_a_slice.png")
        press(viewer, "F")
        _, teach = viewer.window.add_plugin_dock_widget("neuron_vit3d", "Teach", tabify=True)
        teach.folder.value = Path(place)
        viewer.dims.ndisplay = 3
        viewer.reset_view()
        save(viewer, folder / "7_done_and_teach.png")
        print(f"{KEY}: {len(tree)} nodes, {correct.correction.status}")
        # Closed while it works.
        segment.run.native.click()
        wait(lambda: segment.progress.value > 10)
        began = time.monotonic()
        viewer.close()
        settle()
        print(f"closed while it worked, in {time.monotonic() - began:.1f} s")


def canvas_of(viewer: napari.Viewer):
    """The widget that hears the mouse and keys."""
    return viewer.window._qt_viewer.canvas.native


def click(viewer: napari.Viewer, correct, point: np.ndarray) -> None:
    """Clicks on a place of the tree, x y z in voxels, after it was moved to the middle of the canvas."""
    layer = correct.correction.layer
    viewer.scene.camera.center = layer.data_to_world(tuple(point[::-1]))
    settle()
    canvas = canvas_of(viewer)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    settle()


def press(viewer: napari.Viewer, key: str) -> None:
    """Does what the viewer does for a key."""
    viewer.keymap[coerce_keybinding(key)](viewer)


def wait(ready, seconds: float = 300) -> None:
    """Until something is so."""
    until = time.monotonic() + seconds
    while not ready():
        QApplication.processEvents()
        time.sleep(0.02)
        if time.monotonic() > until:
            raise TimeoutError("it takes too long")


def settle(seconds: float = 1.0) -> None:
    """Lets the window draw."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.02)


def save(viewer: napari.Viewer, path: Path) -> None:
    """Saves a picture of the window."""
    settle()
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    print(path, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
