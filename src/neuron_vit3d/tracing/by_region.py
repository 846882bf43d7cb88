"""Finds the center lines of a foreground too large for memory, region by region, and joins them where regions meet.

Regions are boxes that share the planes between them. On each of these planes every neurite that crosses it has a port:
a voxel in its middle. The lines of both regions lead to the port, so lines meet wherever the foreground does. The
lines of all regions together are then treated as a foreground of their own, which is much smaller, and its center
lines are taken: from one root, with each path covering what is near it. So two lines that run side by side in
neighbouring regions, or that form a loop where regions meet, become one.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .center_lines import CenterLines, Rules, large_components, nearest_row, with_cavities
from .foreground import Foreground
from .pieces import Box, Pieces, TraceError, Window, look_through, with_halo
from .region_bridges import bridge_regions
from .skeleton import center_lines, extract_skeleton


# Sides of regions in voxels: the first one is taken at which no region has too many voxels. All are multiples of the
# last.
REGION_SIDES = (512, 256, 128, 64)
VOXELS_OF_REGION = 3_000_000
# Enough for the smallest region with the widest halo, all of it foreground. Where there is more weak signal than this,
# only the strong voxels are used.
MAX_WINDOW_VOXELS = 10_000_000
MAX_LINE_VOXELS = 10_000_000
# Margins around a region in which the background is looked for, so that distances to it are right; wider ones are
# tried where a soma is thicker.
HALOS = (16, 32, 64)
DENSE = 0.1
# Voxels farther from the background than this are kept beside the lines, if there are not too many of them: paths may
# run through them.
THICK = 2.5
MAX_THICK_VOXELS = 2_000_000
# A port serves those voxels of its plane and neurite whose distance from it is less than twice its own distance from
# the boundary plus this.
PORT_DISTANCE = 4.0


@dataclass(eq=False)
class Voxels:
    """Voxels found so far: flat indices into the volume, reach and scores.

    Each field is a list of arrays (m,), one for each call of `add`.
    """

    indices: list[np.ndarray] = field(default_factory=list)
    reach: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def add(self, indices: np.ndarray, reach: np.ndarray, scores: np.ndarray) -> None:
        self.indices.append(indices)
        self.reach.append(reach)
        self.scores.append(scores)
        self.count += len(indices)

    def keep_thickest(self, count: int) -> None:
        reach = np.concatenate(self.reach)
        thickest = np.argsort(-reach, kind="stable")[:count]
        self.indices, self.scores = [np.concatenate(self.indices)[thickest]], [np.concatenate(self.scores)[thickest]]
        self.reach, self.count = [reach[thickest]], len(thickest)


@dataclass(eq=False)
class Lines:
    """What is known after some regions.

    voxels: the voxels of center lines. part: (m,) for each array of voxels, the component of a region that a voxel
    belongs to; numbered from 0 over all regions. sizes, sure: (p,) for each of these components, its number of voxels
    and whether any of them is sure. too_small: (j,) sizes of components that ended within a region and are left out.
    thick: other voxels, far from the background: in a soma that several regions share, paths lead across them.
    """

    voxels: Voxels = field(default_factory=Voxels)
    part: list[np.ndarray] = field(default_factory=list)
    sizes: list[np.ndarray] = field(default_factory=list)
    sure: list[np.ndarray] = field(default_factory=list)
    too_small: list[np.ndarray] = field(default_factory=list)
    thick: Voxels = field(default_factory=Voxels)
    num_parts: int = 0


def center_lines_by_region(source: Pieces, cells: np.ndarray, rules: Rules) -> CenterLines:
    """Finds the center lines of the whole volume, region by region.

    cells: number of foreground voxels in each cube of side REGION_SIDES[-1].

    Raises:
        TraceError: the center lines have more voxels than MAX_LINE_VOXELS, or no component is large enough.
    """
    lines = Lines()
    ports: dict[tuple[tuple[int, ...], int], np.ndarray] = {}
    regions = list(regions_of(source.shape, cells))
    for number, core in regions:
        _add_lines(lines, ports, source, number, core, rules)
        if lines.voxels.count > MAX_LINE_VOXELS:
            raise TraceError(
                f"the center lines of the mask have more than {MAX_LINE_VOXELS} voxels, too many to be traced: raise "
                "the threshold or cut the volume"
            )
    foreground, reach, scores, sizes, too_small = _merged(lines, source.shape, rules)
    del lines
    if rules.bridge_distance:
        boxes = [core for _, core in regions]
        foreground, reach, scores, sizes = bridge_regions(
            source, boxes, foreground, reach, scores, sizes, rules, MAX_WINDOW_VOXELS
        )
    component = foreground.components()
    roots = [nearest_row(foreground.voxels, root, rules.spacing) for root in rules.roots]
    skeleton = extract_skeleton(foreground, component, confidence=scores.astype(np.float64), roots=roots, reach=reach)
    return CenterLines(skeleton, foreground, False, sizes, too_small)


def regions_of(shape: tuple[int, int, int], cells: np.ndarray) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Yields number (z, y, x) and box of the regions that may hold foreground; neighbours share the plane between
    them."""
    padded = np.pad(cells, 1)
    for side in REGION_SIDES:
        per_side = side // REGION_SIDES[-1]
        numbers = [range(-(-max(length - 1, 1) // side)) for length in shape]
        if per_side == 1 or all(
            padded[tuple(slice(i * per_side, (i + 1) * per_side + 2) for i in number)].sum() <= VOXELS_OF_REGION
            for number in itertools.product(*numbers)
        ):
            break
    for number in itertools.product(*numbers):
        if cells[tuple(slice(i * per_side, (i + 1) * per_side + 1) for i in number)].any():
            z, y, x = (slice(i * side, min((i + 1) * side + 1, n)) for i, n in zip(number, shape, strict=True))
            yield number, (z, y, x)


def _add_lines(
    lines: Lines,
    ports: dict[tuple[tuple[int, ...], int], np.ndarray],
    source: Pieces,
    number: tuple[int, ...],
    core: Box,
    rules: Rules,
) -> None:
    """Adds the center lines of a region.

    ports: voxels (m, 3) of the volume. The key is the number of the region below the shared plane, and the axis. This
    region takes the ports on its first planes and adds those on its last planes.
    """
    foreground, reach, scores, sure = _strong_in(source, core, rules)
    if not len(foreground):
        return
    corner = np.array([one.start for one in core])
    component = foreground.components()
    own = np.ones(len(foreground), bool)  # a shared plane counts in the region that ends with it
    parts = [np.empty(0, np.int64)]
    for axis in range(3):
        if core[axis].start > 0:
            own &= foreground.voxels[:, axis] > 0
            below = tuple(n - (i == axis) for i, n in enumerate(number))
            parts.append(foreground.rows_of(ports.pop((below, axis), np.empty((0, 3), np.int64)) - corner))
        if core[axis].stop < source.shape[axis]:
            rows = np.flatnonzero(foreground.voxels[:, axis] == foreground.shape[axis] - 1)
            rows = rows[
                ports_in(np.delete(foreground.voxels[rows], axis, 1), reach[rows], np.delete(rules.spacing, axis))
            ]
            ports[number, axis] = foreground.voxels[rows] + corner
            parts.append(rows)
    here = np.unique(np.concatenate(parts))

    sizes = np.bincount(component[own], minlength=component.max() + 1)
    is_sure = np.bincount(component, sure) > 0
    goes_on = np.zeros(len(sizes), bool)
    goes_on[component[here]] = True
    keep = goes_on | ((sizes >= rules.min_component_voxels) & is_sure)
    lines.too_small.append(sizes[~keep])
    if not keep.any():
        return
    is_kept = keep[component]
    here = (np.cumsum(is_kept) - 1)[here]
    foreground, reach, scores = foreground.subset(is_kept), reach[is_kept], scores[is_kept]
    component = (np.cumsum(keep) - 1)[component[is_kept]]
    _, on_line = center_lines(
        foreground,
        component,
        reach,
        scores.astype(np.float64),
        targets=here.tolist(),
        is_sure=rules.smoothing.is_sure,
    )
    indices = np.ravel_multi_index((foreground.voxels + corner).T, source.shape)
    lines.voxels.add(indices[on_line], reach[on_line], scores[on_line])
    lines.part.append(component[on_line] + lines.num_parts)
    lines.sizes.append(sizes[keep])
    lines.sure.append(is_sure[keep])
    lines.num_parts += int(np.count_nonzero(keep))
    is_thick = ~on_line & (reach >= THICK)
    lines.thick.add(indices[is_thick], reach[is_thick], scores[is_thick])
    if lines.thick.count > MAX_THICK_VOXELS:
        lines.thick.keep_thickest(MAX_THICK_VOXELS // 2)


def _strong_in(source: Pieces, core: Box, rules: Rules) -> tuple[Foreground, np.ndarray, np.ndarray, np.ndarray]:
    """Finds the strong voxels in a region, in the region's coordinates.

    Also returns their distances from the boundary, their scores, and which of them are sure.
    """
    for halo in HALOS:
        around, inner = with_halo(core, [halo + more for more in rules.smoothing.halo], source.shape)
        found = look_through(Window(source, around), rules.levels, rules.smoothing, most=MAX_WINDOW_VOXELS)
        if found.num_strong > MAX_WINDOW_VOXELS:
            if halo > HALOS[0]:
                break  # what the smaller window showed has to do
            raise TraceError(
                f"{found.num_strong} foreground voxels lie close together, too many to be traced: smooth less"
            )
        signal, scores, is_strong, is_sure = with_cavities(*found.signal(rules.spacing), rules)
        everything = signal.subset(is_strong)
        low, high = (np.array([getattr(one, end) for one in inner]) for end in ("start", "stop"))
        in_core = np.all((everything.voxels >= low) & (everything.voxels < high), axis=1)
        if not in_core.any():
            break
        reach = _boundary_distance(everything)[in_core]
        # Beyond the window there may be background; beyond the volume nothing is known.
        seen = np.full(len(reach), np.inf)
        for axis, (one, length) in enumerate(zip(around, source.shape, strict=True)):
            at = everything.voxels[in_core, axis]
            if one.start > 0:
                seen = np.minimum(seen, (at + 1) * rules.spacing[axis])
            if one.stop < length:
                seen = np.minimum(seen, (one.stop - one.start - at) * rules.spacing[axis])
        reach = np.minimum(reach, seen)
        if not (reach == seen).any() or 2 * len(everything) > VOXELS_OF_REGION:
            break
    shape = tuple(one.stop - one.start for one in core)
    rows = np.flatnonzero(is_strong)[in_core]
    voxels = signal.voxels[rows] - low
    foreground = Foreground.from_indices(np.ravel_multi_index(voxels.T, shape), shape, rules.spacing)
    return foreground, reach if len(rows) else np.empty(0), scores[rows], is_sure[rows]


def _boundary_distance(foreground: Foreground) -> np.ndarray:
    """Computes the distances of `Foreground.boundary_distance`, (n,) float64, in a faster way where it would be slow.

    It is slow where much of the volume is foreground.
    """
    from scipy.ndimage import distance_transform_edt

    if len(foreground) < DENSE * math.prod(foreground.shape):
        return foreground.boundary_distance()
    mask = np.zeros(foreground.shape, bool)
    mask[tuple(foreground.voxels.T)] = True
    if mask.all():  # without background, the volume is taken to end at its faces
        return distance_transform_edt(np.pad(mask, 1), foreground.spacing)[1:-1, 1:-1, 1:-1].ravel()
    return distance_transform_edt(mask, foreground.spacing)[mask]


def ports_in(voxels: np.ndarray, reach: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Chooses the ports among the foreground voxels of a plane (n, 2), in C order; returns their rows.

    The first port of each connected part is its thickest voxel, the most central one if there are several. Since a
    neurite may run along the plane, further ports are chosen the same way among the voxels far from the first.
    """
    from scipy.spatial import cKDTree

    if not len(voxels):
        return np.empty(0, np.int64)
    shape = (1, *(voxels.max(axis=0) + 1))
    plane = Foreground.from_indices(np.ravel_multi_index((0 * voxels[:, 0], *voxels.T), shape), shape, np.ones(3))
    part = plane.components()
    points = voxels * spacing
    center = np.stack([np.bincount(part, along) for along in points.T], axis=1) / np.bincount(part)[:, None]
    order = np.lexsort((np.linalg.norm(points - center[part], axis=1), -reach))
    index = cKDTree(points, balanced_tree=False)
    served, ports = np.zeros(len(points), bool), []
    is_served = memoryview(served)
    for row in order.tolist():
        if not is_served[row]:
            ports.append(row)
            near = np.array(index.query_ball_point(points[row], 2 * reach[row] + PORT_DISTANCE))
            served[near[part[near] == part[row]]] = True
    return np.array(ports)


def _merged(
    lines: Lines, shape: tuple[int, int, int], rules: Rules
) -> tuple[Foreground, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merges the voxels of all lines whose components are large enough, with their reach and scores.

    Also returns the sizes of these components, in the order of their first voxels, and the sizes of the others.
    """
    too_small = np.concatenate([np.empty(0, np.int64), *lines.too_small])
    if not lines.num_parts:
        large_components(too_small, np.zeros(len(too_small), bool), rules.min_component_voxels)
    indices = np.concatenate(lines.voxels.indices + lines.thick.indices)
    indices, first, row = np.unique(indices, return_index=True, return_inverse=True)
    foreground = Foreground.from_indices(indices, shape, rules.spacing)
    reach = np.zeros(len(indices))  # the largest that any region saw
    np.maximum.at(reach, row, np.concatenate(lines.voxels.reach + lines.thick.reach))
    scores = np.concatenate(lines.voxels.scores + lines.thick.scores)[first]
    component = foreground.components()
    of_line = np.zeros(component.max() + 1, bool)
    of_line[component[row[: lines.voxels.count]]] = True
    number = np.cumsum(of_line) - 1  # thick voxels alone are no component
    of_part = np.empty(lines.num_parts, np.int64)
    of_part[np.concatenate(lines.part)] = number[component[row[: lines.voxels.count]]]
    sizes = np.bincount(of_part, np.concatenate(lines.sizes)).astype(np.int64)
    sure = np.bincount(of_part, np.concatenate(lines.sure)) > 0
    keep = large_components(sizes, sure, rules.min_component_voxels)
    of_line[of_line] = keep
    is_kept = of_line[component]
    too_small = np.concatenate([too_small, sizes[~keep]])
    return foreground.subset(is_kept), reach[is_kept], scores[is_kept], sizes[keep], too_small
