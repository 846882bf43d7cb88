"""Takes the picture of a tree as a light microscope would, with all that makes tracing hard.

In the order of the light: tubes of uneven brightness (and what else glows: spines, specks, other cells, scraps of
other neurites), blur that is longer along z, haze, uneven background, shot noise and read noise, 8 bits. The ranges
are set so that contrast, widths, background and noise cover those measured along hand-drawn traces of confocal and
two-photon images of single neurons (medians of contrast 70 to 220 grey levels, widths 4 to 9 voxels in a slice and 3
to 14 along z, background 0 to 92, noise 1 to 15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuron_vit3d.morphology import Tree

from .synthetic_clutter import other_cells, scraps_of_neurites, smooth_field, speck_positions, stretch


@dataclass(frozen=True)
class Microscope:
    """How one picture is taken. Brightness is in grey levels of the 8-bit image, lengths in voxels."""

    contrast: float  # typical peak of a neurite above the background
    blur: tuple[float, float, float]  # z, y, x standard deviations of the point spread function
    background: float
    unevenness: float  # of the background, relative
    tilt: float  # of the background from one side to the other, relative
    texture: float  # fine-grained structure of the background, grey levels
    noise: float  # standard deviation on the background, of photons and readout together
    grain: float  # standard deviation (voxels) of the smoothing that makes noise of neighbours alike; 0: none
    fading: float  # spread of the log brightness along the neurite
    gaps_per_length: float  # dim stretches per voxel of neurite
    specks: float  # per 1e5 voxels
    scraps: int  # pieces of other neurites
    cells: int  # somata of other cells
    haze: float  # light from out of focus, relative to the neurite's
    spines: float  # per voxel of neurite
    flicker: float  # relative brightness jitter from slice to slice
    cut_off: float  # grey levels under which a cleaned image was set to 0; 0: not cleaned


def draw_microscope(
    rng: np.random.Generator, *, quality: str | None, spiny: bool = False, anisotropy: float = 1.0
) -> Microscope:
    """Draw the circumstances of a picture, "clean", "noisy" or (None) anything from one to the other."""
    low, high = {"clean": (0.0, 0.2), "noisy": (0.65, 1.0), None: (0.0, 1.0)}[quality]
    d = low + (high - low) * rng.random() ** 0.6  # difficulty; most real images are on the hard side

    def spread(at_0: float, at_1: float, sigma: float) -> float:
        """A value that runs from `at_0` to `at_1` with the difficulty, log-normal around that."""
        return float(np.exp(np.log(at_0) * (1 - d) + np.log(at_1) * d + sigma * rng.standard_normal()))

    background = min(spread(5.0, 85.0, 0.4), 110.0)
    noise = min(spread(0.9, 8.0, 0.45), 15.0)
    if rng.random() < 0.2 and quality != "clean":  # photon counting: dark, but each photon shows
        background, noise = rng.uniform(2, 10), rng.uniform(2, 5)
    contrast = max(float(np.clip(spread(190.0, 120.0, 0.3), 65, 255)), 5 * noise)
    lateral = rng.uniform(0.8, 1.7)
    # Far slices are not blurred into each other by many voxels, near ones are.
    axial = lateral * np.exp(rng.uniform(np.log(1.2), np.log(4.5))) / max(1.0, anisotropy) ** 0.4
    sometimes = rng.random(8)
    return Microscope(
        contrast=contrast,
        blur=(float(np.clip(axial, 0.6, 5.0)), lateral, lateral),
        background=background,
        unevenness=rng.uniform(0.1, 0.4),
        tilt=rng.uniform(0.2, 1.2) if sometimes[0] < 0.6 else rng.uniform(0, 0.2),
        texture=background * rng.uniform(0.02, 0.1),
        noise=noise,
        grain=rng.uniform(0.35, 0.65) if sometimes[1] < 0.6 else 0.0,
        fading=rng.uniform(0.1, 0.5),
        gaps_per_length=rng.uniform(0.001, 0.007) * (0.3 + d) if sometimes[2] < 0.6 else 0.0,
        specks=spread(0.5, 16.0, 0.9),
        scraps=int(rng.integers(0, 4 + 45 * d)) if sometimes[3] < 0.8 else 0,
        cells=int(rng.integers(1, 3 + 12 * d)) if sometimes[4] < 0.2 + 0.4 * d else 0,
        haze=rng.uniform(0.02, 0.1 + 0.5 * d),
        spines=rng.uniform(0.05, 0.25) if spiny and sometimes[5] < 0.8 else 0.0,
        flicker=rng.uniform(0.01, 0.06) if sometimes[6] < 0.25 else 0.0,
        cut_off=1.0 if sometimes[7] < 0.25 and d < 0.25 else 0.0,
    )


def take_picture(
    tree: Tree, shape: tuple[int, int, int], microscope: Microscope, rng: np.random.Generator
) -> np.ndarray:
    """The uint8 (z, y, x) image of a tree with one root, parents before children."""
    from scipy.ndimage import gaussian_filter

    m = microscope
    tissue = smooth_field(rng, shape, (20, 32, 32))  # what lies above dims whole regions
    light = _light_of_tree(tree, shape, m, rng, tissue)
    if m.spines:
        _add_spines(light, tree, m, rng)
    for points, radii, peaks in scraps_of_neurites(shape, m.scraps, m.contrast, rng):
        _paint(light, points, radii, peaks / _blur_loss(radii, m.blur))
    points = speck_positions(shape, m.specks, rng)
    radii = 0.3 + rng.exponential(0.4, size=len(points)).clip(0, 2.2)
    peaks = m.contrast * rng.gamma(0.9, 0.22, size=len(points)).clip(0.03, 1.5)  # most are faint
    _paint(light, points, radii, peaks / _blur_loss(radii, m.blur) ** 1.3)
    image = gaussian_filter(light, m.blur, truncate=3.0)
    image += m.haze * out_of_focus(image)
    image += _background(shape, m, rng, tissue)
    if m.cells:
        other_cells(image, m.cells, m.contrast, rng)
    if m.flicker:
        image *= (1 + m.flicker * rng.standard_normal((shape[0], 1, 1))).astype(np.float32)
    _expose(image, m, rng)
    if m.cut_off:  # as images are cleaned before they are published: all that is not clearly neurite is black
        threshold = m.background + max(4 * m.noise, rng.uniform(0.08, 0.3) * m.contrast)
        image = np.where(image > threshold, image, 0)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _light_of_tree(
    tree: Tree, shape: tuple[int, int, int], m: Microscope, rng: np.random.Generator, tissue: np.ndarray
) -> np.ndarray:
    """float32 (z, y, x): the neurite before the blur, as bright as it takes to peak around `contrast` after it."""
    nearest = np.clip(np.rint(tree.xyz[:, ::-1]).astype(np.int64), 0, np.array(shape) - 1)
    brightness = np.exp(m.fading * (tissue[tuple(nearest.T)] + 0.5 * rng.standard_normal(len(tree)).clip(-2, 2)))
    brightness *= draw_gaps(tree, m.gaps_per_length, rng)
    child, parent = tree.edges.T
    rise = np.zeros(len(tree))
    edge = tree.xyz[child] - tree.xyz[parent]
    rise[child] = np.abs(edge[:, 2]) / np.maximum(np.linalg.norm(edge, axis=1), 1e-9)
    loss = _blur_loss(tree.radii, m.blur, rise)
    brightness *= m.contrast * loss**0.35 / loss  # thin neurites stay a little dimmer than thick ones
    points, values = along_edges(tree, np.stack([tree.radii, brightness], axis=1))
    light = np.zeros(shape, dtype=np.float32)
    _paint(light, points, values[:, 0], values[:, 1])
    return light


def along_edges(tree: Tree, values: np.ndarray, spacing: float | np.ndarray = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Points (p, 3) at most `spacing` apart along all edges, the nodes included, and (p, k) values interpolated there.

    `spacing` is one number or one for each of `tree.edges`.
    """
    child, parent = tree.edges.T
    lengths = np.linalg.norm(tree.xyz[child] - tree.xyz[parent], axis=1)
    counts = np.maximum(1, np.ceil(lengths / spacing)).astype(np.int64)
    edge = np.repeat(np.arange(len(child)), counts)
    rank = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = ((rank + 1) / counts[edge])[:, None]  # 1 at the child

    def mix(rows: np.ndarray) -> np.ndarray:
        inner = rows[parent[edge]] * (1 - share) + rows[child[edge]] * share
        return np.vstack([rows[tree.roots], inner])

    return mix(tree.xyz), mix(values)


def draw_gaps(tree: Tree, per_length: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) factors: 1, and near 0 along stretches of 6 to 20 voxels that run from random nodes towards the root."""
    factors = np.ones(len(tree))
    parent = tree.parent_index
    for node in rng.integers(0, len(tree), size=rng.poisson(per_length * tree.length)):
        depth = rng.uniform(0.03, 0.35)
        for _ in range(rng.integers(3, 11)):
            if node < 0:
                break
            factors[node] = min(factors[node], depth)
            node = parent[node]
    return factors


def _add_spines(light: np.ndarray, tree: Tree, m: Microscope, rng: np.random.Generator) -> None:
    """Short necks with a round head, which hand-drawn trees do not follow, all along the neurite."""
    count = rng.poisson(m.spines * tree.length)
    nodes = rng.integers(0, len(tree), size=count)
    directions = rng.standard_normal((count, 3)) * (1, 1, 0.4)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True) + 1e-9
    radii = tree.radii[nodes].clip(0, 5)
    reach = radii + rng.uniform(1.5, 5.5, size=count)
    for share, width in ((0.5, 0.6), (0.75, 0.6), (1.0, 1.3)):
        along = (radii * (1 - share) + reach * share)[:, None]
        size = width * rng.uniform(0.7, 1.3, size=count)
        peaks = m.contrast * rng.uniform(0.15, 0.7, size=count)
        _paint(light, tree.xyz[nodes] + directions * along, size, peaks / _blur_loss(size, m.blur))


def _blur_loss(radii: np.ndarray, blur: tuple[float, float, float], rise: np.ndarray | float = 0.0) -> np.ndarray:
    """(n,) what the blur leaves of the peak of a tube of such radii; `rise` is 0 in a slice's plane, 1 along z."""
    from scipy.special import erf

    across = erf(0.7 * radii / blur[1])
    along_z = erf(0.7 * radii / blur[0])
    return np.maximum(across * along_z ** (1 - rise) * across**rise, 0.03)


def _paint(light: np.ndarray, points: np.ndarray, radii: np.ndarray, values: np.ndarray) -> None:
    """Draw balls with a soft rim at points (p, 3) x y z into `light`; where they overlap the brighter one counts."""
    depth, height, width = light.shape
    flat = light.reshape(-1)
    reach = np.ceil(np.asarray(radii) + 0.5).astype(np.int64)
    for size in np.unique(reach):
        chosen = np.flatnonzero(reach == size)
        steps = np.arange(-size, size + 1)
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        offsets = offsets[(offsets**2).sum(1) <= (size + 1) ** 2]
        for some in np.array_split(chosen, 1 + len(chosen) * len(offsets) // 2_000_000):  # bounds the memory
            places = points[some, ::-1]
            center = np.rint(places).astype(np.int64)
            voxels = center[:, None] + offsets
            distance = np.sqrt(((voxels - places[:, None]) ** 2).sum(axis=2))
            value = values[some, None] * np.clip(radii[some, None] + 0.5 - distance, 0, 1)
            z, y, x = voxels[..., 0], voxels[..., 1], voxels[..., 2]
            inside = (value > 0) & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            index = (z * height + y) * width + x
            np.maximum.at(flat, index[inside], value[inside].astype(np.float32))


def out_of_focus(image: np.ndarray) -> np.ndarray:
    """The image blurred over tens of voxels, computed on a coarse grid."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    coarse = uniform_filter(image, (1, 4, 4))[:, 2::4, 2::4]
    coarse = gaussian_filter(coarse, (6, 2.5, 2.5), truncate=2.5)
    return 2.0 * stretch(coarse, image.shape)


def _background(
    shape: tuple[int, int, int], m: Microscope, rng: np.random.Generator, tissue: np.ndarray
) -> np.ndarray:
    """float32 (z, y, x): tissue that glows by itself, brighter on one side, at three scales."""
    depth, height, width = shape
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    side = (m.tilt * (np.cos(angle) * y + np.sin(angle) * x)).astype(np.float32)
    field = smooth_field(rng, shape, (24, 70, 70))
    field += 0.3 * tissue
    field *= np.float32(m.unevenness)
    field += side
    field += np.linspace(rng.normal(0, 0.25), rng.normal(0, 0.25), depth, dtype=np.float32)[:, None, None]
    np.clip(field, -2.5, 1.1, out=field)
    np.exp(0.75 * field, out=field)
    field *= np.float32(m.background)
    if m.texture > 0.3:
        fine = smooth_field(rng, shape, (3, 4, 4))
        fine += 0.5 * smooth_field(rng, shape, (6, 12, 12))
        field += np.float32(m.texture) * np.maximum(fine, np.float32(-1.5))
    if rng.random() < 0.12:  # the sample, or the field of view, ends here
        edge = rng.uniform(0.03, 0.2) * height
        margin = 1 / (1 + np.exp(-(np.arange(height) - edge) / rng.uniform(1, 6)))
        field *= (margin if rng.random() < 0.5 else margin[::-1]).astype(np.float32)[:, None]
    return np.maximum(field, 0)


def _expose(image: np.ndarray, m: Microscope, rng: np.random.Generator) -> None:
    """Adds shot noise and read noise in place.

    The variance is gain * light + read**2, so that it is noise**2 on the background.
    """
    from scipy.ndimage import gaussian_filter

    read = 0.3 * m.noise
    gain = (m.noise**2 - read**2) / max(m.background, 1.0)
    np.maximum(image, 0, out=image)
    if m.background < 12 * gain:  # few photons: a normal distribution would look wrong
        grainy = rng.poisson(image / gain).astype(np.float32)
        grainy *= np.float32(gain)
        grainy -= image
    else:
        grainy = rng.standard_normal(image.shape, dtype=np.float32)
        grainy *= np.sqrt(np.float32(gain) * image)
    if m.grain:
        grainy = gaussian_filter(grainy, (0.8 * m.grain, m.grain, m.grain), truncate=2.5)
    image += grainy
    image += np.float32(read) * rng.standard_normal(image.shape, dtype=np.float32)
