"""What lies between layers of napari and volumes and trees. Nothing here imports napari: a layer comes as an argument.

A tree is a layer of vectors, one for each edge, from the child to its parent. Of a million nodes that takes one or two
seconds to make and no time to color anew; shapes and tracks take longer, and have one color for a whole path
(`benchmarks/napari_layers.py`). The tree itself is in the layer's metadata; who changes the vectors by hand changes a
picture of it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...morphology.branches import DOUBTFUL
from ...morphology.swc import Tree
from ...volumes import Volume
from .walking import Walk


Box = tuple[slice, slice, slice]
KEY = "neuron_vit3d"  # of a layer's metadata
# As in the pictures of `neuron-vit3d view`: sure branches are red, doubtful ones yellow.
SURE_COLOR, DOUBT_COLOR = np.array([1.0, 0.31, 0.24]), np.array([1.0, 0.82, 0.0])
# Branches are as red as can be from this confidence on, of whose length a tenth is wrong (see `DOUBTFUL`).
QUITE_SURE = 0.9
# What is segmented at once: scores of so many voxels take 8 GB of memory.
MOST_VOXELS = 1 << 31


class LayerError(ValueError):
    """A layer is not what is needed; the message is one sentence that says what is, and what to do."""


@dataclass(frozen=True)
class Stack:
    """The stack of slices in a layer.

    Attributes:
        name: of the layer.
        data: what voxels are read from, an array of numpy, dask or zarr, (..., z, y, x) with leading axes of length 1.
        voxel_size: z y x, in micrometres where the layer says so; None where nothing is known.
    """

    name: str
    data: Any
    voxel_size: tuple[float, float, float] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        depth, height, width = self.data.shape[-3:]
        return int(depth), int(height), int(width)

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box; of data on disk only those around it are read."""
        leading = (0,) * (len(self.data.shape) - 3)
        return np.asarray(self.data[(*leading, *box)])

    def volume(self, box: Box) -> Volume:
        """The voxels of a box as a volume.

        Raises:
            LayerError: it holds no voxel, or more than fit.
            VolumeError: the voxels are not numbers.
        """
        self.check(box)
        return Volume(self.read(box), self.voxel_size, self.name)

    def check(self, box: Box) -> None:
        """Raises LayerError for a box that holds no voxel, or more than fit into memory."""
        sides = [one.stop - one.start for one in box]
        if min(sides) < 1:
            raise LayerError(f"{self.name}: the box lies outside of the image; draw one over it")
        if math.prod(sides) > MOST_VOXELS:
            raise LayerError(
                f"{self.name}: {' x '.join(map(str, sides))} voxels are too many at once; draw a box around a part, "
                "or use the command line (neuron-vit3d segment)"
            )

    @property
    def whole(self) -> Box:
        depth, height, width = self.shape
        return slice(0, depth), slice(0, height), slice(0, width)


def stack_of(layer: Any) -> Stack:
    """The stack of slices in an image layer; of a pyramid the highest resolution.

    Raises:
        LayerError: there is no layer, or it holds a colored image, a single slice, a series, or no numbers.
    """
    if layer is None:
        raise LayerError("there is no image: open one, or take File > Open Sample > Neuron ViT 3D")
    name = layer.name
    if type(layer).__name__ != "Image":
        raise LayerError(f"{name}: expected an image layer, got one of {type(layer).__name__.lower()}")
    if layer.rgb:
        raise LayerError(
            f"{name}: is a colored (RGB) image; split it (right-click it, Split RGB) and choose a channel"
        )
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(data.shape)
    if len(shape) < 3 or shape[-3] < 2:
        raise LayerError(f"{name}: is one 2D image, and neurons are traced in stacks of at least 2 slices")
    if math.prod(shape[:-3]) > 1:
        raise LayerError(
            f"{name}: has {len(shape)} axes (shape {' x '.join(map(str, shape))}), as a time series has; split it "
            "(right-click it, Split Stack) and choose one stack"
        )
    if np.dtype(data.dtype).kind not in "buif":
        raise LayerError(f"{name}: expected voxels that are real numbers, got {data.dtype}")
    return Stack(name, data, voxel_size_of(layer))


def voxel_size_of(layer: Any) -> tuple[float, float, float] | None:
    """The sides of a layer's voxels z y x: in micrometres where it has units of length; None where all are 1 pixel."""
    scale = np.abs(np.array(layer.scale[-3:], float))
    units = [str(unit) for unit in getattr(layer, "units", ())][-3:]
    factors = [_MICROMETRES.get(unit, 1.0) for unit in units] or [1.0]
    if np.all(scale == 1) and not any(unit in _MICROMETRES for unit in units):
        return None
    sizes = scale * np.array(factors)
    if sizes.shape != (3,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return None
    z, y, x = sizes.tolist()
    return z, y, x


_MICROMETRES = {
    "micrometer": 1.0,
    "micron": 1.0,
    "nanometer": 1e-3,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "angstrom": 1e-4,
}


def box_of(corners: np.ndarray, layer: Any) -> Box:
    """The box of an image that a rectangle marks: all slices where it lies in one, cut off at the image's borders.

    Args:
        corners: in world coordinates, one row each, as many axes as the rectangle's layer has (the last ones count).
        layer: the image layer.
    """
    stack = stack_of(layer)
    ndim = layer.ndim
    world = np.array(corners, float)
    world = np.hstack([np.zeros((len(world), max(0, ndim - world.shape[1]))), world[:, -ndim:]])
    data = np.array([layer.world_to_data(tuple(corner)) for corner in world])[:, -3:]
    flat = np.ptp(data, axis=0) < 1  # a rectangle in one slice is of all
    low = np.where(flat, 0, np.floor(data.min(axis=0) + 0.5))
    high = np.where(flat, stack.shape, np.ceil(data.max(axis=0) + 0.5))
    sides = [
        slice(int(np.clip(first, 0, side)), int(np.clip(last, 0, side)))
        for first, last, side in zip(low, high, stack.shape, strict=True)
    ]
    if any(one.start >= one.stop for one in sides):
        raise LayerError(f"{stack.name}: the box lies outside of the image; draw one over it")
    z, y, x = sides
    return z, y, x


def vectors_of(tree: Tree, walk: Walk | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A tree as vectors.

    Args:
        tree: in voxels.
        walk: its branches, where they are known.

    Returns:
        (m, 2, 3) where each begins and how far it goes, z y x in voxels: every edge from child to parent, and every
        node without one as a vector without length; (m, 4) its color; (m,) the confidence of its branch.
    """
    child, parent = tree.segments.T
    points = tree.xyz[:, ::-1]
    confidence = (walk or Walk(tree)).confidence_of_nodes()[child]
    return np.stack([points[child], points[parent] - points[child]], axis=1), colors_of(confidence), confidence


def colors_of(confidence: np.ndarray) -> np.ndarray:
    """Colors (m, 4) of confidences (m,): yellow where they are doubtful, red where they are sure, and in between."""
    share = np.clip((confidence - DOUBTFUL) / (QUITE_SURE - DOUBTFUL), 0, 1)[:, None]
    return np.hstack([DOUBT_COLOR + share * (SURE_COLOR - DOUBT_COLOR), np.ones((len(share), 1))])


def tree_layer(tree: Tree, name: str, **more: Any) -> tuple[Any, dict[str, Any], str]:
    """A tree as layer data: what `Viewer._add_layer_from_data` and a reader's answer take.

    Args:
        tree: in voxels of its image.
        name: of the layer.
        more: further arguments of the layer, such as `scale`.
    """
    vectors, colors, confidence = vectors_of(tree)
    metadata = {KEY: {"tree": tree}}
    look = {"edge_width": line_width(tree), "vector_style": "line", "opacity": 1.0, "edge_color": colors}
    arguments = {"name": name, "features": {"confidence": confidence}, "metadata": metadata, **look, **more}
    return vectors, arguments, "vectors"


def line_width(tree: Tree) -> float:
    """How wide a tree's lines are, in voxels: thinner than its neurites, so that those are seen beside them."""
    return float(np.clip(0.5 * np.median(tree.radii), 0.5, 2.0)) if len(tree) else 1.0


def tree_of(layer: Any) -> Tree:
    """The tree of a layer.

    Raises:
        LayerError: there is no layer, or none with a tree.
    """
    if layer is None:
        raise LayerError("there is no tree: trace an image, or open an SWC file")
    held = layer.metadata.get(KEY)
    tree = held.get("tree") if isinstance(held, dict) else None
    if not isinstance(tree, Tree):
        raise LayerError(f"{layer.name}: is no tree; trace an image, or open an SWC file")
    return tree


def show(layer: Any, tree: Tree, walk: Walk | None = None) -> None:
    """Makes a tree's layer show the tree as it is now; `walk` are its branches, where they are known."""
    vectors, colors, confidence = vectors_of(tree, walk)
    layer.data = vectors
    layer.features = {"confidence": confidence}
    layer.edge_color = colors
    layer.metadata = {**layer.metadata, KEY: {**layer.metadata.get(KEY, {}), "tree": tree}}
