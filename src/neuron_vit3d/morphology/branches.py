"""The branches of a tree, and how sure each of them is: `Tree.branches`, its CSV text, and pruning by confidence.

A branch is the path between two of these: roots, branch points and tips. Its nodes are those after its first one,
which it shares with the branch that it leaves.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from .swc import Tree


# Branches less sure than this are drawn in another colour: of the length of those below 0.75 in traces of 12 fly
# neurons a third or more is wrong, of those above 0.9 a tenth (`benchmarks/branch_confidence.py`).
DOUBTFUL = 0.75
BRANCH = np.dtype(
    [
        ("start", np.int64),
        ("end", np.int64),
        ("parent_branch", np.int64),
        ("length", np.float64),
        ("mean_radius", np.float64),
        ("confidence", np.float64),
        ("bridged_voxels", np.float64),
    ]
)


def find_branches(tree: Tree) -> tuple[np.recarray, np.ndarray]:
    """The branches of a tree, and which branch each node belongs to.

    Returns:
        The branches (b,), as `Tree.branches` has them; and (n,) int64, the row of the branch that ends with or runs
        through each node, -1 for roots from which branches leave.
    """
    parent, xyz = tree.parent_index, tree.xyz
    rows = np.arange(len(tree))
    is_root = parent < 0
    num_children = np.bincount(parent[~is_root], minlength=len(tree))
    is_mark = is_root | (num_children != 1)
    child = rows.copy()  # of the nodes inside branches, which have one
    child[parent[~is_root]] = rows[~is_root]
    last = _follow(np.where(is_mark, rows, child))
    above = np.where(is_root, rows, parent)
    first = _follow(np.where(is_mark[above], rows, above))

    ends = np.flatnonzero(is_mark & (~is_root | (num_children == 0)))
    branch_of_end = np.full(len(tree), -1)
    branch_of_end[ends] = np.arange(len(ends))
    branch = branch_of_end[last]
    starts = above[first[ends]]

    on_one = branch >= 0
    count = np.bincount(branch[on_one], minlength=len(ends))
    length = np.where(is_root, 0.0, np.linalg.norm(xyz - xyz[above], axis=1))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(branch[on_one], values[on_one], minlength=len(ends))

    parents = branch_of_end[starts]
    parents[starts == ends] = -1  # a lone root is a branch without length
    found = np.zeros(len(ends), BRANCH).view(np.recarray)
    found.start, found.end = tree.ids[starts], tree.ids[ends]
    found.parent_branch = parents
    found.length = summed(length)
    found.mean_radius = summed(tree.radii) / count
    found.confidence = np.nan if tree.scores is None else np.clip(summed(tree.scores) / count, 0.0, 1.0)
    found.bridged_voxels = np.nan if tree.bridged is None else summed(length * tree.bridged)
    return found, branch


def doubtful_nodes(tree: Tree, below: float = DOUBTFUL) -> np.ndarray:
    """The nodes on branches with a confidence under `below`: bool (n,), all False where no confidence is known."""
    branches, branch = find_branches(tree)
    return np.append(branches.confidence < below, False)[branch]


def branches_text(branches: np.recarray) -> str:
    """Writes the branches as a CSV text: a header, and a line for each.

    A line has the branch's number, from 0, to which `parent_branch` refers.
    """
    lines = [",".join(("branch", *(BRANCH.names or ())))]
    for number, (start, end, parent, *measures) in enumerate(branches.tolist()):
        lines.append(",".join((f"{number},{start},{end},{parent}", *(f"{value:.4f}" for value in measures))))
    return "\n".join(lines) + "\n"


def prune_branches(tree: Tree, min_confidence: float, *, fragments: bool = False) -> Tree:
    """Cut off the branches whose confidence is under `min_confidence`; the roots stay.

    End branches go first, all of them that are not sure enough. What is left has fewer branch points, so branches that
    were two become one, which is judged anew, until every end branch is sure enough. Branches that are not, but lead
    to others that are, go then, with all that hangs on them. A fragment of which nothing but its root would be left
    goes as a whole.

    Args:
        tree: with `scores`; one without stays as it is.
        min_confidence: in [0, 1].
        fragments: what hangs on an inner branch that goes becomes a fragment of its own, with a root of its own.

    Returns:
        The tree; a comment counts what was cut off.
    """
    if tree.scores is None or not min_confidence > 0:
        return tree
    before, num_cut = tree.length, 0
    first_root = tree.ids[tree.roots[0]]
    while True:
        branches, branch = find_branches(tree)
        doubtful = branches.confidence < min_confidence
        doubtful &= (branches.end != first_root) | (branches.start != first_root)
        if not doubtful.any():
            break
        leads_on = np.zeros(len(branches), bool)
        leads_on[branches.parent_branch[branches.parent_branch >= 0]] = True
        cut = doubtful & ~leads_on
        cut = cut if cut.any() else doubtful
        num_cut += int(cut.sum())
        tree = _without(tree, np.append(cut, False)[branch], first_root, fragments)
    if not num_cut:
        return tree
    comment = (
        f"dropped {num_cut} branches with what hangs on them, {before - tree.length:.0f} voxels long: confidence "
        f"under {min_confidence:g} (min_confidence)"
    )
    parents = np.where(tree.parent_index < 0, -1, tree.parent_index + 1)
    numbered = {"ids": np.arange(1, len(tree) + 1), "parents": parents}
    return dataclasses.replace(tree, **numbered, comments=(*tree.comments, comment))


def _without(tree: Tree, gone: np.ndarray, first_root: int, fragments: bool) -> Tree:
    """Returns the tree without the nodes of some branches, `gone` (n,), and without what hangs on them.

    Or that with a root of its own.
    """
    parent, rows = tree.parent_index.copy(), np.arange(len(tree))
    had_child = np.isin(rows, parent)
    if fragments:
        ends = gone & np.isin(rows, parent[~gone])  # where other branches leave from: their root
        parent[ends] = -1
        gone = gone & ~ends
    else:
        above = np.where(parent < 0, rows, parent)
        while not np.array_equal(above, above[above]):  # by pointer doubling
            gone, above = gone | gone[above], above[above]
        gone = gone | gone[above]
    # Of a fragment that has lost all its branches the root goes, too.
    bare = (parent < 0) & had_child & ~np.isin(rows, parent[~gone]) & (tree.ids != first_root)
    keep = ~(gone | bare)
    parents = np.where(parent < 0, -1, tree.ids[parent])
    return dataclasses.replace(
        tree,
        parents=parents[keep],
        **{name: getattr(tree, name)[keep] for name in ("ids", "types", "xyz", "radii", "scores")},
        bridged=None if tree.bridged is None else tree.bridged[keep],
    )


def _follow(step: np.ndarray) -> np.ndarray:
    """Finds where each row comes to rest when it goes on by `step`, by pointer doubling.

    `step` has no cycle but rows that stay.
    """
    while True:
        further = step[step]
        if np.array_equal(further, step):
            return step
        step = further
