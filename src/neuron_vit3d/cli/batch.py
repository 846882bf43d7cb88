"""Runs a command on many inputs, one after the other: one bar, one summary, and errors that stop no other input."""

import hashlib
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import typer

from ..files import locked
from ..progress import Progress
from .errors import told
from .input import check_folder
from .many import Input
from .output import Output, listening, note, telling_logged_warnings
from .summary import DONE, FAILED, Row, read_summary, write_summary


class Work(Protocol):
    """The work of a batch on each input."""

    @property
    def settings(self) -> str:
        """Tells all that decides the results beside the inputs."""
        ...

    def results(self, input: Input) -> list[Path]:
        """Lists all files that an input may become."""
        ...

    def do(self, input: Input, out: Output, progress: Callable[[float], None]) -> None:
        """Does one input; tells `out` what was written, and `progress` how much of it is done."""
        ...


@dataclass
class Batch:
    """Many inputs of one command.

    Attributes:
        command: `segment` or `trace`.
        inputs: with names that no two share.
        folder: of the results and the summary.
        as_json: print an object for each input instead of a line.
        quiet: do not tell how far it is.
        strict: stop at the first input that fails.
    """

    command: str
    inputs: list[Input]
    folder: Path
    as_json: bool = False
    quiet: bool = False
    strict: bool = False

    def run(self, work: Work) -> None:
        """Does what is not done.

        Raises:
            typer.Exit: with status 1, where something failed.
            OSError: the folder cannot be written to, or another run is doing so.
        """
        check_folder(self.folder)
        summary = self.folder / "summary.csv"
        earlier, settings = read_summary(summary), work.settings  # first: without a model nothing can be done
        with _alone(summary), telling_logged_warnings():
            rows = []
            for input in self.inputs:
                row, key = earlier.get(input.name), self._made_with(input, work, settings)
                is_done = row is not None and row.status == DONE and key and row.made_with == key
                rows.append(
                    replace(row, file=str(input.path)) if row and is_done else Row(str(input.path), input.name)
                )
            kept = [row.name for row in rows if row.status == DONE]
            if kept:
                note(f"{len(kept)} of {len(rows)} are done by an earlier run, and stay as they are")
            write_summary(summary, rows)
            sizes = [_size(input.path) for input in self.inputs]
            before = sum(size for size, row in zip(sizes, rows, strict=True) if row.status == DONE)
            shown = not self.quiet and len(kept) < len(rows)
            sources = {input.path.resolve() for input in self.inputs}
            with Progress(self.command, sum(sizes), unit="byte", initial=before, shown=shown) as bar:
                for number, (input, row, size) in enumerate(zip(self.inputs, rows, sizes, strict=True), 1):
                    if row.status != DONE:
                        bar.tell(file=f"{number} of {len(rows)}")
                        self._do(input, row, work, settings, sources, bar, size)
                        write_summary(summary, rows)
                        if row.status == FAILED and self.strict:
                            break
                    elif self.as_json:
                        self._print_json(row, work.results(input), {"from_earlier_run": True}, bar)
        self._end(rows, summary)

    def _do(
        self, input: Input, row: Row, work: Work, settings: str, sources: set[Path], bar: Progress, size: int
    ) -> None:
        """Does one input, and fills its row."""
        out, heard, begun, counted = Output(as_json=True), [], time.monotonic(), bar.done

        def hear(line: str, is_warning: bool) -> None:
            heard.extend([line] if is_warning else [])
            where = "" if str(input.path) in line else f"{input.path}: "
            bar.write(f"neuron-vit3d: {where}{line}")

        def progress(share: float) -> None:
            bar.update(counted + int(share * size) - bar.done)

        try:
            # Whoever has changed the filters meanwhile is forgotten; a warning is told again for each input.
            with listening(hear), warnings.catch_warnings():
                self._check_sources(input, work, sources)
                work.do(input, out, progress)
            row.status = DONE
            row.fill(out.figures)
            row.made_with = self._made_with(input, work, settings)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted at {input.path}; the same command goes on") from None
        except Exception as error:
            row.status, row.error = FAILED, told(error) or ""
            if not row.error:
                row.error = f"{input.path}: a mistake of this program: {type(error).__name__}: {error}"
                bar.write(traceback.format_exc().rstrip())
            where = "" if str(input.path) in row.error else f"{input.path}: "
            row.error = where + " ".join(row.error.split())
            bar.write(f"neuron-vit3d: error: {row.error}")
        row.warnings = "; ".join(dict.fromkeys([*heard, *out.warnings]))
        row.seconds = round(time.monotonic() - begun, 3)
        progress(1)
        if self.as_json:
            self._print_json(row, work.results(input), out.figures, bar)
        elif row.status == DONE:
            bar.write(f"{input.path}  {_in_words(row, work.results(input))}", file=sys.stdout)

    def _check_sources(self, input: Input, work: Work, sources: set[Path]) -> None:
        for result in work.results(input):
            if result.resolve() in sources:
                raise ValueError(f"{result}: expected another file to write than those that are read")

    def _print_json(self, row: Row, results: list[Path], figures: dict[str, Any], bar: Progress) -> None:
        written = [path for path in results if path.exists()] if row.status == DONE else []
        bar.write(json.dumps({**figures, **row.public(), "written": written}, default=str), file=sys.stdout)

    def _made_with(self, input: Input, work: Work, settings: str) -> str:
        """A word for an input, how it is done, and its results as they lie on disk; none where it cannot be told."""
        from neuron_vit3d import __version__

        from ..volumes.names import has_voxels_elsewhere
        from ..volumes.on_disk import on_disk

        if has_voxels_elsewhere(input.path):
            return ""
        try:
            words = [__version__, self.command, settings, input.path.resolve(), on_disk(input.path)]
            for path in work.results(input):
                words += [path.name, on_disk(path) if path.exists() else None]
        except (OSError, ValueError):
            return ""
        return hashlib.sha256("\n".join(map(str, words)).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _end(self, rows: list[Row], summary: Path) -> None:
        count = {status: sum(row.status == status for row in rows) for status in (DONE, FAILED)}
        left = len(rows) - sum(count.values())
        line = f"{count[DONE]} of {len(rows)} done, {count[FAILED]} failed"
        line += f", {left} not begun (--strict stops at the first that fails)" if left else ""
        line += f"; {summary}"
        if self.as_json:
            note(line)
        else:
            print(line, flush=True)
        if count[FAILED]:
            raise typer.Exit(1)


def _in_words(row: Row, results: list[Path]) -> str:
    """What is printed of an input that is done."""
    trees = [str(path) for path in results if path.suffix == ".swc" and path.exists()]
    words = [f"{row.nodes} nodes, {row.length:.0f} voxels long"] if trees else []
    words += ["no tree"] if row.trees == 0 else []
    if row.neuron_share is not None:
        words.append(f"{row.neuron_share:.3%} of the voxels are neuron")
    words.append(f"{row.seconds:.1f} s")
    return "  ".join([*(trees or [str(results[0])]), ", ".join(words)])


def _size(path: Path) -> int:
    from ..volumes.on_disk import on_disk

    try:
        return on_disk(path).size
    except (OSError, ValueError):
        return 0


@contextmanager
def _alone(summary: Path) -> Iterator[None]:
    """Keeps other runs from writing the same summary."""
    lock = summary.with_name(f".{summary.name}.lock")
    try:
        file = locked(lock)
    except BlockingIOError as error:
        raise ValueError(f"{summary}: another run is writing it; wait for it, or choose another --output") from error
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
