"""What a module of this folder says of its tree format, and the record that its reader returns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..swc import SWCError, Tree


class TreeFileError(SWCError):
    """A file that is no sound tree of its format, or a tree that cannot be written in one; the message is one line."""


@dataclass(frozen=True)
class TreeFormat:
    """A format of trees: what its files are called, how they are read, and how they are written.

    Args:
        row: what the table of docs/how-to/other-programs.md calls it, in Markdown.
        suffixes: how the names of its files end, in lower case.
        read: `read(path, mend_structure=False)` returns the Tree, in voxels. None: it is only written.
        write: `write(path, tree, voxel_size)` writes the file or folder, whole or not at all; the voxel size is z, y,
            x in micrometres, or None. None: it is only read.
        is_folder: whether a tree is a folder.
        extra: what has to be installed for it, in words; "" where nothing has.
    """

    row: str
    suffixes: tuple[str, ...]
    read: Callable[..., Tree] | None = None
    write: Callable[[Path, Tree, tuple[float, float, float] | None], object] | None = None
    is_folder: bool = False
    extra: str = ""
