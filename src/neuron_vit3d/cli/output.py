"""Tells what a command did: by notes on standard error, and by lines or JSON on what was written.

It also writes trees, and removes those of earlier runs.
"""

import dataclasses
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any


_LISTENER: ContextVar[Callable[[str, bool], None] | None] = ContextVar("listener", default=None)


def note(text: str, *, is_warning: bool = False) -> None:
    """Prints a line on standard error, or gives it to who listens.

    Args:
        text: what to tell.
        is_warning: it says that a result may not be what was meant; a batch lists it in its summary.
    """
    line, listener = " ".join(text.split()), _LISTENER.get()
    if listener is not None:
        listener(line, is_warning)
    else:
        print(f"neuron-vit3d: {line}", file=sys.stderr)


@contextmanager
def listening(listener: Callable[[str, bool], None]) -> Iterator[None]:
    """Gives all notes, and whether they are warnings, to a function while the block runs."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def telling_logged_warnings() -> Iterator[None]:
    """Notes the warnings that segmenting logs; what tracing leaves out is told with its figures."""

    class Taken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage(), is_warning=True)

    logger, handler = logging.getLogger("neuron_vit3d.inference"), Taken(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def signed(tree, source: Path):
    """Adds a comment to a tree that says where it comes from."""
    from ..volumes.names import TRACED_BY
    from ..volumes.on_disk import printable

    return dataclasses.replace(tree, comments=(f"{TRACED_BY} from {printable(source.name)}", *tree.comments))


class Output:
    """What a command prints: lines as results are written, or one JSON object of the same in the end.

    Args:
        as_json: whether JSON was asked for.

    Attributes:
        figures: what the JSON object has.
        warnings: what of the lines says that a result may not be what was meant.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.figures: dict[str, Any] = {}
        self.warnings: list[str] = []

    def tell(self, line: str, **figures) -> None:
        """Prints a line, or keeps its figures and the paths of files for the JSON object."""
        self.figures |= figures
        if not self.as_json:
            print(line)

    def end(self) -> None:
        """Prints the JSON object, where it was asked for."""
        if self.as_json:
            print(json.dumps(self.figures, default=str))


def tree_figures(path: Path, tree, voxel_size: tuple[float, float, float] | None) -> dict:
    """Returns the figures of a traced tree and of the table of its branches.

    `length` is in voxels, `length_um` in micrometres where the voxel size (z, y, x) is known. `left_out` says in words
    what tracing left out, and which fragments it kept.
    """
    import numpy as np

    from ..morphology.branches import DOUBTFUL
    from ..morphology.critical_nodes import critical_nodes

    branches = tree.branches
    child, parent = tree.edges.T
    edges = (tree.xyz[child] - tree.xyz[parent]) * (voxel_size or (1.0, 1.0, 1.0))[::-1]
    return {
        "swc": path,
        "branches_csv": branches_of(path),
        "nodes": len(tree),
        "length": round(float(tree.length), 3),
        "length_um": None if voxel_size is None else round(float(np.linalg.norm(edges, axis=1).sum()), 3),
        "branches": len(branches),
        "tips": len(critical_nodes(tree)[1]),
        "doubtful_branches": int((branches.confidence < DOUBTFUL).sum()),
        "left_out": [comment for comment in tree.comments if comment.startswith(("dropped", "kept"))],
    }


def described(figures: dict) -> str:
    """Writes the figures of a tree as one line."""
    doubtful = figures["doubtful_branches"]
    words = [f"{figures['nodes']} nodes, {figures['length']:.0f} voxels long"]
    words += [f"{doubtful} of {figures['branches']} branches doubtful"] if doubtful else []
    return f"{figures['swc']}  {figures['branches_csv']}  {'; '.join(words + figures['left_out'])}"


def branches_of(swc: Path) -> Path:
    """Returns where the table of a tree's branches goes: beside it, `a.swc` with `a.branches.csv`."""
    from ..morphology.branch_table import branch_table_of

    return branch_table_of(swc)


def write_trees(
    trees: list,
    paths: list[Path],
    source: Path,
    voxel_size: tuple[float, float, float] | None,
    units: str = "voxels",
    node_type: str | None = None,
) -> tuple[list, list[dict]]:
    """Writes trees with a comment on their source, and removes what an earlier run made of it in other numbers.

    Args:
        trees: as they were traced.
        paths: where they go; there may be more of them than trees.
        source: what was segmented or traced.
        voxel_size: z, y, x in micrometres, where it is known.
        units: of the files, voxels or um.
        node_type: of all nodes but the soma; None: as they are.

    Returns:
        The trees as they were written, but in voxels, and what there is to tell of each.
    """
    from ..morphology.node_types import with_type
    from ..morphology.units import rounded

    trees = [rounded(with_type(tree, node_type) if node_type else tree) for tree in trees]
    trees = [signed(tree, source) for tree in trees]
    figures = [write_tree(path, tree, voxel_size, units) for tree, path in zip(trees, paths, strict=False)]
    for path in paths[len(trees) :]:  # there are fewer than asked for: an earlier run's would not be this mask's
        remove_tree(path)
    return trees, figures


def in_units(tree, units: str, voxel_size: tuple[float, float, float] | None, name: Path):
    """The tree as a file in these units has it."""
    from ..morphology.units import MICROMETRES, in_micrometres, rounded

    if units != MICROMETRES:
        return tree
    if voxel_size is None:
        raise ValueError(f"{name}: --units um: no voxel size is known; --voxel-size z,y,x says it, in micrometres")
    return rounded(in_micrometres(tree, voxel_size), min(voxel_size))


def write_tree(swc: Path, tree, voxel_size: tuple[float, float, float] | None = None, units: str = "voxels") -> dict:
    """Writes a tree and the table of its branches, each whole or not at all; returns their figures."""
    from ..files import replacing
    from ..morphology.branches import branches_text

    with replacing(branches_of(swc)) as partial:
        partial.write_text(branches_text(tree.branches), encoding="utf-8")
        in_units(tree, units, voxel_size, swc).write(swc)  # so late that a full disk leaves an earlier pair as it was
    return tree_figures(swc, tree, voxel_size)


def remove_tree(swc: Path) -> None:
    """Removes a tree and the table of its branches, as far as this program made them."""
    from ..volumes.names import is_own_result

    for path in (swc, branches_of(swc)):
        if is_own_result(path):
            path.unlink()


def numbered(output: Path, number: int) -> Path:
    """Returns where one of several trees goes, counted from 1: `a.swc` becomes `a_1.swc`."""
    return output.with_name(f"{output.stem}_{number}{output.suffix}")


def remove_other_trees(source: Path, output: Path, count: int) -> None:
    """Removes trees that an earlier run traced from this file for another number of neurons, and says so."""
    if count > 1:
        _remove_tree_of(source, output)
    number = count + 1 if count > 1 else 1
    while (path := numbered(output, number)).exists():
        _remove_tree_of(source, path)
        number += 1


def _remove_tree_of(source: Path, path: Path) -> None:
    """Removes a tree whose first lines say that this program traced it from a file of the source's name.

    Of `a.tif` and `a_1.tif` in one folder, `a_1.swc` is the second tree of the one, or the tree of the other.
    """
    from ..volumes.names import TRACED_BY
    from ..volumes.on_disk import printable

    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search(f"^# {TRACED_BY} from (.+)$", file.read(4096), re.MULTILINE)
        if found and found[1] == printable(source.name):
            remove_tree(path)
            note(f"{path}: removed, it was traced from {source.name} with another number of neurons")
