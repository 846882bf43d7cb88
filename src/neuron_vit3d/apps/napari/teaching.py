"""Teaches the model the corrected stacks: `neuron-vit3d train` as a process, whose output comes line by line."""

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path


class TeachError(ValueError):
    """The model cannot be taught, or the training failed; the message is one sentence."""


def command(folder: Path, out: Path, base_model: str = "default") -> list[str]:
    """The command line that teaches; a person can type it as well."""
    return [
        *(sys.executable, "-m", "neuron_vit3d.cli", "train"),
        *("--data", str(folder), "--base-model", base_model, "-o", str(out)),
    ]


class Training:
    """A training in a process of its own, which ends with this object's `stop`, and with the training itself.

    Args:
        words: the command line.
    """

    def __init__(self, words: list[str]):
        self.words = words
        self._process: subprocess.Popen[str] | None = None

    def lines(self) -> Generator[str, None, None]:
        """Starts the training and yields what it prints, line by line.

        Raises:
            TeachError: it ended with an error, which is its last line; or it could not be started.
        """
        try:
            process = self._process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                bufsize=1,
            )
        except OSError as error:
            raise TeachError(f"{self.words[0]}: cannot be started, {error.strerror}") from error
        last = ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.rstrip() or last
                yield line.rstrip()
            code = process.wait()
        finally:
            self.stop()
        if code:
            raise TeachError(last or f"the training ended with exit status {code}")

    def stop(self, patience: float = 10.0) -> None:
        """Ends the training where it still runs; the same command goes on with it later.

        Args:
            patience: seconds that it has to end by itself.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
