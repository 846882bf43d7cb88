"""The widget "Correct": goes through the branches of a tree, least sure first, and mends them by keys."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from magicgui.widgets import ComboBox, Container, FileEdit, Label, PushButton
from qtpy.QtCore import Qt

from .corrected import Folder, box_of_session, plain_name
from .correcting import Correction
from .history import Session
from .layers import KEY, LayerError, Stack, stack_of, tree_layer, tree_of
from .reader import get_reader
from .segment_widget import chosen_box
from .teach_widget import HOME
from .telling import tell
from .walking import with_more_nodes
from .widget_parts import EXPECTED, is_image, layer_choice, telling


# Key, what its button says, the method of Correction.
KEYS = (
    ("N", "Next branch", "next"),
    ("B", "Back", "previous"),
    ("K", "Keep, it is right", "keep"),
    ("D", "Delete branch", "delete"),
    ("P", "Draw path", "draw"),
    ("C", "Cut", "cut"),
    ("J", "Join", "join"),
    ("R", "Re-root", "reroot"),
    ("U", "Undo", "undo"),
    ("Shift-U", "Redo", "redo"),
    ("Escape", "Forget clicks", "forget"),
)
DONE_KEY = "F"


class CorrectWidget(Container):
    """Corrects one tree at a time; every edit is on disk as soon as it is made."""

    def __init__(self, viewer: "napari.viewer.Viewer", folder: Path = HOME):
        self._viewer = viewer
        self.correction: Correction | None = None
        self._bound: list[str] = []
        self.tree = layer_choice(viewer, "tree", _is_tree)
        self.image = layer_choice(
            viewer,
            "image",
            is_image,
            tooltip="For a tree from a file: the image that it is of.",
        )
        self.box = layer_choice(
            viewer,
            "box",
            lambda layer: type(layer).__name__ == "Shapes",
            follows=False,
            tooltip="For a tree from a file: the part of its image that is corrected. None: the whole.",
        )
        self.folder = FileEdit(label="folder", mode="d", value=folder, tooltip="Where corrections lie.")
        self.start_button = PushButton(text="Correct this tree")
        self.unfinished = ComboBox(label="unfinished", choices=self._unfinished)
        self.go_on_button = PushButton(text="Go on")
        self.discard_button = PushButton(text="Discard")
        self.status = Label(label="", value="choose a tree")
        self.buttons = {name: PushButton(text=f"{words} ({key})") for key, words, name in KEYS}
        self.done_button = PushButton(text=f"Neuron is done ({DONE_KEY})")
        pairs = list(self.buttons.values())
        rows = [
            Container(widgets=pairs[i : i + 2], layout="horizontal", labels=False) for i in range(0, len(pairs), 2)
        ]
        late = Container(widgets=[self.go_on_button, self.discard_button], layout="horizontal", labels=False)
        super().__init__(
            widgets=[
                *(self.tree, self.image, self.box, self.folder, self.start_button, self.unfinished, late),
                *(self.status, *rows, self.done_button),
            ]
        )
        self.status.native.setWordWrap(True)
        self.status.min_height = 72  # four lines, so that buttons stay where they are
        for button in (*pairs, self.done_button, self.start_button, self.go_on_button):
            button.native.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys go on reaching the canvas
        self.start_button.changed.connect(telling(self.start))
        self.go_on_button.changed.connect(telling(self.go_on))
        self.discard_button.changed.connect(telling(self.discard))
        self.done_button.changed.connect(telling(self.done))
        for name, button in self.buttons.items():
            button.changed.connect(telling(self._action(name)))
        self.folder.changed.connect(lambda *_: self.unfinished.reset_choices())
        self.native.destroyed.connect(self._leave)
        viewer.layers.events.removed.connect(self._layer_went)

    @property
    def place(self) -> Folder:
        return Folder(Path(self.folder.value))

    def start(self) -> None:
        """Begins to correct the tree that is chosen.

        Raises:
            LayerError: there is none, or its image is not what is needed.
            SessionError, OSError: its edits cannot be kept.
        """
        layer = self.tree.value
        tree, held = tree_of(layer), {} if layer is None else layer.metadata[KEY]
        scores = held.get("scores")
        if "stack" in held:
            stack, box, image = held["stack"], held["box"], held["image"]
        else:  # from a file
            image_layer = self.image.value
            stack = stack_of(image_layer)
            box, image = chosen_box(self.box.value, image_layer), _path_of(image_layer)
            stack.check(box)
            _check_inside(tree, stack, layer.name)
            _place_like(layer, image_layer)
            tree = with_more_nodes(tree)
        self.stop()
        session = self.place.begin(tree, stack, box, image=image, neuron=held.get("neuron", 1), scores=scores)
        self._begin(layer, stack, box, scores, session)

    def go_on(self) -> None:
        """Goes on with the unfinished corrections that are chosen, as after the program was killed.

        Raises:
            LayerError: their image is not open.
            SessionError, FolderError: they cannot be read, or are of another image.
        """
        name = self.unfinished.value
        if name is None:
            raise LayerError("no unfinished corrections are chosen")
        self.stop()
        session, scores = self.place.go_on(name)
        try:
            image_layer = self._image_of(session)
            stack = stack_of(image_layer)
            box = box_of_session(session, stack)
            data, arguments, _ = tree_layer(session.tree, name)
            layer = self._viewer.add_vectors(data, **arguments)
            _place_like(layer, image_layer)
            number = int(name.rsplit(".", 1)[-1]) if name.rsplit(".", 1)[-1].isdigit() else 1
            about = {"stack": stack, "box": box, "image": session.stack.image, "neuron": number, "scores": scores}
            layer.metadata[KEY].update(about)
        except BaseException:
            session.close()
            raise
        self._begin(layer, stack, box, scores, session)

    def discard(self) -> None:
        """Takes the unfinished corrections that are chosen off the list."""
        name = self.unfinished.value
        if name is None:
            raise LayerError("no unfinished corrections are chosen")
        if self.correction is not None and self.correction.session.name == name:
            self.stop()
        self.place.discard(name)
        self.unfinished.reset_choices()

    def done(self) -> None:
        """Adds the neuron to the training set.

        Raises:
            LayerError: no tree is being corrected.
            FolderError, VolumeError, OSError: it cannot be written.
        """
        correction = self._current()
        written = self.place.done(correction.session, self._stack)
        tell(f"{written}: written; {len(self.place.stacks())} corrected stack(s) to teach")
        self.unfinished.reset_choices()

    def stop(self) -> None:
        """Ends the correction; its edits are on disk."""
        if self.correction is not None:
            self._leave()
            self.unfinished.reset_choices()

    def _leave(self, *_: Any) -> None:
        """Takes keys, clicks and helping layers from the viewer; the widget itself may be gone."""
        if self.correction is None:
            return
        correction, self.correction = self.correction, None
        self._unbind()
        if self._clicked in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._clicked)
        try:
            correction.close()
        except RuntimeError:  # the window is gone as well
            correction.session.close()

    def _begin(self, layer: Any, stack: Stack, box: Any, scores: np.ndarray | None, session: Session) -> None:
        self._stack = stack
        if scores is None:
            source, where = stack, stack.whole
        else:
            source, where = Stack(f"{stack.name} scores", scores, stack.voxel_size), box
        self.correction = Correction(self._viewer, layer, source, where, session)
        self.correction.changed = self._tell
        for key, _, name in KEYS:
            self._bind(key, telling(self._action(name)))
        self._bind(DONE_KEY, telling(self.done))
        self._viewer.mouse_drag_callbacks.append(self._clicked)
        self._tell()

    def _bind(self, key: str, action: Callable[..., None]) -> None:
        def pressed(viewer: Any) -> None:
            action()

        self._viewer.bind_key(key, pressed, overwrite=True)
        self._bound.append(key)

    def _unbind(self) -> None:
        for key in self._bound:
            self._viewer.bind_key(key, None, overwrite=True)
        self._bound = []

    def _action(self, name: str) -> Callable[[], None]:
        def action() -> None:
            getattr(self._current(), name)()

        return action

    def _current(self) -> Correction:
        if self.correction is None:
            raise LayerError('no tree is being corrected: choose one and press "Correct this tree"')
        return self.correction

    def _clicked(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click without a drag chooses."""
        if event.button != 1 or event.modifiers:
            return
        position, moved = np.array(event.position), False
        yield
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved and self.correction is not None:
            direction = None if viewer.dims.ndisplay == 2 else np.array(event.view_direction)
            correction = self.correction
            telling(lambda: correction.click(position, direction))()

    def _tell(self) -> None:
        if self.correction is not None:
            self.status.value = self.correction.status
            self.unfinished.reset_choices()

    def _unfinished(self, _: Any) -> list[str]:
        try:
            return self.place.unfinished()
        except EXPECTED:
            return []

    def _image_of(self, session: Session) -> Any:
        """The layer of the image that a session was begun on, which is opened where it is not there."""
        image = session.stack.image
        layers = [one for one in self._viewer.layers if is_image(one)]
        found = [layer for layer in layers if image in (layer.name, _path_of(layer))]
        if not found and Path(image).exists():
            # napari's own readers are asked where this plugin reads no such files.
            found = self._viewer.open(image, plugin="neuron_vit3d" if get_reader(image) else "napari")
        if not found and self.image.value is not None:
            found = [self.image.value]
        # Of several channels of a file, the one whose name the session has.
        found = [one for one in found if session.name.startswith(plain_name(one.name))] or found
        if len(found) != 1:
            raise LayerError(f"open the image that was corrected, and no other one of its name: {image}")
        return found[0]

    def _layer_went(self, event: Any) -> None:
        if self.correction is not None and event.value is self.correction.layer:
            self.stop()


def _is_tree(layer: Any) -> bool:
    return type(layer).__name__ == "Vectors" and "tree" in layer.metadata.get(KEY, {})


def _path_of(layer: Any) -> str:
    path = layer.source.path
    return str(Path(path).resolve()) if path else layer.name


def _place_like(layer: Any, image: Any) -> None:
    """Puts a tree's layer where its image is."""
    layer.scale, layer.translate = image.scale[-3:], image.translate[-3:]
    layer.units = image.units[-3:]


def _check_inside(tree: Any, stack: Stack, name: str) -> None:
    shape = np.array(stack.shape[::-1])
    outside = ((tree.xyz < -0.5) | (tree.xyz > shape - 0.5)).any(axis=1)
    if outside.any():
        raise LayerError(
            f"{name}: {outside.sum()} of {len(tree)} nodes lie outside of {stack.name}; choose its image, or convert "
            "it to voxels (neuron-vit3d convert)"
        )
