"""What the command line tells: lines on standard error, and on what was written."""

import dataclasses
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
