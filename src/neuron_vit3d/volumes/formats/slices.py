"""A folder of slices: numbered 2D images (0001.tif, 0002.tif ...), read in the order of their numbers.

The names differ in one number alone; slices are TIFF files of one page. Only the slices asked for are read. The voxel
size is not known: a slice tells nothing of the distance to the next one. Numbers that are missing, and other files
beside the slices, are told of; slices of another size or type are refused.
"""

import re
import warnings
from pathlib import Path

import numpy as np

from ..reader import VolumeReader
from ..volume import Volume, VolumeError, checked_channel, chosen_channel
from .format import Format
from .tiff_reader import open_reader as open_slice


_SUFFIXES = (".tif", ".tiff")
_MOST_NAMED = 5  # files or numbers that a message lists


def is_slice_folder(path: Path) -> bool:
    """Whether a folder is one volume: numbered 2D images of one size, each a slice.

    A look at the first, the middle and the last of them decides; opening the folder looks at all.
    """
    if not path.is_dir():
        return False
    slices, _ = _slices(path)
    if len(slices) < 2:
        return False
    looked_at = [_page(slices[i]) for i in (0, len(slices) // 2, -1)]
    return looked_at[0] is not None and all(page == looked_at[0] for page in looked_at)


def read(path: Path, *, channel: int | None = None) -> Volume:
    """Read a folder of slices into memory; see `volumes.read_volume`. Raises VolumeError."""
    folder = _Folder(path)
    channels = range(folder.num_channels) if channel is None else [folder.checked(channel)]
    arrays = [np.stack([folder.slice(z, c) for z in range(folder.shape[0])]) for c in channels]
    return Volume(np.stack(arrays) if len(arrays) > 1 else arrays[0], None, str(path))


def open_reader(path: Path, channel: int | None = None) -> VolumeReader:
    """Open one channel of a folder of slices; see `volumes.open_volume`. Raises VolumeError."""
    folder = _Folder(path)
    index = folder.checked(chosen_channel(channel, folder.num_channels, str(path)))
    return VolumeReader(
        folder.shape,
        folder.dtype,
        None,
        str(path),
        lambda z0, z1: np.stack([folder.slice(z, index) for z in range(z0, z1)]),
        num_channels=folder.num_channels,
    )


class _Folder:
    """The slices of a folder: shape (z, y, x), num_channels, dtype, slice()."""

    def __init__(self, path: Path):
        self.path = path
        self._files, numbers = _slices(path)
        first = _page(self._files[0])
        unlike = [file for file in self._files if first is None or _page(file) != first]
        if first is None or unlike:
            expected, found = _in_words(first), _in_words(_page(unlike[0]))
            raise VolumeError(
                f"{path}: expected slices alike, {self._files[0].name} is {expected}, {unlike[0].name} is {found}"
            )
        (height, width), self.dtype, self.num_channels = first
        self.shape = (len(self._files), height, width)
        self._tell(numbers)

    def _tell(self, numbers: list[int]) -> None:
        """Tells what is read, of numbers that are missing, and of files that are no slices."""
        notes = [f"is read as one volume of {len(numbers)} slices"]
        steps = np.diff(numbers)
        before = [n for n, step in zip(numbers, steps, strict=False) if step > min(steps)]
        if before:  # every second one, and so on, is a choice
            notes.append(
                f"slices are missing after number {_listed(before)}, and those around are taken for neighbours"
            )
        names = {file.name for file in self._files}
        others = sorted(one.name for one in self.path.iterdir() if one.name not in names and one.name[0] != ".")
        if others:
            notes.append(f"{len(others)} other files are left out: {_listed(others)}")
        warnings.warn(f"{self.path}: {'; '.join(notes)}", stacklevel=5)

    def checked(self, channel: int) -> int:
        return checked_channel(channel, self.num_channels, str(self.path))

    def slice(self, z: int, channel: int) -> np.ndarray:
        with _quiet(), open_slice(self._files[z], channel) as reader:
            if reader.shape[1:] != self.shape[1:] or reader.dtype != self.dtype:
                raise VolumeError(f"{self._files[z]}: has changed since the folder was opened")
            return reader.read(0, 1)[0]


def _slices(path: Path) -> tuple[list[Path], list[int]]:
    """The files whose names differ in one number alone, most of those that are images; and the numbers."""
    images = [one for one in path.iterdir() if one.suffix.lower() in _SUFFIXES and one.name[0] != "."]
    series: dict[tuple, list[tuple[int, Path]]] = {}
    parts = {one: re.split(r"(\d+)", one.name) for one in images}
    for one, words in parts.items():
        for i in range(1, len(words), 2):
            series.setdefault((i, *words[:i], None, *words[i + 1 :]), []).append((int(words[i]), one))
    most = max(map(len, series.values()), default=0)
    best = sorted(next((files for files in series.values() if len(files) == most), []))
    numbers = [number for number, _ in best]
    if 2 * len(best) <= len(images) or len(set(numbers)) < len(numbers):
        return [], []
    return [one for _, one in best], numbers


def _page(file: Path) -> tuple | None:
    """The shape (y, x), type and channels of a file with one 2D image; None of any other."""
    try:
        with _quiet(), open_slice(file, 0) as reader:
            return (reader.shape[1:], reader.dtype, reader.num_channels) if reader.shape[0] == 1 else None
    except (VolumeError, OSError):
        return None


def _in_words(page: tuple | None) -> str:
    if page is None:
        return "no 2D image"
    (height, width), dtype, channels = page
    return f"{height} x {width} of {dtype}" + (f" with {channels} channels" if channels > 1 else "")


def _listed(items: list) -> str:
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return ", ".join(map(str, items[:_MOST_NAMED])) + more


def _quiet() -> warnings.catch_warnings:
    """What is told of a stack, a slice is."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


FORMAT = Format(
    row="a folder of slices: `0001.tif`, `0002.tif` ..., in the order of their numbers",
    suffixes=(),
    signature=lambda path, _: is_slice_folder(path),
    read=read,
    open=open_reader,
    is_folder=True,
)
