"""The text of an SWC file becomes a table of numbers; what it is no SWC for is said with its line."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np


class SWCError(ValueError):
    """A file or a set of arrays that is no sound tree; the message is one line with the place and the reason."""


def decoded(path: Path) -> str:
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise SWCError(f"{path}: begins like UTF-16 text but is not ({error.reason})") from error
    if b"\0" in raw:
        raise SWCError(f"{path}: expected SWC text, got a binary file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def lines_of(text: str) -> list[str]:
    # Programs of DOS end a text file with Ctrl-Z, and fill the last block with more of them.
    before = text.rstrip("\x1a \t\r\n")
    text = before if "\x1a" in text[len(before) :] else text
    # Not str.splitlines: it also splits at characters that Latin-1 comments may hold, and line numbers would be off.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@dataclass(frozen=True, eq=False)
class WideIds:
    """Ids that doubles do not hold exactly, as programs of connectomes write them; in a table are their places here.

    ids: (k,) int64, ascending.
    """

    ids: np.ndarray

    def restored(self, places: np.ndarray) -> np.ndarray:
        """The ids of places; beyond the last, where a repair made new nodes, ids that follow."""
        beyond = np.maximum(places - len(self.ids) + 1, 0)
        return self.ids[np.clip(places, 0, len(self.ids) - 1)] + beyond


def parse_table(name: str, rows: list[str], numbers: list[int]) -> tuple[np.ndarray, WideIds | None]:
    """Makes (n, 7) float64 of rows of text, with whole numbers in the columns id, type and parent.

    Returns also the ids, where they are too wide for a double.
    """
    fields = [_split(row) for row in rows]
    width = len(fields[0])
    ragged_is_fine = name.lower().endswith(".eswc")
    try:
        counts = set(map(len, fields))
        if min(counts) < 7 or (len(counts) > 1 and not ragged_is_fine):
            raise ValueError
        tokens = chain.from_iterable(fields if counts == {7} else (row[:7] for row in fields))
        table = np.fromiter(map(float, tokens), dtype=np.float64, count=7 * len(fields)).reshape(-1, 7)
        if not whole(table[:, 1]).all():
            raise ValueError
        wide = None if whole(table[:, [0, 6]]).all() else _place_wide_ids(table, fields)
        return table, wide
    except ValueError:
        pass
    # Something is wrong: go line by line to say what, and where.
    for number, row in zip(numbers, fields, strict=True):
        where = f"{name}:{number}"
        if not row:
            raise SWCError(f"{where}: expected commas or spaces between numbers, got decimal commas")
        if len(row) < 7 or (len(row) != width and not ragged_is_fine):
            expected = "7 columns (id type x y z radius parent)" if len(row) < 7 else f"{width} columns as before"
            raise SWCError(f"{where}: expected {expected}, got {len(row)}")
        for column, token in zip(("id", "type", "x", "y", "z", "radius", "parent"), row[:7], strict=True):
            try:
                value = float(token)
            except ValueError:
                raise SWCError(f"{where}: {column} must be a number, got {token[:40]!r}") from None
            is_wide = column != "type" and _is_wide(token)
            if column in ("id", "type", "parent") and not (whole(np.array(value)) or is_wide):
                raise SWCError(f"{where}: {column} must be a whole number, got {token[:40]!r}")
    raise AssertionError("a table that fails has a line that fails")


def _place_wide_ids(table: np.ndarray, fields: list[list[str]]) -> WideIds:
    """Puts the places of ids and parents into a table (n, 7). Raises ValueError if they are no whole numbers."""
    numbers = [[_integer(row[0]), _integer(row[6])] for row in fields]
    if max(map(max, numbers)) >= 2**63 - len(fields):
        raise ValueError
    ids = np.array(numbers, np.int64)
    wide = WideIds(np.unique(ids[ids >= 0]))
    table[:, [0, 6]] = np.where(ids < 0, -1, np.searchsorted(wide.ids, ids))
    return wide


def _integer(token: str) -> int:
    """Reads a whole number, which may be written `12.0`. Raises ValueError if it is none."""
    number, _, decimals = token.partition(".")
    return int(token if decimals.strip("0") else number)


def _is_wide(token: str) -> bool:
    try:
        return abs(_integer(token)) < 10**18
    except ValueError:
        return False


def _split(row: str) -> list[str]:
    """Splits a line into its fields; into none if it is ambiguous.

    In `1 2 3,5 4,5 ...` a decimal comma read as a separator shifts columns.
    """
    row = row.partition("#")[0]
    if "," not in row:
        return row.split()
    by_space = row.split()
    if len(by_space) >= 7 and any("," in field.strip(",") for field in by_space):
        return []
    return row.replace(",", " ").split()


def whole(values: np.ndarray) -> np.ndarray:
    """Which doubles are whole numbers that a double holds exactly."""
    return (np.abs(values) <= 2**53) & (values == np.floor(values))
