"""Reads how trees are named after images, and finds the image that a name fits, for `pairing`.

Names are compared exactly (level 0), then without regard to case (1), then with brackets, quotes and blanks as `_`
(2).
"""

import re
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ..volumes import volume_stem


_SORTED_LATER = re.compile(r"\d+_sorted_", re.IGNORECASE | re.ASCII)
_AFTER_THE_IMAGE = re.compile(
    r"(?P<neuron>\.neuron\d+)?(?:\.ano)?(?P<stamp>_stamp_[\d_]*\d)?(?P<sorted>(?:(?:\.e?swc)?_sorted)*)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Reading:
    """One way to read a tree's name: an image's name, what follows it, and whether `00_sorted_` precedes it."""

    base: str
    rest: str = ""
    sorted_later: bool = False


@dataclass(frozen=True)
class Fit:
    """A tree and the images that its name fits. With several nobody knows which; with none the image has its tree.

    `reading` is None where the tree is not named after the image; `level`: how loosely names were compared; `place`:
    where the images lie, as it was given.
    """

    tree: str
    images: Sequence[str]
    reading: Reading | None = None
    level: int = 0
    place: Any = None

    @property
    def image(self) -> str | None:
        return self.images[0] if len(self.images) == 1 else None

    @property
    def neuron(self) -> str | None:
        """The part `.neuron1` of the name, which tells several neurons of an image apart."""
        after = self.reading and _AFTER_THE_IMAGE.fullmatch(self.reading.rest)
        return after["neuron"].lower() if after and after["neuron"] else None

    def rank(self, is_annotated: bool) -> tuple:
        """Returns the rank of the tree; the best tree of an image has the highest.

        The rank begins with 3 for sorted, 2 for stamped, 1 for plain, and 0 for not named after the image.
        """
        if self.reading is None:
            return (0, is_annotated)
        after, later = _AFTER_THE_IMAGE.fullmatch(self.reading.rest), self.reading.sorted_later
        assert after is not None  # with a reading that says otherwise nothing is found
        stamp, times_sorted = after["stamp"] or "", later + after["sorted"].lower().count("_sorted")
        kind = 3 if times_sorted else 2 if stamp else 1
        return (kind, is_annotated, re.sub(r"\D", "", stamp), times_sorted, later, -self.level)


class ImageNames:
    """Finds images by their names, with and without suffix, and by where they lie.

    It does not go through all images for that.
    """

    def __init__(self):
        self._images: dict[tuple, list[str]] = {}

    def add(self, image: str, places: Sequence[Hashable], *, has_tree: bool = False) -> None:
        """Adds an image. If it has its tree, it gets no other, and a tree that fits it goes nowhere else."""
        name = file_name(image)
        for level in range(3):
            for kind, told in enumerate((_fold(name, level), _fold(volume_stem(name), level))):
                for place in places:
                    there = self._images.setdefault((place, level, kind, told), [])
                    if not has_tree:
                        there.append(image)

    def find(self, tree: str, readings: Sequence[Reading], places: Sequence[Hashable]) -> Fit | None:
        """Returns the first fit: by place, then by how loosely names are compared, then by the order of readings.

        Names with suffix are compared first.
        """
        folded = {}
        for place in places:
            for level in range(3):
                if level not in folded:
                    folded[level] = [_fold(reading.base, level) for reading in readings]
                for told, reading in zip(folded[level], readings, strict=True):
                    for kind in range(2):
                        images = self._images.get((place, level, kind, told))
                        if images is not None:
                            return Fit(tree, images, reading, level, place)
        return None


def readings_of_gold(tree: str) -> list[Reading]:
    """Lists how the name of a gold tree may be read, the longest image name first."""
    return [reading for reading in readings_of(tree) if _AFTER_THE_IMAGE.fullmatch(reading.rest)]


def readings_of(tree: str) -> list[Reading]:
    """Lists all beginnings of a tree's name that end before a sign other than letter or digit, the longest first."""
    stem, found = tree_stem(tree), []
    prefix = _SORTED_LATER.match(stem)
    for start in (0, prefix.end()) if prefix else (0,):
        ends = [i for i in range(start + 1, len(stem)) if not stem[i].isalnum()]
        found += [Reading(stem[start:end], stem[end:], start > 0) for end in (len(stem), *reversed(ends))]
    return found


def tree_stem(tree: str) -> str:
    return file_name(tree).rpartition(".")[0]


def folder_name(path: str) -> str:
    return path.rpartition("/")[0]


def file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _fold(name: str, level: int) -> str:
    if level:
        name = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"[^\w.+-]", "_", name) if level == 2 else name
