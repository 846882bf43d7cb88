"""Which files hold volumes, told by their names: for looking through folders. Reading goes by content."""

from pathlib import Path

from .formats.registry import formats


VOLUME_SUFFIXES = tuple(suffix for format in formats() for suffix in format.suffixes)
_FOLDER_SUFFIXES = tuple(suffix for format in formats() if format.is_folder for suffix in format.suffixes)
_HEADERS_ALONE = tuple(suffix for format in formats() for suffix in format.headers)
# What stands near the beginning of the trees, masks and pictures that the command line makes of an image.
TRACED_BY = "traced by neuron-vit3d"
SEGMENTED_BY = "made by neuron-vit3d"
# And how the tables of branches begin; a comment there would be in the way of those who read them.
BRANCHES_BEGIN = "branch,start,end,parent_branch,length,mean_radius,confidence,bridged_voxels"


def is_volume_name(name: str) -> bool:
    """Whether a file or folder of this name is one that `read_volume` is for."""
    return name.lower().endswith(VOLUME_SUFFIXES)


def is_volume_folder(path: Path) -> bool:
    """Whether a folder is a volume (OME-Zarr) rather than a place to look for some."""
    return path.name.lower().endswith(_FOLDER_SUFFIXES)


def has_voxels_elsewhere(path: Path) -> bool:
    """Whether a file is of a format whose voxels lie in other files than the one that is named."""
    return path.name.lower().endswith(_HEADERS_ALONE)


def volume_stem(name: str) -> str:
    """The name without the suffix of its format: `a.ome.tif` -> `a`, `a.tif.v3dpbd` -> `a.tif`."""
    suffix = max((suffix for suffix in VOLUME_SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return name[: len(name) - len(suffix)]


def is_own_result(path: Path) -> bool:
    """Whether a file is there, and is a result of `neuron-vit3d segment` or `trace`.

    Results are trees, tables of branches, masks and pictures.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return any(mark.encode() in head for mark in (TRACED_BY, SEGMENTED_BY, BRANCHES_BEGIN))


def is_own_volume(path: Path) -> bool:
    """Whether a file or folder is there that holds scores or a mask which `neuron-vit3d segment` made."""
    file = path / "zarr.json" if path.is_dir() else path
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(4096)
    return any(mark in head for mark in (SEGMENTED_BY.encode(), b"\nmade_with=", b'"neuron_vit3d"'))
