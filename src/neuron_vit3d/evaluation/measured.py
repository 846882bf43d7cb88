"""Trees with their measures, and the output of these: text, JSON, and CSV tables."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import replacing
from ..morphology import Tree
from ..morphology.formats.registry import read_tree
from ..morphology.measures import MEASURED_BRANCH, SHOLL, Measures, measure
from ..morphology.units import expecting_micrometres, says_micrometres, to_voxels, voxel_size_of


LARGEST_PICTURE = 8  # trees in a picture; each has its own row
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Measured:
    """A file with its tree, in voxels, its voxel size (z, y, x in micrometres, or None) and its measures."""

    path: Path
    tree: Tree
    voxel_size: tuple[float, float, float] | None
    measures: Measures

    @classmethod
    def read(cls, path: Path, voxel_size: tuple[float, float, float] | None, sholl_step: float) -> Measured:
        """Reads a tree and measures it, with the given voxel size or else the one in its file.

        If the header says micrometres, but no voxel size, the tree is measured in micrometres, with voxels of 1 um.

        Raises:
            ValueError: the tree cannot be read or measured; the message names the file.
        """
        with expecting_micrometres():
            tree = read_tree(path, mend_structure=True)
        voxel_size = voxel_size or voxel_size_of(tree) or ((1.0, 1.0, 1.0) if says_micrometres(tree) else None)
        tree = to_voxels(tree, path, voxel_size)
        try:
            return cls(path, tree, voxel_size, measure(tree, voxel_size=voxel_size, sholl_step=sholl_step))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def figures(self) -> dict:
        """Returns the file's name and all figures."""
        return {"file": str(self.path), **self.measures.figures}


def as_text(measured: list[Measured]) -> str:
    """Makes a text: a line for each figure and a column for each tree; with more than four trees, a line for each
    tree."""
    rows = [one.figures for one in measured]
    keys = _keys(rows)
    if len(rows) > 4:
        few = ("file", "unit", "length", "branches", "branch_points", "tips", "strahler", "sholl_max")
        table = [few, *([_word(row.get(key)) for key in few] for row in rows)]
    else:
        table = [[key, *(_word(row.get(key)) for row in rows)] for key in keys]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    return "\n".join(
        "  ".join([first[0].ljust(widths[0]), *line[1:]]) for first, line in zip(table, lines, strict=True)
    )


def as_json(measured: list[Measured]) -> str:
    """Makes JSON: a list with an object for each tree, with its Sholl crossings."""
    whole = [
        {
            **{key: _known(value) for key, value in one.figures.items()},
            "sholl": {name: one.measures.sholl[name].tolist() for name in SHOLL.names or ()},
        }
        for one in measured
    ]
    return json.dumps(whole)


def write_table(path: Path, measured: list[Measured]) -> None:
    """Writes a CSV file with the figures, a row for each tree."""
    rows = [one.figures for one in measured]
    keys = _keys(rows)
    _write_csv(path, keys, ([_plain(row.get(key)) for key in keys] for row in rows))


def write_tables(measured: list[Measured], *, sholl: Path | None = None, branches: Path | None = None) -> None:
    """Writes CSV files with the Sholl crossings and with the branches of all trees, for each path that is given."""
    for path, kind, record in ((sholl, "sholl", SHOLL), (branches, "branches", MEASURED_BRANCH)):
        if path is not None:
            rows = (
                [str(one.path), *(_plain(value) for value in row)]
                for one in measured
                for row in getattr(one.measures, kind).tolist()
            )
            _write_csv(path, ["file", *(record.names or ())], rows)


def _write_csv(path: Path, header: list[str], rows: Iterable[list]) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _keys(rows: list[dict]) -> list[str]:
    """Lists the figures that any tree has, in order: a tree smaller than a Sholl step has no Sholl figures."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _word(value) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value):
    return "" if value is None else round(value, _DIGITS) if isinstance(value, float) else value


def _known(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
