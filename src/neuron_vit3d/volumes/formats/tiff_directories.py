"""Whether the directories of a TIFF file lie inside it; looked at before a reader takes memory for what they claim."""

import struct
from pathlib import Path

import numpy as np

from ..volume import VolumeError


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def check_directories(path: Path, file_bytes: int, begin: int | None = None) -> None:
    """Refuse a file whose chain of directories (TIFF 6.0, section 2) leaves the file or returns to itself.

    The chain begins at byte `begin`, or where the file says. A table's length is checked here because a reader would
    take the memory for it before it finds that the bytes are missing.
    """
    with path.open("rb") as file:
        start = file.read(16).ljust(16, b"\0")
        order = "<" if start[:2] == b"II" else ">"
        big = start[2:4].strip(b"\0") == b"+"
        count_format, next_format, next_at = ("Q", "Q", 8) if big else ("H", "I", 4)
        entry = np.dtype([("tag", f"{order}u2"), ("type", f"{order}u2"), ("count", f"{order}u{8 if big else 4}")])
        entry_bytes, count_bytes, inline = (20, 8, 8) if big else (12, 2, 4)
        value = np.dtype(f"{order}u{inline}")
        offset, seen = struct.unpack_from(order + next_format, start, next_at)[0] if begin is None else begin, set()
        while offset:
            if offset in seen:
                raise VolumeError(f"{path}: the chain of TIFF directories returns to byte {offset}")
            seen.add(offset)
            file.seek(min(offset, file_bytes))
            head = file.read(count_bytes)
            entries = struct.unpack(order + count_format, head)[0] if len(head) == count_bytes else 0
            end = offset + count_bytes + entries * entry_bytes + inline
            if not entries or end > file_bytes:
                raise VolumeError(
                    f"{path}: expected a TIFF directory at byte {offset}, the file has {file_bytes} (truncated?)"
                )
            block = file.read(entries * entry_bytes + inline)
            table = np.frombuffer(block, np.uint8, entries * entry_bytes).reshape(entries, entry_bytes)
            fields = np.ascontiguousarray(table[:, : entry.itemsize]).view(entry)[:, 0]
            values = np.ascontiguousarray(table[:, entry.itemsize :]).view(value)[:, 0].astype(float)
            sizes = np.array([_TYPE_BYTES.get(int(kind), 1) for kind in fields["type"]]) * fields["count"].astype(
                float
            )
            outside = (sizes > inline) & (values + sizes > file_bytes)
            if outside.any():
                tag = int(fields["tag"][outside][0])
                raise VolumeError(
                    f"{path}: the values of TIFF tag {tag} lie beyond the file's {file_bytes} bytes (truncated?)"
                )
            offset = struct.unpack_from(order + next_format, block, entries * entry_bytes)[0]
    if not seen:
        raise VolumeError(f"{path}: expected a TIFF file with an image, found no directory in {file_bytes} bytes")
