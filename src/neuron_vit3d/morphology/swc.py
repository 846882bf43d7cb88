"""SWC files and the `Tree` they hold: read, check, repair, write.

A line of an SWC file is a node: `id type x y z radius parent` (Cannon et al. 1998, J. Neurosci. Methods 84:49-54).
Here coordinates and radii are voxels, and a file is either read whole and sound, or refused with its line and the
reason.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..files import write_whole
from . import swc_columns
from .graphs import sparse_graph
from .soundness import (
    check_tree,
    find_problems,
    repair_parents,
    repair_radii,
    repair_structure,
    rows_of,
    rows_on_cycles,
)
from .swc_columns import read_columns, written_columns
from .swc_text import SWCError, WideIds, decoded, lines_of, parse_table, whole
from .units import in_voxels, says_micrometres, voxel_size_of, warn_of_micrometres


@dataclass(frozen=True, eq=False)
class Tree:
    """A forest of nodes, each with a position, a radius and at most one parent.

    Rows are nodes in the order of the file; parents may come after their children. The arrays are taken as they are
    (`check_tree` says what is wrong with them) except that their shapes must agree.

    Attributes:
        ids: (n,) int64, unique.
        types: (n,) int64; 0 undefined, 1 soma, 2 axon, 3 (basal) dendrite, 4 apical dendrite.
        xyz: (n, 3) float64, voxels, in the order x y z (a volume's axes are z y x).
        radii: (n,) float64, voxels.
        parents: (n,) int64, the *id* of each node's parent, -1 for a root (any negative number becomes -1).
        comments: header lines without `#`.
        scores: (n,) float64 in [0, 1], what the traced scores say at each node; None where they are not known, as
            after
            `read_swc`: an SWC file has no place for them.
        bridged: (n,) bool, the nodes at which the tree crosses a gap of the foreground; None where that is not known.

    Raises:
        SWCError: the shapes do not agree, or ids, types or parents are not whole numbers.
    """

    ids: np.ndarray
    types: np.ndarray
    xyz: np.ndarray
    radii: np.ndarray
    parents: np.ndarray
    comments: tuple[str, ...] = ()
    scores: np.ndarray | None = None
    bridged: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "types", "parents"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
        object.__setattr__(self, "parents", np.maximum(self.parents, -1))
        for name in ("xyz", "radii"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "comments", tuple(self.comments))
        n = self.ids.size
        expected = {"ids": (n,), "types": (n,), "xyz": (n, 3), "radii": (n,), "parents": (n,)}
        for name, dtype in (("scores", np.float64), ("bridged", bool)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
                expected[name] = (n,)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise SWCError(f"tree of {n} nodes: {name} must have shape {shape}, got {getattr(self, name).shape}")

    @classmethod
    def from_parents(
        cls,
        xyz: np.ndarray,
        radii: np.ndarray,
        parent_index: np.ndarray,
        types: np.ndarray | None = None,
        comments: Sequence[str] = (),
    ) -> Tree:
        """Build a tree from rows that point at rows; ids become 1..n with every parent before its children.

        Rows keep their order if parents already come first; else they are put in depth-first order.

        Args:
            xyz: (n, 3) voxels.
            radii: (n,) voxels.
            parent_index: (n,) row of each node's parent, negative for a root.
            types: (n,) SWC types; 0 (undefined) when None.
            comments: header lines.

        Raises:
            SWCError: shapes disagree, a parent is no row, or the parents form a cycle.
        """
        xyz, radii = np.asarray(xyz, dtype=np.float64).reshape(-1, 3), np.asarray(radii, dtype=np.float64)
        parent_index = _whole_numbers("parent_index", parent_index)
        n = len(xyz)
        types = np.zeros(n, dtype=np.int64) if types is None else _whole_numbers("types", types)
        if not (radii.shape == parent_index.shape == types.shape == (n,)):
            raise SWCError(
                f"tree of {n} nodes: radii, parent_index and types must have shape {(n,)}, "
                f"got {radii.shape}, {parent_index.shape}, {types.shape}"
            )
        if n and parent_index.max() >= n:
            raise SWCError(f"parent_index must be below {n}, got {parent_index.max()}")
        parent_index = np.where(parent_index < 0, -1, parent_index)
        cyclic = rows_on_cycles(parent_index)
        if cyclic.size:
            raise SWCError(f"the parents of row {cyclic[0]} lead back to it")
        order = np.arange(n)
        if (parent_index >= order).any():
            order = _depth_first_order(parent_index)
        number = np.zeros(n + 1, dtype=np.int64)
        number[order] = np.arange(1, n + 1)
        number[n] = -1  # what a root's parent (row -1) turns into
        parents = number[parent_index[order]]
        return cls(np.arange(1, n + 1), types[order], xyz[order], radii[order], parents, tuple(comments))

    @classmethod
    def from_text(cls, text: str, name: str = "tree") -> Tree:
        """The tree of an SWC text, as `to_text` writes it.

        Raises SWCError, with `name` and the line, as `read_swc` does.
        """
        return _parse(text, name, repair=True, mend_structure=False)

    def __len__(self) -> int:
        return self.ids.size

    @cached_property
    def parent_index(self) -> np.ndarray:
        """(n,) int64: the row of each node's parent, -1 for a root. Raises SWCError if a parent is no node."""
        index = rows_of(self.ids, self.parents)
        missing = np.flatnonzero((index < 0) & (self.parents >= 0))
        if missing.size:
            row = missing[0]
            raise SWCError(f"node {self.ids[row]}: parent {self.parents[row]} is not in the tree")
        return index

    @property
    def edges(self) -> np.ndarray:
        """(m, 2) int64: the rows of child and parent of every edge, in the order of the children."""
        children = np.flatnonzero(self.parent_index >= 0)
        return np.stack([children, self.parent_index[children]], axis=1)

    @property
    def segments(self) -> np.ndarray:
        """The rows of the ends of all that takes up space, (m, 2) int64.

        First every edge, then every node without any edge, paired with itself.
        """
        edges = self.edges
        alone = np.ones(len(self), dtype=bool)
        alone[edges] = False
        lone = np.flatnonzero(alone)
        return np.concatenate([edges, np.stack([lone, lone], axis=1)])

    @property
    def roots(self) -> np.ndarray:
        """Rows of the nodes without a parent."""
        return np.flatnonzero(self.parent_index < 0)

    @property
    def num_components(self) -> int:
        """Number of connected pieces; in a sound tree each has one root."""
        return len(self.roots)

    @property
    def length(self) -> float:
        """Summed length of all edges, in voxels."""
        child, parent = self.edges.T
        return float(np.linalg.norm(self.xyz[child] - self.xyz[parent], axis=1).sum())

    @cached_property
    def branches(self) -> np.recarray:
        """The branches (b,): the paths between roots, branch points and tips.

        A parent comes before its children where that holds for the nodes.

        Fields:
            start, end: ids of the first and the last node; the first is shared with the branch that this one leaves.
                They are the same for a root without children, which is a branch without length.
            parent_branch: row of the branch that it leaves, -1 at a root.
            length: voxels, as `Tree.length`.
            mean_radius: mean radius of the nodes after the first, voxels.
            confidence: mean of `scores` at these nodes, in [0, 1]; NaN where the tree has none.
            bridged_voxels: the part of the length that crosses gaps; NaN where that is not known.
        """
        from .branches import find_branches

        return find_branches(self)[0]

    def parents_first(self) -> Tree:
        """The tree with every parent before its children, as some programs need it; itself where they are.

        Raises:
            SWCError: a parent is no node.
        """
        index = self.parent_index
        if (index < np.arange(len(self))).all():
            return self
        rows = _depth_first_order(index)
        per_node = ("ids", "types", "xyz", "radii", "parents", "scores", "bridged")
        values = {name: getattr(self, name) for name in per_node}
        return replace(self, **{name: value[rows] for name, value in values.items() if value is not None})

    def write(self, path: str | os.PathLike) -> Path:
        """Write the tree as SWC such that `read_swc` gives back the same numbers, bit for bit. Returns the path.

        The file appears whole or not at all.

        Raises:
            SWCError: the tree has no node or is not sound; nothing is written.
            OSError: the file cannot be written.
        """
        path = Path(path)
        try:
            text = self.to_text()
        except SWCError as error:
            raise SWCError(f"{path}: not written, {error}") from error
        write_whole(path, text)
        return path

    def _repr_html_(self) -> str:
        """What a notebook shows of the tree."""
        from .notebook import tree_html

        return tree_html(self)

    def to_text(self) -> str:
        """The tree as the text of an SWC file, with every digit. Raises SWCError if it has no node or is not sound."""
        problems = check_tree(self)
        if problems:
            raise SWCError(problems[0] + _and_more(len(problems) - 1))
        lines = [f"# {line}\n" if line else "#\n" for comment in self.comments for line in lines_of(comment)]
        if len(self) >= swc_columns.LARGE_TREE:
            rows = written_columns((self.ids, self.types, *self.xyz.T, self.radii, self.parents))
            if rows is not None:
                return "".join(lines) + rows
        # repr gives the shortest decimal that reads back as the same double.
        x, y, z = self.xyz.T.tolist()
        columns = (self.ids.tolist(), self.types.tolist(), x, y, z, self.radii.tolist(), self.parents.tolist())
        lines += [f"{i} {t} {x!r} {y!r} {z!r} {r!r} {p}\n" for i, t, x, y, z, r, p in zip(*columns, strict=True)]
        return "".join(lines)


def read_swc(path: str | os.PathLike, *, repair: bool = True, mend_structure: bool = False) -> Tree:
    """Read an SWC (or .eswc) file.

    Columns are separated by spaces, tabs or commas; ids may be written `12.0`; parents may follow their children;
    several roots are kept. Any negative parent is a root. Columns after the seventh are ignored, but in a `.swc` every
    line must have as many as the first, since a longer one is two lines glued together (an `.eswc` varies by design).
    Text is UTF-8 (or UTF-16 with its mark), else Latin-1. All lines that begin with `#` become `Tree.comments`. Where
    they say that the tree is in micrometres, and how large a voxel is, as SNT and `--units um` write it, it is taken
    to voxels. Where they do not say how large, it stays in micrometres, with a warning.

    Args:
        path: the file.
        repair: mend what is no matter of structure, and say so in one warning: a radius that is NaN or not positive
            becomes that of the nearest ancestor with another one (of a root, of the nearest descendant), and
            parent 0 where no node is 0 becomes a root, which is what the writers of such files mean. With False both
            are errors.
        mend_structure: also mend, with a warning, what cutting and pasting of hand-made traces leaves behind: a node
            listed again at the same place becomes one node, and a missing parent makes a root. No edge is lost. Off by
            default, because the same faults are what a damaged file looks like.

    Raises:
        SWCError: binary or empty file, a column too few, something that is no number, NaN or infinity, a duplicate or
            negative id, a missing parent, a node that is its own parent, a cycle. The message names file and line.
        OSError: the file cannot be read.
    """
    path = Path(path)
    tree = _parse(decoded(path), str(path), repair, mend_structure)
    warn_of_micrometres(tree, path)
    return tree


def _parse(text: str, name: str, repair: bool, mend_structure: bool) -> Tree:
    """`read_swc` of a text; `name` stands in messages, and tells by its suffix whether it is an .eswc."""
    regular = read_columns(text) if len(text) >= swc_columns.LARGE_TEXT else None
    numbers: Sequence[int]  # line number of every row
    if regular is not None:
        table, comments, first = regular
        numbers, wide = range(first, first + len(table)), None
    else:
        table, comments, numbers, wide = _by_lines(text, name)

    done: list[str] = []
    if mend_structure:
        keep, done = repair_structure(table)
        if len(keep) < len(table):
            table, numbers = table[keep], [numbers[row] for row in keep]
    if repair:
        done += repair_parents(table) + repair_radii(table)
    if done:
        warnings.warn(f"{name}: {'; '.join(done)}", stacklevel=3)
    ids, types, parents = (table[:, column].astype(np.int64) for column in (0, 1, 6))
    if wide is not None:
        ids, parents = wide.restored(ids), np.where(parents < 0, -1, wide.restored(parents))
    tree = Tree(ids, types, table[:, 2:5].copy(), table[:, 5].copy(), parents, comments)
    problems = find_problems(tree)
    if problems:
        row, reason = min(problems)
        raise SWCError(f"{name}:{numbers[row]}: {reason}" + _and_more(len(problems) - 1))
    voxel_size = voxel_size_of(tree)
    return tree if voxel_size is None or not says_micrometres(tree) else in_voxels(tree, voxel_size)


def _by_lines(text: str, name: str) -> tuple[np.ndarray, tuple[str, ...], list[int], WideIds | None]:
    """The table of a text, its comments, the line number of every row, and ids that are too wide for a double."""
    lines = lines_of(text)
    stripped = [line.strip() for line in lines]
    numbers = [i for i, line in enumerate(stripped, start=1) if line and line[0] != "#"]
    if not numbers:
        raise SWCError(f"{name}: no node in the file")
    table, wide = parse_table(name, [stripped[i - 1] for i in numbers], numbers)
    comments = tuple(line[1:].removeprefix(" ") for line in map(str.lstrip, lines) if line.startswith("#"))
    return table, comments, numbers, wide


def _depth_first_order(parent_index: np.ndarray) -> np.ndarray:
    """Rows such that a parent comes before its children and a branch stays together (the parents hold no cycle)."""
    from scipy.sparse.csgraph import depth_first_order

    n = len(parent_index)
    start = np.where(parent_index < 0, n, parent_index)  # node n is above all roots
    graph = sparse_graph((start, np.arange(n)), n + 1)
    return depth_first_order(graph, n, directed=True, return_predecessors=False)[1:]


def _whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu" and not (values.dtype.kind in "fb" and whole(values.astype(float)).all()):
        raise SWCError(f"{name} must be whole numbers, got {values.dtype}")
    return values.astype(np.int64, copy=False)


def _and_more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""
