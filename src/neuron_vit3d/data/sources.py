"""Opens a collection of files: a folder, or a zip archive that is read in place.

    with open_source("gold166.zip") as source:
        source.files                            # {path below the root: bytes}, sorted
        with source.local("a/b.v3dpbd") as path:    # a file to read; from an archive a temporary copy, gone afterwards
            ...

A file is refused, with a reason, if it cannot be read, is no regular file, or has a name that is not UTF-8. An archive
is never unpacked as a whole. Its entries are refused if their names lead out of the archive or come twice, if they are
links, encrypted, or themselves archives or OME-Zarrs, and if their sizes cannot be true.
"""

import abc
import contextlib
import os
import posixpath
import shutil
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath

from ..volumes import VolumeError, is_volume_folder, volume_stem
from ..volumes.names import is_own_result
from ..volumes.on_disk import OnDisk, on_disk, printable, walk


# Deflate gives at most 1032 bytes for one (RFC 1951: 258 bytes from 2 bits); others are held to a generous bound.
_MOST_BYTES_PER_BYTE = {
    zipfile.ZIP_STORED: 1,
    zipfile.ZIP_DEFLATED: 1033,
    zipfile.ZIP_BZIP2: 1 << 17,
    zipfile.ZIP_LZMA: 1 << 15,
}
_COPY_BYTES = 1 << 20
_LONGEST_NAME = 200  # bytes; file systems take 255
_IGNORED_FOLDERS = {"__MACOSX"}
# What zipfile raises on damaged archives; MemoryError and OverflowError come from sizes that are none.
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    MemoryError,
    struct.error,
)


class DataError(ValueError):
    """A collection, a file in it, or a pair cannot be used; the message names it."""


class ScratchError(OSError):
    """The scratch folder is full, gone or not writable. Entries of an archive are copied there."""


def one_line(error: BaseException) -> str:
    """Returns an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


class Source(abc.ABC):
    """Files below a root.

    Attributes: name (for messages); files {path: bytes}; refused {path: why it is not among them}.
    """

    name: str
    files: dict[str, int]
    refused: dict[str, str]

    @abc.abstractmethod
    def local(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """A file or folder on disk that holds `path`, with its name (one of over 200 bytes keeps its suffix alone).

        Raises:
            DataError: an archive's entry is damaged.
            ScratchError: the copy of an entry cannot be written; nothing is wrong with the entry.
        """

    @abc.abstractmethod
    def stamp(self, path: str) -> str:
        """Returns what changes when the file changes, or any file of a volume that is a folder."""

    @abc.abstractmethod
    def leave_out_own_results(self) -> None:
        """Refuses trees and masks that this program made: they are no gold standard.

        A tree corrected by hand, whose mark was removed, is one.
        """

    def read_text(self, path: str, most: int = 1 << 16) -> str:
        """Reads the first `most` bytes of a small text file."""
        with self.local(path) as file, file.open("rb") as handle:
            return handle.read(most).decode("utf-8", errors="replace")

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the archive, if there is one."""

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def open_source(root: str | os.PathLike, scratch: str | os.PathLike | None = None, scan: bool = True) -> Source:
    """Opens a folder or a zip archive.

    Args:
        root: the one or the other.
        scratch: an existing folder, where entries of an archive are copied to; None: the system's temporary folder.
        scan: False: a folder is not looked through, `files` stays empty; for workers that are told their paths. An
            archive's list of entries is read in either case.

    Raises:
        DataError: there is neither folder nor archive, it cannot be read, or scratch is no folder.
    """
    root = Path(root)
    if scratch is not None and not Path(scratch).is_dir():
        found = "a file" if Path(scratch).exists() else "nothing there"
        raise DataError(f"{scratch}: expected an existing folder as scratch, found {found}")
    if root.is_dir():
        return FolderSource(root, scan)
    if not root.exists():
        raise DataError(f"{root}: expected a folder or a zip archive, found nothing there")
    if not root.is_file():
        raise DataError(f"{root}: expected a folder or a zip archive, found no regular file")
    return ZipSource(root, scratch)


class FolderSource(Source):
    """The visible files below a folder; links to folders are followed, and each folder is visited once.

    With `scan` False the folder is not searched: `files` is empty, and `local` and `stamp` work for any path below the
    root.
    """

    def __init__(self, root: Path, scan: bool = True):
        self.root, self.name, self.refused, self.files = root, str(root), {}, {}
        for folder, subfolders, names in walk(root, self._refuse_folder) if scan else ():
            subfolders[:] = sorted(
                name for name in subfolders if not name.startswith(".") and self._has_utf8_name(folder, name)
            )
            for name in [name for name in subfolders if is_volume_folder(Path(folder, name))]:
                subfolders.remove(name)
                self._add(Path(folder, name))
            for name in names:
                if not name.startswith(".") and self._has_utf8_name(folder, name):
                    self._add(Path(folder, name))
        self.files = dict(sorted(self.files.items()))

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        yield self.root / path

    def stamp(self, path: str) -> str:
        found = _on_disk(self.root / path)
        return f"{found.size} bytes, changed {found.changed}"

    def leave_out_own_results(self) -> None:
        for name in [name for name in self.files if name.lower().endswith((".swc", ".mask.tif"))]:
            with contextlib.suppress(OSError):  # told when it is read
                if is_own_result(self.root / name):
                    del self.files[name]
                    self.refused[name] = (
                        "was made by neuron-vit3d: no gold standard (unless corrected; take the mark out then)"
                    )

    def close(self) -> None:
        """Nothing is open."""

    def _add(self, path: Path) -> None:
        name = path.relative_to(self.root).as_posix()
        try:
            self.files[name] = _on_disk(path).size
        except DataError as error:
            self.refused[name] = str(error)
        except OSError as error:
            inside = f" ({printable(str(error.filename))})" if error.filename and Path(error.filename) != path else ""
            self.refused[name] = f"cannot be read: {error.strerror or error}{inside}"

    def _has_utf8_name(self, folder: str, name: str) -> bool:
        """Tells whether a name can be written into reports; os.walk gives bytes that are not UTF-8 as surrogates."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self.refused[printable(Path(folder, name).relative_to(self.root).as_posix())] = "its name is not UTF-8"
            return False
        return True

    def _refuse_folder(self, error: OSError) -> None:
        path = Path(error.filename)
        if path == self.root:
            raise DataError(f"{self.root}: cannot be read: {error.strerror or error}") from error
        self.refused[path.relative_to(self.root).as_posix()] = f"cannot be read: {error.strerror or error}"


class ZipSource(Source):
    """The files of a zip archive; they are copied out one at a time, never with more bytes than the archive says."""

    def __init__(self, path: Path, scratch: str | os.PathLike | None = None):
        self.name, self.scratch, self.refused = str(path), scratch, {}
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        try:
            self._archive = zipfile.ZipFile(path)
            self._sort(self._archive.infolist(), size)
        except _DAMAGE as error:
            raise DataError(
                f"{path}: expected a folder or a zip archive, found another file or a damaged archive "
                f"(a download that was cut off?): {one_line(error)}"
            ) from error
        self.files = {name: self._entries[name].file_size for name in sorted(self._entries)}

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        entry = self._entries[path]
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="neuron_vit3d_", dir=self.scratch))
                free = shutil.disk_usage(folder).free
            except OSError as error:
                raise self._scratch_error(path, error.strerror or error) from error
            if entry.file_size > free:
                raise self._scratch_error(path, f"needs {entry.file_size} bytes, {free} are free")
            copy, count = Path(folder, _name_of_copy(path)), 0
            try:
                with copy.open("wb") as unpacked, contextlib.closing(self._unpack(path)) as pieces:
                    for piece in pieces:
                        count += unpacked.write(piece)
            except OSError as error:  # of writing: those of reading are DataErrors by now
                raise self._scratch_error(path, error.strerror or error) from error
            if count != entry.file_size:
                raise DataError(f"{self.name}: {path}: the archive says {entry.file_size} bytes, found {count}")
            yield copy

    def stamp(self, path: str) -> str:
        entry = self._entries[path]
        return f"{entry.file_size} bytes, checksum {entry.CRC:08x}"

    def leave_out_own_results(self) -> None:
        """Does nothing, because each file would have to be unpacked."""

    def close(self) -> None:
        self._archive.close()

    def _sort(self, entries: list[zipfile.ZipInfo], size: int) -> None:
        """Sorts the entries into those that are read and those that are refused.

        Their names are taken whole, where zipfile would cut them off at a NUL byte.
        """
        names = [entry.orig_filename for entry in entries]
        times = Counter(
            posixpath.normpath(name) for name in names if not name.endswith("/") and not _why_refused_by_name(name)
        )
        for name, entry in zip(names, entries, strict=True):
            folders = name.split("/")[:-1]
            volume = next((i for i, part in enumerate(folders, 1) if is_volume_folder(Path(part))), None)
            inner = "/".join(folders[:volume]) if volume else name  # of an OME-Zarr its folder stands for all in it
            if _is_ignored(inner) or (name.endswith("/") and not volume):
                continue
            if reason := _why_refused_by_name(name):
                self.refused[printable(name) or "(no name)"] = reason
            elif volume:
                self.refused[printable(inner)] = "an OME-Zarr inside an archive is not read: unpack it"
            elif times[posixpath.normpath(name)] > 1:
                self.refused[printable(name)] = "is in the archive twice"
            elif reason := _why_refused(entry, size):
                self.refused[printable(name)] = reason
            else:
                self._entries[name] = entry

    def _unpack(self, path: str) -> Generator[bytes, None, None]:
        """Yields an entry's bytes, at most as many as the archive says.

        Whatever goes wrong in reading is the entry's fault: DataError.
        """
        try:
            with self._archive.open(self._entries[path]) as packed:
                while piece := packed.read(_COPY_BYTES):
                    yield piece
        except Exception as error:  # zlib, bz2 (OSError), lzma, struct and zipfile each have their own
            raise DataError(f"{self.name}: {path}: cannot be unpacked: {one_line(error)}") from error

    def _scratch_error(self, path: str, reason: object) -> ScratchError:
        scratch = self.scratch or tempfile.tempdir or "the system's temporary folder"
        return ScratchError(
            f"{scratch}: cannot hold a copy of {self.name}: {path}: {reason}; set scratch to a folder with room"
        )


def _is_ignored(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in ("..", ".") for part in parts)
    return hidden or not _IGNORED_FOLDERS.isdisjoint(parts)


def _why_refused_by_name(name: str) -> str | None:
    if not name:
        return "has no name"
    if "\0" in name:
        return "its name holds a NUL byte"
    if "\\" in name or name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        return "its name leads out of the archive"
    return None


def _why_refused(entry: zipfile.ZipInfo, size: int) -> str | None:
    """Says why an entry of an archive of `size` bytes is refused, other than for its name."""
    if (entry.external_attr >> 16) & 0o170000 == 0o120000:
        return "is a link"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.orig_filename.lower().endswith(".zip"):
        return "an archive inside an archive is not read: unpack it"
    most = _MOST_BYTES_PER_BYTE.get(entry.compress_type)
    if most is None:
        return f"is packed by method {entry.compress_type}, which is not supported"
    if entry.header_offset < 0 or entry.header_offset + entry.compress_size > size:
        return f"its {entry.compress_size} packed bytes lie outside the archive of {size} bytes: damaged"
    if entry.file_size > entry.compress_size * most:
        return f"the archive says {entry.file_size} bytes, which its {entry.compress_size} packed bytes cannot hold"
    return None


def _name_of_copy(path: str) -> str:
    """Returns the entry's own name if every file system takes it, else one with its suffix, as readers need it."""
    name = PurePosixPath(path).name
    if name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = name[len(volume_stem(name)) :] or PurePosixPath(name).suffix
    return "volume" + (suffix if len(suffix.encode()) <= _LONGEST_NAME else "")


def _on_disk(path: Path) -> OnDisk:
    """Raises OSError for what cannot be read, DataError for pipes and devices."""
    try:
        return on_disk(path)
    except VolumeError as error:
        # Reports have the file's name beside what is wrong with it.
        raise DataError(str(error).removeprefix(f"{path}: ")) from error
