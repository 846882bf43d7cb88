"""Measures in its image how thick a traced neuron is: hand-drawn trees have good center lines and poor radii."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..morphology import Tree


_BOUNDS = (0.5, 16.0)
_NEAR = 2.0  # voxels to a neighbour along the branch with which a node is smoothed
_ASIDE = 2.0  # voxels by which a trace may be beside the brightest line of its neurite
_STEP = 0.5  # voxels between samples of a profile
_HALF = round(_BOUNDS[1] / _STEP)  # samples on each side


def estimate_radii(tree: Tree, image: np.ndarray) -> Tree:
    """Measures radii in the image: half the width at half maximum of the profile across each branch.

    After Rayburst sampling (Rodriguez et al. 2006, J. Neurosci. Methods 152:229-239): rays leave each node in its
    slice (where the microscope is sharp; z is blurred) across the branch, and end where the intensity falls half way
    to the local background. Here the rays of 8 directions, foreshortened where the branch rises out of the slice, are
    averaged before they are cut, and averaged with those of the neighbouring nodes, because single rays through a
    noisy image end anywhere. The profile may have its peak beside the node (traces by hand are a voxel or two off); a
    branch that merges with another on one side is measured on the other side. In the end radii are smoothed by a
    median along the branch.

    A node keeps its radius where the image says nothing: outside of the image, where the profile does not rise clearly
    above the noise, and where it does not fall to its half within 16 voxels (inside a large soma). A tube thinner than
    the microscope's blur is seen and measured as wide as the blur: a radius of 1.2 standard deviations.

    Args:
        tree: in voxels of the image.
        image: (z, y, x).

    Returns:
        The same tree with other radii, between 0.5 and 16 voxels, or as given.

    Raises:
        ValueError: the image is not (z, y, x).
    """
    image = checked_image(image)
    if not len(tree):
        return tree
    average = _neighbour_average(tree)
    profiles, known = _profiles_across(tree, image, average)
    weight = known.astype(np.float64)
    for _ in range(3):
        profiles, weight = average @ (profiles * weight[:, None]), average @ weight
        profiles /= np.maximum(weight, 1e-12)[:, None]
        weight = (weight > 0).astype(np.float64) * known
    estimated = _half_widths(profiles, noise=_noise(image))
    estimated[~known] = np.nan
    estimated = _median_along_branches(tree, estimated)
    radii = np.where(np.isfinite(estimated), estimated.clip(*_BOUNDS), tree.radii)
    return replace(tree, radii=radii)


def _profiles_across(tree: Tree, image: np.ndarray, average) -> tuple[np.ndarray, np.ndarray]:
    """Returns intensities (n, 2 * _HALF + 1) across the branch at each node, and which nodes lie in the image."""
    from scipy.ndimage import map_coordinates

    tangents = _tangents(tree, average)
    angles = np.arange(8) * np.pi / 8
    rays = np.stack([np.cos(angles), np.sin(angles), np.zeros(8)], axis=1)
    offsets = np.arange(-_HALF, _HALF + 1) * _STEP
    profiles = np.zeros((len(tree), len(offsets)))
    last = np.array(image.shape[::-1]) - 1
    known = np.all((tree.xyz >= -0.5) & (tree.xyz <= last + 0.5), axis=1)
    for first in range(0, len(tree), 1024):  # bounds the memory
        rows = slice(first, first + 1024)
        along = tangents[rows] @ rays.T  # (n, 8) cosine between branch and ray
        # Left of the branch is positive on all rays, so that profiles of neighbours may be averaged.
        side = np.where(tangents[rows, :1] * rays[:, 1] - tangents[rows, 1:2] * rays[:, 0] < 0, -1.0, 1.0)
        weight = np.where(np.abs(along) <= 0.5, 1.0, 0.0)
        stretch = side / np.sqrt(1 - np.minimum(along**2, 0.25))
        x, y = (tree.xyz[rows, axis, None, None] + (stretch * rays[:, axis])[:, :, None] * offsets for axis in (0, 1))
        z = np.broadcast_to(tree.xyz[rows, 2, None, None], x.shape)
        # Beyond the border there is nothing to see: not zero, but as at the border.
        sampled = map_coordinates(image, [z, y, x], order=1, mode="nearest", output=np.float32)
        profiles[rows] = np.einsum("nkr,nk->nr", sampled, weight) / weight.sum(axis=1, keepdims=True)
    return profiles, known


def _half_widths(profiles: np.ndarray, *, noise: float) -> np.ndarray:
    """Measures half widths (n,) in voxels; NaN where a profile has no clear peak or does not come down."""
    n, samples = np.arange(len(profiles)), np.arange(_HALF + 1)
    near = round(_ASIDE / _STEP)
    calm = (profiles[:, :-2] + profiles[:, 1:-1] + profiles[:, 2:]) / 3
    peak_at = _HALF - near + np.argmax(calm[:, _HALF - near - 1 : _HALF + near], axis=1)
    peak = profiles[n, peak_at]
    background = np.percentile(profiles, 15, axis=1)
    half = (peak + background) / 2
    sides = []
    for direction in (-1, 1):
        reach = (peak_at[:, None] + direction * samples).clip(0, 2 * _HALF)
        ray = np.take_along_axis(profiles, reach, axis=1)
        below = ray <= half[:, None]
        end = np.argmax(below, axis=1)
        before, after = ray[n, np.maximum(end - 1, 0)], ray[n, end]
        share = (before - half) / np.maximum(before - after, 1e-12)
        sides.append(np.where(below.any(axis=1), (end - 1 + share) * _STEP, np.nan))
    left, right = sides
    # One side that is wider than the other by more than the peak may be off the middle has run into a neighbour.
    narrow, wide = np.fmin(left, right), np.fmax(left, right)
    width = np.where(np.isfinite(left + right) & (wide <= narrow + 2 * _ASIDE + 1), (left + right) / 2, narrow)
    return np.where(peak - background > 1.5 * noise, width, np.nan)


def _tangents(tree: Tree, average) -> np.ndarray:
    """Returns unit vectors (n, 3) along the branch, towards the root; zero for a lone node."""
    tangents = np.zeros((len(tree), 3))
    child, parent = tree.edges.T
    edge = tree.xyz[parent] - tree.xyz[child]
    np.add.at(tangents, child, edge)
    np.add.at(tangents, parent, edge)
    tangents = average @ (average @ tangents)
    return tangents / np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-12)


def _neighbour_average(tree: Tree):
    """Makes the sparse matrix (n, n) that averages a node and its neighbours in the tree; far ones count less."""
    from scipy.sparse import coo_array

    n = len(tree)
    child, parent = tree.edges.T
    near = np.exp(-0.5 * (np.linalg.norm(tree.xyz[child] - tree.xyz[parent], axis=1) / _NEAR) ** 2)
    itself = np.arange(n)
    rows, columns = np.concatenate([itself, child, parent]), np.concatenate([itself, parent, child])
    matrix = coo_array((np.concatenate([np.ones(n), near, near]), (rows, columns)), shape=(n, n)).tocsr()
    matrix.data /= np.repeat(matrix.sum(axis=1), np.diff(matrix.indptr))
    return matrix


def _median_along_branches(tree: Tree, values: np.ndarray) -> np.ndarray:
    """Takes the median (n,) of a node and the two before and after it on its branch, if near; NaN if all are NaN."""
    import warnings

    n = len(tree)
    up = np.append(np.where(tree.parent_index < 0, n, tree.parent_index), n)  # row n stands for none
    xyz = np.vstack([tree.xyz, np.full((1, 3), np.nan)])
    up[np.linalg.norm(xyz - xyz[up], axis=1) > 2 * _NEAR] = n
    down = np.full(n + 1, n)
    order = np.argsort(np.where(np.isfinite(values), values, 0), kind="stable")
    down[up[order]] = order  # of several children the widest goes on
    down[n] = n
    padded = np.append(values, np.nan)
    around = np.stack([padded[rows][:n] for rows in (np.arange(n + 1), up, up[up], down, down[down])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nanmedian of nothing
        return np.nanmedian(around, axis=0)


def _noise(image: np.ndarray) -> float:
    """Estimates the standard deviation of the noise from differences of neighbouring pixels (median absolute)."""
    if image.shape[2] < 2:
        return 0.0
    difference = np.diff(some_slices(image).astype(np.float32), axis=2)
    return 1.4826 * float(np.median(np.abs(difference))) / math.sqrt(2)


def some_slices(image: np.ndarray) -> np.ndarray:
    """Takes every n-th slice of a large image, which is enough for a median.

    About 4 million voxels remain, and at least eight slices.
    """
    return image[:: max(min(image.size // 4_000_000, len(image) // 8), 1)]


def checked_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"expected an image (z, y, x), got shape {image.shape}")
    return image.astype(np.float32) if image.dtype == np.float16 else image  # scipy's filters know no half precision
