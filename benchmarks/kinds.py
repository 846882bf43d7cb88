"""What becomes of files that are odd in one of the ways that have been reported, in each format that has the kind.

A row for each case: the command, its exit status, what it says, and what came out. Everything is made here.

    python benchmarks/kinds.py --output benchmarks/results/kinds.md
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from kinds_images import IMAGE_KINDS
from kinds_trees import TREE_KINDS
from typer.testing import CliRunner

from neuron_vit3d import read_volume
from neuron_vit3d.cli import app
from neuron_vit3d.morphology.formats.registry import read_tree


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    says: str
    came: str


def main(output: Annotated[Path | None, typer.Option(help="Markdown file. Default: standard output.")] = None) -> None:
    """Runs all cases and writes the tables."""
    output = None if output is None else output.resolve()
    lines = [
        "# Kinds of odd files",
        "",
        "`benchmarks/kinds.py`: each kind in the formats and commands that have it. Status 2 is a refusal; what is "
        "said is on standard error. Microscope makers' files that bioio reads are not among them: nothing here can "
        "write them.",
    ]
    for kind, cases in (*IMAGE_KINDS.items(), *TREE_KINDS.items()):
        lines += ["", f"## {kind}", "", "| what | command | status | says | came out |", "|---|---|---:|---|---|"]
        for what, make in cases.items():
            words, outcome = run(make)
            cells = (what, f"`{words}`", str(outcome.status), outcome.says, outcome.came)
            lines.append("|" + "".join(f" {cell.replace('|', '/')} |" for cell in cells))
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        output.write_text(text)


def run(make: Callable[[], list[str]]) -> tuple[str, Outcome]:
    """Makes the files of a case in a folder of its own, and runs its command there."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with warnings.catch_warnings(action="ignore"):
                words = make()
            there = set(Path().iterdir())
            with warnings.catch_warnings():
                result = CliRunner().invoke(app, words)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            says = " / ".join(line.removeprefix("neuron-vit3d: ") for line in result.stderr.strip().splitlines())
            came = "; ".join(in_words(path) for path in sorted(set(Path().iterdir()) - there))
            if not came and result.exit_code == 0:
                came = " ".join(result.stdout.split())[:120]
            return " ".join(words), Outcome(result.exit_code, says, came)
        finally:
            os.chdir(before)


def in_words(path: Path) -> str:
    """What a result holds."""
    if path.suffix == ".tif":
        with warnings.catch_warnings(action="ignore"):
            volume = read_volume(path)
        size = "unknown" if volume.voxel_size is None else " ".join(f"{side:.4g}" for side in volume.voxel_size)
        sides = " x ".join(map(str, volume.array.shape))
        return f"{sides} {volume.dtype}, voxel {size}, {int((volume.array > 0).sum())} above 0"
    if path.suffix == ".swc":
        tree = read_tree(path)
        radii = " ".join(f"{radius:g}" for radius in tree.radii[:6])
        return (
            f"{path.name}: {len(tree)} nodes in {tree.num_components} trees, radii {radii}{' ...' * (len(tree) > 6)}"
        )
    return path.name


if __name__ == "__main__":
    typer.run(main)
