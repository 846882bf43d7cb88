"""The widget "Segment and trace": an image layer, or a box of it, becomes scores and trees, as layers."""

from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from magicgui.widgets import CheckBox, Container, FileEdit, FloatSpinBox, ProgressBar, PushButton, SpinBox

from .layers import KEY, Box, LayerError, box_of, stack_of, tree_layer
from .segmenting import Request, Result, segmenting
from .telling import tell, tell_error
from .widget_parts import Background, close_with, is_image, layer_choice, telling


class SegmentWidget(Container):
    """Segments and traces in the background; it can be cancelled."""

    def __init__(self, viewer: "napari.viewer.Viewer"):
        self._viewer = viewer
        self.image = layer_choice(viewer, "image", is_image)
        self.box = layer_choice(
            viewer,
            "box",
            lambda layer: type(layer).__name__ == "Shapes",
            tooltip="A rectangle. None: the whole image.",
        )
        self.draw_box = PushButton(text="Draw a box", tooltip="Adds a layer to draw a rectangle in.")
        self.model = FileEdit(
            label="model", mode="d", nullable=True, value=None, tooltip="A checkpoint's folder. None: the default."
        )
        self.neurons = SpinBox(label="neurons", value=1, min=1, max=1000, tooltip="How many trees at most.")
        self.threshold = FloatSpinBox(
            label="threshold", value=0, min=0, max=1, step=0.05, tooltip="0: what stands out from the noise."
        )
        self.invert = CheckBox(text="dark on bright", value=False)
        self.run = PushButton(text="Segment and trace")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(value=0, min=0, max=100, label="done")
        super().__init__(
            widgets=[
                *(self.image, self.box, self.draw_box, self.model, self.neurons, self.threshold, self.invert),
                *(self.run, self.cancel, self.progress),
            ]
        )
        self.background = Background(self._changed)
        self.run.changed.connect(telling(self.start))
        self.cancel.changed.connect(self.background.stop)
        self.draw_box.changed.connect(telling(self.add_box))
        close_with(self.native, self.background)

    def start(self) -> None:
        """Begins with what is chosen.

        Raises:
            LayerError: the image or the box is not what is needed.
        """
        layer = self.image.value
        stack, box = stack_of(layer), chosen_box(self.box.value, layer)
        request = Request(
            stack, box, _model(self.model.value), self.neurons.value, self.threshold.value or None, self.invert.value
        )
        self.progress.value = 0
        self.background.start(partial(segmenting, request), self._step, partial(self._done, layer))

    def add_box(self) -> None:
        """Adds a layer in which a rectangle can be drawn over the image.

        Raises:
            LayerError: there is no image.
        """
        layer = self.image.value
        stack_of(layer)
        placed = {"scale": layer.scale[-3:], "translate": layer.translate[-3:], "units": layer.units[-3:]}
        shapes = self._viewer.add_shapes(
            ndim=3, name="box", edge_color="yellow", face_color="transparent", edge_width=2, **placed
        )
        shapes.mode = "add_rectangle"
        self.box.value = shapes

    def _step(self, share: float) -> None:
        self.progress.value = round(100 * share)

    def _done(self, layer: Any, result: Result) -> None:
        for note in result.notes:
            tell_error(note) if not result.trees else tell(note)
        add_results(self._viewer, layer, result)
        if result.trees:
            length = sum(tree.length for tree in result.trees)
            tell(
                f"{layer.name}: {len(result.trees)} tree(s), {length:.0f} voxels long, yellow where they are doubtful"
            )

    def _changed(self) -> None:
        self.run.enabled = not self.background.is_working
        self.cancel.enabled = self.background.is_working


def add_results(viewer: Any, layer: Any, result: Result) -> list[Any]:
    """Adds the scores and the trees of an image's layer; returns the trees' layers."""
    request = result.request
    scale, translate = np.array(layer.scale[-3:]), np.array(layer.translate[-3:])
    offset = [one.start for one in request.box]
    viewer.add_image(
        result.scores,
        name=f"{layer.name} scores",
        colormap="green",
        blending="additive",
        contrast_limits=(0, 1),
        visible=False,
        scale=scale,
        translate=translate + scale * offset,
        units=layer.units[-3:],
        metadata={KEY: {"made": True}},
    )
    path = layer.source.path
    about = {
        "stack": request.stack,
        "box": request.box,
        "scores": result.scores,
        "image": str(Path(path).resolve()) if path else layer.name,
    }
    layers = []
    for number, tree in enumerate(result.trees, start=1):
        name = f"{layer.name} tree" if len(result.trees) == 1 else f"{layer.name} tree {number}"
        placed = {"scale": scale, "translate": translate, "units": layer.units[-3:]}
        data, arguments, _ = tree_layer(tree, name, **placed)
        arguments["metadata"][KEY].update(about, neuron=number)
        layers.append(viewer.add_vectors(data, **arguments))
    return layers


def chosen_box(shapes: Any, layer: Any) -> Box:
    """The box of an image that a layer of shapes marks, by the rectangle that was drawn or selected last.

    Args:
        shapes: None for the whole image.
        layer: the image's.

    Raises:
        LayerError: there is no rectangle, or it lies outside of the image.
    """
    return stack_of(layer).whole if shapes is None else box_of(_corners(shapes), layer)


def _corners(shapes: Any) -> np.ndarray:
    """The corners, in world coordinates, of the rectangle that was drawn or selected last."""
    if not len(shapes.data):
        raise LayerError(f"{shapes.name}: no rectangle is drawn; draw one, or choose no box for the whole image")
    selected = sorted(shapes.selected_data)
    corners = shapes.data[selected[-1] if selected else -1]
    return np.array([shapes.data_to_world(tuple(corner)) for corner in corners])


def _model(value: Any) -> str | None:
    return None if value is None or str(value) in ("", ".") else str(value)
