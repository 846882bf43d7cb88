"""Reads the channels of a volume that a model takes: a few slices at a time, before they are asked for."""

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from ..volumes import Volume, VolumeError, VolumeReader, open_volume
from ..volumes.volume import Box


class ChannelReader:
    """The channels of a volume that a model takes, read a few slices at a time as (channels, slices, height, width).

    Args:
        volume: a file that `read_volume` reads, or a [`Volume`].
        num_channels: number of channels of the model; if it takes several, the volume must have as many.
        channel: the channel for a model of one channel, if the volume has several.
        invert: whether to read the negative, so that dark becomes bright. Integers are then counted from the other end
            of their range.
        image: number of the image, from 0, in a file that holds several.

    Raises:
        VolumeError: as `open_volume`; also if the volume has fewer or more channels than the model takes.
        ValueError: `channel` is given for a model of several channels.
    """

    def __init__(
        self,
        volume: str | os.PathLike | Volume,
        num_channels: int,
        channel: int | None = None,
        *,
        invert: bool = False,
        image: int | None = None,
    ):
        if num_channels > 1 and channel is not None:
            raise ValueError(f"the model takes {num_channels} channels at once; channel = {channel} cannot be chosen")
        with ExitStack() as stack:
            first = stack.enter_context(open_volume(volume, 0 if num_channels > 1 else channel, image))
            others = [stack.enter_context(open_volume(volume, index, image)) for index in range(1, num_channels)]
            if 1 < num_channels < first.num_channels:
                raise VolumeError(f"{first.source}: the model takes {num_channels} channels, the image has more")
            self.readers: list[VolumeReader] = [first, *others]
            self._stack = stack.pop_all()
        self.name, self.shape, self.voxel_size = first.source, first.shape, first.voxel_size
        self.num_channels, self.invert = num_channels, invert
        self._one_at_a_time = threading.Lock()

    def read(self, z: int, z_end: int) -> np.ndarray:
        """Reads slices z to z_end - 1 of every channel; may be called from several threads."""
        with self._one_at_a_time:
            return self._as_asked(np.stack([reader.read(z, z_end) for reader in self.readers]))

    def read_box(self, box: Box) -> np.ndarray:
        """Reads a box (z, y, x) of every channel."""
        with self._one_at_a_time:
            return self._as_asked(np.stack([reader.read_box(box) for reader in self.readers]))

    def _as_asked(self, voxels: np.ndarray) -> np.ndarray:
        if not self.invert:
            return voxels
        return -voxels if voxels.dtype.kind == "f" else np.invert(voxels)

    def boxes(self) -> Iterator[Box]:
        """Lists boxes that cover the volume; see [`VolumeReader`]."""
        return self.readers[0].boxes()

    def __enter__(self) -> "ChannelReader":
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()


class BoxReader:
    """A part of a volume that is in memory, (channels, slices, height, width), read as if it were the whole.

    Slice 0 is the slice after the first `above` ones.
    """

    def __init__(self, voxels: np.ndarray, above: int):
        self._voxels, self._above = voxels, above

    def read(self, z: int, z_end: int) -> np.ndarray:
        return self._voxels[:, z + self._above : z_end + self._above]


def ahead(items: Iterator, count: int = 2) -> Iterator:
    """Yields the items; a thread prepares up to `count` of them before they are asked for."""
    ready: queue.Queue[tuple] = queue.Queue(count)
    stop = threading.Event()

    def hand_over(item, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                pass

    def make() -> None:
        try:
            for item in items:
                hand_over(item)
                if stop.is_set():
                    return
            hand_over(None, StopIteration())
        except BaseException as error:
            hand_over(None, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()
