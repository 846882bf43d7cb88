"""What is done of a large volume: a file for each region and round, so that any process can go on from there."""

import io
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Look:
    """What the first round keeps of a region.

    projection: maximum of the core along z (channels, height, width). sample: some of its voxels (channels, n).
    lowest, highest: of its voxels. stands_out: see [`Contrast`], of the labelled part.
    """

    projection: np.ndarray
    sample: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    stands_out: np.ndarray


class ProgressFolder:
    """What is done of a job: a file for each region and round, written whole or not at all."""

    def __init__(self, path: Path):
        self.path = path

    def is_done(self, task: str, number: int) -> bool:
        return self._file(task, number).exists()

    def note(self, task: str, number: int, look: Look | None = None) -> None:
        content = b""
        if look is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **vars(look))
            content = buffer.getvalue()
        self._write(self._file(task, number), content)

    def look(self, index: int) -> Look:
        with np.load(self._file("look", index), allow_pickle=False) as arrays:
            return Look(**arrays)

    def plan(self) -> dict | None:
        path = self.path / "plan.json"
        return json.loads(path.read_text()) if path.exists() else None

    def note_plan(self, plan: dict) -> None:
        """Where there is one already, that one stays."""
        self._write(self.path / "plan.json", json.dumps(plan).encode(), replace=False)

    def _file(self, task: str, number: int) -> Path:
        return self.path / task / str(number // 1000) / str(number)

    @staticmethod
    def _write(path: Path, content: bytes, replace: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # after a crash of the machine it shall not be there and empty
            if replace:
                os.replace(partial, path)
            else:
                _link_or_rename(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _link_or_rename(partial: Path, path: Path) -> None:
    """Gives a file its name unless there is one already."""
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a disk without links
        if not path.exists():
            os.replace(partial, path)
