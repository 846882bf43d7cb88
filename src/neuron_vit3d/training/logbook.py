"""What a run tells: `log.jsonl`, one JSON object a line, and the trackers that were asked for by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator

from ..files import write_whole
from .config import TrainingConfig, TrainingError


def check_trackers(names: list[str]) -> None:
    """Raises TrainingError for a tracker that is unknown or not installed; accelerate would silently leave it out."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known, installed = {str(name) for name in LOGGER_TYPE_TO_CLASS}, {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            raise TrainingError(f"report_to: expected some of {', '.join(sorted(known))}; got {name!r}")
        if name not in installed:
            raise TrainingError(f"report_to {name}: is not installed here; pip install {name}")


class Logbook:
    """Writes by step; only the main process does.

    Args:
        config: of the run; trackers are told it.
        accelerator: made with `log_with=config.report_to`.
    """

    def __init__(self, config: TrainingConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.path = Path(config.output_dir) / "log.jsonl"

    def begin(self, step: int) -> None:
        """Removes the lines after this step, which a continued run writes again, and starts the trackers."""
        if not self.accelerator.is_main_process:
            return
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            # The last line has no end where the run was killed while it was written.
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            write_whole(self.path, "".join(kept if step else []), alone=True)
        if self.config.report_to:
            options = {
                key: value if isinstance(value, int | float | str) else str(value)
                for key, value in asdict(self.config).items()
            }
            folder = self.path.parent.resolve()
            # By which wandb knows a continued run; two folders of one name are two runs.
            number = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
            self.accelerator.init_trackers(
                "neuron_vit3d",
                options,
                {
                    "tensorboard": {"purge_step": step + 1},
                    "wandb": {"name": folder.name, "id": number, "resume": "allow", "dir": str(folder)},
                },
            )

    def write(self, step: int, **values) -> None:
        """Writes a line, and gives its numbers to the trackers."""
        if not self.accelerator.is_main_process:
            return
        try:
            with open(self.path, "a") as log:
                log.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written to ({error})") from error
        if self.config.report_to:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
            for key, value in values.items():
                if isinstance(value, dict):
                    numbers |= {f"{key}/{name}": number for name, number in value.items()}
            self.accelerator.log(numbers, step=step)

    def end(self) -> None:
        if self.config.report_to:
            self.accelerator.end_training()
