"""Are the figures of `evaluate` those of other programs? DIADEM beside PyNeval's, runs beside segmentation-skeleton-
metrics', masks beside MONAI's.

pip install pyneval segmentation-skeleton-metrics
python benchmarks/evaluation_peers.py --data-dir ../shared/data --output benchmarks/results/evaluation_peers.md

The two packages are no dependencies and no source of this one: they run beside it. Pairs are BigNeuron's Gold166
neurons that have a consensus of tracing programs (predicted) and a gold tree. Both trees are resampled to nodes one
voxel apart, so that all see the same. segmentation-skeleton-metrics compares a tree with labels: those are the
predicted fragments, drawn two voxels thick.
"""

import dataclasses
import logging
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import outcome
import tifffile
import typer
from outcome import OutputOption
from scipy.sparse.csgraph import connected_components

from neuron_vit3d import Tree, rasterize, read_swc, read_volume, segmentation_scores
from neuron_vit3d.morphology.diadem import diadem_score
from neuron_vit3d.morphology.geometry import repeated
from neuron_vit3d.morphology.graphs import sparse_graph
from neuron_vit3d.morphology.runs import run_lengths


WITHIN = 2.0  # voxels: how near a predicted fragment is to the gold it belongs to
CYLINDER = 5.0  # voxels: radius and half height of DIADEM's
CUTS, CUT = 6, 6.0  # how many places of the predicted tree are cut away for the runs, and how far around, in voxels
LARGEST_SIDE = 700  # voxels: larger pairs make label volumes of gigabytes
FILL = 4  # voxels around the trees

DIADEM_DIFFERENCES = (
    "PyNeval follows the authors' program: a node with k branches becomes k - 1 nodes with two, which weigh more "
    "together; a predicted root matches a gold node whatever leads to it; an unmatched tip on a matched branch point "
    "is no excess. Here a node is one node, a way up has to be there, and every tip without a partner is excess."
)
RUN_DIFFERENCES = (
    "The repair there gives every stretch of gold without a label that touches one label this label, missing ends of "
    "branches too; so less is omitted. Here such a stretch must lie between two parts of one fragment. There a piece "
    "with one end outside is a split edge (labels differ), here an omitted one, as in the paper; splits are labels "
    "less one there, and pieces less one here. Merges are places there, those within 30 of one another one; "
    "here they are parts of fragments that lead far from gold. ERL there is averaged over what has a label, and of "
    "each label one connected piece counts; here over all of gold, and every piece counts. Positions are whole voxels "
    "there, which makes trees longer."
)


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder with gold166_mip/ and neurons/.")],
    count: Annotated[int, typer.Option(help="How many pairs.")] = 8,
    output: OutputOption = None,
) -> None:
    """Compares figures, and writes tables of them."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    pairs, failed = [], []
    for name, predicted, gold in pairs_in(data_dir / "gold166_mip"):
        score, seconds = timed(lambda one=predicted, two=gold: by_pyneval(one, two))
        if isinstance(score, str):
            failed.append(f"{name} ({score})")
        else:
            pairs.append(beside_peers(name, predicted, gold) | {"pyneval": score, "their_seconds": seconds})
        if len(pairs) == count:
            break
    outcome.write(report(pairs, failed, masks_beside_monai(data_dir / "neurons")), output)


def pairs_in(folder: Path) -> Iterator[tuple[str, Tree, Tree]]:
    """Neurons with both trees, small enough, in the order of their names: (name, consensus, gold)."""
    for path in sorted(folder.glob("*/consensus.swc"), key=lambda path: (len(path.parent.name), path.parent.name)):
        predicted, gold = (
            read_swc(path.with_name(f"{kind}.swc"), mend_structure=True) for kind in ("consensus", "gold")
        )
        places = np.concatenate([predicted.xyz, gold.xyz])
        if np.ptp(places, axis=0).max() < LARGEST_SIDE and gold.num_components == 1:
            low = np.floor(places.min(axis=0)) - FILL
            yield path.parent.name, *(resampled(moved(tree, -low)) for tree in (predicted, gold))


def moved(tree: Tree, by: np.ndarray) -> Tree:
    """The tree at another place."""
    return dataclasses.replace(tree, xyz=tree.xyz + by)


def resampled(tree: Tree) -> Tree:
    """The tree with nodes at most a voxel apart along its edges, of radius 1."""
    child, parent = tree.edges.T
    along = tree.xyz[child] - tree.xyz[parent]
    edge, number = repeated(np.maximum(np.ceil(np.linalg.norm(along, axis=1)), 1).astype(int))
    pieces = np.bincount(edge)[edge]
    inner = number < pieces - 1
    rows = np.where(inner, len(tree) + np.cumsum(inner) - 1, child[edge])
    parents = np.full(len(tree) + inner.sum(), -1)
    parents[rows] = np.where(number == 0, parent[edge], np.roll(rows, 1))
    xyz = np.empty((len(parents), 3))
    xyz[: len(tree)] = tree.xyz
    xyz[rows] = tree.xyz[parent[edge]] + ((number + 1) / pieces)[:, None] * along[edge]
    return Tree.from_parents(xyz, np.ones(len(xyz)), parents)


def beside_peers(name: str, predicted: Tree, gold: Tree) -> dict[str, Any]:
    """Figures of a pair by this package and segmentation-skeleton-metrics, with and without its repair of labels."""
    diadem, seconds = timed(lambda: diadem_score(predicted, gold, distance=CYLINDER))
    predicted = cut(predicted, np.random.default_rng(int(name)))
    bare = dataclasses.replace(gold, radii=np.full(len(gold), 1e-6))  # within WITHIN and no farther
    peers = [by_skeleton_metrics(predicted, gold, repair=repair) for repair in (True, False)]
    runs = run_lengths(predicted, bare, threshold=WITHIN)
    return {
        "name": name, "diadem": diadem, "seconds": seconds, "fragments": predicted.num_components,
        "length": gold.length, "runs": runs, "peers": peers,
    }  # fmt: skip


def cut(tree: Tree, random: np.random.Generator) -> Tree:
    """The tree without what lies near some of its nodes, and so in several fragments."""
    places = tree.xyz[random.choice(len(tree), CUTS)]
    keep = (np.linalg.norm(tree.xyz[:, None] - places, axis=2) > CUT).all(axis=1)
    return part(tree, keep)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds of processor time."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def by_pyneval(predicted: Tree, gold: Tree) -> float | str:
    """PyNeval's DIADEM score, or the name of the error it ends with."""
    from pyneval.metric.diadem_metric import diadem_metric
    from pyneval.metric.utils.config_utils import get_default_configs
    from pyneval.model.swc_tree import SwcTree

    loaded = []
    with tempfile.TemporaryDirectory() as folder:
        for tree in (gold, predicted):
            loaded.append(SwcTree())
            loaded[-1].load(str(tree.write(Path(folder) / "tree.swc")))
    config = get_default_configs("diadem") | {"xy_threshold": CYLINDER, "z_threshold": CYLINDER}
    try:
        return float(diadem_metric(*loaded, config)[0]["diadem_score"])
    except Exception as error:
        return type(error).__name__


def by_skeleton_metrics(predicted: Tree, gold: Tree, *, repair: bool) -> dict[str, float]:
    """What segmentation-skeleton-metrics says of the fragments of the predicted tree, as labels of a volume."""
    from segmentation_skeleton_metrics.datamodules.graph_classes import LabeledGraph

    repairs = LabeledGraph.fix_label_misalignments
    if not repair:
        LabeledGraph.fix_label_misalignments = lambda graph: None
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _by_skeleton_metrics(predicted, gold, Path(folder))
    finally:
        LabeledGraph.fix_label_misalignments = repairs


def _by_skeleton_metrics(predicted: Tree, gold: Tree, folder: Path) -> dict[str, float]:
    import pandas
    from segmentation_skeleton_metrics.evaluate import evaluate
    from segmentation_skeleton_metrics.utils.img_util import TiffImage

    shape = tuple(int(side) + FILL for side in np.concatenate([predicted.xyz, gold.xyz]).max(axis=0)[::-1])
    labels = np.zeros(shape, np.uint16)
    fragments = []
    component = connected_components(sparse_graph(predicted.edges.T, len(predicted)), directed=False)[1]
    sizes = np.bincount(component)
    for number, one in enumerate(np.argsort(sizes, kind="stable").tolist(), start=1):  # the largest is drawn last
        if sizes[one] > 1:
            tree = part(predicted, component == one)
            labels[rasterize(tree, shape, min_radius=WITHIN, max_radius=WITHIN) > 0] = number
            fragments.append(tree.write(folder / f"{number}.swc"))
    zipped(folder / "gold.zip", gold.write(folder / "gold.swc"))
    zipped(folder / "fragments.zip", *fragments)
    tifffile.imwrite(folder / "labels.tif", labels)
    image = TiffImage(str(folder / "labels.tif"))
    evaluate(
        str(folder / "gold.zip"),
        image,
        str(folder / "out"),
        fragments_path=str(folder / "fragments.zip"),
        verbose=False,
    )
    return pandas.read_csv(folder / "out" / "results.csv", index_col=0).iloc[0].to_dict()


def zipped(path: Path, *files: Path) -> None:
    """Puts files into an archive: version 5.9.14 cannot read a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, file.name)


def part(tree: Tree, keep: np.ndarray) -> Tree:
    """Some nodes of a tree; those whose parent is none of them become roots."""
    rows = np.cumsum(keep) - 1
    parents = tree.parent_index[keep]
    parents = np.where((parents < 0) | ~keep[parents], -1, rows[parents])
    return Tree.from_parents(tree.xyz[keep], tree.radii[keep], parents)


def masks_beside_monai(folder: Path) -> list[dict[str, Any]]:
    """Dice, IoU and HD95 of real masks against the tubes of their gold trees, by this package and by MONAI."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

    rows = []
    for path in sorted(folder.glob("tuff_*/image.tif"))[:4]:
        image = read_volume(path).array
        gold = rasterize(read_swc(path.with_name("trace.swc"), mend_structure=True), image.shape) > 0
        predicted = image > np.percentile(image, 98)
        box = tuple(slice(0, min(side, 160)) for side in image.shape)  # MONAI's distances take minutes on the whole
        predicted, gold = predicted[box], gold[box]
        if not (predicted.any() and gold.any()):
            continue
        ours = segmentation_scores(predicted, gold)
        one, two = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, gold))
        theirs = {
            "dice": float(compute_dice(one, two)),
            "iou": float(compute_iou(one, two)),
            "hd95": float(compute_hausdorff_distance(one, two, include_background=True, percentile=95)),
        }
        rows.append({"name": path.parent.name, "ours": ours, "theirs": theirs})
    return rows


def report(trees: list[dict[str, Any]], failed: list[str], masks: list[dict[str, Any]]) -> str:
    """Markdown of all tables."""
    lines = [
        "# Figures of evaluate beside other programs'",
        "",
        "By `benchmarks/evaluation_peers.py`, which says how.",
    ]
    lines += ["", "## DIADEM beside PyNeval", "", "| neuron | here | PyNeval | seconds here | PyNeval |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for row in trees:
        seconds = f"{row['seconds']:.1f} | {row['their_seconds']:.1f}"
        lines.append(f"| {row['name']} | {row['diadem']:.3f} | {row['pyneval']:.3f} | {seconds} |")
    difference = np.mean([abs(row["diadem"] - row["pyneval"]) for row in trees])
    lines += ["", f"The mean difference is {difference:.3f}. {DIADEM_DIFFERENCES}"]
    if failed:
        lines += ["", f"PyNeval ends with an error on {len(failed)} pairs before these: {', '.join(failed)}."]
    names = {
        "splits": "# Splits", "merges": "# Merges", "split_edges": "% Split Edges", "omitted_edges": "% Omit Edges",
        "merged_edges": "% Merged Edges", "expected_run_length": "ERL", "normalized_run_length": "Normalized ERL",
    }  # fmt: skip
    lines += ["", "## Runs beside segmentation-skeleton-metrics", ""]
    lines += [f"The predicted trees are cut at {CUTS} places. Here / there / there without its repair of labels;", ""]
    lines[-2] += " shares in percent."
    lines += ["| neuron | fragments | length |" + "".join(f" {name} |" for name in names)]
    lines += ["| --- |" + " ---: |" * (len(names) + 2)]
    for row in trees:
        cells = []
        for ours, theirs in names.items():
            factor = 100 if theirs.startswith("%") else 1
            figures = [row["runs"][ours] * factor, *(peer.get(theirs, np.nan) for peer in row["peers"])]
            cells.append(f" {' / '.join(f'{figure:.3g}' for figure in figures)} |")
        lines.append(f"| {row['name']} | {row['fragments']} | {row['length']:.0f} |" + "".join(cells))
    lines += ["", RUN_DIFFERENCES, "", "## Masks beside MONAI", ""]
    lines += ["Real stacks, the brightest 2 % of their voxels against the tubes of the gold trees. Here / there.", ""]
    lines += ["| stack | dice | iou | hd95 |", "| --- | ---: | ---: | ---: |"]
    for row in masks:
        cells = "".join(f" {row['ours'][key]:.6g} / {row['theirs'][key]:.6g} |" for key in ("dice", "iou", "hd95"))
        lines.append(f"| {row['name']} |{cells}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
