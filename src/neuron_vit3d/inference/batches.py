"""Sends blocks through the model in batches; a GPU computes one batch while the one before it is stitched."""

from collections.abc import Callable

import numpy as np
import torch

from ..model.blocks import Stitcher


Place = tuple[int, tuple[int, int]]  # first slice, and origin (y, x) of the tile


class Batches:
    """Sends blocks through the model in batches, and adds their scores to the stitched volume in the same order.

    Args:
        begin: function that starts the model on the blocks of a batch, and returns a function that waits for their
            scores.
        size: number of blocks in a batch.
        stitcher: receives the scores.
    """

    def __init__(self, begin: Callable[[list[torch.Tensor]], Callable[[], np.ndarray]], size: int, stitcher: Stitcher):
        self._begin, self._size, self._stitcher = begin, size, stitcher
        self._blocks: list[torch.Tensor] = []
        self._places: list[Place] = []
        self._computed: tuple[list[Place], Callable[[], np.ndarray]] | None = None  # the function waits for the scores

    def add(self, place: Place, block: torch.Tensor) -> None:
        """Adds a block (channels, slices, height, width) with its place (step, origin)."""
        self._blocks.append(block)
        self._places.append(place)
        if len(self._blocks) == self._size:
            self._send()

    def finish(self) -> None:
        """Sends the remaining blocks, and adds all scores that are still missing."""
        if self._blocks:
            self._send()
        self._stitch()

    def _send(self) -> None:
        begun = self._places, self._begin(self._blocks)
        self._blocks, self._places = [], []
        self._stitch()
        self._computed = begun

    def _stitch(self) -> None:
        if self._computed is not None:
            places, wait = self._computed
            self._computed = None
            for place, scores in zip(places, wait(), strict=True):
                self._stitcher.add(*place, scores[None])


def to_host(tensor: torch.Tensor) -> Callable[[], np.ndarray]:
    """Starts to copy a tensor to the host; returns a function that waits for the copy and returns the array."""
    if tensor.device.type != "cuda":
        array = tensor.cpu().numpy()
        return lambda: array
    on_host = tensor.to("cpu", non_blocking=True)  # into pinned memory, once the device is ready
    there = torch.cuda.Event()
    there.record(torch.cuda.current_stream(tensor.device))  # the current device may be another one

    def wait() -> np.ndarray:
        there.synchronize()
        return on_host.numpy()

    return wait
