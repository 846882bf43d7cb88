"""Straight tubes, and pictures of trees as a microscope would take them: for tests of labels and radii."""

import numpy as np

from neuron_vit3d.morphology import Tree, rasterize


def line(begin, end, radius, steps=1) -> Tree:
    points = np.linspace(begin, end, steps + 1)
    return Tree.from_parents(points, np.full(steps + 1, float(radius)), np.arange(-1, steps))


def picture_of(tree: Tree, shape, *, brightness=100.0, blur=1.0, noise=0.0, seed=0) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    light = gaussian_filter(20 + brightness * rasterize(tree, shape).astype(np.float32), (2 * blur, blur, blur))
    return light + noise * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
