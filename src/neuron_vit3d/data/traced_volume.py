"""Makes a volume to cut blocks from of a row of a prepared dataset's `volumes`: voxels and labels on demand.

Only what a block needs is decoded: voxels are views of the memory-mapped Arrow file, the tree is parsed when a label
is first asked for, and labels are drawn only for the windows of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from ..morphology import SWCError, Tree
from .labels import LabelPolicy, labels_of_window
from .sources import DataError


# Voxels that black and white are found from, at most; of larger volumes every second, third ... slice is looked at.
_ENOUGH_VOXELS = 1 << 26
_NOT_LOOKED_AT = ("image", "thumbnail")  # where only what describes a volume is wanted


class TracedVolume:
    """An image with the tree traced in it.

    Args:
        row: of the `volumes` config, without `image`: neuron_id, shape, dtype, swc, and where known lab, signal_level.
        voxels: (z, y, x); or None, with `dataset` and `index` of where they are.
        policy: how the tree becomes labels; its radii are those of the SWC text, which the preparation has set. None:
            the preparation's.

    Attributes:
        name: the neuron's id.
        shape: (z, y, x).
        lab: who made it, or None.

    A pickled volume (for worker processes) holds a memory-mapped dataset by the name of its file, not by its voxels.

    Raises:
        DataError: the row does not describe a volume, or (on first use) its tree is damaged.
    """

    def __init__(self, row: Mapping, *, voxels: np.ndarray | None = None, dataset=None, index: int = 0, policy=None):
        self.name, self.lab = str(row["neuron_id"]), row.get("lab")
        self.shape = tuple(int(side) for side in row["shape"])
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise DataError(f"{self.name}: expected a shape of three positive sizes (z, y, x), got {self.shape}")
        self.dtype = _dtype(self.name, row["dtype"])
        self.signal_level = row.get("signal_level")
        self.policy = policy or LabelPolicy(
            min_radius=None,
            edge_band=row.get("edge_band") or 0.0,
            ignore_untraced=bool(row.get("ignore_untraced")),
        )
        if self.policy.ignore_untraced and self.signal_level is None:
            raise DataError(f"{self.name}: untraced signal can be ignored only where the row has a signal_level")
        self._swc, self._voxels, self._dataset, self._index = row["swc"], voxels, dataset, index
        self._intensities: dict[tuple[str, float, float], tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def from_dataset(cls, dataset, index: int, *, policy: LabelPolicy | None = None) -> TracedVolume:
        """Makes a volume of row `index` of a `datasets.Dataset` with the columns of the `volumes` config."""
        return cls(
            _row_without_image(dataset.with_format("arrow"), index), dataset=dataset, index=index, policy=policy
        )

    @classmethod
    def from_row(cls, row: Mapping, *, policy: LabelPolicy | None = None) -> TracedVolume:
        """Makes a volume of a row that is a dict, as streaming gives it; its voxels are kept in memory."""
        volume = cls({name: value for name, value in row.items() if name not in _NOT_LOOKED_AT}, policy=policy)
        content = b"".join(row["image"])
        volume._check_size(len(content))
        volume._voxels = np.frombuffer(content, volume.dtype).reshape(volume.shape)
        return volume

    @classmethod
    def all_of(cls, dataset, *, policy: LabelPolicy | None = None) -> list[TracedVolume]:
        """Makes volumes of all rows of a `datasets.Dataset` with the columns of the `volumes` config."""
        table = dataset.with_format("arrow")
        # They share the dataset, so that a pickle of all of them holds it once.
        return [
            cls(_row_without_image(table, index), dataset=dataset, index=index, policy=policy)
            for index in range(len(dataset))
        ]

    @property
    def image(self) -> np.ndarray:
        """(1, z, y, x), raw voxels, read-only."""
        if self._voxels is None:
            self._voxels = self._mapped_voxels()
        return self._voxels[None]

    @property
    def made_of(self) -> str:
        """Returns what decides the labels beside the voxels: the tree's text, the policy, and how bright signal is."""
        return f"{self.dtype} {self.policy} {self.signal_level}\n{self._swc}"

    @cached_property
    def tree(self) -> Tree:
        """The tree, in voxels of the image, x y z."""
        try:
            return Tree.from_text(self._swc, self.name)
        except SWCError as error:
            raise DataError(str(error)) from error

    def labels(self, window: tuple[slice, ...]) -> np.ndarray:
        """Draws labels (0, 1, 255), uint8, of a window (z, y, x) inside the volume."""
        return labels_of_window(self.tree, self.image[0], window, self.policy, self.signal_level)

    def foreground_place(self, rng: np.random.Generator, slices: slice) -> tuple[int, int, int] | None:
        """Draws a voxel (z, y, x) on the tree's center line; every piece of its length has the same odds.

        Returns None where no piece of the tree lies in these slices of the volume.
        """
        cumulative, start, end = self._pieces
        for _ in range(20 if len(cumulative) else 0):
            along = rng.random() * cumulative[-1]
            piece = min(int(np.searchsorted(cumulative, along, side="right")), len(cumulative) - 1)
            point = start[piece] + rng.random() * (end[piece] - start[piece])
            place = np.floor(point + 0.5).astype(int)[::-1]
            if (place >= 0).all() and (place < self.shape).all() and slices.start <= place[0] < slices.stop:
                return int(place[0]), int(place[1]), int(place[2])
        return None

    def intensity_range(self, processor) -> tuple[np.ndarray, np.ndarray]:
        """Finds black and white by the processor (in large volumes from evenly spaced slices), and keeps them."""
        key = (processor.intensities, processor.lower_percentile, processor.upper_percentile)
        if key not in self._intensities:
            step = -(-int(np.prod(self.shape, dtype=np.int64)) // _ENOUGH_VOXELS)
            self._intensities[key] = processor.intensity_range(self.image[:, ::step])
        return self._intensities[key]

    def __getstate__(self) -> dict:
        state = {name: value for name, value in vars(self).items() if name not in ("tree", "_pieces")}
        return state if self._dataset is None else {**state, "_voxels": None}

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns cumulative length, start and end (x y z) of all edges; a node without edges counts as one voxel."""
        child, parent = self.tree.segments.T
        start, end = self.tree.xyz[child], self.tree.xyz[parent]
        length = np.linalg.norm(end - start, axis=1)
        return np.cumsum(np.where(child == parent, 1.0, length)), start, end

    def _mapped_voxels(self) -> np.ndarray:
        """Views the bytes in the Arrow file, where a column's binary values lie one after the other."""
        column = self._dataset.with_format("arrow")[self._index].column("image")
        slices = column.chunk(0).flatten()  # one row is one chunk: nothing is copied
        _, offsets, content = slices.buffers()
        offsets = np.frombuffer(offsets, np.int64 if str(slices.type) == "large_binary" else np.int32)
        begin, end = (int(offsets[slices.offset + i]) for i in (0, len(slices)))
        self._check_size(end - begin)
        count = (end - begin) // self.dtype.itemsize
        return np.frombuffer(content, self.dtype, count, begin).reshape(self.shape)

    def _check_size(self, found: int) -> None:
        expected = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        if found != expected:
            raise DataError(
                f"{self.name}: expected {expected} bytes for {self.shape} voxels of {self.dtype}, found {found}"
            )


def _row_without_image(table, index: int) -> dict:
    """Returns a row of a dataset in Arrow format, without touching its voxels."""
    row = table[int(index)]
    missing = {"neuron_id", "image", "shape", "dtype", "swc"} - set(row.column_names)
    if missing:
        raise DataError(f"expected a dataset of the config 'volumes', found none of its column {min(missing)!r}")
    return row.drop_columns([name for name in _NOT_LOOKED_AT if name in row.column_names]).to_pylist()[0]


def _dtype(name: str, text: str) -> np.dtype:
    try:
        dtype = np.dtype(text).newbyteorder("<")
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in "buif":
        raise DataError(f"{name}: expected a numpy type of real numbers as dtype, got {text!r}")
    return dtype
