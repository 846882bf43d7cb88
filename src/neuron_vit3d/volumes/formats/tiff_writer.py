"""Writing TIFF stacks slab by slab, so that Fiji shows them with channels and voxel size.

Every file carries ImageJ's description (`slices`, `channels`, `unit=um`, `spacing`) and resolution tags, which ImageJ,
Fiji, Bio-Formats, napari and tifffile read; above 4 GB it is a BigTIFF, which Fiji opens through Bio-Formats. ImageJ
has no half-precision numbers: float16 is stored as such and read back by this package, convert it to float32 for Fiji.

bool becomes uint8 with 0 and 255, ImageJ's convention for masks. Integers are compressed (deflate); floating point is
not, because scores hardly shrink, and can so be mapped when read.
"""

import hashlib
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...files import locked, rename, replacing, sync, write_whole
from ..volume import Volume, VolumeError, checked_voxel_size
from .tiff_reader import open_reader


_BIG_BYTES = 2**32 - 2**25  # room for the directories below the 4 GB of a classic TIFF
_SECONDS_BETWEEN_NOTES = 5  # what a killed run may lose; a note waits until the slices are on disk, which takes time


class SlabWriter:
    """Write a TIFF stack as consecutive slabs of slices, in bounded memory.

        with SlabWriter("scores.tif", (128, 512, 512), np.float32, voxel_size) as writer:
            for z in range(0, 128, 16):
                writer.write(scores_of_slices(z, z + 16))

    The file appears under its name when the block ends, all slices were written and are on disk; if anything fails
    nothing is left behind and a file that was there before stays.

    Args:
        path: the file to write, or to replace.
        shape: (z, y, x) or (c, z, y, x).
        dtype: of the slabs; bool is stored as uint8, 0 and 255.
        voxel_size: z, y, x in micrometres, or None.
        compress: deflate the slices; None: integers yes, floating point no.
        resume_key: what the slices are made of and how, in a word; None: nothing is kept of a file that was not
            finished. Otherwise its slices stay in a hidden file beside it, and a writer of the same file with the same
            key begins after them (`slices_written`); one with another key is refused. The finished file tells the key
            by `is_finished`. Only files that are not compressed.
        made_by: noted in the file's description.

    Raises:
        VolumeError: a slab does not fit, slices are missing at the end, another writer has the same unfinished file,
            or it holds slices of another `resume_key`.
    """

    def __init__(
        self,
        path,
        shape,
        dtype,
        voxel_size=None,
        *,
        compress: bool | None = None,
        resume_key: str | None = None,
        made_by: str = "",
    ):
        self.path = Path(path)
        # Volume knows what shapes, dtypes and voxel sizes are allowed; a broadcast array takes no memory
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise VolumeError(f"{self.path}: expected a shape (z, y, x) or (c, z, y, x), got {tuple(shape)}")
        Volume(np.broadcast_to(np.zeros((), dtype), (1, 1, 1)), voxel_size, str(self.path))
        self.shape, self.dtype = tuple(int(n) for n in shape), np.dtype(dtype).newbyteorder("=")
        self.voxel_size = checked_voxel_size(voxel_size, str(self.path))
        self._stored_dtype = (np.dtype(np.uint8) if self.dtype == bool else self.dtype).newbyteorder("<")
        self._compress = self.dtype.kind != "f" if compress is None else compress
        if resume_key is not None and self._compress:
            raise ValueError(f"{self.path}: a compressed file cannot be continued")
        self._resume_key, self._made_by = resume_key, made_by
        self.slices_written = 0

    @property
    def can_continue(self) -> bool:
        """Whether slices are kept of a file that is not finished."""
        return self._resume_key is not None

    @staticmethod
    def is_finished(path: str | os.PathLike, key: str) -> bool:
        """Tells whether the file is there and whole, and a writer with this `resume_key` made it.

        Of a damaged file it is False.
        """
        try:
            with open(path, "rb") as file:
                if _made_with(key).encode() not in file.read(4096):
                    return False
            with warnings.catch_warnings(action="error", category=UserWarning), open_reader(Path(path), channel=0):
                return True
        except (OSError, VolumeError, UserWarning):  # a warning: planes that do not fit are left out
            return False

    def __enter__(self) -> "SlabWriter":
        if self.can_continue:
            self._temporary = self.path.with_name(f".{self.path.name}.unfinished")
            try:
                self._lock = locked(self._temporary)
            except BlockingIOError as error:
                raise VolumeError(
                    f"{self.path}: another run is writing this file; wait for it, or choose another folder"
                ) from error
            try:
                self._continue()
            except BaseException:
                self._lock.close()
                raise
            return self
        self._replacing = replacing(self.path)
        self._temporary = self._replacing.__enter__()
        try:
            self._open()
        except BaseException as error:
            self._replacing.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, slab: np.ndarray) -> None:
        """Append slices: (n, y, x), or (c, n, y, x) where the file has channels."""
        expected = (*self.shape[:-3], self.shape[-3] - self.slices_written, *self.shape[-2:])
        slab = np.asarray(slab)
        fits = slab.ndim == len(expected) and slab.shape[:-3] == expected[:-3] and slab.shape[-2:] == expected[-2:]
        if not fits or not 1 <= slab.shape[-3] <= expected[-3]:
            raise VolumeError(
                f"{self.path}: expected at most the remaining slices {expected}, got a slab {slab.shape}"
            )
        if slab.dtype.newbyteorder("=") != self.dtype:
            raise VolumeError(f"{self.path}: expected slabs of {self.dtype}, got {slab.dtype}")
        channels = slab if slab.ndim == 4 else slab[None]
        for z in range(channels.shape[1]):
            for channel in channels[:, z]:
                self._write_plane(channel)
        if not self._compress:
            self._file.flush()
        self.slices_written += channels.shape[1]
        if self.can_continue and time.monotonic() - self._noted_at >= _SECONDS_BETWEEN_NOTES:
            self._note_progress()

    def read_written(self, z: int, z_end: int) -> np.ndarray:
        """Slices (n, y, x) that were written, of a file that can be continued; it has no channels."""
        count = math.prod(self.shape[-2:])
        slab = np.fromfile(
            self._temporary,
            self._stored_dtype,
            (z_end - z) * count,
            offset=self._offset + z * count * self._stored_dtype.itemsize,
        )
        return slab.reshape(z_end - z, *self.shape[-2:]).astype(self.dtype, copy=False)

    def __exit__(self, kind, error, traceback) -> None:
        if self.can_continue:
            with self._lock:
                with self._file:
                    if self.slices_written:
                        self._note_progress()
                if not self.slices_written:
                    self._temporary.unlink(missing_ok=True)
                if error is None:
                    self._check_whole()
                    rename(self._temporary, self.path)
                    self._progress_note.unlink(missing_ok=True)
            return
        try:
            (self._pages if self._compress else self._file).close()
            if error is None:
                self._check_whole()
                sync(self._temporary)
        except BaseException as failure:
            error = error or failure
            raise
        finally:
            self._replacing.__exit__(None if error is None else type(error), error, None)

    def _check_whole(self) -> None:
        if self.slices_written < self.shape[-3]:
            raise VolumeError(f"{self.path}: expected {self.shape[-3]} slices, got {self.slices_written}")

    @property
    def _progress_note(self) -> Path:
        return self.path.with_name(f".{self.path.name}.unfinished.json")

    def _continue(self) -> None:
        """Opens the unfinished file behind its last whole slice; a new one where there is none."""
        self._noted_at, written = time.monotonic(), 0
        try:
            noted = json.loads(self._progress_note.read_text())
            if noted["size"] == self._temporary.stat().st_size:  # else its slices were removed, or are damaged
                is_ours = (noted["key"], noted["shape"]) == (self._resume_key, list(self.shape))
                self._offset, written = int(noted["offset"]), int(noted["slices"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if written > 0 and not is_ours:
            raise VolumeError(
                f"{self.path}: {written} slice(s) of an unfinished run with another model, other options, another "
                f"image or another version of this program are in {self._temporary}; remove that file to begin anew, "
                "or choose another folder"
            )
        if 0 < written <= self.shape[-3]:
            self._file, self.slices_written = self._temporary.open("r+b"), written
            self._file.seek(self._offset + written * math.prod(self.shape[-2:]) * self._stored_dtype.itemsize)
            return
        self._progress_note.unlink(missing_ok=True)
        try:
            self._open()
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise

    def _note_progress(self) -> None:
        """Notes how many slices are written, whole or not at all, and after the slices.

        A note of more than are on disk would be a hole in the volume.
        """
        self._file.flush()
        sync(self._temporary)
        noted = {
            "key": self._resume_key,
            "shape": self.shape,
            "offset": self._offset,
            "slices": self.slices_written,
            "size": self._temporary.stat().st_size,
        }
        write_whole(self._progress_note, json.dumps(noted), alone=True, durable=True)
        self._noted_at = time.monotonic()

    def _open(self) -> None:
        import tifffile

        planes = math.prod(self.shape[:-2])
        is_big = planes * math.prod(self.shape[-2:]) * self._stored_dtype.itemsize > _BIG_BYTES
        self._tags: dict[str, Any] = {
            "photometric": "minisblack",
            "metadata": None,
            "software": "neuron_vit3d",
            "resolutionunit": "NONE",
        }
        if self.voxel_size is not None:
            self._tags["resolution"] = (1 / self.voxel_size[2], 1 / self.voxel_size[1])
        description = self._description()
        if self._compress:
            self._pages = tifffile.TiffWriter(self._temporary, bigtiff=is_big, byteorder="<")
            self._tags |= {"compression": "zlib", "description": description}
            return
        # ImageJ takes uncompressed slices to follow one another without gaps: lay the file out first, then fill it
        shape = (planes, *self.shape[-2:])
        laid_out = tifffile.imwrite(
            self._temporary,
            shape=shape,
            dtype=self._stored_dtype,
            bigtiff=is_big,
            byteorder="<",
            returnoffset=True,
            description=description,
            **self._tags,
        )
        assert laid_out is not None  # as returnoffset is set
        self._offset, _ = laid_out
        self._file = self._temporary.open("r+b")
        self._file.seek(self._offset)

    def _write_plane(self, plane: np.ndarray) -> None:
        if self.dtype == bool:
            plane = plane.astype(np.uint8) * 255
        plane = np.ascontiguousarray(plane, self._stored_dtype)
        if not self._compress:
            self._file.write(plane.data)
            return
        self._pages.write(plane, contiguous=False, **self._tags)
        self._tags.pop("description", None)  # only the first plane describes the stack

    def _description(self) -> str:
        depth, channels = self.shape[-3], self.shape[0] if len(self.shape) == 4 else 1
        lines = ["ImageJ=1.54f", f"images={depth * channels}", f"slices={depth}"]
        if channels > 1:
            lines += [f"channels={channels}", "hyperstack=true", "mode=grayscale"]
        if self.voxel_size is not None:
            lines += ["unit=um", f"spacing={self.voxel_size[0]!r}"]
        lines += [f"comment={self._made_by}"] if self._made_by else []
        lines += [_made_with(self._resume_key)] if self._resume_key is not None else []
        return "\n".join([*lines, "loop=false", ""])


def _made_with(key: str) -> str:
    """The line of a file's description that tells the key it was written with."""
    return f"made_with={hashlib.sha256(key.encode()).hexdigest()}"
