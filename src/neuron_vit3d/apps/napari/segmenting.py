"""Segments and traces a box of a layer as a generator: what runs it in a thread can show progress, and stop it."""

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ...morphology.swc import Tree
from .layers import Box, Stack


@dataclass(frozen=True)
class Request:
    """What to segment and trace.

    Attributes:
        stack: the image.
        box: the part of it.
        model: a checkpoint's folder or name on the Hub; None: the embedded default.
        neurons: how many trees at most.
        threshold: scores at least so high are neuron; None: what stands out from the noise.
        invert: the image is dark on bright.
    """

    stack: Stack
    box: Box
    model: str | None = None
    neurons: int = 1
    threshold: float | None = None
    invert: bool = False


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        request: what was asked for.
        scores: (z, y, x) float32, of the box.
        trees: in voxels of the whole image, the largest first.
        notes: sentences that a person should read.
    """

    request: Request
    scores: np.ndarray
    trees: list[Tree]
    notes: list[str]


def segmenting(request: Request) -> Generator[float, None, Result]:
    """Yields the share of the box that is done, and returns the result; it can be closed between two yields.

    Raises:
        VolumeError, LayerError, ValueError, OSError, MemoryError: the image or the model is not what is needed.
    """
    yield 0.0
    from ...inference import Segmenter
    from ...tracing import TraceError, TraceOptions, trace_neurons

    volume = request.stack.volume(request.box)
    scores = np.empty(volume.shape, np.float32)
    with _notes() as notes:
        segmenter = Segmenter(request.model, invert=request.invert)
        with segmenter.open(volume) as source:
            for z, slab in segmenter.slabs(source):
                scores[z : z + len(slab)] = slab
                yield (z + len(slab)) / len(scores)
        try:
            options = TraceOptions(threshold=request.threshold)
            trees = trace_neurons(scores, request.neurons, options, voxel_size=volume.voxel_size)
        except TraceError as error:
            notes.append(f"{volume.source}: no tree, {error}")
            trees = []
    return Result(request, scores, [moved(tree, request.box) for tree in trees], notes)


def moved(tree: Tree, box: Box, back: bool = False) -> Tree:
    """A tree of a box in voxels of the whole image; or the other way, with `back`."""
    offset = np.array([one.start for one in box[::-1]], float)
    return replace(tree, xyz=tree.xyz - offset if back else tree.xyz + offset)


@contextmanager
def _notes() -> Iterator[list[str]]:
    """The package's logged warnings meanwhile, as a list that fills."""
    notes: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(record.getMessage())

    handler, logger = Collect(logging.WARNING), logging.getLogger("neuron_vit3d")
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
