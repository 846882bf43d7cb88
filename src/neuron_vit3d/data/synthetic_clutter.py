"""Draws what else glows in an image: specks, scraps of other neurites, somata of other cells, smooth tissue."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int, int], scale: tuple[float, float, float]
) -> np.ndarray:
    """float32 (z, y, x) smooth noise of mean 0 and variance about 1 that changes over `scale` voxels (z, y, x)."""
    from scipy.ndimage import gaussian_filter

    # A grid twice as fine as the field, smoothed: interpolation from the bare grid would show its lines.
    coarse = [int(np.ceil(2 * n / s)) + 1 for n, s in zip(shape, scale, strict=True)]
    values = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), 1.0, mode="wrap", truncate=3.0)
    return stretch(values, shape) * np.float32(7.3)  # both steps shrink the variance


def stretch(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Interpolate a coarse 3D grid to `shape`, with level ends of each piece so that no creases show.

    Element by element, without a matrix product: the bytes must not depend on the number of threads.
    """
    for axis in (2, 1, 0):  # the last, and only large, step copies whole slices
        count, coarse = shape[axis], values.shape[axis]
        at = np.linspace(0, coarse - 1, count) if coarse > 1 else np.zeros(count)
        below = np.minimum(at.astype(np.int64), max(coarse - 2, 0))
        share = at - below
        share = (share * share * (3 - 2 * share)).astype(np.float32)
        share = share.reshape([count if a == axis else 1 for a in range(3)])
        lower = np.take(values, below, axis=axis)
        upper = np.take(values, np.minimum(below + 1, coarse - 1), axis=axis)
        upper -= lower
        upper *= share
        lower += upper
        values = lower
    return values


def speck_positions(shape: tuple[int, int, int], per_100k: float, rng: np.random.Generator) -> np.ndarray:
    """(p, 3) x y z of bright specks: some anywhere, the others in drawn-out clouds."""
    extent = np.array(shape[::-1], dtype=np.float64) - 1
    count = rng.poisson(min(per_100k, 60.0) * np.prod(shape) / 1e5)
    share = rng.uniform(0, 0.9) if count else 0.0
    points = rng.uniform(0, 1, size=(count, 3)) * extent
    clouds = rng.integers(1, 6)
    in_clouds = int(share * count)
    angles = rng.uniform(0, np.pi, size=clouds)
    long, short = rng.uniform(10, 50, size=clouds), rng.uniform(3, 14, size=clouds)
    which = rng.integers(0, clouds, size=in_clouds)
    centers = (rng.uniform(0, 1, size=(clouds, 3)) * extent)[which]
    u, v, w = rng.standard_normal((3, in_clouds)) * np.stack([long, short, short])[:, which]
    cos, sin = np.cos(angles)[which], np.sin(angles)[which]
    points[:in_clouds] = centers + np.stack([cos * u - sin * v, sin * u + cos * v, w], axis=1)
    return points[((points >= 0) & (points <= extent)).all(axis=1)]


def scraps_of_neurites(
    shape: tuple[int, int, int], count: int, contrast: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draws short dim pieces of neurites that nobody traced.

    Each is (points (p, 3) x y z, radii (p,), peaks (p,) in grey levels).
    """
    extent = np.array(shape[::-1], dtype=np.float64) - 1
    around, spread = rng.uniform(0, 1, size=3) * extent, rng.uniform(0.1, 1.0) * extent
    for _ in range(count):
        start = around + rng.normal(0, 0.5, size=3) * spread
        steps = rng.integers(5, 45)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.22, size=steps))
        rise = rng.normal(0, 0.3) + np.cumsum(rng.normal(0, 0.08, size=steps))
        points = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading), 0.6 * np.sin(rise)], axis=1), axis=0)
        beads = np.maximum(0, np.sin(np.arange(steps) * rng.uniform(0.4, 1.2)))
        peaks = contrast * rng.uniform(0.06, 0.35) * (1 - rng.random() * (1 - beads))
        keep = ((points >= 0) & (points <= extent)).all(axis=1)
        yield points[keep], np.full(keep.sum(), rng.uniform(0.5, 1.3)), peaks[keep]


def other_cells(image: np.ndarray, count: int, contrast: float, rng: np.random.Generator) -> None:
    """Add somata of other cells to `image` in place: ellipsoids, filled and mottled, or rims around a dark nucleus."""
    depth, height, width = image.shape
    rims = rng.random()  # in one sample most look the same
    size = rng.uniform(0.02, 0.06) * min(height, width) + 4
    corner = rng.uniform(0, 1, size=2) * (height, width)
    packed = rng.random() < 0.5  # a cluster of cells, or cells anywhere
    peak = contrast * rng.uniform(0.12, 0.5)
    for _ in range(count):
        place = (
            corner + rng.normal(0, 0.22, size=2) * (height, width)
            if packed
            else rng.uniform(0, 1, 2) * (height, width)
        )
        y0, x0 = place
        z0 = rng.uniform(-0.1, 1.1) * depth
        radii = size * rng.uniform(0.7, 1.4, size=3) * (0.7, 1, 1)
        reach = (1.6 * radii).astype(np.int64) + 1
        lower = np.maximum(np.array([z0, y0, x0]).astype(np.int64) - reach, 0)
        upper = np.minimum(np.array([z0, y0, x0]).astype(np.int64) + reach + 1, image.shape)
        if (lower >= upper).any():
            continue
        z, y, x = (np.arange(a, b, dtype=np.float32) for a, b in zip(lower, upper, strict=True))
        turn = rng.uniform(0, np.pi)
        u = np.cos(turn) * (y - y0)[:, None] + np.sin(turn) * (x - x0)
        v = -np.sin(turn) * (y - y0)[:, None] + np.cos(turn) * (x - x0)
        plane = (u / radii[1]) ** 2 + (v / radii[2]) ** 2
        distance = np.sqrt((((z - z0) / radii[0]) ** 2)[:, None, None] + plane)
        distance = distance.astype(np.float32)
        box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
        mottle = smooth_field(rng, distance.shape, (4, 5, 5))
        distance *= 1 + 0.08 * smooth_field(rng, distance.shape, (8, 10, 10))
        if rng.random() < rims:
            shell = np.exp(-(((distance - 0.9) / rng.uniform(0.12, 0.25)) ** 2))
        else:
            shell = 1 / (1 + np.exp((distance - 1) / 0.07))
        image[box] += np.float32(peak * rng.uniform(0.4, 1.2)) * shell * np.maximum(0.2, 1 + 0.35 * mottle)
