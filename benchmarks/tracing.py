"""Tracing beside kimimaro and a plain spanning tree, and its time and memory where it is large.

Each part prints Markdown.

    python benchmarks/tracing.py peers       # synthetic neurons, whole and damaged
    python benchmarks/tracing.py real --data-dir folder --names a b    # masks of gold trees, and the model's scores
    python benchmarks/tracing.py size        # 512^3 with a million foreground voxels
    python benchmarks/tracing.py size --side 1024 --voxels 10500000    # so many that they are traced region by region
    python benchmarks/tracing.py regions     # one mask traced as a whole and region by region: how like are the trees?
    python benchmarks/tracing.py distance    # `tree_distance` of two trees of 100,000 nodes

kimimaro is GPL-3, so it is no extra of this package: `pip install kimimaro` beside it; without it its columns are left
out. All three trim their tips by the same rule (that of `trace`), since center lines that run to the surface would be
punished.
"""

import logging
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import typer
from basics import report
from outcome import OutputOption
from scipy import ndimage
from tracing_peers import BRIDGE, by_kimimaro, by_skeletonize, kimimaro, trimmed

from neuron_vit3d import Tree, rasterize, segment, synthetic_neuron, trace, tree_distance
from neuron_vit3d.data.synthetic_tree import grow_tree
from neuron_vit3d.tracing import by_region
from neuron_vit3d.tracing import teasar as tracing


app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def peers(output: OutputOption = None, neurons: int = 4, first_seed: int = 9000) -> None:
    """Masks of synthetic neurons, whole and damaged (gaps, rough surface, specks): F1 at 2 voxels, ESA and time."""
    rows = []
    for side in (128, 256):
        for kind in ("clean", "damaged"):
            figures = []
            for seed in range(first_seed, first_seed + neurons):
                tree = synthetic_neuron((side, side, side), seed=seed, quality="clean").tree
                mask = rasterize(tree, (side, side, side))
                figures.append(compare(mask if kind == "clean" else damaged(mask, tree, seed), tree))
            rows.append((f"{kind}, {side}^3", figures))
    report("tracing.py peers", table(rows, f"{neurons} neurons, seeds from {first_seed}"), output)


@app.command()
def real(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    names: Annotated[list[str], typer.Option(help="Names of the pairs; repeat the option.")],
    output: OutputOption = None,
    model: str | None = None,
) -> None:
    """Real neurons: the mask of the gold tree, and the scores of a checkpoint."""
    from neuron_vit3d.data.pairs import find_pairs
    from neuron_vit3d.morphology import read_swc

    pairs, rows = {pair.name: pair for pair in find_pairs(data_dir)}, []
    for name in names:
        gold = read_swc(pairs[name].annotation, mend_structure=True)
        scores = segment(pairs[name].image, model).array
        rows.append((f"{name}, mask of the gold tree", [compare(rasterize(gold, scores.shape), gold)]))
        rows.append((f"{name}, scores", [compare(scores, gold)]))
    report("tracing.py real", table(rows, "of one neuron each"), output)


@app.command()
def size(output: OutputOption = None, side: int = 512, voxels: int = 1_000_000) -> None:
    """Time and memory of a large mask with about so many foreground voxels, in a process of its own."""
    code = (
        "import resource, sys, time; import numpy as np; from neuron_vit3d import rasterize, synthetic_neuron, trace\n"
        "from tracing import mask_of_size\n"
        f"mask, tree = mask_of_size({side}, {voxels})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; started = time.monotonic()\n"
        "found = trace(mask)\n"
        "print(np.count_nonzero(mask), len(found), time.monotonic() - started, before, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    count, nodes, seconds, before, peak = done.stdout.split()
    lines = [
        "| foreground voxels | nodes | seconds | peak memory of the process, GB | before tracing, GB |",
        "|---|---|---|---|---|",
        f"| {count} in {side}^3 | {nodes} | {float(seconds):.1f} | {int(peak) / 1e6:.2f} | {int(before) / 1e6:.2f} |",
    ]
    report("tracing.py size", lines, output)


@app.command()
def regions(output: OutputOption = None, side: int = 512, voxels: int = 1_000_000, region: int = 128) -> None:
    """A mask traced as a whole, and region by region though it is not too large for the whole."""
    mask, _ = mask_of_size(side, voxels)
    trees, seconds = [], []
    for at_once in (tracing.VOXELS_AT_ONCE, 0):  # with 0 no mask is small enough for the whole
        with (
            mock.patch.object(tracing, "VOXELS_AT_ONCE", at_once),
            mock.patch.object(by_region, "REGION_SIDES", (region, by_region.REGION_SIDES[-1])),
        ):
            started = time.monotonic()
            trees.append(trace(mask))
            seconds.append(time.monotonic() - started)
    distances = tree_distance(*reversed(trees))
    lines = [
        f"| {np.count_nonzero(mask)} voxels in {side}^3 | nodes | time | F1 at 2 voxels | ESA |",
        "|---|---|---|---|---|",
        f"| as a whole | {len(trees[0])} | 1.00 | | |",
        f"| by regions of {region}^3 | {len(trees[1])} | {seconds[1] / seconds[0]:.2f} | {distances['f1']:.4f} | "
        f"{distances['esa']:.3f} |",
    ]
    report("tracing.py regions", lines, output)


def mask_of_size(side: int, voxels: int) -> tuple[np.ndarray, Tree]:
    """Synthetic neurons until so many voxels are theirs, and the last tree."""
    mask = np.zeros((side, side, side), bool)
    for seed in range(9100, 9300):
        tree = grow_tree(mask.shape, np.random.default_rng(seed), kind="arbor")
        mask |= rasterize(tree, mask.shape)
        if np.count_nonzero(mask) >= voxels:
            break
    return mask, tree


@app.command()
def distance(output: OutputOption = None, nodes: int = 100_000, small: int = 100) -> None:
    """`tree_distance`: equal to the definition read literally, on small trees; time and memory on large ones."""
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(5):
        first, second = (walk(small, rng) for _ in range(2))
        found, expected = tree_distance(first, second), literally(first, second)
        differences.append(max(abs(found[key] - expected[key]) for key in expected))
    first = walk(nodes, rng)
    second = Tree.from_parents(first.xyz + rng.normal(0, 1, first.xyz.shape), first.radii, parents_of(first))
    started = time.monotonic()
    tree_distance(first, second)
    seconds = time.monotonic() - started
    lines = [
        "| | |",
        "|---|---|",
        f"| largest difference from the definition, 5 pairs of {small} nodes | {max(differences):.1e} |",
        f"| two trees of {nodes} nodes | {seconds:.2f} s |",
        f"| peak memory of the process | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB |",
    ]
    report("tracing.py distance", lines, output)


# -- what is compared ------------------------------------------------------------------------------------------------


def compare(scores: np.ndarray, gold: Tree) -> dict[str, dict[str, float]]:
    """Figures of each method on a mask, or on scores, whose mask is that of the threshold 0.5."""
    mask = scores if scores.dtype == bool else scores >= 0.5
    labels = mask.astype(np.uint8)  # what kimimaro wants
    methods: dict[str, Callable] = {"ours": lambda: trace(scores, bridge_distance=BRIDGE)}
    if kimimaro() is not None:
        methods["kimimaro"] = lambda: by_kimimaro(labels)
    methods["skeletonize"] = lambda: by_skeletonize(mask)
    figures = {}
    for name, method in methods.items():
        seconds = []
        for _ in range(2):  # the first run loads what the method needs
            started = time.monotonic()
            found = method()
            seconds.append(time.monotonic() - started)
        # What makes a tree of the peers' lines is not their time.
        tree = found if isinstance(found, Tree) else trimmed(*found, mask.shape)
        distances = tree_distance(tree, gold)
        figures[name] = {
            "f1": distances["f1"],
            "esa": distances["esa"],
            "drawn": dice(rasterize(tree, mask.shape), rasterize(gold, mask.shape)),
            "seconds": min(seconds),
        }
    return figures


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def table(rows: list[tuple[str, list[dict]]], what: str) -> list[str]:
    methods = list(rows[0][1][0])
    lines = [
        f"Means ({what}). Drawn: Dice of the trees, drawn with their radii. Time: of two runs the faster; the sum "
        "over kimimaro's, where there is one, or ours.",
        "",
        "| | " + " | ".join(f"{name}: F1 | ESA | drawn | time" for name in methods) + " |",
        "|---|" + "---|" * (4 * len(methods)),
    ]
    reference = "kimimaro" if "kimimaro" in methods else "ours"
    for title, figures in rows:
        cells = []
        whole = sum(one[reference]["seconds"] for one in figures)
        for name in methods:
            f1, esa, drawn = (np.mean([one[name][key] for one in figures]) for key in ("f1", "esa", "drawn"))
            time_over = sum(one[name]["seconds"] for one in figures) / whole
            cells.append(f"{f1:.3f} | {esa:.2f} | {drawn:.3f} | {time_over:.2f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def damaged(mask: np.ndarray, tree: Tree, seed: int) -> np.ndarray:
    """Damages a mask as a model might leave it.

    Neurites have gaps of 3 to 12 voxels, a rough surface, and specks beside them.
    """
    rng = np.random.default_rng(seed)
    result = mask.copy()
    z, y, x = np.ogrid[tuple(slice(0, side) for side in mask.shape)]
    thin = np.flatnonzero(tree.radii < 3)
    for node in rng.choice(thin, min(len(thin), 12), replace=False):
        radius = rng.uniform(1.5, 6)
        at = tree.xyz[node]
        result[(z - at[2]) ** 2 + (y - at[1]) ** 2 + (x - at[0]) ** 2 <= radius**2] = False
    surface = result & ~ndimage.binary_erosion(result)
    result[surface & (rng.random(mask.shape) < 0.25)] = False
    shell = ndimage.binary_dilation(result) & ~result
    result[shell & (rng.random(mask.shape) < 0.15)] = True
    for _ in range(40):
        center = [rng.integers(2, side - 2) for side in mask.shape]
        result[tuple(slice(c - rng.integers(1, 3), c + rng.integers(1, 3)) for c in center)] = True
    return result


# -- trees to measure distances of ------------------------------------------------------------------------------------


def walk(nodes: int, rng: np.random.Generator) -> Tree:
    """A random tree: each node near one of the last hundred before it."""
    parents = np.array([-1, *(max(0, i - 1 - int(rng.integers(0, min(i, 100)))) for i in range(1, nodes))])
    steps = rng.normal(0, 1.5, (nodes, 3))
    points = steps.copy()
    for i in range(1, nodes):
        points[i] += points[parents[i]]
    return Tree.from_parents(points, np.ones(nodes), parents)


def parents_of(tree: Tree) -> np.ndarray:
    row = dict(zip(tree.ids.tolist(), range(len(tree)), strict=True))
    return np.array([row.get(parent, -1) for parent in tree.parents.tolist()])


def literally(predicted: Tree, gold: Tree) -> dict[str, float]:
    """The definition of BigNeuron's distances, read word by word; takes all pairs."""

    def distances(source: Tree, target: Tree) -> np.ndarray:
        samples = []
        for child, parent in source.edges:
            begin, end = source.xyz[child], source.xyz[parent]
            length = np.linalg.norm(end - begin)
            count = int(1 + length + 0.5)
            for i in range(count):
                samples.append(begin if count == 1 else begin + i / (count - 1) * (end - begin))
        result = []
        for sample in samples:
            best = np.inf
            for child, parent in target.edges:
                begin, end = target.xyz[child], target.xyz[parent]
                along = end - begin
                squared = along @ along
                t = 0.0 if squared == 0 else min(max((sample - begin) @ along / squared, 0.0), 1.0)
                best = min(best, np.linalg.norm(sample - begin - t * along))
            result.append(best)
        return np.array(result)

    there, back = distances(predicted, gold), distances(gold, predicted)
    different = [d[d >= 2] for d in (there, back)]
    dsa = [d.mean() for d in different if len(d)]
    return {
        "esa12": there.mean(),
        "esa21": back.mean(),
        "esa": (there.mean() + back.mean()) / 2,
        "dsa": float(np.mean(dsa)) if dsa else 0.0,
        "pds": (np.mean(there >= 2) + np.mean(back >= 2)) / 2,
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # what tracing drops is not to be told for each mask
    app()
