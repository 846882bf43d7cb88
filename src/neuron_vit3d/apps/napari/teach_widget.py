"""The widget "Teach": the corrected stacks are the training set; a training runs in the background."""

from pathlib import Path

import napari
from magicgui.widgets import Container, FileEdit, Label, PushButton, TextEdit

from .corrected import Folder
from .teaching import TeachError, Training, command
from .telling import tell
from .widget_parts import Background, close_with, telling


HOME = Path.home() / "neuron_vit3d"  # where corrections lie if nothing else is chosen
MOST_LINES = 1000  # of the log that are shown


class TeachWidget(Container):
    """Starts the training that the command line would start, shows what it prints, and can cancel it."""

    def __init__(self, viewer: "napari.viewer.Viewer", folder: Path = HOME):
        self._viewer = viewer
        self.folder = FileEdit(label="folder", mode="d", value=folder, tooltip="Where corrections lie.")
        self.stacks = Label(label="stacks", value="")
        self.base_model = FileEdit(
            label="begin with",
            mode="d",
            nullable=True,
            value=None,
            tooltip="A checkpoint's folder. None: the default.",
        )
        self.run = PushButton(text="Teach")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.again = PushButton(text="Segment again with it", enabled=False)
        self.log = TextEdit(value="", label="log")
        self.log.native.setReadOnly(True)
        self.stacks.native.setWordWrap(True)
        super().__init__(
            widgets=[self.folder, self.stacks, self.base_model, self.run, self.cancel, self.again, self.log]
        )
        self.background = Background(self._changed)
        self.folder.changed.connect(self._changed)
        self.run.changed.connect(telling(self.start))
        self.cancel.changed.connect(self.background.stop)
        self.again.changed.connect(telling(self.segment_again))
        close_with(self.native, self.background)
        self._changed()

    @property
    def place(self) -> Folder:
        return Folder(Path(self.folder.value))

    def start(self) -> None:
        """Begins to teach.

        Raises:
            TeachError: no stack has been corrected.
        """
        stacks = self.place.stacks()
        if not stacks:
            raise TeachError(f"{self.place.corrected}: holds no corrected stack; mark a neuron done in Correct first")
        base = self.base_model.value
        base_model = "default" if base is None or str(base) in ("", ".") else str(base)
        self._model = self.place.model_for(base_model)
        training = Training(command(self.place.corrected, self._model, base_model))
        self._lines = [" ".join(["neuron-vit3d", *training.words[3:]])]
        self.log.value = self._lines[0]
        self.background.start(training.lines, self._step, self._done, training.stop)

    def segment_again(self) -> None:
        """Opens "Segment and trace" with what was taught last."""
        from .segment_widget import SegmentWidget

        widget = SegmentWidget(self._viewer)
        widget.model.value = self.place.taught()
        self._viewer.window.add_dock_widget(widget, name="Segment and trace (taught)")

    def _step(self, line: str) -> None:
        self._lines = [*self._lines, line][-MOST_LINES:]
        self.log.value = "\n".join(self._lines)
        bar = self.log.native.verticalScrollBar() if hasattr(self.log.native, "verticalScrollBar") else None
        if bar is not None:
            bar.setValue(bar.maximum())

    def _done(self, _: None) -> None:
        tell(f"{self._lines[-1]} ({self._model})")

    def _changed(self, *_: object) -> None:
        stacks = self.place.stacks()
        self.stacks.value = f"{len(stacks)}: {', '.join(stacks)}" if stacks else "none yet"
        self.run.enabled = not self.background.is_working
        self.cancel.enabled = self.background.is_working
        self.again.enabled = self.place.taught() is not None and not self.background.is_working
