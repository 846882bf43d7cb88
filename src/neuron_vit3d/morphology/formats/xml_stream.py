"""Reads XML from a file that may be gzipped, piece by piece, and refuses what a harmless file has no need of.

Refused are entities of its own (which can grow without end or name other files), gzip that swells beyond all measure,
elements within elements within elements, and a single tag of megabytes. Memory is that of what the caller keeps.
"""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.parsers import expat

from .format import TreeFileError


_PIECE = 1 << 16
_LONGEST_TAG = 1 << 20
_DEEPEST = 16
# Paths of points, written with six digits or sixteen, shrink to a fifth to a fifteenth.
_SWELLS, _FREE = 100, 1 << 24


def parse_file(path: Path, start: Callable[[str, dict[str, str], int], None], end: Callable[[str], None]) -> None:
    """Calls `start(name, attributes, depth)` and `end(name)` with the elements of a file, in their order.

    Raises:
        TreeFileError: it is no XML, ends too early, or has what is refused.
        OSError: the file cannot be read.
    """
    parser = expat.ParserCreate()
    depth, last_event = 0, 0

    def begun(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, last_event
        if depth >= _DEEPEST:
            raise TreeFileError(f"{path}: expected at most {_DEEPEST} elements within one another")
        last_event = parser.CurrentByteIndex
        start(name, attributes, depth)
        depth += 1

    def ended(name: str) -> None:
        nonlocal depth, last_event
        depth, last_event = depth - 1, parser.CurrentByteIndex
        end(name)

    def entity(name: str, *_) -> None:
        raise TreeFileError(f"{path}: entities are refused, got one named {name[:40]!r}")

    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = begun, ended, entity
    fed = 0
    try:
        for piece in _pieces(path):
            parser.Parse(piece, False)
            fed += len(piece)
            if fed - max(last_event, 0) > _LONGEST_TAG:
                raise TreeFileError(f"{path}: expected a tag every {_LONGEST_TAG} bytes at least")
        parser.Parse(b"", True)
    except LookupError as error:  # the declaration names an encoding that there is none of
        raise TreeFileError(f"{path}: no sound XML, {str(error)[:100]}") from None
    except expat.ExpatError as error:
        raise TreeFileError(f"{path}: line {error.lineno}: no sound XML, {expat.ErrorString(error.code)}") from None


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed where they are gzipped."""
    with path.open("rb") as file:
        piece = file.read(_PIECE)
        if not piece:
            raise TreeFileError(f"{path}: expected XML, got an empty file")
        if not piece.startswith(b"\x1f\x8b"):
            while piece:
                yield piece
                piece = file.read(_PIECE)
            return
        read, given, stream = 0, 0, zlib.decompressobj(wbits=31)
        try:
            while piece:
                read += len(piece)
                while piece:
                    out = stream.decompress(piece, _PIECE)
                    given += len(out)
                    if given > _FREE and given > _SWELLS * read:
                        raise TreeFileError(f"{path}: refused, it swells to more than {_SWELLS} times its size")
                    if out:
                        yield out
                    if stream.eof:  # gzip files may be several, one after the other
                        piece, stream = stream.unused_data, zlib.decompressobj(wbits=31)
                        if not piece.startswith(b"\x1f\x8b"):
                            piece = b""
                        continue
                    piece = stream.unconsumed_tail
                piece = file.read(_PIECE)
        except zlib.error:
            raise TreeFileError(f"{path}: damaged gzip") from None
