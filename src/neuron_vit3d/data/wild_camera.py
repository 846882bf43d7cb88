"""Turns light into grey levels: many kinds of noise, the work of image programs, bits and compression."""

from __future__ import annotations

import numpy as np

from .wild_background import soft_field
from .wild_dice import Dice


def shade(image: np.ndarray, dice: Dice) -> None:
    """Make one side, or whole regions, of an image brighter than the rest, in place."""
    if not dice.happens("bias", 0.5):
        return
    rng = dice.rng("bias")
    depth, height, width = image.shape
    if rng.random() < 0.5:
        angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        image *= np.exp(tilt * (np.cos(angle) * y + np.sin(angle) * x)).astype(np.float32)
    if rng.random() < 0.5:
        spread = np.float32(rng.uniform(0.1, 0.4))
        field = soft_field(rng, (1, height, width), (9, rng.uniform(40, 120), rng.uniform(40, 120)))
        image *= np.exp(spread * np.clip(field, -2, 2))
    if rng.random() < 0.4:  # deep slices get less light
        image *= np.exp(np.linspace(0, rng.uniform(-1, 0), depth)[:: rng.choice([-1, 1])]).astype(np.float32)[
            :, None, None
        ]


def add_noise(image: np.ndarray, sigma: float, level: float, dice: Dice) -> None:
    """Add photon and read noise in place, and, as noise varies, grain, stripes, flicker and salt.

    Args:
        image: float32 (z, y, x), non-negative.
        sigma: standard deviation where the image is as bright as `level`.
        level: where that is so.
        dice: random streams.
    """
    from scipy.ndimage import gaussian_filter

    rng = dice.rng("noise")
    if not sigma:
        return
    photons = rng.uniform(0, 1)  # their share of the variance at `level`
    np.maximum(image, 0, out=image)
    kinds = dice.rng("noise_variety")
    grain = kinds.uniform(0.35, 1.1) if dice.happens("noise_variety", 0.55) else 0.0
    stripes = kinds.uniform(0.1, 0.6) if dice.happens("noise_variety", 0.12) else 0.0
    flicker = kinds.uniform(0.02, 0.15) if dice.happens("noise_variety", 0.12) else 0.0
    salt = np.exp(kinds.uniform(np.log(1e-5), np.log(1e-3))) if dice.happens("noise_variety", 0.12) else 0.0
    gain = photons * sigma**2 / max(level, 1e-6)
    spread: np.ndarray = gain * image
    spread += np.float32((1 - photons) * sigma**2)
    np.sqrt(spread, out=spread)
    if grain:
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        along_z = grain * kinds.uniform(0, 1)
        noise = gaussian_filter(noise, (along_z, grain, grain), truncate=2.5)
        noise *= np.float32(kinds.uniform(0.5, 1.0) / max(float(noise[::4].std()), 1e-6))  # grain shows more
        spread *= noise
    elif gain > 0.2 and kinds.random() < 0.5 and photons > 0.5:  # single photons show
        image[...] = rng.poisson(image / gain).astype(np.float32) * np.float32(gain)
        spread = np.float32(np.sqrt(1 - photons) * sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    else:
        spread *= rng.standard_normal(image.shape, dtype=np.float32)
    if stripes:
        rows = (image.shape[0], image.shape[1], 1) if kinds.random() < 0.5 else (image.shape[0], 1, image.shape[2])
        spread += np.float32(stripes * sigma) * kinds.standard_normal(rows, dtype=np.float32)
    if flicker:
        image *= np.exp(np.float32(flicker) * kinds.standard_normal((len(image), 1, 1), dtype=np.float32))
    image += spread
    if salt:
        count = kinds.poisson(salt * image.size)
        at = kinds.integers(0, image.size, size=count)
        image.reshape(-1)[at] += (kinds.uniform(2, 12, size=count) * sigma).astype(np.float32)


def clean(image: np.ndarray, floor: float, sigma: float, dice: Dice) -> np.ndarray:
    """Do what programs do to images before they are published: sharpen, smooth, or blacken all below a threshold."""
    from scipy.ndimage import gaussian_filter, median_filter

    if not dice.happens("cleaning", 0.3):
        return image
    rng = dice.rng("cleaning")
    kind = rng.choice(["black", "sharp", "smooth", "gamma"], p=[0.3, 0.25, 0.25, 0.2])
    if kind == "black":
        return np.maximum(image - np.float32(floor + rng.uniform(1.5, 3) * sigma + rng.uniform(0, 0.15)), 0)
    if kind == "sharp":  # deconvolved, overshoots included
        width = rng.uniform(0.8, 2.0)
        soft = gaussian_filter(image, (0.7 * width, width, width), truncate=2.0)
        return np.maximum(image + np.float32(rng.uniform(0.4, 1.5)) * (image - soft), 0)
    if kind == "smooth":
        if rng.random() < 0.4:
            return median_filter(image, (1, 3, 3))
        width = rng.uniform(0.4, 1.0)
        return gaussian_filter(image, (width * rng.uniform(0, 1), width, width), truncate=2.5)
    top = max(float(image.max()), 1e-6)
    return np.maximum(image / top, 0) ** np.float32(rng.uniform(0.6, 1.5)) * np.float32(top)


def to_grey_levels(image: np.ndarray, dice: Dice) -> np.ndarray:
    """Turn an image in which the neuron's contrast is 1 into uint8 or uint16."""
    rng = dice.rng("exposure")
    low, high = np.percentile(image[::2, ::3, ::3], [1, 97])
    bits = dice.rng("bit_depth").choice([8, 12, 16], p=[0.65, 0.2, 0.15])
    bits = 8 if dice.left_out("bit_depth") else int(bits)
    white = 2**bits - 1
    # Contrast of a neurite in grey levels: of hand-traced real ones the median is 76 of 255.
    contrast = float(np.exp(rng.uniform(np.log(0.08), np.log(0.85)))) * white
    if bits > 8 and rng.random() < 0.7:
        contrast *= float(np.exp(rng.uniform(np.log(0.02), 0)))  # few use the whole range
    offset = rng.uniform(0, 0.08) * white * (rng.random() < 0.5) - contrast * max(low, 0) * rng.uniform(0, 1)
    offset = max(offset, -contrast * max(low, 0))
    saturation = dice.rng("saturation").uniform(1.2, 4.0)
    most = (0.85 * white - max(offset, 0)) / max(high, 0.2)  # what is behind the neuron shall not be all white
    contrast = min(contrast, most, 0.9 * white)
    if dice.happens("saturation", 0.15):
        contrast = min(contrast * saturation, most)
    grey = image * np.float32(contrast)
    grey += np.float32(offset)
    if dice.happens("compression", 0.15):
        _compress(grey, contrast, dice.rng("compression"))
    if dice.happens("inversion", 0.01):
        grey = np.float32(white) - grey
    return np.clip(np.rint(grey, out=grey), 0, white).astype(np.uint8 if bits == 8 else np.uint16)


def _compress(grey: np.ndarray, contrast: float, rng: np.random.Generator) -> None:
    """Leave traces of a lossy codec in an image, in place: blocks of 8 x 8 with coarse frequencies, or few levels."""
    from scipy.fft import dctn, idctn

    step = np.float32(contrast * np.exp(rng.uniform(np.log(0.03), np.log(0.3))))
    if rng.random() < 0.4:
        np.rint(grey / step, out=grey)
        grey *= step
        return
    height, width = (n // 8 * 8 for n in grey.shape[1:])
    blocks = grey[:, :height, :width].reshape(len(grey), height // 8, 8, width // 8, 8)
    waves = dctn(blocks, axes=(2, 4), norm="ortho")
    order = np.arange(8, dtype=np.float32)
    steps = step * (1 + order[:, None, None] + order)  # JPEG's tables rise in this way
    waves = np.rint(waves / steps) * steps
    grey[:, :height, :width] = idctn(waves, axes=(2, 4), norm="ortho").reshape(len(grey), height, width)
