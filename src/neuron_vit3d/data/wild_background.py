"""Draws what lies behind wild neurons: tissue, clouds, ridges, blobs, stripes, packed cells, crops of real stacks.

All are float32 (z, y, x). They are far from any real microscope on purpose: to a model that has seen every background,
a new microscope is one more of the same (SynthSeg, Billot et al. 2023; vesselFM, Wittmann et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .synthetic_clutter import smooth_field, stretch
from .wild_dice import Dice


def wild_background(shape: tuple[int, int, int], dice: Dice) -> np.ndarray:
    """Draw tissue that glows by itself, relative to the neuron's contrast, never negative.

    Its level is between 0 and 3 times the neuron's contrast. Structure as fine as a neurite stays below a third of the
    contrast.
    """
    rng = dice.rng("background")
    if rng.random() < 0.12:
        return np.zeros(shape, dtype=np.float32)
    level = float(np.exp(rng.uniform(np.log(0.02), np.log(3.0))))
    field = np.full(shape, level, dtype=np.float32)
    if rng.random() < 0.8:
        scale = rng.uniform(20, 90)
        uneven = soft_field(rng, shape, (rng.uniform(8, 40), scale, scale))
        field *= np.exp(np.float32(rng.uniform(0.05, 0.6)) * np.clip(uneven, -2, 2))
    if dice.happens("textures", 0.6):
        own = dice.rng("textures")
        for _ in range(own.integers(1, 3)):
            draw = _TEXTURES[own.integers(0, len(_TEXTURES))]
            strength = own.uniform(0.02, 0.3) * min(1.0, 3 * level + own.uniform(0, 0.6))
            field += np.float32(strength) * draw(shape, own)
    if dice.happens("honeycomb", 0.25):
        own = dice.rng("honeycomb")
        strength = own.uniform(0.05, 0.6)
        field += np.float32(strength) * honeycomb(shape, own)
    if rng.random() < 0.12:  # the sample, or the field of view, ends here
        edge, length = rng.uniform(0.03, 0.25), shape[1]
        margin = 1 / (1 + np.exp(-(np.arange(length) - edge * length) / rng.uniform(1, 8)))
        field *= (margin if rng.random() < 0.5 else margin[::-1]).astype(np.float32)[:, None]
    return np.maximum(field, 0, out=field)


def honeycomb(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw packed cells of 8 to 40 voxels, each with a bright wall or a bright inside, between 0 and about 1.

    After Worley's cellular texture (1996, SIGGRAPH): one seed in each cube of a grid, the distances to the two
    nearest.
    """
    size = float(np.exp(rng.uniform(np.log(8), np.log(40))))
    flat = rng.uniform(0.4, 1.2)  # a cell's extent along z over that in a slice
    step = (2, 3, 3)  # coarser than the walls look, which the interpolation makes good
    counts = [int(np.ceil(n / size / f)) + 2 for n, f in zip(shape, (flat, 1, 1), strict=True)]
    seeds = rng.uniform(0, 1, size=(*counts, 3)).astype(np.float32)
    own = rng.uniform(0.1, 1.0, size=counts).astype(np.float32)  # of some cells nothing is seen
    places = [np.arange(0, n + s, s, dtype=np.float32) / size for n, s in zip(shape, step, strict=True)]
    places[0] /= np.float32(flat)
    cubes = [np.minimum(p.astype(np.int64), c - 1) for p, c in zip(places, counts, strict=True)]
    nearest = np.full([len(p) for p in places], 9, dtype=np.float32)
    second, of_cell = nearest.copy(), np.zeros_like(nearest)
    for shift in np.ndindex(3, 3, 3):
        there = [np.clip(c + s - 1, 0, n - 1) for c, s, n in zip(cubes, shift, counts, strict=True)]
        index = np.ix_(*there)
        seed = seeds[index]
        distance = np.zeros_like(nearest)
        for axis, place in enumerate(places):
            line = (place - there[axis].astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(3)])
            distance += (line - seed[..., axis]) ** 2
        closer = distance < nearest
        # The same seed may be met twice at the border, where cubes are clipped.
        second = np.where(closer, nearest, np.where(distance > nearest, np.minimum(second, distance), second))
        of_cell = np.where(closer, own[index], of_cell)
        nearest = np.where(closer, distance, nearest)
    wall = np.sqrt(second) - np.sqrt(nearest)
    width = rng.uniform(0.08, 0.3)
    bright = np.exp(-((wall - rng.uniform(0, 0.25)) ** 2) / width**2)  # a gap between cells where walls are set back
    if rng.random() < 0.35:
        bright = 1 - bright
    bright *= of_cell
    if rng.random() < 0.6:  # only a part of the volume is such tissue
        bright *= np.clip(0.5 + smooth_field(rng, bright.shape, (12, 30, 30)), 0, 1)
    return stretch(bright.astype(np.float32), shape)


def real_background(arrays: Sequence[np.ndarray], shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Crop, flip, turn and stretch one of some real stacks; the result lies mostly between 0 and 1."""
    array = arrays[int(rng.integers(0, len(arrays)))]
    zoom = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    if rng.random() < 0.5:
        array = array.transpose(0, 2, 1)
    box = []
    for n, have in zip(shape, array.shape, strict=True):
        length = int(np.clip(round(n * zoom), 2, have))  # of a stack that is too small, all is stretched
        begin = int(rng.integers(0, have - length + 1))
        box.append(slice(begin, begin + length))
    turns = tuple(int(turn) for turn in rng.choice([-1, 1], size=3))
    crop = array[tuple(box)][:: turns[0], :: turns[1], :: turns[2]].astype(np.float32)
    crop = stretch(crop, shape)
    low, high = np.percentile(crop[::2, ::4, ::4], [1, 99.5])
    crop -= np.float32(low)
    crop /= np.float32(max(high - low, 1e-6))
    return np.clip(crop, 0, 3, out=crop)


def soft_field(rng: np.random.Generator, shape: tuple[int, int, int], scale: tuple[float, float, float]) -> np.ndarray:
    """Gives noise of mean 0 and variance about 1, for large scales.

    Unlike that of `smooth_field` it has no trace of its grid.
    """
    from scipy.ndimage import gaussian_filter

    coarse = [int(np.ceil(5 * n / s)) + 1 for n, s in zip(shape, scale, strict=True)]
    values = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), 2.5, mode="wrap", truncate=3.0)
    return stretch(values, shape) * np.float32(27.0)  # (2 sqrt(pi) 2.5)^1.5, what the filter takes away, and some


def _clouds(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise at several scales, the coarse ones stronger (Perlin's turbulence)."""
    field, fall = np.zeros(shape, dtype=np.float32), rng.uniform(0.3, 1.0)
    scale = np.array([1.0, 1.5, 1.5]) * rng.uniform(2.0, 5.0)
    for octave in range(3):
        field += np.float32((1 / fall) ** (octave - 2)) * smooth_field(rng, shape, tuple(scale * 2.3**octave))
    return np.clip(field, -1.5, 2.5)


def _ridges(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Bright sheets and threads where smooth noise changes its sign."""
    scale = rng.uniform(6, 25)
    field = np.abs(smooth_field(rng, shape, (scale * rng.uniform(0.3, 1.0), scale, scale)))
    return np.exp(-field / np.float32(rng.uniform(0.05, 0.3)))


def _blobs(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Round patches of one size, as crowded nuclei make."""
    scale = rng.uniform(3, 14)
    field = smooth_field(rng, shape, (scale * rng.uniform(0.4, 1.0), scale, scale))
    field = (field - np.float32(rng.uniform(0.2, 1.2))) / np.float32(rng.uniform(0.05, 0.4))
    return 1 / (1 + np.exp(-np.clip(field, -30, 30)))


def _stripes(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Wavy stripes in one direction, as fibre tracts and light sheets' shadows make."""
    z, y, x = (
        np.arange(n, dtype=np.float32).reshape([-1 if a == i else 1 for a in range(3)]) for i, n in enumerate(shape)
    )
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(5), np.log(60)))
    warp = np.float32(rng.uniform(0, 2.5)) * smooth_field(rng, shape, (16, 30, 30))
    warp += np.float32(2 * np.pi / period) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    warp += np.float32(rng.normal(0, 0.1)) * z
    return np.sin(warp, out=warp)


_TEXTURES = (_clouds, _clouds, _ridges, _blobs, _stripes)
