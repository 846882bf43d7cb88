"""Files and folders that are written whole or not at all: temporary names, what a crash leaves, and who may write.

    with replacing(path) as temporary:     # a hidden name beside `path`, which gets the name when the block ends
        temporary.write_text(text)
    write_whole(path, text)                # the same in one call
    with new_folder(path) as folder:       # the same for a folder
    append_line(path, text)                # a line at the end of a file that others may add to

A rename within a folder is one step, so whoever looks finds what was there before, or all of what is new. A program
that is killed leaves the hidden file or folder behind. A writer that is alone takes it over (`alone=True`); others
have names of their own, which `sweep` removes.

Nothing here sets a file's permissions: `open` gives a new file those that the process's umask allows.
"""

import contextlib
import glob
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module's name has no other type


def sync(path: Path) -> None:
    """Returns when a file's content is on disk, where a crash of the machine leaves it."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yields a hidden name beside `path`; it becomes `path` when the block ends, and is removed if the block fails.

    Args:
        path: the file to write; one that is there is replaced.
        alone: nobody else writes this file meanwhile. The hidden name is always the same, so that what a killed run
            left under it is written over. Otherwise every writer has a name of its own.
    """
    with _temporary(path, alone) as temporary:
        yield temporary
        os.replace(temporary, path)


def write_whole(
    path: Path, content: str | bytes, *, alone: bool = False, durable: bool = False, first_stays: bool = False
) -> None:
    """Writes all of a file's content, or leaves what was there before.

    Args:
        path: the file.
        content: a text is encoded as UTF-8; its line ends stay as they are.
        alone: see [`replacing`].
        durable: the content is on disk before the file has its name. A crash of the machine leaves no empty file.
        first_stays: a file that is there already stays, and so does one that another process writes at this moment.
    """
    with _temporary(path, alone) as temporary:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if first_stays:
            _name_unless_there(temporary, path)
        else:
            os.replace(temporary, path)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a file, whole or not at all, whoever else adds lines meanwhile; it is on disk then.

    What a writer that was killed has left of a last line is cut off first. Where there are no locks, a line is
    written in one step all the same, and nobody may be killed meanwhile.

    Args:
        path: the file; it is made where it is not there.
        line: a text of one line, without its end.
    """
    if "\n" in line:
        raise ValueError(f"{path}: expected one line, got {line.count(chr(10)) + 1}")
    with path.open("a+b") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a disk without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        if end and file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def sweep(path: Path) -> None:
    """Removes what writers of a file that were killed have left beside it; nobody may write the file meanwhile."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """Yields a place for a folder of the same name, in a hidden one beside `path`.

    The folder, which the block makes there, becomes `path` when the block ends, and is removed if the block fails.

    Args:
        path: the folder to make; an empty one that is there gives way.
        alone: see [`replacing`]; what a killed run left is removed first.

    Raises:
        OSError: a file, or a folder that is not empty, has come to `path`; that stays.
    """
    hidden = _partial(path) if alone else path.with_name(f".{path.name.removeprefix('.')}.{_own_word()}")
    if alone:
        shutil.rmtree(hidden, ignore_errors=True)
    try:
        hidden.mkdir()
        yield hidden / path.name
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()  # an empty one; Windows would not rename another onto it
        (hidden / path.name).rename(path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextlib.contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yields a place for a hidden folder in `folder`; what is written there replaces the files of `folder`.

    That happens when the block ends: each file is replaced in one step, one after the other. If the block fails all
    stay as they were. Nobody else may do this to the folder meanwhile; what a killed run left is removed first.
    """
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        for path in sorted(partial.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def hidden(path: Path) -> Path:
    """The name that a folder has while it is being filled or removed: its own with a dot before it."""
    return path.with_name(f".{path.name}")


def rename(temporary: Path, path: Path) -> None:
    """Gives a file or folder that is whole its name, in one step; a file of that name is replaced."""
    os.replace(temporary, path)


def remove_folder(path: Path) -> None:
    """Takes a folder away in one step: a program that is killed meanwhile leaves none that looks whole."""
    shutil.rmtree(hidden(path), ignore_errors=True)
    os.replace(path, hidden(path))
    shutil.rmtree(hidden(path))


def locked(path: Path) -> BinaryIO:
    """Opens a file and keeps it from other processes until it is closed; it is made where it is not there.

    Where there are no such locks, on Windows and on some network disks, nobody is kept off.

    Raises:
        BlockingIOError: another process has the file.
    """
    if fcntl is None:  # an open file could not be renamed there
        return io.BytesIO()
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):  # it is theirs, or they have just finished and renamed it
        pass
    except OSError:  # a disk without locks
        return file
    file.close()
    raise BlockingIOError(f"{path}: another process has this file")


@contextlib.contextmanager
def _temporary(path: Path, alone: bool) -> Iterator[Path]:
    temporary = _partial(path) if alone else path.with_name(f".{path.name}.{_own_word()}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _own_word() -> str:
    """A word that no other writer has."""
    return uuid.uuid4().hex[:8]


def _name_unless_there(temporary: Path, path: Path) -> None:
    """Gives a file its name unless there is one of that name already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a disk without links
        if not path.exists():
            os.replace(temporary, path)
