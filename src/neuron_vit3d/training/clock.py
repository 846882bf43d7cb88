"""Measures where a run's time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Clock:
    """Counts seconds by what they were spent on. Work of a GPU counts where the program waits for it.

    with clock("model"): ...
    for batch in clock.waiting(loader): ...
    """

    def __init__(self):
        self._seconds: dict[str, float] = defaultdict(float)
        self._before = 0.0
        self._began = self._lap_began = time.perf_counter()

    def start(self, seconds_before: float = 0.0) -> None:
        """Starts the clock; the seconds of an earlier part of the run are added to `total`."""
        self._seconds.clear()
        self._before = seconds_before
        self._began = self._lap_began = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds of the whole run, its parts before interruptions included."""
        return self._before + time.perf_counter() - self._began

    def lap(self) -> dict[str, float]:
        """Returns the seconds since the last lap: "all", and the seconds of each thing that was timed."""
        now = time.perf_counter()
        seconds = {"model": 0.0, "waiting": 0.0, "beside": 0.0, **self._seconds, "all": now - self._lap_began}
        self._seconds.clear()
        self._lap_began = now
        return seconds

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] += time.perf_counter() - began

    def waiting(self, items: Iterable) -> Iterator:
        """Yields the items, and counts the time until each one is there as "waiting"."""
        iterator = iter(items)
        while True:
            with self("waiting"):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
