"""What lies in a folder that `segment` or `trace` wrote into: the files of each image, side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..volumes.names import TRACED_BY, is_own_result, is_volume_name, volume_stem


@dataclass
class Found:
    """The results of one image.

    Attributes:
        name: what their names begin with.
        trees: SWC files, in order.
        picture: the PNG, or None.
        mask: the mask, or else the scores, or None.
        told: what a batch's summary says of it: name -> text, as far as it says anything.
    """

    name: str
    trees: list[Path] = field(default_factory=list)
    picture: Path | None = None
    mask: Path | None = None
    told: dict[str, str] = field(default_factory=dict)


def find_results(folder: Path) -> list[Found]:
    """Finds the results of this program in a folder, by the names of the images.

    Pictures that others made are left out, and trees of theirs that have not the name of a mask.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        found_there = "expected a folder of results, found a file" if folder.exists() else "no such folder"
        raise OSError(f"{folder}: {found_there}")
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found: dict[str, Found] = {}
    for path in paths:
        kind = _kind(path)
        if kind is not None:
            name = _name(path, kind)
            one = found.setdefault(name, Found(name))
            one.mask = path if kind == "mask" or one.mask is None else one.mask
    for path in paths:
        if path.suffix == ".png" and is_own_result(path) and path.stem in found:
            found[path.stem].picture = path
    for path in paths:
        if path.suffix.lower() == ".swc" and path.is_file():
            name = _owner(path, found)
            if name in found or is_own_result(path):
                found.setdefault(name, Found(name)).trees.append(path)
    for one in found.values():
        one.trees.sort(key=lambda path: (len(path.name), path.name))
    return [found[name] for name in sorted(found)]


def _kind(path: Path) -> str | None:
    """Whether a file or folder is a mask or scores, by its name."""
    stem = volume_stem(path.name) if is_volume_name(path.name) else ""
    return next((kind for kind in ("mask", "scores") if stem.endswith(f".{kind}")), None)


def _name(path: Path, kind: str) -> str:
    return volume_stem(path.name).removesuffix(f".{kind}")


def _owner(path: Path, found: dict[str, Found]) -> str:
    """The name of the image that a tree is of: `a_2.swc` may be the second tree of `a`."""
    if path.stem in found:
        return path.stem
    numbered = re.fullmatch(r"(.+)_\d+", path.stem)
    if numbered and (numbered[1] in found or _traced_from(path) == numbered[1]):
        return numbered[1]
    return path.stem


def _traced_from(path: Path) -> str | None:
    """The name of the image or scores that the first lines of a tree say it was traced from."""
    with path.open(encoding="utf-8", errors="replace") as file:
        said = re.search(f"^# {TRACED_BY} from (.+)$", file.read(4096), re.MULTILINE)
    return None if said is None else volume_stem(said[1]).removesuffix(".scores").removesuffix(".mask")
