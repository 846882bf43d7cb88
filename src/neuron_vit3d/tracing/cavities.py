"""What a neurite, a soma or a nucleus encloses belongs to it: cavities of a foreground are found, and filled.

A stain of the membrane shows a neurite as a tube, whose ends may be open and whose shell may have gaps, so that a
cavity is no connected part of the background. It is where most ways lead to the foreground soon: from every voxel
straight lines run to the 26 sides, and nearly all of them must meet foreground within REACH cells, and at about the
same distance where the cavity has its middle. Cells are about two voxels wide, which closes small gaps of the shell
and leaves an eighth of the work.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from .foreground import Foreground


CELL = 2.0  # smallest voxel sides
# Cells from inside to the shell, a power of two: a tube of radius 12 with a shell two voxels thick is 10 cells wide
# inside.
REACH = 8
# Of the 26 lines so many meet the shell: along a straight tube 2 do not, and through gaps of the shell 2 more may not.
ENOUGH = 22
# A cut through a thick neurite is open to one or two sides, in its plane. So fewer lines will do where so much of the
# 27 cells around is foreground: between the halves of a tube of radius 4 that are three voxels apart it is about 0.4,
# between two lines of radius 1 that are four voxels apart 0.28. With 18 lines F1 on cut tubes (128^3) is 0.006 higher,
# and dense trees of radius 1 to 2 lose up to 0.05 (neurites side by side become one).
ENOUGH_IN_SOLID, SOLID = 20, 0.33
PASSES = 3
# A cavity has a middle, from which its walls are met at about the same distance on all sides: all within 2 cells, or
# within 5 and none nearer than 2, or within REACH and none nearer than 3. Between the neurites of a tuft one is near
# and others are far: of a ball of 60 crossing lines of radius 1, which fill a tenth of it, all was taken for a cavity
# without this rule.
NEAREST = {2: 1, 5: 2, REACH: 3}
# A cavity reaches from its middle so many cells farther than its nearest wall.
FARTHER = 1
# So many of the 26 neighbours of a wall's voxel are foreground, too: of a shell two voxels thick 17, of one with pores
# fewer. In a tuft of neurites one or two voxels thick few have as many. With 10, F1 on two such tufts (256^3) is 0.85,
# with 12 0.89, with 14 0.91; hollow tubes with gaps are lost with 14.
WALL = 12
# Cells along a side of what is looked at at once.
CHUNK = 64
_SIDES = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]


def cavities(foreground: Foreground) -> np.ndarray:
    """(m,) int64: flat indices, ascending, of the background voxels that the foreground encloses."""
    from scipy.ndimage import uniform_filter

    size = np.maximum(np.rint(CELL / foreground.spacing), 1).astype(np.int64)
    cells = foreground.voxels[_is_wall(foreground)] // size
    shape = tuple(int(one) for one in -(-np.array(foreground.shape) // size))
    found = [np.empty((0, 3), np.int64)]
    for corner, share in _chunks(cells, shape, math.prod(size.tolist())):
        is_full = share > 0
        enough = np.where(uniform_filter(share, 3, mode="constant") >= SOLID, ENOUGH_IN_SOLID, ENOUGH)
        inside, middles = _first_inside(is_full, enough)
        if not middles.any():
            continue
        for _ in range(PASSES - 1):
            # What is near one side of a wide cavity is too far from the other, but not from its middle.
            inside |= _is_inside(is_full | inside, enough) & ~is_full
        inside = _around(middles, inside)
        # The shell's own cells are half empty; what of them lies beside the cavity, is inside, too.
        core = (slice(REACH, -REACH),) * 3
        inside = inside[core] | (_grown(inside)[core] & is_full[core])
        found.append(np.argwhere(inside) + corner)
    inside = np.concatenate(found)
    within = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = (inside[:, None] * size + within).reshape(-1, 3)
    voxels = voxels[(voxels < foreground.shape).all(axis=1)]
    voxels = voxels[~foreground.contains(voxels)] if len(voxels) else voxels
    return np.sort(np.ravel_multi_index(voxels.T, foreground.shape))


def _is_wall(foreground: Foreground) -> np.ndarray:
    """bool (n,): the voxels that at least WALL others touch."""
    rows, neighbours, _ = foreground.edges()
    count = np.bincount(rows, minlength=len(foreground)) + np.bincount(neighbours, minlength=len(foreground))
    return count >= WALL


def _chunks(cells: np.ndarray, shape: tuple[int, int, int], voxels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Corners (3,) in cells of the chunks that hold any of the cells (n, 3) of the voxels, and the share (z, y, x) of
    each cell's `voxels` that is foreground, float32, with REACH cells more around the chunk."""
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


def _first_inside(is_full: np.ndarray, enough: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The empty cells, bool, from which `enough` of the 26 lines meet a full one within REACH cells; and how far the
    nearest full one is, int, in those of them that are middles of cavities (see NEAREST), and 0 elsewhere."""
    from scipy.ndimage import distance_transform_cdt

    if not is_full.any():
        return np.zeros_like(is_full), np.zeros(is_full.shape, np.int32)
    nearest = distance_transform_cdt(~is_full, "chessboard")
    met = {1: [_moved(is_full, step, 1) for step in _SIDES]}
    is_middle = np.zeros_like(is_full)
    for length, first, then in ((2, 1, 1), (4, 2, 2), (5, 4, 1), (REACH, 4, 4)):
        met[length] = [
            near | _moved(far, step, first) for near, far, step in zip(met[first], met[then], _SIDES, strict=True)
        ]
        if length in NEAREST:
            is_inside = _count(met[length]) >= enough
            is_middle |= is_inside & (nearest >= NEAREST[length])
    return is_inside & ~is_full, np.where(is_middle & ~is_full, nearest, 0)


def _around(middles: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """bool: of the cells `inside` those that are reached from a middle, within its distance from the nearest wall and
    FARTHER."""
    from scipy.ndimage import binary_dilation

    found = np.zeros_like(inside)
    for distance in range(1, int(middles.max()) + 1):
        if (begin := middles == distance).any():
            found |= binary_dilation(begin, np.ones((3, 3, 3)), iterations=distance + FARTHER, mask=inside)
    return found


def _is_inside(is_full: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """bool: the cells from which `enough` of the 26 lines meet a full one within REACH cells."""
    hits = np.zeros(is_full.shape, np.uint8)
    for step in _SIDES:
        met = _moved(is_full, step, 1)
        length = 1
        while length < REACH:  # what is met within twice the length, is met now or from so much farther
            met |= _moved(met, step, length)
            length *= 2
        hits += met
    return hits >= enough


def _count(cells: list[np.ndarray]) -> np.ndarray:
    """uint8: in how many of them each cell is set."""
    count = np.zeros(cells[0].shape, np.uint8)
    for one in cells:
        count += one
    return count


def _moved(cells: np.ndarray, step: tuple[int, int, int], count: int) -> np.ndarray:
    """bool: whether the cell `count` steps farther is set."""
    result = np.zeros_like(cells)
    to, source = [], []
    for one in step:
        to.append(slice(max(0, -one * count), cells.shape[len(to)] - max(0, one * count)))
        source.append(slice(max(0, one * count), cells.shape[len(source)] - max(0, -one * count)))
    result[tuple(to)] = cells[tuple(source)]
    return result


def _grown(cells: np.ndarray) -> np.ndarray:
    """bool: the cells that are set, and those that touch one by a face."""
    result = cells.copy()
    for axis in range(3):
        for count in (-1, 1):
            result |= _moved(cells, tuple(count if i == axis else 0 for i in range(3)), 1)
    return result
