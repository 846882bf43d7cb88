"""Edits of a tree: each is a small record, and `apply` makes the tree after it. No window is needed.

    tree = numbered(tree)
    tree = apply(tree, Delete(node=17))                # the branch through node 17, with all that hangs on it
    tree = apply(tree, Draw(points, radii, start=4))   # a branch that begins at node 4

Trees are never changed, so who keeps one has it as it was. Nodes are named by their ids, which no edit changes. A
record can be written as a line of text and read again (`to_line`, `from_line`), and the same edits of the same tree
always give the same tree: an edit that follows the scores carries the path that it found.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...morphology.soundness import rows_of
from ...morphology.swc import Tree


SOMA = 1  # SWC's type
# What a person has drawn or looked at is sure.
SURE = 1.0


class EditError(ValueError):
    """An edit is not possible; the message is one sentence that says why."""


@dataclass(frozen=True)
class Delete:
    """Deletes the branch through a node, with all that hangs on it; at a root, all that hangs together with it.

    The last branch of a root takes the root along, unless that is a soma or all that is left.
    """

    node: int


@dataclass(frozen=True)
class Cut:
    """Cuts a node off its parent: it becomes the root of a piece of its own."""

    node: int


@dataclass(frozen=True)
class Join:
    """Joins the piece of a node to another piece: the node becomes a child of `to`, and the root of its piece goes."""

    node: int
    to: int


@dataclass(frozen=True)
class Reroot:
    """Makes a node the root of its piece."""

    node: int


@dataclass(frozen=True)
class Keep:
    """Notes that a person has seen the branch through a node and found it right: its scores become 1."""

    node: int


@dataclass(frozen=True)
class Draw:
    """Adds a path of new nodes.

    Attributes:
        points: x y z in voxels of each new node, in order.
        radii: of each.
        start, end: the nodes that the path's ends hang on. None: the end is free; where both are, the path becomes a
            piece of its own. Where both are given they lie on two pieces, and `end` becomes a child of the path.
    """

    points: tuple[tuple[float, float, float], ...]
    radii: tuple[float, ...]
    start: int | None = None
    end: int | None = None


Edit = Delete | Cut | Join | Reroot | Keep | Draw
_KINDS: dict[str, Any] = {kind.__name__.lower(): kind for kind in (Delete, Cut, Join, Reroot, Keep, Draw)}


def numbered(tree: Tree) -> Tree:
    """The tree as edits take it: ids from 1 in the order of its nodes, and scores, which are NaN where none is known.

    Raises:
        SWCError: a parent is no node.
    """
    parents = np.where(tree.parent_index < 0, -1, tree.parent_index + 1)
    return replace(tree, ids=np.arange(1, len(tree) + 1), parents=parents, scores=_scores(tree))


def apply(tree: Tree, edit: Edit) -> Tree:
    """Returns the tree after an edit.

    Args:
        tree: as `numbered` made it, or `apply`.
        edit: what to do.

    Raises:
        EditError: it is not possible.
    """
    if isinstance(edit, Delete):
        return _delete(tree, _row(tree, edit.node))
    if isinstance(edit, Cut):
        return _cut(tree, _row(tree, edit.node))
    if isinstance(edit, Join):
        return _join(tree, _row(tree, edit.node), _row(tree, edit.to))
    if isinstance(edit, Reroot):
        return replace(tree, parents=_rerooted(tree, _row(tree, edit.node)))
    if isinstance(edit, Keep):
        return _keep(tree, _row(tree, edit.node))
    return _draw(tree, edit)


def to_line(edit: Edit) -> str:
    """The edit as one line of JSON."""
    return json.dumps({"edit": type(edit).__name__.lower(), **asdict(edit)}, allow_nan=False)


def from_line(line: str) -> Edit:
    """The edit of a line that `to_line` wrote.

    Raises:
        ValueError: it is none.
    """
    return from_record(json.loads(line))


def from_record(record: Mapping[str, Any]) -> Edit:
    """The edit of a record that `to_line` wrote as JSON.

    Raises:
        ValueError: it is none.
    """
    values = dict(record)
    kind = _KINDS.get(str(values.pop("edit", None)))
    if kind is None or set(values) != set(kind.__dataclass_fields__):
        raise ValueError(f"expected an edit, one of {', '.join(_KINDS)}, with its fields; got {dict(record)!r:.80}")
    if kind is Draw:
        values["points"] = tuple(tuple(float(x) for x in point) for point in values["points"])
        values["radii"] = tuple(float(radius) for radius in values["radii"])
    nodes = {name: values[name] for name in ("node", "to", "start", "end") if name in values}
    for name, node in nodes.items():
        if not (type(node) is int or (node is None and name in ("start", "end"))):
            raise ValueError(f"expected a node's id as {name!r}, got {node!r}")
    return kind(**values)


def pieces_of(tree: Tree) -> np.ndarray:
    """The row of the root of each node, (n,) int64: nodes that hang together have the same."""
    return _tops(tree.parent_index)


def hanging_on(tree: Tree, row: int) -> np.ndarray:
    """The rows of all nodes that hang on a node, without itself."""
    loose = tree.parent_index.copy()
    loose[row] = -1
    rows = np.flatnonzero(_tops(loose) == row)
    return rows[rows != row]


def branch_rows(tree: Tree, row: int) -> np.ndarray:
    """The rows of the branch through a node, from its end upwards, without the node that it leaves.

    None for a root that branches leave; a lone root is a branch of its own.
    """
    parent = tree.parent_index
    is_child = parent >= 0
    num_children = np.bincount(parent[is_child], minlength=len(tree))
    if not is_child[row]:
        return np.array([row] if num_children[row] == 0 else [], np.int64)
    child = np.full(len(tree), -1)
    child[parent[is_child]] = np.flatnonzero(is_child)
    below, above, down, up = [], [row], row, row
    while num_children[down] == 1:
        down = int(child[down])
        below.append(down)
    while is_child[parent[up]] and num_children[parent[up]] == 1:
        up = int(parent[up])
        above.append(up)
    return np.array([*reversed(below), *above], np.int64)


def _scores(tree: Tree) -> np.ndarray:
    return np.full(len(tree), np.nan) if tree.scores is None else tree.scores


def _row(tree: Tree, node: int) -> int:
    row = int(rows_of(tree.ids, np.array([node]))[0])
    if row < 0:
        raise EditError(f"node {node} is no longer in the tree")
    return row


def _tops(parent: np.ndarray) -> np.ndarray:
    """Where each row comes to when it goes up by `parent` (-1: stays), by pointer doubling."""
    step = np.where(parent < 0, np.arange(len(parent)), parent)
    while True:
        further = step[step]
        if np.array_equal(further, step):
            return step
        step = further


def _delete(tree: Tree, row: int) -> Tree:
    parent = tree.parent_index
    first = row if parent[row] < 0 else int(branch_rows(tree, row)[-1])
    gone = np.zeros(len(tree), bool)
    gone[[first, *hanging_on(tree, first)]] = True
    above = int(parent[first])
    if above >= 0 and parent[above] < 0 and tree.types[above] != SOMA and np.count_nonzero(parent == above) == 1:
        gone[above] = gone.sum() + 1 < len(tree)
    if gone.all():
        raise EditError("this is all that is left of the tree; a tree needs at least one node")
    return _subset(tree, ~gone)


def _cut(tree: Tree, row: int) -> Tree:
    if tree.parent_index[row] < 0:
        raise EditError(f"node {tree.ids[row]} is a root already: there is nothing to cut above it")
    parents = tree.parents.copy()
    parents[row] = -1
    return replace(tree, parents=parents)


def _join(tree: Tree, row: int, to: int) -> Tree:
    tops = pieces_of(tree)
    if tops[row] == tops[to]:
        raise EditError("both nodes are on the same piece; cut it first, or choose a node of another one")
    parents = _rerooted(tree, row)
    parents[row] = tree.ids[to]
    return replace(tree, parents=parents)


def _rerooted(tree: Tree, row: int) -> np.ndarray:
    """The parents once a node is the root of its piece."""
    parent, parents = tree.parent_index, tree.parents.copy()
    parents[row] = -1
    while parent[row] >= 0:
        parents[parent[row]] = tree.ids[row]
        row = int(parent[row])
    return parents


def _keep(tree: Tree, row: int) -> Tree:
    rows = branch_rows(tree, row)
    if not len(rows):
        raise EditError(f"node {tree.ids[row]} is a root, which lies on no single branch; choose a node of a branch")
    scores = _scores(tree).copy()
    scores[rows] = SURE
    return replace(tree, scores=scores)


def _draw(tree: Tree, edit: Draw) -> Tree:
    xyz, radii = np.array(edit.points, float).reshape(-1, 3), np.array(edit.radii, float)
    count = len(xyz)
    if radii.shape != (count,) or not (np.isfinite(xyz).all() and np.isfinite(radii).all() and (radii > 0).all()):
        raise EditError("a path needs points with finite coordinates and positive radii, one for each")
    start, end = edit.start, edit.end
    if not count:
        if start is None or end is None:
            raise EditError("the path has no node beyond the one that it begins at")
        return _join(tree, _row(tree, end), _row(tree, start))
    if start is None and end is not None:
        xyz, radii, start, end = xyz[::-1], radii[::-1], end, None
    rows = [_row(tree, node) for node in (start, end) if node is not None]
    parents = tree.parents
    ids = int(tree.ids.max()) + 1 + np.arange(count)
    if end is not None:
        tops = pieces_of(tree)
        if tops[rows[0]] == tops[rows[1]]:
            raise EditError("both ends of the path are on the same piece, which would make a loop; cut it first")
        parents = _rerooted(tree, rows[1])
        parents[rows[1]] = ids[-1]
    new_parents = np.append(-1 if start is None else start, ids[:-1])
    kind = 0 if start is None or tree.types[rows[0]] == SOMA else int(tree.types[rows[0]])
    return replace(
        tree,
        ids=np.append(tree.ids, ids),
        types=np.append(tree.types, np.full(count, kind)),
        xyz=np.concatenate([tree.xyz, xyz]),
        radii=np.append(tree.radii, radii),
        parents=np.append(parents, new_parents),
        scores=np.append(_scores(tree), np.full(count, SURE)),
        bridged=None if tree.bridged is None else np.append(tree.bridged, np.zeros(count, bool)),
    )


def _subset(tree: Tree, keep: np.ndarray) -> Tree:
    names = ("ids", "types", "xyz", "radii", "parents", "scores", "bridged")
    values = {name: getattr(tree, name) for name in names}
    return replace(tree, **{name: value[keep] for name, value in values.items() if value is not None})
