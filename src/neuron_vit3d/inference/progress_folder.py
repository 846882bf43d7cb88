"""Records what is done of a large volume, in a file for each region and round, so that any process can go on."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import write_whole


@dataclass(frozen=True)
class Look:
    """The record of a region from the first round.

    projection: maximum of the core along z (channels, height, width). sample: some of its voxels (channels, n).
    lowest, highest: its extreme voxels. stands_out: contrast of the labelled part, see [`Contrast`].
    """

    projection: np.ndarray
    sample: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    stands_out: np.ndarray


class ProgressFolder:
    """The folder of a job's progress: a file for each region and round, written whole or not at all."""

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
        _write(self._file(task, number), content)

    def look(self, index: int) -> Look:
        with np.load(self._file("look", index), allow_pickle=False) as arrays:
            return Look(**arrays)

    def plan(self) -> dict | None:
        path = self.path / "plan.json"
        return json.loads(path.read_text()) if path.exists() else None

    def note_plan(self, plan: dict) -> None:
        """Writes the plan; if there is one already, that one stays."""
        _write(self.path / "plan.json", json.dumps(plan).encode(), first_stays=True)

    def _file(self, task: str, number: int) -> Path:
        return self.path / task / str(number // 1000) / str(number)


def _write(path: Path, content: bytes, first_stays: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, durable=True, first_stays=first_stays)
