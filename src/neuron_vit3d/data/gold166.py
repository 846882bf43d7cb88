"""Tells where images come from: by the folders of BigNeuron's Gold166 release, or by a table beside the images.

Species, microscopy and laboratory of each group come from the names of the release's folders and from its metadata
table. The release states no licence for a file, so none is assumed.
"""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .sources import DataError


@dataclass(frozen=True)
class Origin:
    """The origin of an image; None where it is not known. `voxel_size`: z, y, x in micrometres."""

    species: str | None = None
    lab: str | None = None
    microscopy: str | None = None
    licence: str | None = None
    voxel_size: tuple[float, float, float] | None = None


# Group without its `p_checked7_`: species, laboratory or collection, microscopy.
_GROUPS = {
    "chick_uw": ("chicken", "University of Washington", "confocal"),
    "frog_scrippts": ("frog", "Scripps", "confocal"),  # the folder's spelling
    "fruitfly_larvae_gmu": ("fruit fly", "George Mason University", "confocal"),
    "human_allen_confocal": ("human", "Allen Institute", "confocal"),
    "human_culturedcell_Cambridge_in_vitro_confocal_GFP": ("human", "Cambridge", "confocal"),
    "janelia_flylight_part1": ("fruit fly", "Janelia FlyLight", "confocal"),
    "janelia_flylight_part2": ("fruit fly", "Janelia FlyLight", "confocal"),
    "mouse_RGC_uw": ("mouse", "University of Washington", "confocal"),
    "mouse_culturedcell_Cambridge_in_vivo_2_photon_PAGFP": ("mouse", "Cambridge", "two-photon"),
    "mouse_korea": ("mouse", "Korea", "confocal"),
    "mouse_tufts": ("mouse", "Tufts University", "confocal"),
    "silkmoth_utokyo": ("silkmoth", "University of Tokyo", "confocal"),
    "taiwan_flycirciut": ("fruit fly", "Taiwan FlyCircuit", "confocal"),  # the folder's spelling
    "utokyo_fly": ("fruit fly", "University of Tokyo", "confocal"),
    "zebrafish_adult_RGC_UW": ("zebrafish", "University of Washington", "confocal"),
    "zebrafish_horizontal_cells_UW": ("zebrafish", "University of Washington", "confocal"),
    "zebrafish_larve_RGC_UW": ("zebrafish", "University of Washington", "confocal"),  # the folder's spelling
}
_GROUP_PREFIX = re.compile(r"^[a-z]_checked\d+_")
_COLUMNS = {
    "image": ("image", "checked3_path", "path", "file"),
    "species": ("species", "organism"),
    "lab": ("lab", "laboratory"),
    "microscopy": ("microscopy",),
    "licence": ("licence", "license"),
    "xy": ("xy_um", "x_um"),
    "z": ("z_um",),
}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MICROMETRES = {"um", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"}
_NANOMETRES = {"nm", "nanometer", "nanometers", "nanometre", "nanometres"}
_BETWEEN_NUMBERS = {"x", "y", "z", "xy", "xyz", "by", "and", "per", "voxel", "pixel"}  # words that are no unit
_OTHER_UNITS = {"m", "mm", "cm", "pm", "å", "inch", "inches", "angstrom", "angstroms"}
_OTHER_UNITS |= {f"{prefix}met{end}" for prefix in ("", "milli", "centi") for end in ("er", "ers", "re", "res")}
_NO_NUMBERS = {"nan", "inf", "infinity"}
_WORD = re.compile(r"[^\W\d_]+")


class Origins(dict[str, Origin]):
    """A table of origins by path, as [`read_origins`] reads it.

    `find` looks an image up by the longest common end of the path.
    """

    def __init__(self, rows: dict[str, Origin]):
        super().__init__(rows)
        self._by_tail: dict[str, list[str]] = {}
        for row in rows:
            for tail in _tails(row):
                self._by_tail.setdefault(tail, []).append(row)
        self._clear = {tail: len({rows[row] for row in fitting}) == 1 for tail, fitting in self._by_tail.items()}

    def find(self, image: str) -> tuple[Origin | None, str | None]:
        """Returns the origin in the rows whose paths have the longest common end with the image's.

        With it comes a note where these rows differ.
        """
        tail = next((tail for tail in _tails(image) if tail in self._by_tail), None)
        if tail is None:
            return None, None
        rows = self._by_tail[tail]
        if not self._clear[tail]:
            return None, f"the table of origins has {len(rows)} rows for {tail}, which contradict each other"
        return self[rows[0]], None

    def unmatched(self, images: Iterable[str]) -> list[str]:
        """Lists the rows, by their paths, that say nothing about any of the images."""
        tails = {next((tail for tail in _tails(image) if tail in self._by_tail), None) for image in images}
        matched = {row for tail in tails if tail is not None and self._clear[tail] for row in self._by_tail[tail]}
        return [row for row in self if row not in matched]


def group_of(image: str) -> str | None:
    """Returns the release's group that an image lies in (`p_checked6_mouse_tufts`).

    None where it lies in no such folder.
    """
    return next((part for part in PurePosixPath(image).parts[:-1] if _GROUP_PREFIX.match(part)), None)


def origin_of(image: str, table: Origins | None = None) -> tuple[Origin, str | None]:
    """Returns what the table, or else the folder, tells about an image.

    With it comes a note where the group is unknown, or where the table contradicts itself.
    """
    group, note = group_of(image), None
    origin = Origin()
    if group:
        known = _GROUPS.get(_GROUP_PREFIX.sub("", group))
        if known is None:
            origin = Origin(lab=_GROUP_PREFIX.sub("", group))
            note = f"unknown group {group}: its species and microscopy are not known"
        else:
            origin = Origin(*known)
    told, contradiction = table.find(image) if table else (None, None)
    if told:
        origin = replace(origin, **{key: value for key, value in vars(told).items() if value is not None})
        note = note if origin.species is None else None
    return origin, "; ".join(filter(None, [note, contradiction])) or None


def read_origins(text: str, name: str) -> Origins:
    """Reads a table (CSV, with commas or semicolons) of images.

    It has any of the columns species, lab, microscopy, licence, xy_um, z_um.

    Images are named by file name, or by path where file names repeat (`m1/stack.tif`, `m2/stack.tif`). The release's
    own table works as it is (`checked3_path`, `organism`). `name` is for messages.

    Raises:
        DataError: no column names the image, a size is no positive number, two rows contradict each other, or it is no
            CSV.
    """
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in header and "," not in header else ",")
    try:
        return _read_rows(reader, name)
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num}: expected a CSV table, found {error}") from error


def _read_rows(reader: csv.DictReader, name: str) -> Origins:
    names = {column.strip().lower(): column for column in reader.fieldnames or ()}
    columns = {
        key: next((names[alias] for alias in aliases if alias in names), None) for key, aliases in _COLUMNS.items()
    }
    if columns["image"] is None:
        raise DataError(f"{name}: expected a CSV table with a column 'image', found {', '.join(names) or 'nothing'}")
    rows: dict[str, Origin] = {}
    lines: dict[str, int] = {}
    for row in reader:
        line = reader.line_num
        values = {key: (row.get(column) or "").strip() or None if column else None for key, column in columns.items()}
        if values["image"] is None:
            continue
        size = None
        if values["xy"]:
            try:
                xy, z = float(values["xy"]), float(values["z"] or values["xy"])
            except ValueError:
                xy = z = -1.0
            if not (0 < xy < 1e6 and 0 < z < 1e6):
                raise DataError(
                    f"{name}:{line}: expected voxel sizes in micrometres, found {values['xy']}, {values['z']}"
                )
            size = (z, xy, xy)
        origin = Origin(values["species"], values["lab"], values["microscopy"], values["licence"], size)
        path = "/".join(part for part in values["image"].replace("\\", "/").split("/") if part not in ("", "."))
        if rows.setdefault(path, origin) != origin:
            raise DataError(
                f"{name}: expected one row for {path}, found two that differ, lines {lines[path]} and {line}"
            )
        lines.setdefault(path, line)
    return Origins(rows)


def read_pixel_size(text: str, name: str) -> tuple[float, float, float]:
    """Reads the voxel size (z, y, x) in micrometres from a `*.pixelsize.txt`.

    Its numbers are x y z, or xy z, or one for all three; `x=`, `y:`, `z`, `xy` before a number decide where there are
    any. They are micrometres (um, µm, microns), or nanometres where the text says `nm`.

    Raises:
        DataError: it holds none, none that can be a size, another unit or two, or a number such as `1,5`, which may be
            two.
    """

    def refuse(expected: str) -> DataError:
        return DataError(f"{name}: expected {expected}, found {text.strip()[:60]!r}")

    text_folded = text.casefold()
    words = set(_WORD.findall(_NUMBER.sub(" ", text_folded)))
    after = [_WORD.match(text_folded[found.end() :].lstrip()) for found in _NUMBER.finditer(text_folded)]
    units = {word[0] for word in after if word} - _MICROMETRES - _NANOMETRES - _BETWEEN_NUMBERS
    if words & _NO_NUMBERS:
        raise refuse("positive voxel sizes")
    if units or words & _OTHER_UNITS:
        raise refuse(f"the voxel size in um or nm, not in {min(units | words & _OTHER_UNITS)!r}")
    if words & _MICROMETRES and words & _NANOMETRES:
        raise refuse("the voxel size in one unit")
    if re.search(r"(?<![\d.,])\d+,\d+(?![\d.,])", text):
        raise refuse("numbers with a decimal point, or blanks between them")
    named = {axis: float(value) for axis, value in re.findall(rf"\b(xy|[xyz])\b\W*?({_NUMBER.pattern})", text.lower())}
    numbers = [float(value) for value in _NUMBER.findall(text)]
    if "z" in named and ("x" in named or "xy" in named):
        x, z = named["x"] if "x" in named else named["xy"], named["z"]
        y = named.get("y", x)
    elif 1 <= len(numbers) <= 3:
        x, y, z = {1: numbers * 3, 2: [numbers[0], *numbers], 3: numbers}[len(numbers)]
    else:
        raise refuse("the voxel size as up to three numbers (x y z)")
    factor = 1e-3 if words & _NANOMETRES else 1.0
    size = (z * factor, y * factor, x * factor)
    if not all(0 < side < 1e6 for side in size):
        raise refuse("positive voxel sizes")
    return size


def _tails(path: str) -> list[str]:
    """Lists the ends of a path: `a/b/c`, `b/c`, `c`."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
