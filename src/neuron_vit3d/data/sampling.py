"""Training blocks: where they are cut from labelled volumes, and how they are varied."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from .bigneuron import IGNORE_INDEX, LabelledVolume


@dataclass(frozen=True)
class Augmentation:
    """How far a block may be varied. All zero (`Augmentation.none()`): blocks as they are in the volume."""

    flip: bool = True  # along z, y, x, and y with x swapped
    zoom: float = 1.25  # in plane, by a factor in [1 / zoom, zoom]
    gamma: float = 1.5  # intensities ** g, g in [1 / gamma, gamma]
    contrast: float = 0.3  # intensities * (1 + c), c in [-contrast, contrast]
    brightness: float = 0.1  # intensities + b, b in [-brightness, brightness]
    noise: float = 0.06  # standard deviation of added noise, up to this
    blur: float = 0.8  # standard deviation of a blur in plane in pixels, up to this; in a quarter of the blocks

    @classmethod
    def none(cls) -> "Augmentation":
        return cls(flip=False, zoom=1.0, gamma=1.0, contrast=0.0, brightness=0.0, noise=0.0, blur=0.0)


class BlockDataset(Dataset):
    """Blocks drawn at random from labelled volumes; block `i` is the same in every run with the same seed.

    Args:
        volumes: labelled volumes; each is drawn from equally often.
        processor: the model's image processor: its depth of a block and its normalisation are used.
        length: number of blocks.
        tile_size: side of a tile in pixels.
        foreground_probability: share of the blocks that are centered on a neuron's voxel (then shifted by up to a
            third of a tile); the others lie anywhere.
        augmentation: how blocks are varied.
        seed: of everything random.

    Items are dicts: `pixel_values` (channels, num_slices, tile, tile) float32, normalised; `labels`
    (num_output_slices, tile, tile) int64, 255 where the tile reaches beyond the volume.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        processor,
        *,
        length: int,
        tile_size: int,
        foreground_probability: float = 0.7,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.volumes, self.processor, self.length = list(volumes), processor, length
        self.tile_size, self.foreground_probability, self.seed = tile_size, foreground_probability, seed
        self.augmentation = augmentation or Augmentation()
        self.intensities = [processor.intensity_range(volume.image) for volume in self.volumes]
        self.foreground = [_sample_foreground(volume.labels, seed) for volume in self.volumes]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < self.length:  # without it a plain `for` over the dataset would never end
            raise IndexError(f"block {index} of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        which = int(rng.integers(len(self.volumes)))
        window = round(self.tile_size * self.augmentation.zoom ** rng.uniform(-1, 1))
        image, labels = self._cut(which, self._place(which, window, rng), window)
        image = self.processor.scale(image, self.intensities[which])
        if window != self.tile_size:
            image, labels = _resize(image, labels, self.tile_size)
        if self.augmentation.flip:
            image, labels = _flip(image, labels, rng)
        image = self.processor.standardise(_vary_intensities(image, self.augmentation, rng))
        return {
            "pixel_values": np.ascontiguousarray(image, np.float32),
            "labels": np.ascontiguousarray(labels, np.int64),
        }

    def _place(self, which: int, window: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """Center slice, first row and first column of a window."""
        shape = self.volumes[which].labels.shape
        if rng.random() < self.foreground_probability:
            voxel = self.foreground[which][rng.integers(len(self.foreground[which]))]
            z, *middle = np.unravel_index(voxel, shape)
            corner = np.array(middle) - window // 2 + rng.integers(-(window // 3), window // 3 + 1, size=2)
        else:
            z, *corner = rng.integers(0, [shape[0], *(max(1, side - window + 1) for side in shape[1:])])
        # Inside the volume where it is large enough, around it where it is not.
        slack = np.array(shape[1:]) - window
        corner = np.clip(corner, np.minimum(0, slack), np.maximum(0, slack))
        return int(z), int(corner[0]), int(corner[1])

    def _cut(self, which: int, place: tuple[int, int, int], window: int) -> tuple[np.ndarray, np.ndarray]:
        """Block (channels, num_slices, window, window) and its labels; what lies outside is mirrored and ignored."""
        volume, (z, y, x) = self.volumes[which], place
        slices, height, width = volume.labels.shape
        rows, columns = np.arange(y, y + window), np.arange(x, x + window)
        around = np.arange(self.processor.num_slices) - self.processor.num_slices // 2
        depth = np.clip(z + around, 0, slices - 1)
        out = np.arange(self.processor.num_output_slices) - self.processor.num_output_slices // 2 + z
        inside_rows, inside_columns = _mirror(rows, height), _mirror(columns, width)
        image = volume.image[:, depth[:, None, None], inside_rows[:, None], inside_columns]
        labels = volume.labels[np.clip(out, 0, slices - 1)[:, None, None], inside_rows[:, None], inside_columns]
        outside = (rows != inside_rows)[:, None] | (columns != inside_columns)
        labels[:, outside] = IGNORE_INDEX
        labels[(out < 0) | (out >= slices)] = IGNORE_INDEX
        return image, labels


def _sample_foreground(labels: np.ndarray, seed: int, most: int = 500_000) -> np.ndarray:
    """Flat indices of the neuron's voxels, at most `most` of them."""
    voxels = np.flatnonzero(labels == 1)
    if len(voxels) > most:
        voxels = np.random.default_rng(seed).choice(voxels, most, replace=False)
    return voxels


def _mirror(positions: np.ndarray, length: int) -> np.ndarray:
    """Positions mirrored into [0, length), the outermost pixel repeated."""
    positions = positions % (2 * length)
    return np.minimum(positions, 2 * length - 1 - positions)


def _resize(image: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """In plane, image linearly, labels to the nearest."""
    import torch
    from torch.nn import functional as F

    channels, slices = image.shape[:2]
    resized = F.interpolate(
        torch.from_numpy(image).flatten(0, 1)[None], size=(size, size), mode="bilinear", antialias=True
    )[0].unflatten(0, (channels, slices))
    labels = F.interpolate(torch.from_numpy(labels)[None].float(), size=(size, size), mode="nearest-exact")[0]
    return resized.numpy(), labels.numpy().astype(np.uint8)


def _flip(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    for axis in (-1, -2, -3):
        if rng.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if rng.random() < 0.5:
        image, labels = image.swapaxes(-1, -2), labels.swapaxes(-1, -2)
    return image, labels


def _vary_intensities(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Block with intensities in [0, 1], varied; they stay in [0, 1], as after normalisation."""
    if augmentation == Augmentation.none():
        return image
    if augmentation.blur and rng.random() < 0.25:
        from scipy.ndimage import gaussian_filter

        sigma = rng.uniform(0.2, max(0.2, augmentation.blur))
        image = gaussian_filter(image, (0, 0, sigma, sigma))
    image = image ** np.float32(augmentation.gamma ** rng.uniform(-1, 1))
    image = image * np.float32(1 + augmentation.contrast * rng.uniform(-1, 1))
    image = image + np.float32(augmentation.brightness * rng.uniform(-1, 1))
    sigma = augmentation.noise * rng.random() ** 2
    image = image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 1)
