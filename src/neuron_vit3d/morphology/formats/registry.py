"""The list of tree formats: one line each. All that the package knows of a format stands in its module, as `FORMAT`.

A new format is a module in this folder and a line in `FORMATS`. A tree's format is told by the suffix of its file, for
SWC files begin with anything. The modules are imported when the first tree is read.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from ..swc import Tree
    from .format import TreeFormat


class Line(NamedTuple):
    """What must be known of a format before its module is imported: what it is called, its suffixes, who writes it."""

    words: str
    suffixes: tuple[str, ...]
    reads: bool = True
    writes: bool = True


# By the name of the module, which is the name of the format for `--format` as well.
FORMATS = {
    "swc": Line("SWC", (".swc", ".eswc")),
    "traces": Line("SNT's .traces", (".traces",)),
    "asc": Line("Neurolucida's .asc", (".asc",), writes=False),
    "precomputed": Line("neuroglancer's precomputed skeletons (a folder)", (".precomputed",), reads=False),
}


@cache
def tree_format(name: str) -> TreeFormat:
    """The format of a name. Raises ValueError if there is none of that name."""
    if name not in FORMATS:
        raise ValueError(f"expected the format of a tree, one of {', '.join(FORMATS)}, got {name!r}")
    return import_module(f".{name}", __package__).FORMAT


def format_named_by(path: Path) -> str | None:
    """Returns the name of the format that a file's suffix tells of, or None."""
    suffix = path.suffix.lower()
    return next((name for name, line in FORMATS.items() if suffix in line.suffixes), None)


def is_tree_name(path: Path) -> bool:
    """Whether a file is a tree that can be read, by its name."""
    name = format_named_by(path)
    return name is not None and FORMATS[name].reads


def read_tree(path: Path | str, *, mend_structure: bool = False) -> Tree:
    """Reads a tree of any format that is known, by the suffix of its file.

    Args:
        path: the file. One without a suffix of another format is read as SWC.
        mend_structure: as in [`read_swc`].

    Raises:
        SWCError: the file is no sound tree, or of a format that is only written.
        OSError: the file cannot be read.
    """
    path = Path(path)
    name = format_named_by(path) or "swc"
    found = tree_format(name)
    if found.read is None:
        from .format import TreeFileError

        raise TreeFileError(f"{path}: expected a tree that can be read ({in_words()}), got {FORMATS[name].words}")
    return found.read(path, mend_structure=mend_structure)


def write_tree(
    path: Path | str,
    tree: Tree,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    format: str | None = None,
) -> Path:
    """Writes a tree in any format that is known; the file or folder appears whole or not at all.

    Args:
        path: the file or folder.
        tree: coordinates and radii in voxels.
        voxel_size: z, y, x in micrometres, for formats that are in units of length. SWC files are written in voxels.
        format: the name of a format; None: the one that the path's suffix tells.

    Raises:
        SWCError: the tree is not sound, or lacks what the format needs.
        ValueError: no format has that name or suffix, or it is only read.
        OSError: the file cannot be written.
    """
    path = Path(path)
    name = format or format_named_by(path)
    if name is None:
        raise ValueError(f"{path}: expected a suffix that tells the format of a tree ({suffixes_in_words()})")
    found = tree_format(name)
    if found.write is None:
        raise ValueError(f"{path}: {FORMATS[name].words} is only read; trees are written as {suffixes_in_words()}")
    found.write(path, tree, voxel_size)
    return path


def in_words() -> str:
    """What can be read, for help texts."""
    return ", ".join(line.words for line in FORMATS.values() if line.reads)


def suffixes_in_words() -> str:
    """The suffixes of what can be written, for help texts."""
    return ", ".join(line.suffixes[0] for line in FORMATS.values() if line.writes)


def as_table() -> str:
    """The table of docs/how-to/other-programs.md."""
    rows = [("format", "suffix", "read", "written"), ("---", "---", "---", "---")]
    for name in FORMATS:
        one = tree_format(name)
        read = "no" if one.read is None else f"yes, with {one.extra}" if one.extra else "yes"
        suffixes = ", ".join(f"`{suffix}`" for suffix in one.suffixes)
        rows.append((one.row, suffixes, read, "no" if one.write is None else "yes"))
    return "\n".join("|" + "".join(f" {cell} |" for cell in row) for row in rows)
