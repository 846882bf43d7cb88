"""Says which options to change when memory is not enough, or when a process that prepares blocks dies of that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from .config import TrainingConfig, TrainingError


@contextmanager
def memory_advice(config: TrainingConfig, where: str) -> Iterator[None]:
    """Turns a lack of memory in "a step" or in "validation" into a TrainingError that names what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError; so is the CPU allocator's
        if not _is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory in {where}; {'; or '.join(advice(config, learning=where != 'validation'))} ({error})"
        ) from error


def told_of_workers(batches: Iterable) -> Iterator:
    """Yields the batches; an error of the processes that prepare them becomes a TrainingError of one line.

    The last line of such an error says what is wrong; torch puts the whole traceback before it.
    """
    try:
        yield from batches
    except (RuntimeError, ValueError, OSError, EOFError, MemoryError) as error:
        text, broken_pipe = str(error), (ConnectionError, EOFError)  # to a worker: of what is read there are none
        if (
            isinstance(error, MemoryError)
            or re.search(r"DataLoader worker \(pid", text)
            or isinstance(error, broken_pipe)
        ):
            raise TrainingError(
                "a process that prepares blocks died, or had no memory left; fewer --num-workers (each holds blocks "
                f"of its own), or more memory or /dev/shm ({' '.join(text.split()) or type(error).__name__})"
            ) from error
        if " in DataLoader worker process " in text and not isinstance(error, RuntimeError):
            raise TrainingError(text.strip().splitlines()[-1].partition(": ")[2] or text) from error
        raise


def advice(config: TrainingConfig, *, learning: bool = True) -> list[str]:
    """Lists what helps, beginning with what changes the result least; `learning`: gradients are computed, too."""
    found = []
    if learning and not config.activation_checkpointing:
        found.append("--activation-checkpointing true (the same result, about a third slower)")
    if config.mixed_precision == "no":
        found.append("--mixed-precision bf16")
    if learning and config.batch_size > 1:
        half, twice = config.batch_size // 2, 2 * config.gradient_accumulation_steps
        found.append(f"--batch-size {half} --gradient-accumulation-steps {twice} (about as many blocks a step)")
    found.append(f"a smaller --tile-size than {config.tile_size}, or a smaller --base-model")
    return found


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "not enough memory" in text
        or "can't allocate memory" in text
        or "out of memory" in text
    )
