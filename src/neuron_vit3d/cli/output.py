"""What the command line tells: lines on standard error, and on what was written; which trees of earlier runs it removes."""

import dataclasses
import re
import sys
from pathlib import Path


def note(text: str) -> None:
    print(f"neuron-vit3d: {' '.join(text.split())}", file=sys.stderr)


def signed(tree, source: Path):
    """The tree with a comment on where it comes from."""
    from ..volumes.names import TRACED_BY
    from ..volumes.on_disk import printable

    return dataclasses.replace(tree, comments=(f"{TRACED_BY} from {printable(source.name)}", *tree.comments))


def describe_tree(path: Path, tree) -> str:
    """One line on a traced tree and the table of its branches, with what tracing left out, and the fragments that it kept."""
    from ..morphology.branches import DOUBTFUL

    branches = tree.branches
    doubtful = int((branches.confidence < DOUBTFUL).sum())
    words = [f"{len(tree)} nodes, {tree.length:.0f} voxels long"]
    words += [f"{doubtful} of {len(branches)} branches doubtful"] if doubtful else []
    words += [comment for comment in tree.comments if comment.startswith(("dropped", "kept"))]
    return f"{path}  {branches_of(path)}  {'; '.join(words)}"


def branches_of(swc: Path) -> Path:
    """Where the table of a tree's branches goes: beside it, `a.swc` with `a.branches.csv`."""
    return swc.with_name(f"{swc.stem if swc.suffix.lower() in ('.swc', '.eswc') else swc.name}.branches.csv")


def write_tree(swc: Path, tree) -> None:
    """Writes a tree and the table of its branches, each whole or not at all, and prints a line on it."""
    from ..morphology.branches import branches_text
    from ..volumes.volume import replacing

    with replacing(branches_of(swc)) as partial:
        partial.write_text(branches_text(tree.branches), encoding="utf-8")
        tree.write(swc)  # so late that a full disk leaves an earlier pair as it was
    print(describe_tree(swc, tree))


def remove_tree(swc: Path) -> None:
    """Removes a tree and the table of its branches, as far as this program made them."""
    from ..volumes.names import is_own_result

    for path in (swc, branches_of(swc)):
        if is_own_result(path):
            path.unlink()


def numbered(output: Path, number: int) -> Path:
    """Where one of several trees goes, from 1: `a.swc` becomes `a_1.swc`."""
    return output.with_name(f"{output.stem}_{number}{output.suffix}")


def remove_other_trees(source: Path, output: Path, count: int) -> None:
    """Removes trees that an earlier run traced from the same file, another number of neurons than `count`, and says so."""
    if count > 1:
        _remove_tree_of(source, output)
    number = count + 1 if count > 1 else 1
    while (path := numbered(output, number)).exists():
        _remove_tree_of(source, path)
        number += 1


def _remove_tree_of(source: Path, path: Path) -> None:
    """Where its first lines say that this program traced it from a file of the source's name: of `a.tif` and `a_1.tif` in one
    folder `a_1.swc` is the second tree of the one, or the tree of the other."""
    from ..volumes.names import TRACED_BY
    from ..volumes.on_disk import printable

    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search(f"^# {TRACED_BY} from (.+)$", file.read(4096), re.MULTILINE)
        if found and found[1] == printable(source.name):
            remove_tree(path)
            note(f"{path}: removed, it was traced from {source.name} with another number of neurons")
