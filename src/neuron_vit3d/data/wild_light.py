"""The light of wild neurites before the blur: uneven along each, beaded, lumpy, granular, hollow or spiny.

Brightness is relative: 1 is a typical peak of the neuron above its background, after the blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuron_vit3d.morphology import Tree

from .synthetic_image import draw_gaps
from .visible import paint, points_along
from .wild_dice import Dice
from .wild_tree import Branches, find_branches, wander_along


@dataclass(frozen=True)
class Optics:
    """How lengths come out in the image, voxels."""

    blur: tuple[float, float, float]  # z, y, x standard deviations of the point spread function
    squeeze: float  # by how much all is flatter along z than in a slice


@dataclass(frozen=True, eq=False)
class NeuronLight:
    """The light of a neuron and what of it counts as neurite.

    Attributes:
        light: float32 (z, y, x), before the blur.
        points: (p, 3) x y z of balls that make up the neurites, lumps and beads included.
        radii: (p,) of them.
        spine_points: (s, 3) x y z of balls that belong to the cell but to no branch.
        spine_radii: (s,) of them.
    """

    light: np.ndarray
    points: np.ndarray
    radii: np.ndarray
    spine_points: np.ndarray
    spine_radii: np.ndarray


def light_of_neuron(
    tree: Tree, shape: tuple[int, int, int], optics: Optics, dice: Dice, dimmest: float
) -> NeuronLight:
    """Draw the light of a neuron.

    Args:
        tree: parents before children.
        shape: (z, y, x).
        optics: blur and squeeze.
        dice: random streams.
        dimmest: brightness below which only gaps fall.
    """
    rng = dice.rng("neuron")
    branches = find_branches(tree)
    brightness = np.exp(_log_contrast(tree, branches, dice))
    gaps = np.ones(len(tree))
    if dice.happens("gaps", 0.5):
        own = dice.rng("gaps")
        gaps = draw_gaps(tree, np.exp(own.uniform(np.log(0.0005), np.log(0.008))), own)
    roughness = rng.uniform(0.0, 0.3) * wander_along(tree, branches, 4.0, rng)
    values = np.stack([brightness, _rise(tree), np.exp(roughness.clip(-0.6, 0.6)), gaps], axis=1)
    points, radii, values = points_along(tree, values)
    brightness, rise = values[:, 0], values[:, 1]
    radii = np.maximum(radii * values[:, 2], np.minimum(radii, 0.9))
    loss = blur_loss(radii, optics, rise)
    light = np.zeros(shape, dtype=np.float32)
    hollow = dice.happens("hollow", 0.15)
    depth = np.zeros(shape, dtype=np.float32) if hollow else None
    # Thin neurites are dimmer than thick ones, but less so than the blur alone would have it.
    brightness = brightness * loss ** rng.uniform(0.15, 0.6)
    brightness = np.maximum(brightness / np.median(brightness), dimmest) * values[:, 3]
    peaks = brightness / loss
    granular = dice.happens("granules", 0.3)
    base = dice.rng("granules").uniform(0.3, 0.8) if granular else 1.0
    paint(light, points, radii, base * peaks, squeeze=optics.squeeze, depth=depth)
    if granular:
        _add_granules(light, points, radii, brightness, optics, dice.rng("granules"))
    if dice.happens("granules", 0.4):
        _mottle(light, dice.rng("granules"))
    all_points, all_radii = [points], [radii]
    for name, chance, scatter in (("beads", 0.4, _beads), ("lobes", 0.35, _lobes)):
        if dice.happens(name, chance):
            extra, sizes, bright = scatter(points, radii, brightness, optics, dice.rng(name))
            paint(light, extra, sizes, bright / blur_loss(sizes, optics, 0.0), squeeze=optics.squeeze, depth=depth)
            all_points.append(extra)
            all_radii.append(sizes)
    if depth is not None:
        _hollow_out(light, depth, dice.rng("hollow"))
    spines, spine_radii = np.zeros((0, 3)), np.zeros(0)
    if dice.happens("spines", 0.25):
        spines, spine_radii = _add_spines(light, points, radii, brightness, optics, dice.rng("spines"))
    return NeuronLight(light, np.concatenate(all_points), np.concatenate(all_radii), spines, spine_radii)


def light_of_others(
    light: np.ndarray, tree: Tree, optics: Optics, brightness: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw another neuron into `light` in place and give its (p, 3) points and (p,) radii."""
    field = np.exp(rng.uniform(0.1, 0.5) * wander_along(tree, find_branches(tree), 12.0, rng).clip(-2, 1))
    points, radii, values = points_along(tree, np.stack([field, _rise(tree)], axis=1))
    peaks = brightness * values[:, 0] / blur_loss(radii, optics, values[:, 1])
    paint(light, points, radii, peaks, squeeze=optics.squeeze)
    return points, radii


def blur_loss(radii: np.ndarray, optics: Optics, rise: np.ndarray | float) -> np.ndarray:
    """(n,) what the blur leaves of the peak of a tube; `rise` is 0 in a slice's plane and 1 along z."""
    from scipy.special import erf

    across = erf(0.7 * radii / optics.blur[2])
    along_z = erf(0.7 * np.maximum(radii / optics.squeeze, 0.5) / optics.blur[0])
    return np.maximum(across * along_z ** (1 - rise) * across**rise, 0.03)


def _rise(tree: Tree) -> np.ndarray:
    """(n,) the share of the step to the parent that goes along z."""
    child, parent = tree.edges.T
    edge = tree.xyz[child] - tree.xyz[parent]
    rise = np.zeros(len(tree))
    rise[child] = np.abs(edge[:, 2]) / np.maximum(np.linalg.norm(edge, axis=1), 1e-9)
    return rise


def _log_contrast(tree: Tree, branches: Branches, dice: Dice) -> np.ndarray:
    """(n,) log brightness: of each branch, of long stretches, of short ones.

    Along traces of real neurons its standard deviation is 0.68; here it is drawn between 0.1 and 0.95.
    """
    rng = dice.rng("uneven_contrast")
    spread = rng.uniform(0.1, 0.95)
    shares = rng.dirichlet((1.0, 1.5, 1.0))
    of_branch = rng.standard_normal(branches.branch.max() + 1)[branches.branch]
    long = wander_along(tree, branches, rng.uniform(15, 80), rng)
    short = wander_along(tree, branches, rng.uniform(2, 7), rng)
    field = sum(np.sqrt(share) * part for share, part in zip(shares, (of_branch, long, short), strict=True))
    if dice.left_out("uneven_contrast"):
        spread = 0.1
    return np.clip(spread * field, -2.2, 1.5)


def _add_granules(light, points, radii, brightness, optics: Optics, rng: np.random.Generator) -> None:
    """Fill a tube with small bright balls."""
    count = int(len(points) * rng.uniform(0.3, 1.2))
    where = rng.integers(0, len(points), size=count)
    size = np.maximum(radii[where] * rng.uniform(0.25, 0.7, size=count), 0.5)
    centers = points[where] + _scatter(count, optics, rng) * (0.8 * radii[where])[:, None]
    bright = brightness[where] * np.exp(rng.normal(0, 0.5, size=count)).clip(0.3, 3)
    paint(light, centers, size, bright / blur_loss(size, optics, 0.5), squeeze=optics.squeeze)


def _mottle(light: np.ndarray, rng: np.random.Generator) -> None:
    """Make what is painted so far as uneven inside as stained cytoplasm, in place."""
    from scipy.ndimage import gaussian_filter

    width = rng.uniform(0.7, 2.2)
    field = gaussian_filter(
        rng.standard_normal(light.shape, dtype=np.float32), (width * rng.uniform(0.5, 1), width, width)
    )
    field *= np.float32(rng.uniform(0.2, 0.8) / max(float(field[::2, ::3, ::3].std()), 1e-6))
    light *= np.exp(np.clip(field, -1.2, 1.0, out=field), out=field)


def _beads(points, radii, brightness, optics: Optics, rng: np.random.Generator):
    """Give bright swellings on the line of a neurite: points, radii and peaks."""
    every = rng.uniform(8, 40)  # points, which are 0.7 voxels apart on thin neurites
    where = rng.integers(0, len(points), size=int(len(points) / every) + 1)
    where = where[radii[where] < 4]  # thick neurites have none
    count = len(where)
    size = np.clip(radii[where] * rng.uniform(1.1, 2.4, size=count), 1.0, np.maximum(radii[where], 5.0))
    bright = brightness[where] * rng.uniform(1.0, rng.uniform(1.2, 3.5), size=count)
    return points[where], size, bright


def _lobes(points, radii, brightness, optics: Optics, rng: np.random.Generator):
    """Give irregular lumps: clusters of balls on and beside the neurite."""
    sites = rng.poisson(len(points) * 0.7 * np.exp(rng.uniform(np.log(0.004), np.log(0.05))))
    each = rng.integers(2, 9, size=sites)
    where = np.repeat(rng.integers(0, len(points), size=sites), each)
    spread = np.repeat(rng.uniform(1.2, rng.uniform(2, 5), size=sites), each)
    count = len(where)
    size = np.maximum(spread * rng.uniform(0.3, 0.9, size=count), 0.8)
    centers = points[where] + _scatter(count, optics, rng) * spread[:, None]
    bright = brightness[where] * rng.uniform(0.4, 1.6, size=count)
    return centers, size, bright


def _hollow_out(light: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> None:
    """Dim what lies deeper inside than the membrane is thick, in place."""
    shell, left = rng.uniform(1.0, 2.5), rng.uniform(0.05, 0.6)
    inner = np.clip(depth - np.float32(0.5 + shell), 0, 1)
    light *= 1 - np.float32(1 - left) * inner


def _add_spines(light, points, radii, brightness, optics: Optics, rng: np.random.Generator):
    """Draw short necks with a round head all along a neurite; give their points and radii."""
    count = rng.poisson(len(points) * 0.7 * rng.uniform(0.03, 0.25))
    where = rng.integers(0, len(points), size=count)
    away = _scatter(count, optics, rng)
    reach = radii[where] + rng.uniform(1.5, rng.uniform(3, 8), size=count)
    bright = brightness[where] * rng.uniform(0.15, 1.0, size=count)
    centers, sizes = [], []
    for share, width in ((0.4, 0.6), (0.7, 0.6), (1.0, 1.3)):
        along = radii[where] * (1 - share) + reach * share
        size = width * rng.uniform(0.7, 1.4, size=count)
        place = points[where] + away * along[:, None]
        paint(light, place, size, bright / blur_loss(size, optics, 0.5), squeeze=optics.squeeze)
        centers.append(place)
        sizes.append(size)
    return np.concatenate(centers), np.concatenate(sizes)


def _scatter(count: int, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) directions x y z of length about 1, flatter along z where the image is."""
    away = rng.standard_normal((count, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-9
    return away / (1, 1, max(optics.squeeze, 1.0))
