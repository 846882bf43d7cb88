"""What the plugin's widgets are made of: choices of layers, and work in a thread that ends in a sentence."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import ComboBox
from napari.qt.threading import create_worker

from ...morphology import SWCError
from ...volumes import VolumeError
from .layers import KEY
from .telling import sentence_of, tell_error


# What is said in a sentence; another error is a mistake of the program, which napari shows with its traceback.
EXPECTED = (VolumeError, SWCError, ValueError, OSError, MemoryError)


def is_image(layer: Any) -> bool:
    """Whether a layer is an image, and not the scores of one."""
    return type(layer).__name__ == "Image" and not layer.metadata.get(KEY, {}).get("made")


def layer_choice(
    viewer: Any, label: str, fits: Callable[[Any], bool], *, follows: bool = True, **more: Any
) -> ComboBox:
    """Makes a choice of the viewer's layers that fit.

    Args:
        viewer: whose layers come and go.
        label: of the choice.
        fits: which layers there are to choose.
        follows: where none is chosen, a layer that comes is.
        more: further arguments of the box.
    """

    def choices(_: Any) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in viewer.layers if fits(layer)]

    box = ComboBox(label=label, choices=choices, nullable=True, **more)

    events = (viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers.events.renamed)

    def follow(event: Any = None) -> None:
        try:
            box.reset_choices()
            if follows and box.value is None and (found := choices(box)):
                box.value = found[-1][1]
        except RuntimeError:  # the widget was closed, and Qt has deleted it
            for one in events:
                one.disconnect(follow)

    for one in events:
        one.connect(follow)
    follow()
    return box


def telling(action: Callable[..., Any]) -> Callable[..., None]:
    """An action whose expected errors become a sentence in napari's notifications."""

    def told(*_: Any) -> None:
        try:
            action()
        except EXPECTED as error:
            tell_error(error)

    return told


@dataclass(frozen=True)
class Failed:
    """How work ended that could not be done."""

    sentence: str


class Background:
    """Runs one generator at a time in a thread.

    Args:
        changed: is called when work begins and when it has ended.
    """

    def __init__(self, changed: Callable[[], None]):
        self._changed, self._worker = changed, None
        self._interrupt: Callable[[], None] = lambda: None
        self.is_closed = False

    @property
    def is_working(self) -> bool:
        return self._worker is not None

    def start(
        self,
        work: Callable[[], Generator[Any, None, Any]],
        step: Callable[[Any], None],
        done: Callable[[Any], None],
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins.

        Args:
            work: makes the generator.
            step: is given what it yields.
            done: is given what it returns.
            interrupt: wakes it where it waits for something.
        """
        if self.is_working:
            raise ValueError("there is work in progress; wait for it, or cancel it")
        self._interrupt = interrupt
        worker = self._worker = create_worker(_guarded, work, _start_thread=False)
        worker.yielded.connect(lambda value: None if self.is_closed else step(value))
        worker.returned.connect(lambda value: None if self.is_closed else self._returned(value, done))
        worker.finished.connect(self._ended)
        worker.start()
        self._changed()

    def stop(self) -> None:
        """Asks the work to end at its next step."""
        if self._worker is not None:
            self._worker.quit()
            self._interrupt()

    def close(self, *_: Any) -> None:
        """Stops, and shows nothing any more: the widget is gone."""
        self.is_closed = True
        self.stop()

    def _returned(self, value: Any, done: Callable[[Any], None]) -> None:
        if isinstance(value, Failed):
            tell_error(value.sentence)
        else:
            telling(lambda: done(value))()

    def _ended(self) -> None:
        self._worker = None
        if not self.is_closed:
            self._changed()


def close_with(native: Any, background: Background) -> None:
    """Stops the work when a widget goes, or the program ends."""
    from qtpy.QtWidgets import QApplication

    native.destroyed.connect(background.close)
    application = QApplication.instance()
    if application is not None:
        application.aboutToQuit.connect(background.close)


def _guarded(work: Callable[[], Generator[Any, None, Any]]) -> Generator[Any, None, Any]:
    try:
        return (yield from work())
    except EXPECTED as error:
        return Failed(sentence_of(error))
