"""What a teaching has found out so far, kept in its folder, so that one that was killed goes on."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path

from ..data.pairs import Pair
from ..files import sweep, write_whole
from ..training.config import TrainingConfig, TrainingError
from ..volumes.on_disk import on_disk
from .judging import Figures


FILE = "teaching.json"
_VERSION = 1
# What may be another one when a teaching goes on: it does not change what is learned.
_FREE = ("output_dir", "num_workers", "cpu", "log_steps", "checkpoint_steps", "keep_checkpoints", "report_to")


class State:
    """Figures of stacks by what judged them, and the options and data that they belong to.

    Args:
        folder: of the teaching.
        config: of its trainings.
        pairs: its stacks.

    Attributes:
        figures: by name of a model ("before", "0.5", "1"), then of a stack.
        minutes: how long it took, over all runs.
        finished: the verdict is spoken and the model saved.

    Raises:
        TrainingError: the folder holds another teaching, or other files.
    """

    def __init__(self, folder: Path, config: TrainingConfig, pairs: list[Pair]):
        self.path = folder / FILE
        self.figures: dict[str, dict[str, Figures]] = {}
        self.minutes, self.finished = 0.0, False
        options = {name: value for name, value in asdict(config).items() if name not in _FREE}
        self._options = json.loads(json.dumps(options))
        self._data: list[list[str | int]] = [[pair.name, *_digest(pair)] for pair in pairs]
        if self.path.exists():
            self._load()
        elif (folder / "model.safetensors").exists() or (folder / "training_config.json").exists():
            raise TrainingError(f"{folder}: holds a model of another run; choose another folder or remove it")

    def _load(self) -> None:
        try:
            kept = json.loads(self.path.read_text())
            if kept["version"] != _VERSION:
                raise TrainingError(
                    f"{self.path}: expected version {_VERSION}, found {kept['version']}; choose another folder"
                )
            options, data = kept["options"], kept["data"]
            figures = {m: {s: Figures(**values) for s, values in by.items()} for m, by in kept["figures"].items()}
            minutes, finished = float(kept["minutes"]), bool(kept["finished"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise TrainingError(f"{self.path}: expected what a teaching wrote, found: {error!r}") from error
        folder = self.path.parent
        for name, value in self._options.items():
            if options.get(name, value) != value:
                raise TrainingError(
                    f"{folder}: holds another teaching ({name} was {options[name]!r} and is {value!r} now); choose "
                    "another folder or remove it"
                )
        if data != self._data:
            changed = sorted({str(one[0]) for one in data} ^ {str(one[0]) for one in self._data}) or [
                str(now[0]) for then, now in zip(data, self._data, strict=True) if then != now
            ]
            raise TrainingError(
                f"{folder}: holds a teaching with other data ({changed[0]} is new, gone or changed); choose another "
                "folder or remove it"
            )
        self.figures, self.minutes, self.finished = figures, minutes, finished

    def knows(self, model: str, stack: str) -> bool:
        """Says whether a model was judged by a stack."""
        return stack in self.figures.get(model, {})

    def note(self, model: str, stack: str, figures: Figures) -> None:
        """Keeps what a stack says of a model."""
        self.figures.setdefault(model, {})[stack] = figures

    def save(self) -> None:
        """Writes all of it."""
        sweep(self.path)
        figures = {model: {stack: asdict(one) for stack, one in by.items()} for model, by in self.figures.items()}
        content = {
            "version": _VERSION,
            "finished": self.finished,
            "minutes": round(self.minutes, 2),
            "figures": figures,
            "data": self._data,
            "options": self._options,
        }
        write_whole(self.path, json.dumps(content, indent=1) + "\n", alone=True)


def _digest(pair: Pair) -> list[int]:
    """Tells a changed image by its size and time, and a changed annotation by its bytes."""
    image = on_disk(pair.image)
    return [image.size, image.changed, zlib.crc32(pair.annotation.read_bytes())]
