"""Finds the files that the words of a command line name, and names their results.

A word is a file, a folder, or a pattern such as `"*.czi"`. One word that is one volume is no batch: a command does
what it did before there were batches.
"""

import glob
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .input import image_name, is_folder_of_files
from .output import note


@dataclass(frozen=True)
class Input:
    """One of the inputs, and the name that its results begin with."""

    path: Path
    name: str


def is_one(words: list[str]) -> bool:
    """Tells whether the words are one volume, there or missing, and not a folder or a pattern."""
    return len(words) == 1 and not is_folder_of_files(Path(words[0])) and not _is_pattern(words[0])


def find_images(words: list[str]) -> list[Input]:
    """Finds the images to segment; in folders and patterns, names of scores, masks, labels and gold are left out.

    Scores and masks that this program made are left out even if they are named, as a shell's `*.tif` does.

    Raises:
        OSError: a pattern fits nothing, or a folder holds no image.
    """
    paths = [path for path in _found(words, _images) if not _is_own_result(path)]
    if not paths:
        raise OSError(f"{words[0]}: expected images, found scores and masks that this program made alone")
    return _named(paths)


def find_scores(words: list[str]) -> list[Input]:
    """Finds the scores or masks to trace: of a folder its scores, or else its masks, or else all its volumes.

    Raises:
        OSError: a pattern fits nothing, or a folder holds no volume.
    """
    return _named(_found(words, _scores))


def names_of(paths: list[Path]) -> list[str]:
    """Gives each of some files a name that no other has, on a disk that does not tell a from A as well.

    It is the file's name without its suffix where that is enough. Of files in one folder it is the whole name, `a.tif`
    and `a.nii`; of files in different folders the folder stands before it: `a_x` and `b_x`.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]
    folders, is_long = [0] * len(paths), [False] * len(paths)

    def name(i: int) -> str:
        above = whole[i].parent.parts[1:]
        last = whole[i].name if is_long[i] else image_name(whole[i])
        return "_".join([*above[len(above) - folders[i] :], last])

    while True:
        groups: dict[str, list[int]] = {}
        for i in range(len(paths)):
            groups.setdefault(_alike(name(i)), []).append(i)
        changed = False
        for group in (group for group in groups.values() if len(group) > 1):
            one_folder = len({whole[i].parent for i in group}) == 1
            for i in group:
                if one_folder and not is_long[i]:
                    is_long[i] = changed = True
                elif not one_folder and folders[i] < len(whole[i].parent.parts) - 1:
                    folders[i], changed = folders[i] + 1, True
        if not changed:
            break
    names, taken = [], set()
    for i in range(len(paths)):
        unique, number = name(i), 1
        while _alike(unique) in taken or (number > 1 and _alike(unique) in groups):
            number += 1
            unique = f"{name(i)}_{number}"
        taken.add(_alike(unique))
        names.append(unique)
    return names


def _alike(name: str) -> str:
    """Returns what is equal for names that are one file on some disks."""
    return unicodedata.normalize("NFC", name).casefold()


def _named(paths: list[Path]) -> list[Input]:
    return [Input(path, name) for path, name in zip(paths, names_of(paths), strict=True)]


def _found(words: list[str], of_folder) -> list[Path]:
    """Finds the files that words name, each once."""
    found: dict[Path, Path] = {}
    for word in words:
        path = Path(word)
        if is_folder_of_files(path):
            paths = of_folder(sorted(path.iterdir()))
            if not paths:
                raise OSError(f"{path}: expected a file, found a folder without volumes")
        elif _is_pattern(word):
            matches = [Path(one) for one in sorted(glob.glob(word, recursive=True))]
            paths = [one for one in matches if not _role(one) or of_folder is _scores]
            paths = [one for one in paths if not is_folder_of_files(one)]
            if not paths:
                raise OSError(f"{word}: expected a pattern that fits some files, found none")
        else:
            paths = [path]
        for one in paths:
            real = one.resolve()
            if real in found:
                note(f"{one}: is given twice, and taken once")
            found.setdefault(real, one)
    return list(found.values())


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not os.path.lexists(word)


def _images(paths: list[Path]) -> list[Path]:
    return [path for path in _volumes(paths) if not _role(path)]


def _scores(paths: list[Path]) -> list[Path]:
    volumes = list(_volumes(paths))
    for role in (".scores", ".mask"):
        if some := [path for path in volumes if _role(path) == role]:
            return some
    return volumes


def _volumes(paths: list[Path]) -> Iterator[Path]:
    """Lists the volumes in a folder: files, and folders that are a volume."""
    from ..volumes import is_volume_name

    for path in paths:
        is_volume = not is_folder_of_files(path) if path.is_dir() else is_volume_name(path.name)
        if is_volume and not path.name.startswith("."):
            yield path


def _role(path: Path) -> str:
    """Returns what a file is by its name, `.mask` for `a.mask.tif`; nothing for an image."""
    from ..evaluation.comparison import neuron_name
    from ..volumes import volume_stem

    return volume_stem(path.name).removeprefix(neuron_name(path))


def _is_own_result(path: Path) -> bool:
    from ..volumes.names import is_own_volume

    return _role(path) in (".scores", ".mask") and is_own_volume(path)
