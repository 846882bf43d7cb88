"""What is known about BigNeuron's Gold166 by the folders of its release, and what a table beside the images tells.

Species, microscopy and laboratory of each group are read off the names of the release's folders and its metadata table; the
release states no licence a file, so none is assumed.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .sources import DataError


@dataclass(frozen=True)
class Origin:
    """Where an image comes from; None where nobody said. `voxel_size`: z, y, x in micrometres."""

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


def group_of(image: str) -> str | None:
    """The release's group that an image lies in (`p_checked6_mouse_tufts`), or None where it lies in no folder like that."""
    return next((part for part in PurePosixPath(image).parts[:-1] if _GROUP_PREFIX.match(part)), None)


def origin_of(image: str, table: Mapping[str, Origin] | None = None) -> tuple[Origin, str | None]:
    """What is known about an image by its folder and by a table, which goes first; and a note where its group is unknown."""
    group, note = group_of(image), None
    origin = Origin()
    if group:
        known = _GROUPS.get(_GROUP_PREFIX.sub("", group))
        if known is None:
            origin = Origin(lab=_GROUP_PREFIX.sub("", group))
            note = f"unknown group {group}: its species and microscopy are not known"
        else:
            origin = Origin(*known)
    told = (table or {}).get(PurePosixPath(image).name)
    if told:
        origin = replace(origin, **{key: value for key, value in vars(told).items() if value is not None})
        note = note if origin.species is None else None
    return origin, note


def read_origins(text: str, name: str) -> dict[str, Origin]:
    """A table (CSV) of images by file name, with any of the columns species, lab, microscopy, licence, xy_um and z_um.

    The release's own table works as it is (`checked3_path`, `organism`). `name` is for messages.

    Raises:
        DataError: no column names the image, or a size is no positive number.
    """
    reader = csv.DictReader(io.StringIO(text))
    names = {column.strip().lower(): column for column in reader.fieldnames or ()}
    columns = {
        key: next((names[alias] for alias in aliases if alias in names), None) for key, aliases in _COLUMNS.items()
    }
    if columns["image"] is None:
        raise DataError(f"{name}: expected a CSV table with a column 'image', found {', '.join(names) or 'nothing'}")
    table = {}
    for line, row in enumerate(reader, start=2):
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
        about = (values["species"], values["lab"], values["microscopy"], values["licence"], size)
        table[PurePosixPath(values["image"].replace("\\", "/")).name] = Origin(*about)
    return table


def read_pixel_size(text: str, name: str) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in micrometres out of a `*.pixelsize.txt`.

    Its numbers are x y z, or xy z, or one for all three; `x=`, `y:`, `z` before them decide where they are written; `nm`
    anywhere means nanometres.

    Raises:
        DataError: it holds none, or none that can be a size.
    """
    named = {axis.lower(): float(value) for axis, value in re.findall(rf"\b([xyzXYZ])\b\W*?({_NUMBER.pattern})", text)}
    numbers = [float(value) for value in _NUMBER.findall(text)]
    if {"x", "z"} <= set(named):
        x, y, z = named["x"], named.get("y", named["x"]), named["z"]
    elif 1 <= len(numbers) <= 3:
        x, y, z = {1: numbers * 3, 2: [numbers[0], *numbers], 3: numbers}[len(numbers)]
    else:
        raise DataError(f"{name}: expected the voxel size as up to three numbers (x y z), found {text.strip()[:60]!r}")
    factor = 1e-3 if re.search(r"\bnm\b", text) else 1.0
    size = (z * factor, y * factor, x * factor)
    if not all(0 < side < 1e6 for side in size):
        raise DataError(f"{name}: expected positive voxel sizes, found {text.strip()[:60]!r}")
    return size
