"""Does a tree keep its length on the way into other programs? Lengths of SWC, .traces and precomputed skeletons.

python benchmarks/other_programs.py --data-dir ../shared/data/gold166_mip --output benchmarks/results/other_programs.md

Each tree is written in each format with a voxel size, and read again by something else than this package: SWC by
MorphIO (voxels, whose sides are multiplied here), `.traces` by the few lines below, made after SNT's public
description, precomputed skeletons by the lines below and, where it is installed, by osteoid (cloud-volume's skeletons;
`pip install osteoid`, which is no dependency).
"""

import gzip
import json
import logging
import math
import struct
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import morphio
import numpy as np
import outcome
import typer
from outcome import OutputOption

from neuron_vit3d import Tree, measure, read_swc, write_tree


VOXEL_SIZE = (0.7, 0.3, 0.25)  # z, y, x in micrometres


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of neurons: ID/gold.swc.")],
    count: Annotated[int, typer.Option(help="How many neurons, in the order of their names.")] = 10,
    output: OutputOption = None,
) -> None:
    """Writes trees for other programs, reads them again, and writes a table of their lengths."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    morphio.set_maximum_warnings(0)
    files = sorted(data_dir.glob("*/gold.swc"), key=lambda path: (len(path.parent.name), path.parent.name))[:count]
    rows = [(path.parent.name, *lengths(read_swc(path, mend_structure=True))) for path in files]
    outcome.write(report(rows), output)


def lengths(tree: Tree) -> tuple[float, ...]:
    """Micrometres: of the tree here, and of each file as others read it; NaN for what is not installed."""
    plain = Tree.from_parents(tree.xyz, tree.radii, tree.parent_index, np.where(tree.types == 1, 1, 3))
    with tempfile.TemporaryDirectory() as folder:
        swc = write_tree(Path(folder) / "tree.swc", plain)
        traces = write_tree(Path(folder) / "tree.traces", tree, voxel_size=VOXEL_SIZE)
        skeletons = write_tree(Path(folder) / "tree.precomputed", tree, voxel_size=VOXEL_SIZE)
        return (
            measure(tree, voxel_size=VOXEL_SIZE).figures["length"],
            by_morphio(swc),
            of_traces(traces),
            of_precomputed(skeletons),
            by_osteoid(skeletons),
        )


def by_morphio(path: Path) -> float:
    """The length of all sections, and of the way to them from a soma of one node."""
    neuron = morphio.Morphology(str(path))
    sides = np.array(VOXEL_SIZE[::-1])
    total = 0.0
    for section in neuron.iter():
        points = np.asarray(section.points, float)
        if section.is_root and len(neuron.soma.points):
            points = np.vstack([neuron.soma.points[:1], points])
        total += np.linalg.norm(np.diff(points * sides, axis=0), axis=1).sum()
    return float(total)


def of_traces(path: Path) -> float:
    """The length of all paths: the distances of their points, which are in micrometres."""
    total = 0.0
    for one in ElementTree.fromstring(gzip.decompress(path.read_bytes())).iter("path"):
        points = [[float(point.get(f"{axis}d", "nan")) for axis in "xyz"] for point in one.iter("point")]
        total += sum(math.dist(first, second) for first, second in pairwise(points))
    return total


def of_precomputed(path: Path) -> float:
    """The length of the edges of segment 1, whose positions are in nanometres."""
    content = (path / "1").read_bytes()
    vertices, edges = struct.unpack("<II", content[:8])
    places = np.frombuffer(content, "<f4", 3 * vertices, 8).reshape(-1, 3).astype(float)
    ends = np.frombuffer(content, "<u4", 2 * edges, 8 + 12 * vertices).reshape(-1, 2)
    return float(np.linalg.norm(places[ends[:, 0]] - places[ends[:, 1]], axis=1).sum() / 1000)


def by_osteoid(path: Path) -> float:
    """The length that cloud-volume's skeletons have."""
    try:
        from osteoid import Skeleton
    except ImportError:
        return math.nan
    attributes = json.loads((path / "info").read_text())["vertex_attributes"]
    return Skeleton.from_precomputed((path / "1").read_bytes(), vertex_attributes=attributes).cable_length() / 1000


def report(rows: list[tuple]) -> str:
    """Markdown: a row for each tree, and the largest difference of each column."""
    names = ("here", "MorphIO, SWC", ".traces", "precomputed", "osteoid, precomputed")
    lines = ["# Lengths in other programs", "", "`benchmarks/other_programs.py`: micrometres, of Gold166 gold trees."]
    lines += ["", "| neuron |" + "".join(f" {name} |" for name in names), "| ---: |" + " ---: |" * len(names)]
    lines += [f"| {name} |" + "".join(f" {length:.4f} |" for length in found) for name, *found in rows]
    found = np.array([row[1:] for row in rows])
    apart = (np.abs(found[:, 1:] - found[:, :1]) / found[:, :1]).max(axis=0)
    told = ", ".join(f"{name} {one:.0e}" for name, one in zip(names[1:], apart, strict=True) if np.isfinite(one))
    lines += ["", f"The largest differences, as a share of the length: {told}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
