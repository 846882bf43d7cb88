"""Does one neurite stay one line? Compares trees of masks that are cut, rough, hollow or broken with the truth.

python benchmarks/tracing_damage.py                # every case; prints a Markdown table
python benchmarks/tracing_damage.py --only cut     # the cases whose names contain a word

Every mask is made from a seed, so each run sees the same ones. F1 is that of `tree_distance` within 2 voxels. A tip is
a node with one neighbour, the root among them. Length is that of the traced tree over that of the truth.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy import ndimage

from neuron_vit3d import Tree, rasterize, trace, tree_distance
from neuron_vit3d.data.synthetic_tree import grow_tree


SLAB = (3, 15, 15)  # voxels; what a stitching fault or a dim slice takes out of a mask
ROUGHNESS = 0.25  # of the voxels at the surface, so many are removed, and so many are added beside it
# Seeds from here on; no other benchmark or test uses them.
FIRST_SEED = 7000


@dataclass(frozen=True, eq=False)
class Case:
    """A mask (z, y, x), and the tree that it shows."""

    mask: np.ndarray
    gold: Tree


# -- trees ------------------------------------------------------------------------------------------------------------


def grown(side: int, seed: int, radii: tuple[float, float], kind: str = "dendrite") -> Tree:
    """A random neuron in a cube, whose radii go from the first of `radii` (where it was thinnest) to the second."""
    tree = grow_tree((side, side, side), np.random.default_rng(seed), kind=kind)
    order = tree.radii.clip(max=np.percentile(tree.radii, 95))
    share = (order - order.min()) / max(np.ptp(order), 1e-9)
    return apart(Tree.from_parents(tree.xyz, radii[0] + (radii[1] - radii[0]) * share, tree.parent_index))


def apart(tree: Tree, room: float = 4.0) -> Tree:
    """Leaves out of a tree what would come nearer than `room` voxels to another part of it.

    Where tubes merge, no line is right.
    """
    parents = tree.parent_index
    kept: list[int] = []
    rows = np.full(len(tree), -1)
    way: list[np.ndarray] = []  # of every kept node its distance along the tree to those kept before it
    for node, parent in enumerate(parents.tolist()):
        if parent >= 0 and rows[parent] < 0:
            continue
        others = np.array(kept, int)
        if parent >= 0:
            step = np.linalg.norm(tree.xyz[node] - tree.xyz[parent])
            row = rows[parent]
            along = np.append(way[row], [0.0, *(way[other][row] for other in range(row + 1, len(kept)))]) + step
            touches = np.linalg.norm(tree.xyz[others] - tree.xyz[node], axis=1)
            needed = tree.radii[others] + tree.radii[node] + room
            if ((touches < needed) & (along > 2.5 * needed)).any():
                continue
        else:
            along = np.zeros(len(kept))
        rows[node] = len(kept)
        kept.append(node)
        way.append(along)
    parents = np.where(parents[kept] < 0, -1, rows[np.maximum(parents[kept], 0)])
    return Tree.from_parents(tree.xyz[kept], tree.radii[kept], parents)


def curve(seed: int, length: float, margin: float) -> tuple[Tree, tuple[int, int, int]]:
    """Makes a gently curved line without branches (radius 1), and the shape of a volume with room around it."""
    rng = np.random.default_rng(seed)
    heading = rng.normal(size=3)
    points = [np.zeros(3)]
    while len(points) <= length:
        heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.02, 3)
        points.append(points[-1] + heading / np.linalg.norm(heading))
    points = np.array(points)
    points += margin - points.min(axis=0)
    shape = tuple(int(one) for one in np.ceil(points.max(axis=0) + margin + 1)[::-1])
    return Tree.from_parents(points, np.ones(len(points)), np.arange(len(points)) - 1), shape


def thick(tree: Tree, radius: float) -> Tree:
    return Tree.from_parents(tree.xyz, np.full(len(tree), radius), tree.parent_index)


# -- damage -----------------------------------------------------------------------------------------------------------


def roughened(mask: np.ndarray, rng: np.random.Generator, share: float = ROUGHNESS) -> np.ndarray:
    """Removes voxels at the surface and adds others beside it, each with the probability `share`."""
    surface = mask & ~ndimage.binary_erosion(mask)
    beside = ndimage.binary_dilation(mask) & ~mask
    result = mask.copy()
    result[surface & (rng.random(mask.shape) < share)] = False
    result[beside & (rng.random(mask.shape) < share)] = True
    return result


def cut_by_slabs(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Takes out slabs of 3 x 15 x 15 voxels, in any orientation, each about a random voxel of the mask."""
    result = mask.copy()
    voxels = np.argwhere(mask)
    half = np.array(SLAB) / 2
    reach = int(np.ceil(np.linalg.norm(half)))
    for center in voxels[rng.integers(len(voxels), size=count)]:
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        low, high = np.maximum(center - reach, 0), np.minimum(center + reach + 1, mask.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offset = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1) - center
        result[box] &= ~(np.abs(offset @ axes) <= half).all(axis=-1)
    return result


def hollowed(tree: Tree, shape: tuple[int, int, int], shell: float = 2.0) -> np.ndarray:
    """The tree's mask without what lies deeper than the shell."""
    mask = rasterize(tree, shape)
    return mask & (ndimage.distance_transform_edt(mask) <= shell)


def with_gaps(mask: np.ndarray, tree: Tree, count: int, radii: tuple[float, float], rng: np.random.Generator):
    """Takes out balls of random radii about random nodes."""
    result = mask.copy()
    z, y, x = np.ogrid[tuple(slice(0, side) for side in mask.shape)]
    for node in rng.choice(len(tree), min(len(tree), count), replace=False):
        at = tree.xyz[node]
        result[(z - at[2]) ** 2 + (y - at[1]) ** 2 + (x - at[0]) ** 2 <= rng.uniform(*radii) ** 2] = False
    return result


# -- cases ------------------------------------------------------------------------------------------------------------


def clean(side: int, seed: int) -> Case:
    gold = grown(side, seed, (3.0, 5.0))
    return Case(rasterize(gold, (side,) * 3), gold)


def rough(side: int, seed: int) -> Case:
    case = clean(side, seed)
    return Case(roughened(case.mask, np.random.default_rng(seed)), case.gold)


def cut(side: int, seed: int) -> Case:
    """Rough, and cut by 12 slabs in 128^3, 40 in 256^3."""
    case = rough(side, seed)
    return Case(cut_by_slabs(case.mask, 12 if side <= 128 else 40, np.random.default_rng(seed + 1)), case.gold)


def hollow(radius: float, seed: int, kind: str = "closed") -> Case:
    """A hollow tube; "open" at both ends, or with a "gapped" shell: balls of radius 1 to 2.5 taken out of it."""
    line, shape = curve(seed, 90, radius + 6)
    mask = hollowed(thick(line, radius), shape)
    gold = line
    if kind == "open":
        first, last = line.xyz[[0, -1]], line.xyz[[12, -13]]
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)[..., ::-1]
        for end, inner in zip(first, last, strict=True):
            mask &= (grid - inner) @ (inner - end) > 0
        gold = Tree.from_parents(line.xyz[12:-12], line.radii[12:-12], np.arange(len(line) - 24) - 1)
    if kind == "gapped":
        rng = np.random.default_rng(seed)
        voxels = np.argwhere(mask)
        z, y, x = np.ogrid[tuple(slice(0, side) for side in shape)]
        for at in voxels[rng.integers(len(voxels), size=max(1, len(voxels) // 400))]:
            mask[(z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= rng.uniform(1.0, 2.5) ** 2] = False
    return Case(mask, gold)


def hollow_tree(seed: int) -> Case:
    """A branched neuron of radius 5 to 8 in 160^3, of which only the membrane is seen."""
    gold = grown(160, seed, (5.0, 8.0))
    return Case(hollowed(gold, (160,) * 3), gold)


def soma(seed: int, radius: float = 15.0, hole: float = 9.0) -> Case:
    """A soma with a nucleus that is not stained, and a neurite of radius 2 to either side."""
    rng = np.random.default_rng(seed)
    center = np.array([60.0, 40.0, 40.0])
    tips = center + np.array([[-52, *rng.uniform(-12, 12, 2)], [52, *rng.uniform(-12, 12, 2)]])
    gold = Tree.from_parents(np.array([center, *tips]), np.full(3, 2.0), np.array([-1, 0, 0]))
    mask = rasterize(gold, (80, 80, 120))
    from_center = np.linalg.norm(np.indices(mask.shape).T[..., ::-1] - center, axis=-1).T
    nucleus = np.linalg.norm(np.indices(mask.shape).T[..., ::-1] - (center + rng.uniform(-3, 3, 3)), axis=-1).T
    return Case((mask | (from_center <= radius)) & ~(nucleus <= hole), gold)


def thin_with_gaps(side: int, seed: int) -> Case:
    """A neuron of radius 1 with 20 gaps (128^3) of 3 to 8 voxels."""
    gold = grown(side, seed, (1.0, 1.0), kind="axon")
    mask = with_gaps(rasterize(gold, (side,) * 3), gold, 20, (1.5, 4.0), np.random.default_rng(seed))
    return Case(mask, gold)


def side_by_side(seed: int, distance: float) -> Case:
    """Two lines of radius 1, so many voxels between their axes, that leave a common stem."""
    rng = np.random.default_rng(seed)
    x = np.arange(8.0, 92.0)
    bend = 6 * np.sin(x / 17 + rng.uniform(0, 6))
    turn = rng.uniform(0, 2 * np.pi)
    off = np.array([np.cos(turn), np.sin(turn)]) * distance / 2
    first, second = (np.stack([x, 30 + bend + s * off[0], np.full(len(x), 30 + s * off[1])], axis=1) for s in (-1, 1))
    points = np.concatenate([[[5.0, *(first[0, 1:] + second[0, 1:]) / 2]], first, second])
    n = len(x)
    parents = np.array([-1, 0, *range(1, n), 0, *range(n + 1, 2 * n)])
    gold = Tree.from_parents(points, np.ones(len(points)), parents)
    return Case(rasterize(gold, (60, 60, 100)), gold)


def cases() -> Iterator[tuple[str, list[Callable[[], Case]]]]:
    """Names, and what makes the masks of each."""

    def of(make: Callable[..., Case], seeds: int, *arguments, **named) -> list[Callable[[], Case]]:
        return [lambda seed=seed: make(*arguments, seed=FIRST_SEED + seed, **named) for seed in range(seeds)]

    for side in (128, 256):
        yield f"clean, radius 3 to 5, {side}^3", of(clean, 8 if side == 128 else 4, side)
        yield f"rough, {side}^3", of(rough, 8 if side == 128 else 4, side)
        yield f"rough and cut by slabs, {side}^3", of(cut, 8 if side == 128 else 4, side)
    for kind in ("closed", "open", "gapped"):
        for radius in (4.0, 6.0, 9.0, 12.0):
            yield f"hollow tube of radius {radius:g}, {kind}", of(hollow, 4, radius, kind=kind)
    yield "hollow tree, radius 5 to 8, 160^3", of(hollow_tree, 4)
    yield "soma of radius 15 with a hole", of(soma, 4)
    yield "soma of radius 15 with a large hole", of(soma, 4, hole=12.0)
    yield "radius 1 with gaps, 128^3", of(thin_with_gaps, 8, 128)
    for distance in (3.0, 4.0, 5.0):
        yield f"two lines of radius 1, {distance:g} apart", of(side_by_side, 6, distance=distance)


# -- figures ----------------------------------------------------------------------------------------------------------


def tips(tree: Tree) -> int:
    """The number of nodes with one neighbour."""
    return int(np.count_nonzero(np.bincount(tree.edges.ravel(), minlength=len(tree)) == 1))


def figures(case: Case) -> dict[str, float]:
    started = time.monotonic()
    tree = trace(case.mask)
    seconds = time.monotonic() - started
    distances = tree_distance(tree, case.gold)
    return {
        "f1": distances["f1"],
        "precision": distances["precision"],
        "recall": distances["recall"],
        "length": tree.length / case.gold.length,
        "tips": tips(tree),
        "of": tips(case.gold),
        "seconds": seconds,
    }


def main(
    only: Annotated[str, typer.Option(help="Only the cases whose names contain this.")] = "",
    output: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Trace every damaged mask and print the means."""
    logging.disable(logging.WARNING)  # what tracing drops is not to be told for each mask
    lines = [
        "| | masks | F1 | lowest F1 | precision | recall | length | tips | of | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name, makers in cases():
        if only not in name:
            continue
        found = [figures(make()) for make in makers]
        mean = {key: np.mean([one[key] for one in found]) for key in found[0]}
        lines.append(
            f"| {name} | {len(found)} | {mean['f1']:.3f} | {min(one['f1'] for one in found):.3f} | "
            f"{mean['precision']:.3f} | {mean['recall']:.3f} | {mean['length']:.2f} | {mean['tips']:.1f} | "
            f"{mean['of']:.1f} | {mean['seconds']:.2f} |"
        )
        print(lines[-1], flush=True)
    if output is not None:
        output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
