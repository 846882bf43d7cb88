"""What lies on disk under a name, to notice when it changes: a file, or a folder with all below it."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .volume import VolumeError


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class OnDisk(NamedTuple):
    """How many files, their bytes, and the time of the last change (ns)."""

    files: int
    size: int
    changed: int


def on_disk(path: Path) -> OnDisk:
    """Of a file, or of all below a folder, its folders' times included: a chunk that is renamed keeps its own.

    Raises:
        VolumeError: there is a pipe or a device, which may hang a reader.
        OSError: something cannot be read.
    """
    state = path.stat()
    if stat.S_ISREG(state.st_mode):
        return OnDisk(1, state.st_size, state.st_mtime_ns)
    if not stat.S_ISDIR(state.st_mode):
        raise VolumeError(f"{path}: is no regular file")
    files, size, changed = 0, 0, 0
    for folder, _, names in walk(path, _raise):
        changed = max(changed, os.stat(folder).st_mtime_ns)
        for name in names:
            state = os.stat(os.path.join(folder, name))
            if not stat.S_ISREG(state.st_mode):
                raise VolumeError(f"{path}: holds {printable(name)}, which is no regular file")
            files, size, changed = files + 1, size + state.st_size, max(changed, state.st_mtime_ns)
    return OnDisk(files, size, changed)


def walk(top: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk through links as well, with each folder once."""
    seen = set()
    for folder, subfolders, names in os.walk(top, followlinks=True, onerror=onerror):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield folder, subfolders, names


def printable(name: str) -> str:
    """A name for messages: control characters, and what is not UTF-8 (surrogates in a str), are spelled out."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def _raise(error: OSError) -> None:
    raise error
