"""Which of napari's layers shows a large tree soonest: python benchmarks/napari_layers.py --output FILE.md

A random tree; each layer is made and given its colors without a window (QT_QPA_PLATFORM=offscreen).
"""

import argparse
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from napari.layers import Points, Shapes, Tracks, Vectors

from neuron_vit3d.apps.napari.layers import tree_layer
from neuron_vit3d.morphology import Tree


BRANCH = 1000  # nodes of a branch


def random_tree(count: int) -> Tree:
    """A tree of `count` nodes in branches of 1000, each of which begins at a node of an earlier one."""
    rng = np.random.default_rng(0)
    parents = np.arange(-1, count - 1)
    starts = np.arange(BRANCH, count, BRANCH)
    parents[starts] = rng.integers(0, starts)
    return Tree.from_parents(np.cumsum(rng.normal(0, 0.5, (count, 3)), axis=0), np.ones(count), parents)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def vectors(tree: Tree):
    data, arguments, _ = tree_layer(tree, "tree")
    return Vectors(data, **arguments)


def points(tree: Tree):
    return Points(tree.xyz[:, ::-1], face_color=np.tile([1.0, 0.3, 0.2, 1.0], (len(tree), 1)))


def tracks(tree: Tree):
    count = len(tree) // BRANCH
    number = np.repeat(np.arange(count), BRANCH)
    when = np.tile(np.arange(BRANCH), count)
    above = {branch: [int(tree.parent_index[branch * BRANCH]) // BRANCH] for branch in range(1, count)}
    return Tracks(np.column_stack([number, when, tree.xyz[: len(number), ::-1]]), graph=above)


def shapes(tree: Tree):
    paths = [tree.xyz[i : i + BRANCH, ::-1] for i in range(0, len(tree), BRANCH)]
    return Shapes(paths, shape_type="path", ndim=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    rows = []
    for make in (vectors, points, tracks, shapes):  # what is imported on first use
        make(random_tree(BRANCH))
    for count in (10_000, 100_000, 1_000_000):
        tree = random_tree(count)
        for make in (vectors, points, tracks, shapes):
            rows.append((make.__name__, count, seconds(lambda make=make, tree=tree: make(tree))))
            print(*rows[-1], flush=True)
    layer = vectors(tree)
    again = seconds(lambda: setattr(layer, "edge_color", layer.edge_color[::-1].copy()))
    lines = [
        "# napari's layers for a tree",
        "",
        f"`python benchmarks/napari_layers.py`, napari {version('napari')}, one core. Seconds until a layer of a",
        f"random tree is made, whose branches have {BRANCH} nodes. Vectors have a color for each edge, and the",
        "time includes the confidence of every branch, which the plugin finds. Tracks and shapes are a path for",
        "each branch.",
        "",
        "| layer | 10,000 nodes | 100,000 | 1,000,000 |",
        "|---|---|---|---|",
    ]
    for name in ("vectors", "points", "tracks", "shapes"):
        cells = [f"{time:.2f}" for layer_name, _, time in rows if layer_name == name]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Vectors of the largest tree get new colors in {again:.2f} s. Points show no lines.",
    ]
    output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
