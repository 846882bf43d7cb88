"""Varies training blocks, and keeps image and labels in agreement: views, light and noise, mixing.

A `View` says which part of a volume a block shows: its size, its rotation, its flips, and how far its slices are
apart. `Augmentation` draws views and varies intensities. Every strength has a neutral value that switches it off, and
everything random comes from one numpy Generator. Arrays are images (channels, slices, y, x) float32 with intensities
in [0, 1] and labels (labelled slices, y, x) uint8: 0, 1 or 255.

Image and labels are resampled once, at the same coordinates (image linear, labels nearest). There is no elastic
deformation: neurites are thin, and nearest labels would break them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from .pairs import IGNORE_INDEX
from .sources import DataError


@dataclass(frozen=True)
class Augmentation:
    """How far a block may be varied. With the neutral values, `Augmentation.none()`, blocks stay as they are.

    Raises:
        DataError: a strength outside of what its comment allows.
    """

    flip: bool = True  # along z, y, x, and y with x swapped; together also the rotations by 90, 180 and 270 degrees
    zoom: float = 1.25  # in plane, by a factor in [1 / zoom, zoom]; at least 1
    gamma: float = 1.5  # intensities ** g, g in [1 / gamma, gamma]; at least 1
    contrast: float = 0.3  # intensities * (1 + c), c in [-contrast, contrast]; below 1
    brightness: float = 0.1  # intensities + b, b in [-brightness, brightness]
    noise: float = 0.06  # standard deviation of added noise, up to this
    blur: float = 0.8  # standard deviation of a blur in plane in pixels, up to this; in a quarter of the blocks
    rotation: float = 15.0  # degrees in plane, up to this either way; in half of the blocks; at most 45
    anisotropy: float = 2.0  # slices up to this many times as far apart, each a real one; in a quarter; at least 1
    blur_z: float = 0.6  # standard deviation of a blur along z in slices, up to this; in a quarter of the blocks
    shot_noise: float = 0.06  # as noise, but growing with the square root of the intensity, as photon counts do
    background: float = 0.25  # smooth light over the tile, added and multiplied, up to this; in half of the blocks
    slice_dropout: float = 0.1  # share of the blocks with an unlabelled slice that is black or its neighbour's copy
    mix: float = 0.2  # share of the blocks that get another block's neuron into their background

    def __post_init__(self):
        at_least = {"zoom": 1.0, "gamma": 1.0, "anisotropy": 1.0}
        at_most = {"rotation": 45.0, "slice_dropout": 1.0, "mix": 1.0, "contrast": 1.0}
        for name in (field.name for field in fields(self) if field.name != "flip"):
            low, high = at_least.get(name, 0.0), at_most.get(name, np.inf)
            if not low <= getattr(self, name) <= high or np.isinf(getattr(self, name)):
                raise DataError(f"augmentation: expected {name} in [{low}, {high}], got {getattr(self, name)}")

    @classmethod
    def none(cls) -> Augmentation:
        off: dict[str, Any] = {field.name: 0.0 for field in fields(cls)}
        return cls(**{**off, "flip": False, "zoom": 1.0, "gamma": 1.0, "anisotropy": 1.0})

    def draw_view(
        self, tile_size: int, num_slices: int, rng: np.random.Generator, *, farthest: int | None = None
    ) -> View:
        """Draws the view of a block of `num_slices` slices, all at most `farthest` away from the center slice."""
        angle = np.deg2rad(self.rotation) * rng.uniform(-1, 1) if self.rotation and rng.random() < 0.5 else 0.0
        factor = self.zoom ** rng.uniform(-1, 1)
        around = np.arange(num_slices) - num_slices // 2
        if self.anisotropy > 1 and rng.random() < 0.25:
            step = rng.uniform(1, self.anisotropy)
            around = (np.sign(around) * np.floor(np.abs(around) * step + 0.5)).astype(int)
        if farthest is not None:
            # The block's own slices always: a stored block that is too shallow repeats its outermost ones.
            around = np.clip(around, -max(farthest, num_slices // 2), max(farthest, num_slices // 2))
        z, y, x, swap = (rng.random(4) < 0.5).tolist() if self.flip else [False] * 4
        return View(tile_size, float(factor), float(angle), around, (z, y, x, swap))


_NONE = Augmentation.none()


@dataclass(frozen=True, eq=False)
class View:
    """The part of a volume that a block shows.

    Attributes:
        tile_size: side of the block that comes out, pixels.
        factor: pixels of the volume per pixel of the block.
        angle: by which the block is turned in plane, radians.
        depth: (num_slices,) slices of the block, counted from the center one.
        flips: along x, y, z, and y with x swapped.
    """

    tile_size: int
    factor: float
    angle: float
    depth: np.ndarray
    flips: tuple[bool, bool, bool, bool]

    @property
    def side(self) -> int:
        """Side of the tile in pixels of the volume, before it is turned."""
        return round(self.tile_size * self.factor)

    @property
    def window(self) -> int:
        """Side of the upright square of the volume that holds the tile."""
        spread = abs(np.cos(self.angle)) + abs(np.sin(self.angle))
        return int(np.ceil(self.side * spread - 1e-9))

    def apply(self, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resamples an image (channels, slices, window, window) and labels (any slices, ...) to tiles."""
        if self.window != self.tile_size or self.angle:
            image, labels = self._resample(image, labels)
        for axis, flipped in zip((-1, -2, -3), self.flips, strict=False):
            if flipped:
                image, labels = np.flip(image, axis), np.flip(labels, axis)
        if self.flips[3]:
            image, labels = image.swapaxes(-1, -2), labels.swapaxes(-1, -2)
        return image, labels

    def _resample(self, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch
        from torch.nn.functional import grid_sample

        # Coordinates of torch: -1 and 1 are the outer edges of the first and the last pixel.
        along = (2 * np.arange(self.tile_size, dtype=np.float32) + 1) / self.tile_size - 1
        reach = self.side / self.window
        cosine, sine = np.float32(reach * np.cos(self.angle)), np.float32(reach * np.sin(self.angle))
        grid = np.empty((1, self.tile_size, self.tile_size, 2), np.float32)
        np.add(along * cosine, -(along * sine)[:, None], out=grid[0, :, :, 0])
        np.add(along * sine, (along * cosine)[:, None], out=grid[0, :, :, 1])
        grid = torch.from_numpy(grid)
        options: dict[str, Any] = {"padding_mode": "border", "align_corners": False}
        shape = (*image.shape[:2], self.tile_size, self.tile_size)
        image = grid_sample(torch.from_numpy(image).flatten(0, 1)[None], grid, mode="bilinear", **options)
        # Labels are small whole numbers: as float32 they pass unchanged.
        labels = grid_sample(torch.from_numpy(labels)[None].float(), grid, mode="nearest", **options)
        return image[0].numpy().reshape(shape), labels[0].to(torch.uint8).numpy()


def make_block(
    cut: Callable, processor, augmentation: Augmentation, tile_size: int, rng: np.random.Generator, farthest=None
) -> dict[str, np.ndarray]:
    """Makes a training block of what `cut` cuts; everything random comes from `rng`, in a fixed order.

    Args:
        cut: `cut(view, labelled, rng, donor)` gives a window of a place of its choice: the image (channels,
            num_slices, window, window) float32 in [0, 1], and the labels of the slices `view.depth[labelled]`. With
            `donor` the place is another neuron's; None where there is no other.
        processor: the model's image processor.
        farthest: how far from the center one slices may lie.

    Returns:
        `pixel_values` (channels, num_slices, tile, tile) float32, standardised, and `labels` (num_output_slices, tile,
        tile) int64.
    """
    num_slices, num_labelled = processor.num_slices, processor.num_output_slices
    first = num_slices // 2 - num_labelled // 2
    labelled = slice(first, first + num_labelled)
    view = augmentation.draw_view(tile_size, num_slices, rng, farthest=farthest)
    image, labels = view.apply(*cut(view, labelled, rng, False))
    if augmentation.mix and rng.random() < augmentation.mix:
        other_view = augmentation.draw_view(tile_size, num_slices, rng, farthest=farthest)
        other = cut(other_view, slice(0, num_slices), rng, True)
        if other is not None:
            image, labels = mix(image, labels, *other_view.apply(*other), labelled, rng)
    if augmentation != _NONE:
        image = vary_intensities(image, augmentation, rng, labelled)
    image = processor.standardise(image)
    return {
        "pixel_values": np.ascontiguousarray(image, np.float32),
        "labels": np.ascontiguousarray(labels, np.int64),
    }


def mix(
    image: np.ndarray,
    labels: np.ndarray,
    other_image: np.ndarray,
    other_labels: np.ndarray,
    labelled: slice,
    rng: np.random.Generator,
    *,
    margin: float = 1.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Puts another block's neuron into this block's background: CutMix by tree.

    After Yun et al. 2019, CutMix, section 3.1, with the tree's tube in place of a rectangle, and blended rather than
    pasted.

    The other neuron's voxels are joined to the image, with a soft margin, a Gaussian of `margin` pixels in plane. Half
    of the time the brighter of both voxels counts, so that a neuron is never darkened. Half of the time the other
    neuron's height above its own background is added. Labels are joined, too: neuron where either block says so, else
    ignored where this block is ignored, or where the other block is and its voxels were blended in.

    Args:
        image, other_image: (channels, slices, y, x) in [0, 1].
        labels: (labelled slices, y, x), of this block's slices `labelled`.
        other_labels: (slices, y, x), of all slices of the other block.

    Returns:
        Image and labels of new arrays; intensities may exceed 1.
    """
    from scipy.ndimage import gaussian_filter

    neuron = other_labels == 1
    adds = rng.random() < 0.5
    if not neuron.any():
        return image, labels
    weight = gaussian_filter(neuron.astype(np.float32), (0, margin, margin), truncate=2)
    weight = np.where(neuron, np.float32(1), np.minimum(2 * weight, 1))
    if adds:
        dark = ~neuron[:, ::4, ::4]  # a sample is enough
        background = np.array([np.median(channel[:, ::4, ::4][dark]) if dark.any() else 0 for channel in other_image])
        above = np.maximum(other_image - background.astype(np.float32)[:, None, None, None], 0)
        image = image + weight * above
    else:
        image = np.maximum(image, weight * other_image)
    blended = (other_labels[labelled] == IGNORE_INDEX) & (weight[labelled] > 0.05)
    joined = np.where(blended & (labels == 0), np.uint8(IGNORE_INDEX), labels)
    return image, np.where(neuron[labelled], np.uint8(1), joined)


def vary_intensities(
    image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator, labelled: slice
) -> np.ndarray:
    """Varies the optics, light and camera of a block (channels, slices, y, x).

    The result is clipped to [0, 1], as the processor does.
    """
    a = augmentation
    image = np.ascontiguousarray(image, np.float32)
    if a.blur and rng.random() < 0.25:
        from scipy.ndimage import gaussian_filter

        sigma = rng.uniform(0.2, max(0.2, a.blur))
        image = gaussian_filter(image, (0, 0, sigma, sigma))
    if a.blur_z and rng.random() < 0.25:
        image = _blur_slices(image, rng.uniform(0.2, max(0.2, a.blur_z)))
    if a.gamma > 1:
        image = np.clip(image, 0, 1) ** np.float32(a.gamma ** rng.uniform(-1, 1))
    else:
        image = image.copy()
    image *= np.float32(1 + a.contrast * rng.uniform(-1, 1))
    image += np.float32(a.brightness * rng.uniform(-1, 1))
    if a.background and rng.random() < 0.5:
        image *= 1 + a.background * rng.random() * _smooth_light(image.shape[-2:], rng)
        image += a.background * rng.random() * _smooth_light(image.shape[-2:], rng)
    _add_noise(image, a.noise * rng.random() ** 2, a.shot_noise * rng.random() ** 2, rng)
    if a.slice_dropout and rng.random() < a.slice_dropout:
        _drop_slice(image, rng, labelled)
    return np.clip(image, 0, 1, out=image)


def _blur_slices(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs along z, as optical sections thicker than the step do; the slice itself keeps the largest weight."""
    # Sums in a fixed order: a matrix product rounds differently where it has more threads, and the same seed shall
    # give the same block in worker processes and outside of them.
    weights = np.exp(-0.5 * (np.arange(3) / sigma) ** 2).astype(np.float32)
    weights /= weights[0] + 2 * weights[1:].sum()
    slices, result = np.arange(image.shape[1]), image * weights[0]
    for distance, weight in enumerate(weights[1:], start=1):
        for neighbour in (slices - distance, slices + distance):
            result += weight * image[:, np.clip(neighbour, 0, len(slices) - 1)]
    return result


def _smooth_light(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draws light (y, x) float32 between 0 and 1: a random sum of half waves, at most two along a side."""
    y, x = (np.cos(np.pi * np.arange(3)[:, None] * (np.arange(side) + 0.5) / side) for side in shape)
    amplitude = rng.standard_normal((3, 3)) / (1 + np.add.outer(np.arange(3), np.arange(3)))
    rows = (amplitude[:, :, None] * x).sum(1)
    light = sum(wave[:, None] * row for wave, row in zip(y, rows, strict=True))
    return (light / np.abs(light).max()).astype(np.float32)


def _add_noise(image: np.ndarray, sigma: float, shot_sigma: float, rng: np.random.Generator) -> None:
    """Adds noise of variance sigma^2 + shot_sigma^2 * intensity in place, which approximates photon counts."""
    # Normal numbers cost more than all the rest: they come from a table that every process makes the same, read from a
    # random place in a random direction and with a random sign.
    table = _normal_numbers(1 << max(21, (4 * image.size).bit_length()))
    start, backwards, sign = rng.integers(len(table) - image.size), rng.random() < 0.5, rng.choice((-1, 1))
    if not sigma and not shot_sigma:
        return
    noise = table[start : start + image.size].reshape(image.shape)
    noise = noise[..., ::-1] if backwards else noise
    if shot_sigma:
        deviation = np.maximum(image, 0)
        deviation *= np.float32(shot_sigma**2)
        deviation += np.float32(sigma**2)
        np.sqrt(deviation, out=deviation)
        deviation *= noise
        image += deviation if sign > 0 else -deviation
    else:
        image += noise * np.float32(sign * sigma)


@cache
def _normal_numbers(count: int) -> np.ndarray:
    """Draws standard normal numbers; they take 8 MB for blocks of up to half a million voxels."""
    return np.random.default_rng(0).standard_normal(count, dtype=np.float32)


def _drop_slice(image: np.ndarray, rng: np.random.Generator, labelled: slice) -> None:
    """Makes a slice without labels black, or a copy of its neighbour towards the center, in place."""
    unlabelled = [z for z in range(image.shape[1]) if not labelled.start <= z < labelled.stop]
    black = rng.random() < 0.5
    if unlabelled:
        z = unlabelled[rng.integers(len(unlabelled))]
        image[:, z] = 0 if black else image[:, z + (1 if z < labelled.start else -1)]
