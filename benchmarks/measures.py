"""Are the measures of a tree those of neurom? Length, branches and Sholl crossings of BigNeuron's gold trees.

python benchmarks/measures.py --data-dir ../shared/data/gold166_mip --output benchmarks/results/measures.md

neurom reads a file of its own: it wants a soma first, and takes edges to it for no part of a neurite. So each tree is
measured as it is, and once more as neurom is given it: a soma of one point is put at the root, without an edge, and
every branch that leaves the root is a tree of its own. What differs then is told in the last columns.
"""

import dataclasses
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import outcome
import typer
from outcome import OutputOption

from neuron_vit3d import Tree, measure, read_swc
from neuron_vit3d.morphology.measures import sholl_center, sholl_crossings


STEP = 10.0  # voxels between Sholl spheres


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of neurons: ID/gold.swc.")],
    count: Annotated[int, typer.Option(help="How many neurons, in the order of their names.")] = 10,
    output: OutputOption = None,
) -> None:
    """Measures trees with this package and with neurom, and writes a table of both."""
    logging.getLogger("morphio").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    files = sorted(data_dir.glob("*/gold.swc"), key=lambda path: (len(path.parent.name), path.parent.name))[:count]
    if not files:
        raise SystemExit(f"{data_dir}: expected folders with gold.swc, found none")
    outcome.write(report([compared(path) for path in files]), output)


def compared(path: Path) -> dict[str, Any]:
    """The measures of one tree, by both."""
    tree = read_swc(path, mend_structure=True)
    ours = measure(tree, sholl_step=STEP)
    given, without_stems = as_neurom_has_it(tree)
    with tempfile.TemporaryDirectory() as folder:
        theirs = by_neurom(given.write(Path(folder) / "tree.swc"), sholl_center(tree), ours.sholl.radius)
    same = measure(without_stems, sholl_step=STEP)
    crossings = sholl_crossings(without_stems, sholl_center(tree), STEP).crossings
    crossings = np.pad(crossings, (0, max(len(theirs["sholl"]) - len(crossings), 0)))[: len(theirs["sholl"])]
    return {
        "neuron": path.parent.name,
        "length": ours.figures["length"],
        "length, neurom": theirs["length"],
        "stems": ours.figures["length"] - same.figures["length"],
        "branches": same.figures["branches"],
        "branches, neurom": theirs["branches"],
        "tips": theirs["tips"],
        "strahler": same.figures["strahler"],
        "strahler, neurom": theirs["strahler"],
        "tortuosity": same.figures["tortuosity_mean"],
        "tortuosity, neurom": theirs["tortuosity"],
        "most crossings": int(ours.sholl.crossings.max()),
        "most crossings, neurom": int(max(theirs["sholl"])),
        "spheres": len(theirs["sholl"]),
        "spheres that differ": int((crossings != theirs["sholl"]).sum()),
    }


def as_neurom_has_it(tree: Tree) -> tuple[Tree, Tree]:
    """The tree with its first root as a soma, and what neurom measures of that: the edges but those to the soma."""
    root = tree.roots[0]
    types = np.where(np.arange(len(tree)) == root, 1, 3)  # neurom refuses types of its own of a program
    parents = tree.parent_index.copy()
    given = dataclasses.replace(tree, types=types)
    parents[parents == root] = -1
    keep = np.arange(len(tree)) != root
    rows = np.cumsum(keep) - 1
    kept = np.where(parents[keep] < 0, -1, rows[parents[keep]])
    return given, Tree.from_parents(tree.xyz[keep], tree.radii[keep], kept, types[keep])


def by_neurom(path: Path, center: np.ndarray, radii: np.ndarray) -> dict[str, Any]:
    """What neurom says of a file."""
    import neurom

    neuron = neurom.load_morphology(path)
    return {
        "length": float(neurom.get("total_length", neuron)),
        "branches": int(neurom.get("number_of_sections", neuron)),
        "tips": int(neurom.get("number_of_leaves", neuron)),
        "strahler": int(max(neurom.get("section_strahler_orders", neuron))),
        "tortuosity": float(np.mean(neurom.get("section_tortuosity", neuron))),
        "sholl": list(neurom.get("sholl_crossings", neuron, center=center, radii=radii)),
    }


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown: what was measured, and a row for each tree."""
    keys = list(rows[0])
    lines = [
        "# Measures beside neurom's",
        "",
        f"`benchmarks/measures.py`: {len(rows)} of BigNeuron's Gold166 gold trees, in voxels, Sholl spheres every "
        f"{STEP:g}. The length is that of all edges; neurom's is without the edges to the soma (`stems`). Branches, "
        "Strahler orders and tortuosity are of the tree without these.",
        "",
        "|" + "".join(f" {key} |" for key in keys),
        "|" + " ---: |" * len(keys),
    ]
    lines += ["|" + "".join(f" {cell(row[key])} |" for key in keys) for row in rows]
    apart = [abs(row["length"] - row["stems"] - row["length, neurom"]) / row["length"] for row in rows]
    same = sum(
        row["branches"] == row["branches, neurom"] and row["strahler"] == row["strahler, neurom"] for row in rows
    )
    spheres, differ = (sum(row[key] for row in rows) for key in ("spheres", "spheres that differ"))
    lines += [
        "",
        f"Lengths without stems differ by at most {max(apart):.1e} of the length (neurom computes with 32 bits). "
        f"Branches and Strahler orders are the same in {same} of {len(rows)} trees; where neurom has a branch more, "
        "one node alone hangs on the soma, which is a section of one point there and no branch here. "
        f"Of {spheres} Sholl spheres {differ} have another count. (A node that lies on a sphere would be counted "
        "twice by neurom, for both edges that meet there, and once here.)",
    ]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """A value as it stands in the table."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
