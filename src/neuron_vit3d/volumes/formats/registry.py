"""The list of image formats: one line each. All that the package knows of a format stands in its module, as `FORMAT`.

A new format is a module in this folder and a line in `FORMATS`; CONTRIBUTING.md shows one. What is said of formats in
help texts and docs/how-to/formats.md comes from here. The modules are imported when the first file is read, and import
their libraries when a file of their format turns up: the command line, which shows `in_words`, starts without numpy.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from .format import Format


class Line(NamedTuple):
    """What help texts say of a format: what it is called, and the suffix that it is written under, if it is."""

    words: str
    written_as: str = ""


# By the name of the module. The first that recognises a file reads it, so what goes by the suffix alone comes last.
FORMATS = {
    "tiff": Line("TIFF", ".tif"),
    "vaa3d": Line("Vaa3D v3draw or v3dpbd", ".v3draw"),
    "npy": Line(".npy", ".npy"),
    "nrrd": Line("NRRD"),
    "nifti": Line("NIfTI"),
    "imaris": Line("Imaris"),
    "zarr": Line("an OME-Zarr folder"),
    "slices": Line("a folder of numbered slices"),
    "bioio": Line("a microscope maker's format"),
}


@cache
def formats() -> tuple[Format, ...]:
    """The formats, in the order in which they are tried."""
    return tuple(import_module(f".{name}", __package__).FORMAT for name in FORMATS)


def format_of(path: Path) -> Format:
    """The format of a file or folder, told by its content.

    Raises:
        VolumeError: it is of none that is known.
        OSError: the file cannot be opened.
    """
    from ..volume import VolumeError
    from .format import START_BYTES

    if path.is_dir():
        found = next((one for one in formats() if one.is_folder and one.recognises(path, b"")), None)
        if found is None:
            folders = [line.words for line, one in zip(FORMATS.values(), formats(), strict=True) if one.is_folder]
            raise VolumeError(
                f"{path}: expected a file with a volume, {_joined(folders)}, got a folder without its metadata"
            )
        return found
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    found = next((one for one in formats() if not one.is_folder and one.recognises(path, start)), None)
    if found is None:
        what = "an empty file" if not start else f"a file that begins with {start[:8]!r}"
        raise VolumeError(f"{path}: expected {_expected()}, got {what}")
    return found


def in_words() -> str:
    """What can be read, for help texts."""
    return _joined([line.words for line in FORMATS.values()])


def written_in_words() -> str:
    """The suffixes of what can be written, for help texts."""
    return ", ".join(line.written_as for line in FORMATS.values() if line.written_as)


def as_table() -> str:
    """The table of docs/how-to/formats.md."""
    rows = [("format", "needs", "is written as"), ("---", "---", "---")]
    for one in formats():
        needs = f'`pip install ".[{one.extra}]"`' if one.extra else ""
        rows.append((one.row, needs, ", ".join(f"`{suffix}`" for suffix in one.writes)))
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows)


def _expected() -> str:
    """What can be read, for the error of a file that cannot: first what needs no extra."""
    known = list(zip(FORMATS.values(), formats(), strict=True))
    plain = [line.words for line, one in known if not one.extra and not one.is_folder]
    others = [line.words for line, one in known if one.extra or one.is_folder]
    return f"a {', '.join(plain[:-1])}, or {plain[-1]} file, or {_joined(others)}"


def _joined(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)
