"""Large SWC files by columns: pyarrow reads and writes regular ones several times as fast as line by line.

What is regular in every way is read here; all else, and all that is wrong, is left to `swc_text`, which goes by lines
and says what is wrong where. So a file is read as it would be there, or not here.
"""

from __future__ import annotations

import io

import numpy as np

from .swc_text import whole


# From so many characters, and nodes, on it is worth importing pyarrow (0.1 s), see benchmarks/results/swc_speed.md.
LARGE_TEXT, LARGE_TREE = 1 << 18, 10_000
_REGULAR = b"0123456789+-.eE \n"
_NAMES = ("id", "type", "x", "y", "z", "radius", "parent")
_BLOCK = 1 << 24  # bytes that pyarrow reads at once


def read_columns(text: str) -> tuple[np.ndarray, tuple[str, ...], int] | None:
    """Reads the rows of a regular text: comments, then rows of seven numbers with white space between.

    Returns:
        A table (n, 7) float64, the comments, and the line number of the first row; None of a text that is not regular
        (comments or empty lines between rows, other columns, commas, ids that doubles do not hold, what is no number)
        or where pyarrow is not installed.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a \t\n")
    comments, start, first = [], 0, 1
    while True:
        end = text.find("\n", start)
        line = text[start : len(text) if end < 0 else end].lstrip()
        if line and line[0] != "#":
            break
        if line:
            comments.append(line[1:].removeprefix(" "))
        if end < 0:
            return None
        start, first = end + 1, first + 1
    try:
        rows = text[start:].encode("ascii")
    except UnicodeEncodeError:
        return None
    rows = _with_single_spaces(rows)
    if rows.translate(None, _REGULAR) or b"\n\n" in rows:
        return None
    table = _parsed(rows)
    if table is None or not all(whole(table[:, column]).all() for column in (0, 1, 6)):
        return None
    return table, tuple(comments), first


def _with_single_spaces(rows: bytes) -> bytes:
    """White space within lines as one space, and none at their ends."""
    rows = rows.replace(b"\t", b" ")
    while b"  " in rows:
        rows = rows.replace(b"  ", b" ")
    return rows.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")


def _parsed(rows: bytes) -> np.ndarray | None:
    """The table (n, 7) of lines with single spaces; None if some are no seven numbers, or without pyarrow."""
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    try:
        columns = csv.read_csv(
            pyarrow.BufferReader(rows),
            read_options=csv.ReadOptions(use_threads=False, column_names=_NAMES, block_size=_BLOCK),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(_NAMES, pyarrow.float64()), null_values=[], strings_can_be_null=False
            ),
        )
    except pyarrow.ArrowInvalid:
        return None
    table = np.empty((len(columns), len(_NAMES)), order="F")
    for number, column in enumerate(columns.itercolumns()):
        place = 0
        for chunk in column.chunks:
            table[place : place + len(chunk), number] = chunk.to_numpy()
            place += len(chunk)
    return table


def written_columns(columns: tuple[np.ndarray, ...]) -> str | None:
    """The rows of a tree as text, numbers in the shortest decimals that read back as the same doubles.

    Args:
        columns: the seven, (n,) each; whole numbers as int64.

    Returns:
        A line for each node; None where pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    table = pyarrow.table(dict(zip(_NAMES, map(np.ascontiguousarray, columns), strict=True)))
    out = io.BytesIO()
    csv.write_csv(table, out, csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none"))
    return out.getvalue().decode("ascii")
