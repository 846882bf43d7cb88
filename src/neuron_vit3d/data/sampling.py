"""Cuts training blocks from volumes with labels. `augmentation.py` varies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from .augmentation import Augmentation, View, make_block
from .pairs import IGNORE_INDEX, LabelledVolume
from .sources import DataError


class VolumeWithLabels(Protocol):
    """A volume that blocks can be cut from: `TracedVolume`, or `ArrayVolume` for arrays in memory."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """z, y, x."""

    @property
    def image(self) -> np.ndarray:
        """(channels, z, y, x), raw voxels."""

    def labels(self, window: tuple[slice, ...]) -> np.ndarray:
        """uint8 labels (0, 1, 255) of a window (z, y, x) inside the volume."""

    def foreground_place(self, rng: np.random.Generator, slices: slice) -> tuple[int, int, int] | None:
        """A voxel (z, y, x) of the neuron, in these slices if they hold any of it; None where there is no neuron."""

    def intensity_range(self, processor) -> tuple[np.ndarray, np.ndarray]:
        """Black and white of each channel."""


class ArrayVolume:
    """A labelled volume in memory: image (channels, z, y, x), labels (z, y, x) uint8.

    `intensities` are black and white where they are known; else the processor finds them.
    """

    def __init__(self, name: str, image: np.ndarray, labels: np.ndarray, intensities=None, lab: str | None = None):
        self.name, self.image, self.shape, self.lab = name, image, labels.shape, lab
        self._labels, self._intensities = labels, intensities
        self._foreground: dict[tuple[int, int], np.ndarray] = {}

    def labels(self, window: tuple[slice, ...]) -> np.ndarray:
        return self._labels[window]

    def foreground_place(self, rng: np.random.Generator, slices: slice) -> tuple[int, int, int] | None:
        key = (slices.start, slices.stop)
        if key not in self._foreground:
            self._foreground[key] = _sample_foreground(self._labels[slices])
        voxels = self._foreground[key]
        if not len(voxels):
            return None
        z, y, x = np.unravel_index(voxels[rng.integers(len(voxels))], self.shape)
        return int(z) + slices.start, int(y), int(x)

    def intensity_range(self, processor) -> tuple[np.ndarray, np.ndarray]:
        if self._intensities is None:
            self._intensities = processor.intensity_range(self.image)
        return self._intensities


class BlockDataset(Dataset):
    """Blocks drawn at random from volumes; block `i` depends on seed, epoch and `i` alone.

    So no block changes with the order of workers, the number of processes, or where a run was resumed: accelerate's
    `prepare` and `skip_first_batches` work as they are.

    Args:
        volumes: `LabelledVolume`s, or `TracedVolume`s, whose voxels are read from disk as they are needed.
        processor: the model's image processor: its depth of a block and its normalisation are used.
        length: number of blocks in an epoch.
        tile_size: side of a tile in pixels.
        foreground_probability: share of the blocks that are centered on a neuron's voxel (then shifted by up to a
            third of a tile); the others lie anywhere.
        augmentation: how blocks are varied.
        seed: of everything random.
        balance: what is drawn from equally often: "neuron", each volume; "lab", each lab, then each of its volumes
            (those that name no lab count as one); "volume", each voxel.
        fresh: what gives a volume for a block by `draw(index, rng)`, such as `FreshNeurons`; None: nothing.
        fresh_share: share of the blocks that are cut from it; all of them where there are no volumes.

    Items are dicts: `pixel_values` (channels, num_slices, tile, tile) float32, normalised; `labels`
    (num_output_slices, tile, tile) int64, 255 where the tile reaches beyond the volume.

    Raises:
        DataError: no volume, an unknown balance, or a volume with other channels than the processor's.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume | VolumeWithLabels],
        processor,
        *,
        length: int,
        tile_size: int,
        foreground_probability: float = 0.7,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        balance: str = "neuron",
        fresh=None,
        fresh_share: float = 0.0,
    ):
        self.volumes = [
            ArrayVolume(volume.name, volume.image, volume.labels) if isinstance(volume, LabelledVolume) else volume
            for volume in volumes
        ]
        self.processor, self.length = processor, length
        self.tile_size, self.foreground_probability, self.seed = tile_size, foreground_probability, seed
        self.augmentation = augmentation or Augmentation()
        self.fresh, self.fresh_share = fresh, fresh_share
        if fresh is not None and not self.volumes:
            self.fresh_share = 1.0
        self._odds = np.cumsum([] if self.fresh_share == 1 else _odds(self.volumes, balance))
        # In shared memory, so that what one worker has found out all know, and workers that live on hear of an epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._intensities = torch.full((len(self.volumes), 2, processor.num_channels), torch.nan, dtype=torch.float64)
        self._intensities.share_memory_()
        for which, volume in enumerate(self.volumes):
            if isinstance(volume, ArrayVolume):  # in memory, so it may as well be looked at now
                self.intensities(which)
                volume.foreground_place(np.random.default_rng(0), slice(0, volume.shape[0]))

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose blocks come next; accelerate and transformers call it. Living workers hear it, too."""
        self._epoch.fill_(epoch)

    def intensities(self, which: int) -> tuple[np.ndarray, np.ndarray]:
        """Black and white of each channel of a volume."""
        known = self._intensities[which].numpy()
        if np.isnan(known).any():
            found = self.volumes[which].intensity_range(self.processor)
            if len(found[0]) != known.shape[1]:
                raise DataError(
                    f"{self.volumes[which].name}: expected {known.shape[1]} channel(s) as the processor, got "
                    f"{len(found[0])}"
                )
            known[:] = found
        return known[0].copy(), known[1].copy()

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Block `index` of the epoch."""
        return self._make(index)[0]

    def origin(self, index: int) -> str:
        """Says where block `index` of the epoch was cut."""
        name, (z, y, x), window = self._make(index)[1]
        return f"{name}, slice {z}, tile of {window} from y {y}, x {x}"

    def _make(self, index: int) -> tuple[dict[str, np.ndarray], tuple]:
        if not 0 <= index < self.length:  # without it a plain `for` over the dataset would never end
            raise IndexError(f"block {index} of {self.length}")
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        chosen = self._choose(rng, index)
        origin: tuple = ()

        def cut(view: View, labelled: slice, rng: np.random.Generator, donor: bool):
            nonlocal origin
            source = self._choose_another(chosen, rng, index) if donor else chosen
            volume = self.volumes[source] if isinstance(source, int) else source
            probability = 1.0 if donor else self.foreground_probability
            place = choose_place(volume, view, probability, rng)
            if not donor:
                origin = (volume.name, place, view.window)
            image, labels = cut_window(volume, place, view, labelled)
            known = self.intensities(source) if isinstance(source, int) else source.intensity_range(self.processor)
            return self.processor.scale(image, known), labels

        block = make_block(cut, self.processor, self.augmentation, self.tile_size, rng)
        return block, origin

    def _choose(self, rng: np.random.Generator, index: int) -> int | VolumeWithLabels:
        """Chooses the number of one of the volumes, or a fresh volume."""
        if self.fresh_share and (self.fresh_share == 1 or rng.random() < self.fresh_share):
            return self.fresh.draw(index, rng)
        return min(int(np.searchsorted(self._odds, rng.random(), side="right")), len(self.volumes) - 1)

    def _choose_another(self, chosen, rng: np.random.Generator, index: int) -> int | VolumeWithLabels:
        """Chooses another volume than this one, if there is another; by the same odds as long as chance allows."""
        for _ in range(8):
            other = self._choose(rng, index)
            if other is not chosen and other != chosen:
                return other
        return (chosen + 1) % len(self.volumes) if isinstance(chosen, int) else other


def choose_place(
    volume: VolumeWithLabels, view: View, foreground_probability: float, rng: np.random.Generator, *, inner: int = 0
) -> tuple[int, int, int]:
    """Chooses the center slice, first row and first column of a view's window.

    Args:
        inner: center slices are kept this far from the volume's first and last slice.
    """
    slices = slice(min(inner, (volume.shape[0] - 1) // 2), volume.shape[0] - min(inner, (volume.shape[0] - 1) // 2))
    room = np.array(volume.shape[1:]) - view.window
    voxel = volume.foreground_place(rng, slices) if rng.random() < foreground_probability else None
    if voxel is None:
        z = rng.integers(slices.start, slices.stop)
        corner = rng.integers(np.minimum(0, room), np.maximum(0, room) + 1)
    else:
        z, shift = np.int64(voxel[0]), view.side // 3
        corner = np.array(voxel[1:]) - view.window // 2 + rng.integers(-shift, shift + 1, size=2)
    # Inside the volume where it is large enough, around it where it is not.
    corner = np.clip(corner, np.minimum(0, room), np.maximum(0, room))
    return int(z), int(corner[0]), int(corner[1])


def cut_window(
    volume: VolumeWithLabels, place: tuple[int, int, int], view: View, labelled: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a view's window: image (channels, num_slices, window, window), raw, and labels of its slices `labelled`.

    Outside of the volume the image is mirrored in plane and repeated along z, and the labels say ignored.
    """
    (z, y, x), (slices, height, width) = place, volume.shape
    rows, columns = np.arange(y, y + view.window), np.arange(x, x + view.window)
    inside_rows, inside_columns = _mirror(rows, height), _mirror(columns, width)
    (top, bottom), (left, right) = ((int(i.min()), int(i.max()) + 1) for i in (inside_rows, inside_columns))
    depth = np.clip(z + view.depth, 0, slices - 1)
    image = volume.image[:, depth, top:bottom, left:right]

    out = z + view.depth[labelled]
    inside = np.clip(out, 0, slices - 1)
    first, last = int(inside.min()), int(inside.max())
    drawn = volume.labels((slice(first, last + 1), slice(top, bottom), slice(left, right)))
    labels = drawn[inside - first]  # a copy
    labels[out != inside] = IGNORE_INDEX
    if bottom - top < view.window or right - left < view.window:
        where = (..., (inside_rows - top)[:, None], inside_columns - left)
        image, labels = image[where], labels[where]
        labels[:, (rows != inside_rows)[:, None] | (columns != inside_columns)] = IGNORE_INDEX
    return image, labels


def _odds(volumes: Sequence, balance: str) -> np.ndarray:
    """Returns the share of blocks drawn from each volume; the shares add up to 1."""
    if not volumes:
        raise DataError("expected at least one volume to cut blocks from, got none")
    if balance == "neuron":
        odds = np.ones(len(volumes))
    elif balance == "volume":
        odds = np.array([np.prod(volume.shape, dtype=float) for volume in volumes])
    elif balance == "lab":
        labs = [getattr(volume, "lab", None) for volume in volumes]
        count = Counter(labs)
        odds = np.array([1 / count[lab] for lab in labs])
    else:
        raise DataError(f"balance: expected 'neuron', 'lab' or 'volume', got {balance!r}")
    return odds / odds.sum()


def _sample_foreground(labels: np.ndarray, most: int = 500_000) -> np.ndarray:
    """Samples flat indices of the neuron's voxels, at most `most` of them."""
    voxels = np.flatnonzero(labels == 1)
    if len(voxels) > most:
        voxels = np.random.default_rng(0).choice(voxels, most, replace=False)
    return voxels


def _mirror(positions: np.ndarray, length: int) -> np.ndarray:
    """Mirrors positions into [0, length); the outermost pixel is repeated."""
    positions = positions % (2 * length)
    return np.minimum(positions, 2 * length - 1 - positions)
