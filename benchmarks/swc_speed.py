"""How fast large SWC files are read, beside MorphIO, and written.

python benchmarks/swc_speed.py --output benchmarks/results/swc_speed.md

The tree has long branches, as traced neurons have. MorphIO keeps numbers of 32 bits, and no ids. Each is read by turns
in this process; the best of the rounds counts, in processor time.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import morphio
import numpy as np
import outcome
import typer
from outcome import OutputOption

from neuron_vit3d import Tree, read_swc
from neuron_vit3d.morphology import swc_columns


BRANCH = 200  # nodes


def main(output: OutputOption = None, nodes: int = 1_000_000, rounds: int = 5) -> None:
    """Reads and writes a tree, and writes a table of the times."""
    morphio.set_maximum_warnings(0)
    tree = long_tree(nodes)
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = tree.write(Path(folder) / "tree.swc")
        size = path.stat().st_size
        work: dict[str, Callable[[], object]] = {
            "MorphIO, read": lambda: morphio.Morphology(str(path)),
            "read": lambda: read_swc(path),
            "read, line by line": lambda: by_lines(lambda: read_swc(path)),
            "written": lambda: tree.write(Path(folder) / "again.swc"),
            "written, line by line": lambda: by_lines(lambda: tree.write(Path(folder) / "again.swc")),
        }
        for _ in range(rounds):
            for name, call in work.items():
                started = time.process_time()
                call()
                best[name] = min(best.get(name, np.inf), time.process_time() - started)
        again = read_swc(path)
    same = all(
        np.array_equal(getattr(again, name), getattr(tree, name)) for name in ("ids", "xyz", "radii", "parents")
    )
    lines = [
        f"# An SWC file of {nodes} nodes",
        "",
        f"`benchmarks/swc_speed.py`; {size / 1e6:.0f} MB, {platform.machine()}; processor seconds, best of {rounds}.",
        "",
        "| | seconds | / MorphIO |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {seconds:.2f} | {seconds / best['MorphIO, read']:.2f} |" for name, seconds in best.items()),
        "",
        f"Read again, all numbers are {'the same bit for bit' if same else 'NOT the same'}. Files that are not "
        "regular,",
        f"and those below {swc_columns.LARGE_TEXT // 1024} kB, are read line by line; trees below "
        f"{swc_columns.LARGE_TREE} nodes are written so.",
    ]
    outcome.write("\n".join(lines) + "\n", output)


def long_tree(nodes: int) -> Tree:
    """A tree whose branches are `BRANCH` nodes long, each from the end of one before; two leave each end."""
    row = np.arange(nodes)
    branch = row // BRANCH
    before = (branch - 1) // 2
    parents = np.where(row % BRANCH == 0, before * BRANCH + BRANCH - 1, row - 1)
    parents[0] = -1
    random = np.random.default_rng(0)
    xyz = np.cumsum(random.normal(size=(nodes, 3)), axis=0)
    types = np.where(row == 0, 1, 3)
    return Tree.from_parents(xyz, random.random(nodes) + 0.5, parents, types)


def by_lines(call: Callable[[], object]) -> None:
    """Calls it as if nothing were large."""
    limits = swc_columns.LARGE_TEXT, swc_columns.LARGE_TREE
    swc_columns.LARGE_TEXT = swc_columns.LARGE_TREE = 1 << 60
    try:
        call()
    finally:
        swc_columns.LARGE_TEXT, swc_columns.LARGE_TREE = limits


if __name__ == "__main__":
    typer.run(main)
