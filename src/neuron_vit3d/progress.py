"""How far a long piece of work is: a bar where standard error is a terminal, else a plain line every half minute.

A log that a batch system keeps shall hold no carriage returns, and not nothing for hours.
"""

import sys
import time
from types import TracebackType
from typing import Any, TextIO


SECONDS = 30.0  # between two lines


class Progress:
    """Counts pieces of work; use it in a `with` statement.

    Args:
        what: the work, in a word.
        total: how many pieces there are; None: not known yet, set it later.
        unit: what a piece is.
        initial: how many were done before.
        shown: whether anything is told.
    """

    def __init__(self, what: str, total: int | None, *, unit: str, initial: int = 0, shown: bool = True):
        self.what, self.total, self.unit, self.done = what, total, unit, initial
        self._initial, self._shown, self._figures, self._bar = initial, shown, "", None

    def __enter__(self) -> "Progress":
        self._begun = self._told = time.monotonic()
        self._told_of: int | None = None  # so many pieces
        if self._shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=self.what, total=self.total, initial=self.done, unit=self.unit, unit_scale=True)
        return self

    def update(self, count: int = 1) -> None:
        """Notes that so many pieces more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(count)
        elif self._shown and time.monotonic() - self._told >= SECONDS:
            self._tell()

    def tell(self, **figures: Any) -> None:
        """Shows figures beside the count from now on, such as the loss."""
        self._figures = "".join(f", {name} {value}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def write(self, line: str, file: TextIO | None = None) -> None:
        """Prints a line, above the bar where there is one; on standard error, where no other file is given."""
        file = sys.stderr if file is None else file
        if self._bar is not None:
            self._bar.write(line, file=file)
        else:
            print(line, file=file, flush=True)

    def _tell(self) -> None:
        now = time.monotonic()
        self._told, self._told_of = now, self.done
        seconds, new = now - self._begun, self.done - self._initial
        words = f"{self.what}: {self.done:,} {self.unit}s"
        if self.total:
            words = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s, {self.done / self.total:.0%}"
        words += f" in {_clock(seconds)}"
        if self.total and 0 < new and self.done < self.total:
            words += f", about {_clock((self.total - self.done) * seconds / new)} more"
        print(words + self._figures, file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._told_of not in (None, self.done):  # who saw it begin shall see it end
            self._tell()


def _clock(seconds: float) -> str:
    """`1:05` or `2:00:07`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
