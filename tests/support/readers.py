"""Readers of arrays, as files have them."""

import numpy as np

from neuron_vit3d.volumes.reader import VolumeReader


def reader_of(array: np.ndarray, piece: tuple[int, int, int]) -> VolumeReader:
    read = lambda z0, z1: array[z0:z1]  # noqa: E731
    return VolumeReader(
        array.shape, array.dtype, (2.0, 1.0, 1.0), "scores", read, read_box=lambda box: array[box], piece=piece
    )
