"""Is a tree sound, and what can be mended: the checks and repairs that reading and writing SWC share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from .swc import Tree


def check_tree(tree: Tree) -> list[str]:
    """What is wrong with a tree, one line for each problem in the order of the rows; an empty list means it is sound.

    Sound means: at least one node; ids unique and not negative; every parent is a node; no cycle; positions and
    radii finite; radii positive.
    """
    return [reason for _, reason in sorted(find_problems(tree))]


def find_problems(tree: Tree) -> list[tuple[int, str]]:
    """The problems of a tree as (row, reason)."""
    ids, parents, radii = tree.ids, tree.parents, tree.radii
    if not len(tree):
        return [(0, "the tree has no node")]
    problems = [(row, f"id {ids[row]} is negative") for row in np.flatnonzero(ids < 0).tolist()]
    order = _ascending(ids)
    repeated = order[1:][ids[order[1:]] == ids[order[:-1]]]
    problems += [(row, f"id {ids[row]} is used before") for row in repeated.tolist()]
    not_finite = ~(np.isfinite(tree.xyz).all(axis=1) & np.isfinite(radii))
    problems += [(row, f"node {ids[row]} has a NaN or infinite number") for row in np.flatnonzero(not_finite).tolist()]
    problems += [(row, f"node {ids[row]} has radius {radii[row]:g}") for row in np.flatnonzero(radii <= 0).tolist()]
    own = parents == ids
    problems += [(row, f"node {ids[row]} is its own parent") for row in np.flatnonzero(own & (ids >= 0)).tolist()]
    index = rows_of(ids, parents)
    missing = np.flatnonzero((index < 0) & (parents >= 0))
    problems += [(row, f"node {ids[row]}: its parent {parents[row]} is not in the tree") for row in missing.tolist()]
    index[own | (parents < 0)] = -1
    unseen = set(rows_on_cycles(index).tolist())
    while unseen:
        row = first = min(unseen)
        length = 0
        while row in unseen:
            unseen.remove(row)
            row, length = int(index[row]), length + 1
        problems.append((first, f"node {ids[first]} is its own ancestor (a cycle of {length} nodes)"))
    return problems


def rows_on_cycles(parent_index: np.ndarray) -> np.ndarray:
    """Sorted rows that lie on a cycle of parents (-1: root), by pointer doubling in O(n log n)."""
    n = len(parent_index)
    if (parent_index < np.arange(n)).all():  # parents come first
        return np.empty(0, dtype=np.int64)
    jump = np.append(parent_index, n)  # row n stands for "past the root" and stays there
    jump[jump < 0] = n
    for _ in range(n.bit_length()):  # afterwards every jump is at least n steps long
        jump = jump[jump]
        if (jump == n).all():
            return np.empty(0, dtype=np.int64)
    # From wherever one starts, n steps later one is on the cycle, and a cycle's own rows are only permuted.
    return np.unique(jump[jump < n])


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The row at which `ids` holds each wanted id, -1 where it does not."""
    if not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    if (ids[1:] - ids[:-1] == 1).all():
        rows = wanted - ids[0]
        return np.where((rows >= 0) & (rows < len(ids)), rows, -1).astype(np.int64)
    order = _ascending(ids)
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    rows = order[place]
    return np.where(ids[rows] == wanted, rows, -1)


def _ascending(ids: np.ndarray) -> np.ndarray:
    """The stable order of ids, which mostly is theirs."""
    return np.arange(len(ids)) if (ids[1:] >= ids[:-1]).all() else np.argsort(ids, kind="stable")


def repair_parents(table: np.ndarray) -> list[str]:
    """Parent 0 where no node is 0 becomes a root, in place; what was done, in words.

    `table` is (n, 7) as in the file.
    """
    orphans = table[:, 6] == 0
    if not orphans.any() or (table[:, 0] == 0).any():
        return []
    table[orphans, 6] = -1
    return [f"{orphans.sum()} node(s) with parent 0, which is no node, became roots"]


def repair_radii(table: np.ndarray) -> list[str]:
    """Mends radii that are NaN or not positive, in place, and says what was done.

    They become those of the nearest ancestors with good ones; where there is none, as at a root, those of the nearest
    descendants; and where there are none either, the median of the good ones, or 1.
    """
    radii = table[:, 5]
    is_bad = ~(radii > 0)
    if not is_bad.any():
        return []
    good = radii[np.isfinite(radii) & ~is_bad]
    median = float(np.median(good)) if good.size else 1.0
    parent = rows_of(table[:, 0], table[:, 6])
    nearest = np.where(is_bad, np.where(table[:, 6] < 0, -1, parent), np.arange(len(table)))
    for _ in range(len(table).bit_length()):  # pointer doubling; on a cycle of bad ones it ends as well
        nearest = np.where(nearest < 0, -1, nearest[nearest])
    has_good = (nearest >= 0) & ~is_bad[nearest]
    below = _nearest_below(parent, ~is_bad, is_bad & ~has_good)
    nearest = np.where(has_good, nearest, below)
    radii[is_bad] = np.where(nearest >= 0, radii[nearest], median)[is_bad]
    became = {
        "their parents'": int((is_bad & has_good).sum()),
        "their children's": int((is_bad & (below >= 0)).sum()),
        f"{median:g}": int((is_bad & (nearest < 0)).sum()),
    }
    done = [(count, what) for what, count in became.items() if count]
    return [f"{count} of {is_bad.size} radii were not positive and became {what}" for count, what in done]


def _nearest_below(parent: np.ndarray, is_good: np.ndarray, is_wanted: np.ndarray) -> np.ndarray:
    """The row of the nearest good descendant of each wanted row, by the number of edges; -1 elsewhere, or of none."""
    found = np.full(len(parent), -1)
    if not is_wanted.any():
        return found
    wanted, above, nearest = is_wanted.tolist(), parent.tolist(), found.tolist()
    queue = deque((row, row) for row in np.flatnonzero(is_good & (parent >= 0) & is_wanted[parent]).tolist())
    while queue:  # breadth first: who comes first is nearest
        row, good = queue.popleft()
        up = above[row]
        if up >= 0 and wanted[up] and nearest[up] < 0:
            nearest[up] = good
            queue.append((up, good))
    return np.array(nearest)


def repair_structure(table: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Mend what cutting and pasting of traces leaves behind, so that no edge is lost.

    A node listed again at the same place is one node. If the lines name different parents, the branches meet there:
    the first stays, and each other one goes on as a node of its own, under a new id at the same place. A missing
    parent makes a root.

    Args:
        table: (n, 7), the columns of the file; changed in place.

    Returns:
        The rows to keep, ascending, and what was done in words. Ids that repeat at different places are left as they
        are.
    """
    ids, parents = table[:, 0].copy(), table[:, 6]
    missing = (rows_of(ids, parents) < 0) & (parents >= 0)
    parents[missing] = -1
    done = [f"{missing.sum()} node(s) whose parent is missing became roots"] if missing.any() else []

    order = _ascending(ids)
    starts = np.flatnonzero(np.append(True, ids[order[1:]] != ids[order[:-1]]))
    keep, next_id, moved = np.ones(len(ids), dtype=bool), ids.max() + 1, 0
    for rows in np.split(order, starts[1:]) if len(starts) < len(ids) else ():
        if len(rows) == 1 or (table[rows, 2:5] != table[rows[0], 2:5]).any():
            continue
        with_parent = rows[parents[rows] >= 0]
        first_of_each = with_parent[np.sort(np.unique(parents[with_parent], return_index=True)[1])]
        stay = first_of_each if len(first_of_each) else rows[:1]
        keep[rows] = False
        keep[stay] = True
        for row in stay[1:]:
            table[row, 0], next_id, moved = next_id, next_id + 1, moved + 1
    if not keep.all() or moved:
        done.append(f"{(~keep).sum()} repeated line(s) dropped, {moved} with another parent kept under a new id")
    return np.flatnonzero(keep), done
