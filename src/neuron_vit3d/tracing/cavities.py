"""Finds and fills cavities: what a neurite, a soma or a nucleus encloses belongs to it.

A membrane stain shows a neurite as a tube. Its ends may be open and its wall may have gaps, so a cavity need not be a
separate component of the background. Instead a cavity is where foreground lies near in most directions: from every
voxel, straight lines run in the 26 directions of its neighbours, and nearly all of them must meet foreground within
REACH cells. That also holds between the neurites of a dense tuft, but there the background goes on between them, while
a cavity has walls all around. The work is done on cells about two voxels wide, which closes small gaps of the wall and
leaves an eighth of the work.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from .foreground import Foreground


CELL = 2.0  # smallest voxel sides
# Most cells from inside a cavity to its wall, a power of two: a tube of radius 12 with a wall two voxels thick is 10
# cells wide inside.
REACH = 8
# At least this many of the 26 lines must meet the wall: along a straight tube 2 do not, and 2 more may pass through
# gaps.
ENOUGH = 22
# A cut through a thick neurite is open to one or two sides in its plane. So fewer lines are enough where at least this
# share (SOLID) of the 27 cells around is foreground: it is about 0.4 between the halves of a tube of radius 4 that are
# three voxels apart, and 0.28 between two lines of radius 1 that are four voxels apart. With 18 lines F1 on cut tubes
# (128^3) is 0.006 higher, but dense trees of radius 1 to 2 lose up to 0.05 (neurites side by side become one).
ENOUGH_IN_SOLID, SOLID = 20, 0.33
PASSES = 3
# A cavity has walls all around: at least this share of its surface touches foreground. The share is 0.78 to 0.97 for
# tubes of radius 4 to 12 (closed, gapped or open at the ends), and up to 0.70 for what dense thin neurites seem to
# enclose (two volumes of 256^3, four stacks of scores).
WALLED = 0.74
# A cut through a thick neurite has walls on two sides only, but thick ones: behind at least this share of its surface
# all is foreground for DEPTH smallest voxel sides. With 0.28, F1 on cut tubes (128^3) is 0.02 higher, and on synthetic
# stacks 0.03 lower.
DEEPLY_WALLED, DEPTH = 0.34, 4.0
# Cells leave small pits between a cavity and its wall. A voxel with at least this many of its 6 faces at foreground is
# filled, too, in at most PIT_ROUNDS rounds. Without this, F1 on hollow tubes of radius 4 to 12 is 0.90 to 0.94.
SURROUNDED, PIT_ROUNDS = 5, 3
# Cells along a side of the chunks that are processed one after the other.
CHUNK = 64
_FACES = [(axis, step) for axis in range(3) for step in (-1, 1)]
_SIDES = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]


def cavities(foreground: Foreground) -> np.ndarray:
    """Finds the background voxels that the foreground encloses: (m,) int64, flat indices, ascending."""
    from scipy.ndimage import uniform_filter

    size = np.maximum(np.rint(CELL / foreground.spacing), 1).astype(np.int64)
    cells = foreground.voxels // size
    depth, height, width = (-(-np.array(foreground.shape) // size)).tolist()
    found = [np.empty((0, 3), np.int64)]
    for corner, share in _chunks(cells, (depth, height, width), math.prod(size.tolist())):
        is_full = share > 0
        enough = np.where(uniform_filter(share, 3, mode="constant") >= SOLID, ENOUGH_IN_SOLID, ENOUGH)
        inside = np.zeros_like(is_full)
        for _ in range(PASSES):
            # A voxel near one wall of a wide cavity is too far from the other wall, but not too far from the cavity's
            # middle.
            more = _is_inside(is_full | inside, enough) & ~is_full & ~inside
            if not more.any():
                break
            inside |= more
        # The cells of the wall are half empty: their background voxels that touch the cavity are inside, too.
        core = (slice(REACH, -REACH),) * 3
        inside = inside[core] | (_grown(inside)[core] & is_full[core])
        found.append(np.argwhere(inside) + corner)
    inside = np.concatenate(found)
    within = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = (inside[:, None] * size + within).reshape(-1, 3)
    voxels = voxels[(voxels < foreground.shape).all(axis=1)]
    voxels = voxels[~foreground.contains(voxels)] if len(voxels) else voxels
    indices = np.sort(np.ravel_multi_index(voxels.T, foreground.shape))
    enclosed = Foreground.from_indices(indices, foreground.shape, foreground.spacing)
    if len(enclosed):
        enclosed = enclosed.subset(_is_walled(enclosed, foreground))
    if len(enclosed):
        enclosed = _with_pits(enclosed, foreground)
    return np.ravel_multi_index(enclosed.voxels.T, foreground.shape)


def _is_walled(enclosed: Foreground, foreground: Foreground) -> np.ndarray:
    """Tells which of the enclosed voxels lie in a connected part with enough foreground around it, bool (m,)."""
    part = enclosed.components()
    surface, walls, deep = np.zeros((3, int(part.max()) + 1))
    for axis, step in _FACES:
        beside, is_here = _beside(enclosed.voxels, axis, step, foreground.shape)
        surface += np.bincount(part[is_here & ~enclosed.contains(beside)], minlength=len(surface))
        rows = np.flatnonzero(is_here & foreground.contains(beside))
        walls += np.bincount(part[rows], minlength=len(walls))
        for number in range(2, round(DEPTH / foreground.spacing[axis]) + 1):
            beside, is_here = _beside(enclosed.voxels[rows], axis, step * number, foreground.shape)
            rows = rows[is_here & foreground.contains(beside)]
        deep += np.bincount(part[rows], minlength=len(deep))
    return ((walls >= WALLED * surface) | (deep >= DEEPLY_WALLED * surface))[part]


def _with_pits(enclosed: Foreground, foreground: Foreground) -> Foreground:
    """Adds to the enclosed voxels the pits that the cells left between them and the foreground, or inside it."""
    for _ in range(PIT_ROUNDS):
        beside = (_beside(enclosed.voxels, axis, step, foreground.shape) for axis, step in _FACES)
        near = np.unique(np.concatenate([np.ravel_multi_index(at[here].T, foreground.shape) for at, here in beside]))
        near = np.stack(np.unravel_index(near, foreground.shape), axis=1)
        near = near[~(enclosed.contains(near) | foreground.contains(near))]
        sides = np.zeros(len(near), np.int64)
        for axis, step in _FACES:
            voxels, is_here = _beside(near, axis, step, foreground.shape)
            sides += is_here & (enclosed.contains(voxels) | foreground.contains(voxels))
        pits = near[sides >= SURROUNDED]
        if not len(pits):
            break
        enclosed, _ = enclosed.filled(np.ravel_multi_index(pits.T, foreground.shape))
    return enclosed


def _beside(voxels: np.ndarray, axis: int, steps: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the voxels (m, 3) that lie `steps` farther along an axis, and whether they are inside the volume."""
    beside = voxels.copy()
    beside[:, axis] += steps
    return beside, (beside[:, axis] >= 0) & (beside[:, axis] < shape[axis])


def _chunks(cells: np.ndarray, shape: tuple[int, int, int], voxels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the chunks that hold any of the cells (n, 3): their corners, and how full each of their cells is.

    Corners are (3,) in cells. The fullness, (z, y, x) float32, is the share of a cell's `voxels` that is foreground;
    it includes a margin of REACH cells around the chunk.
    """
    full, count = np.unique(np.ravel_multi_index(cells.T, shape), return_counts=True)
    full = np.stack(np.unravel_index(full, shape), axis=1)
    chunk = full // CHUNK
    for corner in np.unique(chunk, axis=0) * CHUNK:
        at = full - (corner - REACH)
        side = np.minimum(CHUNK, np.array(shape) - corner) + 2 * REACH
        is_here = ((at >= 0) & (at < side)).all(axis=1)
        share = np.zeros(side, np.float32)
        share[tuple(at[is_here].T)] = count[is_here] / voxels
        yield corner, share


def _is_inside(is_full: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """Tells from which cells at least `enough` of the 26 lines meet a full cell within REACH cells; bool."""
    hits = np.zeros(is_full.shape, np.uint8)
    for step in _SIDES:
        met = _moved(is_full, step, 1)
        length = 1
        while length < REACH:  # twice the length: met now, or met from the cell `length` farther
            met |= _moved(met, step, length)
            length *= 2
        hits += met
    return hits >= enough


def _moved(cells: np.ndarray, step: tuple[int, ...], count: int) -> np.ndarray:
    """Tells for every cell whether the cell `count` steps farther is set; bool."""
    result = np.zeros_like(cells)
    to: list[slice] = []
    source: list[slice] = []
    for one in step:
        to.append(slice(max(0, -one * count), cells.shape[len(to)] - max(0, one * count)))
        source.append(slice(max(0, one * count), cells.shape[len(source)] - max(0, -one * count)))
    result[tuple(to)] = cells[tuple(source)]
    return result


def _grown(cells: np.ndarray) -> np.ndarray:
    """Adds the cells that touch a set one by a face; bool."""
    result = cells.copy()
    for axis in range(3):
        for count in (-1, 1):
            result |= _moved(cells, tuple(count if i == axis else 0 for i in range(3)), 1)
    return result
