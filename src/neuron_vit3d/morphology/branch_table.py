"""Reads NAME.branches.csv, the table of a tree's branches, which keeps the confidence that an SWC file loses."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .branches import BRANCH


if TYPE_CHECKING:
    from .swc import Tree

# Lengths in a table have four decimals; a tree whose nodes were moved differs by more.
_SAME_LENGTH = 1e-3


class BranchTableError(ValueError):
    """A table of branches that cannot be read; the message is one line and names the file."""


def branch_table_of(swc: Path) -> Path:
    """Returns where the table of a tree's branches is: beside it, `a.swc` with `a.branches.csv`."""
    return swc.with_name(f"{swc.stem if swc.suffix.lower() in ('.swc', '.eswc') else swc.name}.branches.csv")


def read_branch_table(path: Path) -> np.recarray:
    """Reads a table of branches, as `segment` and `trace` write it.

    Returns:
        (b,) records, as `Tree.branches` has them.

    Raises:
        BranchTableError: it is no such table.
        OSError: the file cannot be read.
    """
    names = BRANCH.names or ()
    text = path.read_text(encoding="utf-8", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if set(names) - set(reader.fieldnames or ()):
            raise ValueError
        rows = [tuple(row[name] for name in names) for row in reader]
        numbers = [tuple(int(cell) for cell in row[:3]) + tuple(float(cell) for cell in row[3:]) for row in rows]
        return np.array(numbers, BRANCH).view(np.recarray)
    except (ValueError, TypeError, OverflowError, csv.Error):
        raise BranchTableError(
            f"{path}: expected a table of branches ({','.join(('branch', *names))}), got something else"
        ) from None


def is_table_of(branches: np.recarray, tree: Tree) -> bool:
    """Tells whether a table is of this tree: the same branches, in the same order and of the same lengths."""
    own = tree.branches
    return len(branches) == len(own) and bool(
        (branches.start == own.start).all()
        and (branches.end == own.end).all()
        and (np.abs(branches.length - own.length) <= _SAME_LENGTH * (1 + own.length)).all()
    )
