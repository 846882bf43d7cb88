"""Checks what was typed on the command line: files, folders, names, numbers.

Errors name the file or the option.
"""

import math
import tempfile
from pathlib import Path


def image_name(path: Path) -> str:
    """Returns a file's name without its suffixes: `a.ome.tif` and `a.scores.tif` are `a`."""
    from ..volumes import volume_stem

    name = volume_stem(path.name)
    name = path.stem if name == path.name else name
    for suffix in (".scores", ".mask"):
        name = name.removesuffix(suffix)
    return name


def is_folder_of_files(path: Path) -> bool:
    """Tells whether it is a folder that is not itself a volume (OME-Zarr, or numbered slices)."""
    from ..volumes import is_slice_folder, is_volume_folder

    return path.is_dir() and not is_volume_folder(path) and not is_slice_folder(path)


def find_images(folder: Path, names: list[str]) -> dict[str, Path]:
    """Finds the image of each neuron by its file's name; masks, scores and labels are no images."""
    from ..evaluation.comparison import neuron_name
    from ..volumes import is_volume_name, volume_stem

    if not folder.is_dir():
        raise OSError(f"{folder}: expected a folder of images, found none")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = volume_stem(path.name)
        if name not in names or not is_volume_name(path.name) or neuron_name(path) != name:
            continue
        if name in found:
            raise ValueError(f"{path}: expected one image of {name}, found {found[name].name} as well")
        found[name] = path
    for name in names:
        if name not in found:
            raise ValueError(f"{folder}: expected an image named {name}, found none")
    return found


def check_file(path: Path) -> None:
    """Makes sure that there is a file, or a folder that is a volume."""
    if not path.exists():
        raise OSError(f"{path}: no such file")
    if is_folder_of_files(path):
        raise OSError(f"{path}: expected a file, found a folder")


def check_folder(folder: Path) -> None:
    """Creates an output folder and makes sure that it can be written to, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder}: expected a folder to write to: {error.strerror or error}") from error


def check_target(target: Path, *sources: Path) -> None:
    """Makes sure that a file can be written, and is not one of its own sources."""
    check_folder(target.parent)
    if target.is_dir():
        raise OSError(f"{target}: expected a file to write, found a folder")
    if target.exists() and any(target.samefile(source) for source in sources):
        raise ValueError(f"{target}: expected another file to write than the one that is read")


def check_not_made_by_hand(result: Path) -> None:
    """Makes sure that a result whose name nobody typed replaces only a file that this program made."""
    from ..volumes.names import is_own_result

    if result.exists() and not is_own_result(result):
        raise ValueError(f"{result}: is there already and was not made by this program; choose another --output")


def check_number(
    option: str, value: float, *, above: float = -math.inf, at_least: float = -math.inf, at_most: float = math.inf
) -> None:
    """Makes sure that a number lies between limits, and is finite."""
    if not (value > above and value >= at_least and value <= at_most and math.isfinite(value)):
        limits = {"above": above, "at least": at_least, "at most": at_most}
        expected = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))
        raise ValueError(f"{option}: expected a number {expected}, got {value}")


def check_device(device: str | None) -> None:
    """Makes sure that torch can compute there."""
    if device is None:
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "not available"
        raise ValueError(f"--device: cannot use {device!r} here: {reason}") from error


def parse_shard(text: str) -> tuple[int, int]:
    """Reads `i/n`: the i-th of n parts of the work, counted from 0."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ValueError(f"--shard: expected i/n with i from 0 to n - 1, got {text!r}")
    return int(part), int(parts)


def parse_voxel_size(text: str | None) -> tuple[float, float, float] | None:
    """Reads `z,y,x` in micrometres."""
    from ..volumes.volume import checked_voxel_size

    numbers = None if text is None else parse_numbers(text, 3, "--voxel-size: expected z,y,x in micrometres")
    return checked_voxel_size(numbers, "--voxel-size")


def parse_label(text: str | None, *, or_word: str | None = None) -> int | None:
    """Reads a label, a whole number; None where there is none, or a word that is taken for none."""
    if text is None or text == or_word:
        return None
    try:
        return int(text)
    except ValueError:
        expected = "a whole number" + (f" or {or_word}" if or_word else "")
        raise ValueError(f"--label: expected {expected}, got {text!r}") from None


def check_units(units: str | None, option: str = "--units") -> None:
    """Makes sure that these are units of an SWC file, where any were given."""
    from ..morphology.units import UNITS

    if units is not None and units not in UNITS:
        raise ValueError(f"{option}: expected {' or '.join(UNITS)}, got {units!r}")


def check_type(name: str | None) -> None:
    """Makes sure that this is a type of nodes, where one was given."""
    from ..morphology.node_types import TYPES

    if name is not None and name not in TYPES:
        raise ValueError(f"--type: expected one of {', '.join(TYPES)}, got {name!r}")


def parse_numbers(text: str, count: int, expectation: str) -> tuple[float, ...]:
    """Reads `count` numbers with commas between them; the error begins with the expectation."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ValueError(f"{expectation}, got {text!r}")
    return numbers
