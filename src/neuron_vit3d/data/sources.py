"""Where a collection's files lie: a folder, or a zip archive that is read in place.

    with open_source("gold166.zip") as source:
        source.files                            # {path below the root: bytes}, sorted
        with source.local("a/b.v3dpbd") as path:    # a file to read; from an archive a temporary copy, gone afterwards
            ...

An archive is never unpacked as a whole. Its entries are refused, each with a reason, where their names lead out of the
archive, where they are links or encrypted, and where their sizes cannot be true.
"""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..volumes import is_volume_folder


# Deflate gives at most 1032 bytes for one (RFC 1951: 258 bytes from 2 bits); others are held to a generous bound.
_MOST_BYTES_PER_BYTE = {
    zipfile.ZIP_STORED: 1,
    zipfile.ZIP_DEFLATED: 1033,
    zipfile.ZIP_BZIP2: 1 << 17,
    zipfile.ZIP_LZMA: 1 << 15,
}
_COPY_BYTES = 1 << 20
_IGNORED_FOLDERS = {"__MACOSX"}


class DataError(ValueError):
    """A collection, a file in it or a pair that cannot be used; the message names it."""


class Source:
    """Files below a root. Attributes: name (for messages); files {path: bytes}; refused {path: why it is not among them}."""

    name: str
    files: dict[str, int]
    refused: dict[str, str]

    def local(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """A file or folder on disk that holds `path`, with its name. Raises DataError where an archive's entry is damaged."""
        raise NotImplementedError

    def stamp(self, path: str) -> str:
        """Changes when the file changes."""
        raise NotImplementedError

    def read_text(self, path: str, most: int = 1 << 16) -> str:
        """The first `most` bytes of a small text file."""
        with self.local(path) as file, file.open("rb") as handle:
            return handle.read(most).decode("utf-8", errors="replace")

    def close(self) -> None:
        pass

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def open_source(root: str | os.PathLike, scratch: str | os.PathLike | None = None) -> Source:
    """A folder or a zip archive. `scratch`: where entries of an archive are copied to, the system's temporary folder if None.

    Raises:
        DataError: there is neither.
    """
    root = Path(root)
    if root.is_dir():
        return FolderSource(root)
    if not root.exists():
        raise DataError(f"{root}: expected a folder or a zip archive, found nothing there")
    if not zipfile.is_zipfile(root):
        raise DataError(
            f"{root}: expected a folder or a zip archive, found another file (a download that was cut off?)"
        )
    return ZipSource(root, scratch)


class FolderSource(Source):
    """The visible files of a folder and all below; links to folders are followed, each folder is seen once."""

    def __init__(self, root: Path):
        self.root, self.name, self.refused, self.files = root, str(root), {}, {}
        seen = set()
        for folder, subfolders, names in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in [name for name in subfolders if is_volume_folder(Path(folder, name))]:
                subfolders.remove(name)
                path = Path(folder, name)
                self.files[path.relative_to(root).as_posix()] = _folder_bytes(path)
            for name in names:
                path = Path(folder, name)
                if name.startswith("."):
                    continue
                try:
                    self.files[path.relative_to(root).as_posix()] = path.stat().st_size
                except OSError as error:
                    self.refused[path.relative_to(root).as_posix()] = f"cannot be read: {error.strerror or error}"
        self.files = dict(sorted(self.files.items()))

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        yield self.root / path

    def stamp(self, path: str) -> str:
        state = (self.root / path).stat()
        return f"{self.files[path]} bytes, changed {state.st_mtime_ns}"


class ZipSource(Source):
    """The files of a zip archive; one at a time is copied out of it, and never more bytes than the archive says."""

    def __init__(self, path: Path, scratch: str | os.PathLike | None = None):
        self.name, self.scratch, self.refused, self._entries = str(path), scratch, {}, {}
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise DataError(f"{path}: expected a zip archive, found a damaged one: {error}") from error
        for entry in self._archive.infolist():
            if entry.is_dir() or not set(PurePosixPath(entry.filename).parts).isdisjoint(_IGNORED_FOLDERS):
                continue
            if any(part.startswith(".") and part not in ("..", ".") for part in entry.filename.split("/")):
                continue
            reason = _why_refused(entry) or ("is in the archive twice" if entry.filename in self._entries else None)
            if reason:
                self.refused[entry.filename] = reason
            else:
                self._entries[entry.filename] = entry
        self.files = {name: self._entries[name].file_size for name in sorted(self._entries)}

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        entry = self._entries[path]
        where = f"{self.name}: {path}"
        with tempfile.TemporaryDirectory(prefix="neuron_vit3d_", dir=self.scratch) as folder:
            free = shutil.disk_usage(folder).free
            if entry.file_size > free:
                raise DataError(f"{where}: needs {entry.file_size} bytes in {folder}, where {free} are free")
            copy = Path(folder, PurePosixPath(path).name)
            try:
                with self._archive.open(entry) as packed, copy.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, _COPY_BYTES)  # stops at the size that the archive says
            except OSError:
                raise
            except Exception as error:  # zlib, lzma, struct and zipfile each have their own
                raise DataError(
                    f"{where}: cannot be unpacked: {' '.join(str(error).split()) or type(error).__name__}"
                ) from error
            if copy.stat().st_size != entry.file_size:
                raise DataError(f"{where}: the archive says {entry.file_size} bytes, found {copy.stat().st_size}")
            yield copy

    def stamp(self, path: str) -> str:
        entry = self._entries[path]
        return f"{entry.file_size} bytes, checksum {entry.CRC:08x}"

    def close(self) -> None:
        self._archive.close()


def _why_refused(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry is not read; zipfile itself has cut the name off at a NUL byte."""
    name = entry.orig_filename
    if "\\" in name or "\0" in name or name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        return "its name leads out of the archive"
    if (entry.external_attr >> 16) & 0o170000 == 0o120000:
        return "is a link"
    if entry.flag_bits & 1:
        return "is encrypted"
    most = _MOST_BYTES_PER_BYTE.get(entry.compress_type)
    if most is None:
        return f"is packed by method {entry.compress_type}, which is not supported"
    if entry.file_size > entry.compress_size * most:
        return f"the archive says {entry.file_size} bytes, which its {entry.compress_size} packed bytes cannot hold"
    return None


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
