"""What a module of this folder says of its image format, and two errors that several of them have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..reader import VolumeReader
from ..volume import Volume, VolumeError


START_BYTES = 540  # what a signature may look at: the larger header of NIfTI, the longest of those that are looked for


@dataclass(frozen=True)
class Format:
    """An image format: how its files are told from others, how they are read, and how they are written.

    Args:
        row: what the table of docs/how-to/formats.md calls it, in Markdown.
        suffixes: how the names of its files end, in lower case. They tell which files of a folder are images.
        signature: what a file of this format begins with; or a test of its path and its first `START_BYTES` bytes
            (none of a folder). Reading goes by it alone.
        read: `read(path, channel=None)` returns the Volume of one channel or of all. It may be mapped from the file,
            in the file's byte order.
        open: `open(path, channel)` returns the VolumeReader of one channel, for formats that decode only the slices
            asked for. None: the file is read whole when it is opened.
        write: `write(path, volume)` writes the file, whole or not at all (see `neuron_vit3d.files`). None: it is only
            read.
        writes: the suffixes that choose this format for writing.
        extra: the extra of this package that brings its library; "" where it needs none.
        is_folder: whether an image is a folder.
        headers: the suffixes of files whose voxels lie in other files.
        has_images: whether a file may hold several images; `read` and `open` then take the number of one as `image`.
    """

    row: str
    suffixes: tuple[str, ...]
    signature: tuple[bytes, ...] | Callable[[Path, bytes], bool]
    read: Callable[..., Volume]
    open: Callable[..., VolumeReader] | None = None
    write: Callable[[Path, Volume], object] | None = None
    writes: tuple[str, ...] = ()
    extra: str = ""
    is_folder: bool = False
    headers: tuple[str, ...] = ()
    has_images: bool = False

    def recognises(self, path: Path, start: bytes) -> bool:
        """Whether a file or folder that begins with these bytes is of this format."""
        return self.signature(path, start) if callable(self.signature) else start.startswith(self.signature)


def needs(path: Path, what: str, extra: str) -> VolumeError:
    """The error of a file whose format needs a library that is not installed."""
    return VolumeError(
        f'{path}: {what} can be read where its library is installed: pip install "neuron_vit3d[{extra}]"'
    )


def one_line(error: BaseException) -> str:
    """What a library said, short enough for one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
