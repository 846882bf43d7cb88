"""Are doubtful branches wrong more often? Compares the branches of trees traced from a model's scores with the truth.

python benchmarks/branch_confidence.py --data-dir ../shared/data/neurons --scores-dir folder --output report.md

A branch is wrong where more than half of its nodes lie farther from the gold tree than max(2 voxels, the gold radius
there). AUC is the chance that of a wrong and a right branch of one stack the wrong one is the less sure (0.5:
confidence says nothing); by length each branch counts with its length. Beside the confidence stand other measures of a
branch, each as if it were one. Scores are those of the model at its own threshold; `--scores-dir` keeps them, a .npy
file for each stack, from run to run.
"""

import itertools
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome
import typer
from outcome import OutputOption
from scipy.spatial import cKDTree

from neuron_vit3d import Tree, Volume, read_swc, read_volume, segment, synthetic_neuron, trace
from neuron_vit3d.morphology import points_along
from neuron_vit3d.morphology.branches import DOUBTFUL, find_branches


SYNTHETIC_SHAPE = (24, 160, 160)
# Seeds from here on; no training, test or other benchmark uses them.
FIRST_SEED = 910_000
WITHIN = 2.0  # voxels, as `tree_distance` has it
STEP = 0.5  # voxels between points on the gold tree
BINS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# What is compared: the confidence, and what else could have been it.
MEASURES = ("confidence", "lowest 9 nodes", "least on the way to the root", "share not bridged", "length")


def main(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of real neurons: tuff_*/image.tif and trace.swc.")
    ] = None,
    scores_dir: Annotated[Path | None, typer.Option(help="Where scores are kept from run to run.")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint. Default: the embedded one.")] = None,
    threshold: float | None = None,
    synthetic: Annotated[int, typer.Option(help="How many synthetic neurons.")] = 12,
    output: OutputOption = None,
) -> None:
    kinds = {"synthetic": synthetic_stacks(synthetic)}
    if data_dir is not None:
        kinds["real (tuff)"] = real_stacks(data_dir)
    at = "of each stack's noise" if threshold is None else f"{threshold:g}"
    text = f"Threshold {at}; a branch is doubtful with a confidence below {DOUBTFUL:g}.\n"
    for kind, stacks in kinds.items():
        figures = {}
        for name, image, gold in stacks:
            scores = scores_of(name, image, model, scores_dir)
            tree = trace(scores, threshold=threshold, voxel_size=image.voxel_size)
            figures[name] = judged(tree, gold)
        text += "\n" + report(kind, figures)
    outcome.write(text, output)


def synthetic_stacks(count: int) -> Iterator[tuple[str, Volume, Tree]]:
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        neuron = synthetic_neuron(SYNTHETIC_SHAPE, seed=seed)
        yield f"synthetic_{seed}", neuron.volume, neuron.tree


def real_stacks(data_dir: Path) -> Iterator[tuple[str, Volume, Tree]]:
    for folder in sorted(data_dir.glob("tuff_*")):
        with warnings.catch_warnings():  # of what was mended: hand-made traces are in fragments
            warnings.simplefilter("ignore")
            gold = read_swc(folder / "trace.swc", mend_structure=True)
        yield folder.name, read_volume(folder / "image.tif"), gold


def scores_of(name: str, image: Volume, model: str | None, scores_dir: Path | None) -> np.ndarray:
    kept = None if scores_dir is None else scores_dir / f"{name}.npy"
    if kept is not None and kept.exists():
        return np.load(kept).astype(np.float32)
    scores = segment(image, model).array
    if kept is not None:
        np.save(kept, scores)
    return scores


def judged(tree: Tree, gold: Tree) -> dict[str, np.ndarray]:
    """Of each branch: whether it is wrong (b,) bool, its length, its bridged length, and the MEASURES."""
    branches, branch = find_branches(tree)
    nearest = cKDTree(gold.xyz).query(tree.xyz)[1]
    distance = cKDTree(points_along(gold, STEP)).query(tree.xyz)[0]
    apart = distance > np.maximum(WITHIN, gold.radii[nearest])
    order = np.argsort(branch, kind="stable")
    order = order[branch[order] >= 0]
    nodes = np.split(order, np.flatnonzero(np.diff(branch[order])) + 1)  # of a traced tree from the root outwards
    least = branches.confidence.copy()
    for row, parent in enumerate(branches.parent_branch):  # parents come first
        if parent >= 0:
            least[row] = min(least[row], least[parent])
    return {
        "wrong": np.array([apart[rows].mean() > 0.5 for rows in nodes]),
        "size": branches.length,
        "bridged": branches.bridged_voxels,
        "confidence": branches.confidence,
        "lowest 9 nodes": np.array([running(tree.scores[rows], 9).min() for rows in nodes]),
        "least on the way to the root": least,
        "share not bridged": 1 - branches.bridged_voxels / np.maximum(branches.length, 1e-9),
        "length": branches.length,
    }


def running(values: np.ndarray, width: int) -> np.ndarray:
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1 / width), "valid")


def auc(measure: np.ndarray, wrong: np.ndarray, weight: np.ndarray) -> float:
    """Computes the chance that a wrong branch has less of a measure than a right one.

    Each is drawn by its weight; NaN where there are only wrong or only right ones.
    """
    if wrong.all() or not wrong.any():
        return np.nan
    values, place = np.unique(measure, return_inverse=True)
    of_wrong, of_right = (np.bincount(place, weight * is_one, minlength=len(values)) for is_one in (wrong, ~wrong))
    above = np.cumsum(of_right[::-1])[::-1] - of_right
    return float((of_wrong * (above + of_right / 2)).sum() / (of_wrong.sum() * of_right.sum()))


def report(kind: str, figures: dict[str, dict[str, np.ndarray]]) -> str:
    pooled = {key: np.concatenate([one[key] for one in figures.values()]) for key in next(iter(figures.values()))}
    wrong, size = pooled["wrong"], pooled["size"]
    lines = [
        f"## {kind}: {len(figures)} stacks, {len(wrong)} branches",
        "",
        "| measure | AUC, mean of the stacks | AUC by length | stacks above 0.5 |",
        "|---|---|---|---|",
    ]
    for name in MEASURES:
        each = np.array([auc(one[name], one["wrong"], np.ones(len(one["wrong"]))) for one in figures.values()])
        by_length = [auc(one[name], one["wrong"], one["size"]) for one in figures.values()]
        known = each[~np.isnan(each)]
        lines.append(
            f"| {name} | {np.mean(known):.3f} | {np.nanmean(by_length):.3f} | {(known > 0.5).sum()} of {len(known)} |"
        )
    lines += ["", "| confidence | branches | wrong | length in voxels | of it wrong |", "|---|---|---|---|---|"]
    for low, high in itertools.pairwise(BINS):
        here = (pooled["confidence"] >= low) & ((pooled["confidence"] < high) | (high == BINS[-1]))
        lines.append(row(f"{low:g} to {high:g}", here, wrong, size))
    lines += [
        "",
        "| bridged length in voxels | branches | wrong | length in voxels | of it wrong |",
        "|---|---|---|---|---|",
    ]
    for low, high in ((0, 1e-9), (1e-9, 4), (4, 8), (8, np.inf)):
        here = (pooled["bridged"] >= low) & (pooled["bridged"] < high)
        lines.append(row("none" if high < 1 else f"{low:.0f} to {high:g}", here, wrong, size))
    return "\n".join(lines) + "\n"


def row(name: str, here: np.ndarray, wrong: np.ndarray, size: np.ndarray) -> str:
    if not here.any():
        return f"| {name} | 0 | | | |"
    share = (size * wrong)[here].sum() / max(size[here].sum(), 1e-9)
    return f"| {name} | {here.sum()} | {wrong[here].mean():.0%} | {size[here].sum():.0f} | {share:.0%} |"


if __name__ == "__main__":
    logging.getLogger("neuron_vit3d").setLevel(logging.ERROR)
    typer.run(main)
