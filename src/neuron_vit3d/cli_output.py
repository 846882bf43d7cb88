"""What the command line tells: lines on standard error, and on what was written; which trees of earlier runs it removes."""

import dataclasses
import re
import sys
from pathlib import Path


def note(text: str) -> None:
    print(f"neuron-vit3d: {' '.join(text.split())}", file=sys.stderr)


def signed(tree, source: Path):
    """The tree with a comment on where it comes from."""
    from .volumes.names import TRACED_BY
    from .volumes.on_disk import printable

    return dataclasses.replace(tree, comments=(f"{TRACED_BY} from {printable(source.name)}", *tree.comments))


def describe_tree(path: Path, tree) -> str:
    """One line on a traced tree, with what tracing left out."""
    left_out = [comment for comment in tree.comments if "dropped" in comment]
    return f"{path}  {len(tree)} nodes, {tree.length:.0f} voxels long" + "".join(f"; {text}" for text in left_out)


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
    from .volumes.names import TRACED_BY
    from .volumes.on_disk import printable

    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            found = re.search(f"^# {TRACED_BY} from (.+)$", file.read(4096), re.MULTILINE)
        if found and found[1] == printable(source.name):
            path.unlink()
            note(f"{path}: removed, it was traced from {source.name} with another number of neurons")
