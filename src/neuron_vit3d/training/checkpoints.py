"""Keeps checkpoints to resume from: each is written whole or not at all, and the last few are kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from accelerate.utils import load
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files import hidden, remove_folder, rename
from .config import TrainingError
from .optimisation import WeightAverage


_AVERAGE = "average.safetensors"
_CANNOT_WRITE = (OSError, RuntimeError, SafetensorError)  # torch and safetensors have their own for a full disk


class Checkpoints:
    """The folder `checkpoints/` of a run. It holds `step_0000250`, ...; unfinished ones have a dot before their names.

    A checkpoint holds what accelerate knows of (weights, optimiser, the objects registered with it, random states of
    every process) and the average of the weights where there is one.

    Args:
        folder: the run's folder.
        accelerator: what a checkpoint is made of.
        keep: how many there are at most.
        average: of the weights, or None.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, keep: int, average: WeightAverage | None = None):
        self.folder, self.accelerator, self.keep, self.average = folder / "checkpoints", accelerator, keep, average
        if accelerator.is_main_process:
            for leftover in self.folder.glob(".step_*"):  # of a run that was killed while it wrote or removed one
                shutil.rmtree(leftover)
        accelerator.wait_for_everyone()

    def save(self, step: int) -> None:
        """Writes the checkpoint of this step, then removes the oldest.

        Raises:
            TrainingError: it cannot be written (a full disk); nothing is left of it, and those before stay.
        """
        folder = self.folder / f"step_{step:07d}"
        partial, problem = hidden(folder), None
        try:
            self.accelerator.save_state(str(partial))
            if self.average is not None and self.accelerator.is_main_process:
                save_file(self.average.state_dict(), partial / _AVERAGE)
        except _CANNOT_WRITE as error:
            problem = error
        # All processes have to know, or those that could write would wait for ever.
        failed = torch.tensor([int(problem is not None)], device=self.accelerator.device)
        if self.accelerator.gather(failed).any():
            if self.accelerator.is_main_process:
                shutil.rmtree(partial, ignore_errors=True)
            raise TrainingError(
                f"{folder}: the checkpoint could not be written ({problem or 'by another process'}); "
                f"{self.last_good()}. Make room and run the same command again"
            ) from problem
        if self.accelerator.is_main_process:
            rename(partial, folder)
            for old in self.all()[: -self.keep]:
                remove_folder(old)
        self.accelerator.wait_for_everyone()

    def load(self) -> bool:
        """Restores the latest checkpoint; False where there is none.

        Raises:
            TrainingError: it is damaged, or was written by another number of processes.
        """
        if not (found := self.all()):
            return False
        latest, expected = found[-1], self.accelerator.num_processes
        written = len(list(latest.glob("random_states_*")))
        if written != expected:
            raise TrainingError(f"{latest}: is of a run with {written} processes, this one has {expected}")
        try:
            # Accelerate goes on without random states that it cannot read: another run, and nobody is told.
            load(latest / f"random_states_{self.accelerator.process_index}.pkl")
            self.accelerator.load_state(str(latest))
            if self.average is not None:
                self.average.load_state_dict(load_file(latest / _AVERAGE))
        except (PermissionError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # damaged pickles raise anything
            reason = "" if isinstance(error, UnpicklingError) else str(error).partition("\n")[0]
            raise TrainingError(
                f"{latest}: the checkpoint is damaged ({reason or type(error).__name__}); "
                "remove it to go on from the one before"
            ) from error
        return True

    def all(self) -> list[Path]:
        """Lists the checkpoints from the oldest to the latest."""
        return sorted(self.folder.glob("step_*"))

    def last_good(self) -> str:
        """Names the last checkpoint that can be loaded, in the words of an error's message."""
        if not (found := self.all()):
            return "there is no checkpoint before it"
        return f"the last good checkpoint is step {int(found[-1].name.removeprefix('step_'))} in {self.folder}"


@contextmanager
def told_as_full_disk(folder: Path) -> Iterator[None]:
    """Turns errors of writing a model to `folder` into one TrainingError."""
    try:
        yield
    except _CANNOT_WRITE as error:
        raise TrainingError(
            f"{folder}: the model could not be written ({error}). Make room and run the same command again"
        ) from error
