"""Prints what a benchmark found and writes it to a file, for those that take `--output`."""

from pathlib import Path
from typing import Annotated

import typer


OutputOption = Annotated[Path | None, typer.Option(help="Markdown file to write.")]


def write(text: str, output: Path | None) -> None:
    """Prints a report, and writes it where a file is asked for; its folder is made."""
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
