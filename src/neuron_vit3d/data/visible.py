"""Labels a tree as wide as it is seen: where its blurred light is at least half as bright as on its center line.

A neurite thinner than the blur of the microscope looks as wide as the blur. Labels at the true radius would call half
of what shines background, and a model would learn from them to be unsure at every rim. So the tree is drawn with unit
brightness, blurred as the picture is, and divided by its own peak nearby: a thin dim twig and a thick bright trunk are
both labelled out to half of their own maximum.
"""

from __future__ import annotations

import numpy as np

from neuron_vit3d.morphology import Tree

from .synthetic_image import along_edges


NEURON, IGNORED = 1, 255  # labels; background is 0
_SEEN = 0.5  # of the peak nearby: half maximum, as radii are measured in an image (radii.py)
_GLIMPSED = 0.3  # between this and `_SEEN` nobody can say whether a voxel belongs to the neurite
_MOST_ALONG_Z = 2  # voxels by which a label may be thicker along z than the tube: gold trees are not smeared along z
_LARGE = 3.5  # voxels; balls above this radius are drawn one at a time, which is quicker for them
_THINNEST_SLAB = 1.0  # voxels; no ball is squeezed to less than this along z, or it might fall between two slices


def visible_labels(tree: Tree, shape: tuple[int, int, int], blur: tuple[float, float, float]) -> np.ndarray:
    """Label what a tree looks like after a blur.

    Args:
        tree: in voxels of the volume.
        shape: (z, y, x) of the volume.
        blur: (z, y, x) standard deviations of the point spread function, voxels.

    Returns:
        uint8 (z, y, x): 1 where the light is at least half of the peak nearby, and inside the tubes; 255 (ignored)
        where it is between 0.3 and 0.5 of it; else 0.
    """
    points, radii = points_along(tree)
    return label_points(points, radii, shape, blur)


def points_along(tree: Tree, values: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Give points along all edges, dense enough that balls around them make a smooth tube.

    Args:
        tree: parents before children.
        values: (n, k) to interpolate along with the radii; None: nothing.

    Returns:
        (p, 3) points x y z, (p,) radii, and (p, k) values where some were given.
    """
    child, parent = tree.edges.T
    # Balls of radius r that are 0.35 r apart make a tube whose surface dips by 0.015 r.
    spacing = np.clip(0.35 * np.minimum(tree.radii[child], tree.radii[parent]), 0.7, 3.0)
    rows = tree.radii[:, None] if values is None else np.concatenate([tree.radii[:, None], values], axis=1)
    points, rows = along_edges(tree, rows, spacing)
    return (points, rows[:, 0]) if values is None else (points, rows[:, 0], rows[:, 1:])


def label_points(
    points: np.ndarray,
    radii: np.ndarray,
    shape: tuple[int, int, int],
    blur: tuple[float, float, float],
    squeeze: float = 1.0,
) -> np.ndarray:
    """Label what balls at (p, 3) points x y z look like after a blur; `visible_labels` says what the labels are."""
    from scipy.ndimage import gaussian_filter

    labels = np.zeros(shape, dtype=np.uint8)
    if not len(points):
        return labels
    light = np.zeros(shape, dtype=np.float32)
    paint(light, points, radii, np.ones(len(points)), squeeze=squeeze)
    tube = light >= 0.5
    seen = gaussian_filter(light, blur, truncate=3.0)
    nearest = np.rint(points[:, ::-1]).astype(np.int64)
    z, y, x = np.clip(nearest, 0, np.array(shape) - 1).T
    peak = np.zeros(shape, dtype=np.float32)
    paint(peak, points, radii, seen[z, y, x], squeeze=squeeze, soft=False)
    aside = int(np.ceil(1.2 * blur[2] + 0.5))  # the half maximum of a thin tube lies 1.2 deviations from its axis
    along_z = min(int(np.ceil(1.2 * blur[0] + 0.5)), _MOST_ALONG_Z)
    near = _widened(peak, (along_z, aside, aside))
    around = _widened(near, (_MOST_ALONG_Z, 1, 1))
    labels[(seen >= _GLIMPSED * around) & (around > 0)] = IGNORED
    labels[(seen >= _SEEN * near) & (near > 0)] = NEURON
    labels[tube] = NEURON
    # A thin flat ball may lie between the slices, less than half in each: its center is in one of them.
    is_inside = ((nearest >= 0) & (nearest < shape)).all(axis=1)
    labels[tuple(nearest[is_inside].T)] = NEURON
    return labels


def _widened(values: np.ndarray, reach: tuple[int, int, int]) -> np.ndarray:
    """Give each voxel the largest value up to `reach` (z, y, x) voxels away, ten times as fast as scipy's filter."""
    for axis, wanted in enumerate(reach):
        done = 0
        while done < wanted:
            step = min(2 * done + 1, wanted - done)
            wider, later, sooner = values.copy(), [slice(None)] * 3, [slice(None)] * 3
            later[axis], sooner[axis] = slice(step, None), slice(None, -step)
            for to, origin in ((tuple(later), tuple(sooner)), (tuple(sooner), tuple(later))):
                np.maximum(wider[to], values[origin], out=wider[to])
            values, done = wider, done + step
    return values


def paint(
    light: np.ndarray,
    points: np.ndarray,
    radii: np.ndarray,
    values: np.ndarray,
    *,
    squeeze: float = 1.0,
    soft: bool = True,
    depth: np.ndarray | None = None,
) -> None:
    """Draw balls into `light` in place; where they overlap the brighter one counts.

    Args:
        light: float32 (z, y, x), C-contiguous.
        points: (p, 3) x y z.
        radii: (p,) voxels, in a slice's plane.
        values: (p,) brightness.
        squeeze: by how much the balls are flatter along z, as they are where slices are far apart.
        soft: rims fade over a voxel; else each voxel that a ball touches gets its full value.
        depth: float32 (z, y, x) that gets, where larger, how far inside of a ball's surface a voxel is, plus 0.5.
    """
    radii, values = np.asarray(radii, dtype=np.float32), np.asarray(values, dtype=np.float32)
    flatter = np.minimum(squeeze, (radii + 0.5) / _THINNEST_SLAB).astype(np.float32)
    flatter = np.maximum(flatter, min(squeeze, 1.0))
    places = np.asarray(points, dtype=np.float32)[:, ::-1]
    reach = np.ceil(radii + 0.5).astype(np.int64)
    reach_z = np.ceil((radii + 0.5) / flatter).astype(np.int64)
    small = radii <= _LARGE
    for size, size_z in np.unique(np.stack([reach, reach_z], axis=1)[small], axis=0):
        rows = np.flatnonzero(small & (reach == size) & (reach_z == size_z))
        _paint_small(light, places, radii, values, flatter, rows, int(size), int(size_z), soft, depth)
    if not small.all():
        _paint_large(light, places, radii, values, flatter, np.flatnonzero(~small), soft, depth)


def _paint_large(light, places, radii, values, flatter, rows, soft, depth) -> None:
    """Draw the balls of some rows one at a time.

    Where balls overlap, their brightness is averaged with weights that favor the ball in whose middle a voxel lies. If
    the brighter ball won, it would show as a disc.
    """
    sums, weights, deepest = (np.zeros(light.shape, dtype=np.float32) for _ in range(3))
    for row in rows:
        place, reach = places[row], int(np.ceil(radii[row] + 0.5))
        spans = (int(np.ceil((radii[row] + 0.5) / flatter[row])), reach, reach)
        first = [max(int(c) - s, 0) for c, s in zip(place, spans, strict=True)]
        stop = [min(int(c) + s + 2, n) for c, s, n in zip(place, spans, light.shape, strict=True)]
        if any(a >= b for a, b in zip(first, stop, strict=True)):
            continue
        z, y, x = (np.arange(a, b, dtype=np.float32) - c for a, b, c in zip(first, stop, place, strict=True))
        inside = np.sqrt(((z * flatter[row]) ** 2)[:, None, None] + (y**2)[:, None] + x**2)
        np.subtract(radii[row] + np.float32(0.5), inside, out=inside)
        np.maximum(inside, 0, out=inside)
        box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
        np.maximum(deepest[box], inside, out=deepest[box])
        inside = np.where(inside > 0, inside / radii[row] + np.float32(0.1), 0)  # not next to nothing at the rim
        inside *= inside
        inside *= inside * inside
        weights[box] += inside
        inside *= values[row]
        sums[box] += inside
    if depth is not None:
        np.maximum(depth, deepest, out=depth)
    np.divide(sums, weights, out=sums, where=weights > 0)
    sums *= np.minimum(deepest, 1) if soft else deepest > 0
    np.maximum(light, sums, out=light)


def _paint_small(light, places, radii, values, flatter, rows, size, size_z, soft, depth) -> None:
    """Draw the balls of some rows, all of which reach equally far, together."""
    steps, steps_z = np.arange(-size, size + 1), np.arange(-size_z, size_z + 1)
    offsets = np.stack(np.meshgrid(steps_z, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[(offsets[:, 1] ** 2 + offsets[:, 2] ** 2) <= (size + 1) ** 2]
    strides = np.array([light.shape[1] * light.shape[2], light.shape[2], 1])
    last = np.array(light.shape) - 1
    for some in np.array_split(rows, 1 + len(rows) * len(offsets) // 500_000):  # bounds the memory
        center = np.rint(places[some]).astype(np.int64)
        within = center - places[some]
        distance = np.zeros((len(some), len(offsets)), dtype=np.float32)
        for axis in range(3):
            step = within[:, axis, None] + offsets[:, axis].astype(np.float32)
            if axis == 0:
                step *= flatter[some, None]
            step *= step
            distance += step
        inside = np.subtract(radii[some, None] + np.float32(0.5), np.sqrt(distance, out=distance), out=distance)
        keep = inside > 0
        ball, offset = np.nonzero(keep)
        voxel = center[ball] + offsets[offset]
        in_volume = ((voxel >= 0) & (voxel <= last)).all(axis=1)
        inside, ball, index = inside[keep][in_volume], ball[in_volume], (voxel[in_volume] * strides).sum(axis=1)
        if depth is not None:
            np.maximum.at(depth.reshape(-1), index, inside)
        value = values[some][ball]
        np.maximum.at(light.reshape(-1), index, value * np.minimum(inside, 1) if soft else value)
