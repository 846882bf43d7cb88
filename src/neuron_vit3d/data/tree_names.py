"""How trees are named after images, and which of many images a name fits: what `pairing` relies on.

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
    """One way to read a tree's name: an image's name, what follows it, and whether `00_sorted_` goes before it."""

    base: str
    rest: str = ""
    sorted_later: bool = False


@dataclass(frozen=True)
class Fit:
    """A tree and the images that its name fits; more than one: nobody knows which; none: one that has its tree.

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
        """`.neuron1`: which of several neurons of the image."""
        after = self.reading and _AFTER_THE_IMAGE.fullmatch(self.reading.rest)
        return after["neuron"].lower() if after and after["neuron"] else None

    def rank(self, is_annotated: bool) -> tuple:
        """The best tree of an image has the highest.

        It begins with 3 sorted, 2 stamped, 1 plain, 0 not named after the image.
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

    It does so without going through all of them.
    """

    def __init__(self):
        self._images: dict[tuple, list[str]] = {}

    def add(self, image: str, places: Sequence[Hashable], *, has_tree: bool = False) -> None:
        """An image that has its tree is given to no other, but a tree that fits it is not given elsewhere either."""
        name = file_name(image)
        for level in range(3):
            for kind, told in enumerate((_fold(name, level), _fold(volume_stem(name), level))):
                for place in places:
                    there = self._images.setdefault((place, level, kind, told), [])
                    if not has_tree:
                        there.append(image)

    def find(self, tree: str, readings: Sequence[Reading], places: Sequence[Hashable]) -> Fit | None:
        """Returns what fits first: by place, by how names are compared, by the order of readings.

        Names with suffix go first.
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
    """How the name of a gold tree may be read, the longest name of an image first."""
    return [reading for reading in readings_of(tree) if _AFTER_THE_IMAGE.fullmatch(reading.rest)]


def readings_of(tree: str) -> list[Reading]:
    """All beginnings of a tree's name that end before a sign that is no letter or digit, the longest first."""
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
