"""Writes summary.csv of a batch: a row for each input, written anew after each, so that a killed run can go on."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..files import write_whole


NOT_BEGUN, DONE, FAILED = "not begun", "done", "failed"


@dataclass
class Row:
    """One input of a batch.

    Attributes:
        file: the input.
        name: what the names of its results begin with.
        status: `not begun`, `done` or `failed`.
        trees, nodes, length, length_um, branches, doubtful_branches, tips: of all its trees together; lengths in
            voxels, and in micrometres where the voxel size is known.
        neuron_share: of the voxels, from 0 to 1.
        threshold: scores at least this high are neuron.
        seconds: how long it took.
        warnings, left_out, error: what was told, with "; " between.
        made_with: a word for the input, the options and the results, by which a later run knows what is done.
    """

    file: str
    name: str
    status: str = NOT_BEGUN
    trees: int | None = None
    nodes: int | None = None
    length: float | None = None
    length_um: float | None = None
    branches: int | None = None
    doubtful_branches: int | None = None
    tips: int | None = None
    neuron_share: float | None = None
    threshold: float | None = None
    seconds: float | None = None
    warnings: str = ""
    left_out: str = ""
    error: str = ""
    made_with: str = ""

    def fill(self, figures: dict[str, Any]) -> None:
        """Fills the row with what a command tells of an input, in the form of its JSON object."""
        for name in ("neuron_share", "threshold"):
            setattr(self, name, None if name not in figures else round(figures[name], 8))
        if "trees" in figures or "tree" in figures:
            trees = figures.get("trees") or [tree for tree in [figures.get("tree")] if tree is not None]
            self.trees = len(trees)
            for name in ("nodes", "length", "length_um", "branches", "doubtful_branches", "tips"):
                values = [tree[name] for tree in trees]
                setattr(self, name, None if None in values else round(sum(values), 3))
            self.left_out = "; ".join(dict.fromkeys(line for tree in trees for line in tree["left_out"]))

    def public(self) -> dict[str, Any]:
        """Returns what is told of the input."""
        return {name: value for name, value in asdict(self).items() if name != "made_with"}


_NAMES = [field.name for field in fields(Row)]
_NUMBERS = {field.name: int if "int" in str(field.type) else float for field in fields(Row) if field.default is None}


def read_summary(path: Path) -> dict[str, Row]:
    """The rows of an earlier run by their names; none where there is no file.

    Raises:
        ValueError: the file is no summary of this program.
    """
    if not path.exists():
        return {}
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8", "surrogateescape"), newline=""))
        if reader.fieldnames is None or {"file", "status", "made_with"} - set(reader.fieldnames):
            raise csv.Error
        rows = [_row(cells) for cells in reader]
    except csv.Error:
        raise ValueError(
            f"{path}: is there already and was not made by this program; choose another --output"
        ) from None
    return {row.name: row for row in rows if row is not None}


def _row(cells: dict[str, Any]) -> Row | None:
    """Reads a row; None where somebody changed it, or another version wrote it: its input is then done again."""
    try:
        values = {name: cells[name] for name in _NAMES}
        return Row(**values | {name: kind(values[name]) if values[name] else None for name, kind in _NUMBERS.items()})
    except (KeyError, ValueError):
        return None


def write_summary(path: Path, rows: list[Row]) -> None:
    """Writes the rows, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _NAMES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"), alone=True)
