"""Measures the alignment check on real pairs and projections, and where its thresholds come from.

python benchmarks/alignment.py --pairs neurons --projections gold166_mip --output benchmarks/results/alignment.md

A folder of pairs holds images with SWC files beside them that fit; one of projections holds `<id>/mip.tif` (a 2D
maximum projection), `<id>/gold.swc` and maybe `index.csv` with a column `reg_percentile`.
"""

import csv
import dataclasses
import platform
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter, deque
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome
import typer

from neuron_vit3d.data import alignment, find_pairs
from neuron_vit3d.data.alignment import AS_IS, HYPOTHESES, SCALED, SWAPPED, Y_FLIPPED, check_alignment
from neuron_vit3d.data.preparation_report import PairReport, thumbnail, write_csv, write_pages
from neuron_vit3d.morphology import Tree, read_swc
from neuron_vit3d.volumes import read_volume


VOXEL_SIZES = ((2.0, 0.5, 0.5), (0.38, 0.38, 0.38))  # z y x: an anisotropic one, and the most frequent one of Gold166
Case = tuple[str, np.ndarray, Tree]  # name, image (z, y, x), tree


def main(
    pairs: Annotated[list[Path], typer.Option(help="Folder of pairs that fit; repeat the option.")],
    projections: Annotated[Path, typer.Option(help="Folder of projections with gold trees.")],
    output: Annotated[
        Path | None, typer.Option(help="Markdown file to write; a .csv with all figures beside it.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pages of pictures (never commit them).")] = None,
    remark: Annotated[list[str] | None, typer.Option(help="What a look at the pictures says; repeat.")] = None,
) -> None:
    """Writes the report."""
    warnings.simplefilter("ignore")  # what was mended in the SWC files
    stacks = read_pairs(pairs)
    flat = read_projections(projections)
    rows = [as_report(case) for case in stacks + flat]
    sound = [case for case, row in zip(stacks + flat, rows, strict=True) if row.fit == AS_IS]
    data = " ".join([*(f"--pairs {folder.name}" for folder in pairs), f"--projections {projections.name}"])
    lines = [f"`benchmarks/alignment.py {data}` ({machine()})", "", *explanation(), ""]
    lines += ["## Pairs, and the same with a mistake made by hand", "", *mistakes_table(stacks), ""]
    lines += [
        "## Gold trees on their maximum projections",
        "",
        *projections_table(flat, rows[len(stacks) :], projections),
    ]
    if remark:
        lines += ["", "Seen on the pictures:", "", *(f"- {line}" for line in remark)]
    lines += [
        "",
        "The same mistakes, made by hand, on the projections that fit:",
        "",
        *mistakes_summary(sound, stacks),
        "",
    ]
    lines += ["## Where the thresholds come from", "", *calibration(sound, len(stacks)), ""]
    lines += ["## A volume of 1 GB", "", *large_volume()]
    text = "\n".join(lines) + "\n"
    outcome.write(text, output)
    if output is not None:
        write_csv(output.with_suffix(".csv"), rows)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        shown = {}
        for (name, image, tree), row in zip(stacks + flat, rows, strict=True):
            shown[name] = pictures / f"{name}.png"
            thumbnail(image, tree, row.status).save(shown[name])
        write_pages(pictures, rows, shown)


def read_pairs(folders: list[Path]) -> list[Case]:
    found = [pair for folder in folders for pair in find_pairs(folder) if pair.annotation.suffix == ".swc"]
    return [
        (pair.name, read_volume(pair.image).array, read_swc(pair.annotation, mend_structure=True)) for pair in found
    ]


def read_projections(folder: Path) -> list[Case]:
    import tifffile

    ids = sorted((path.parent.name for path in folder.glob("*/gold.swc")), key=lambda name: (len(name), name))
    return [
        (name, tifffile.imread(folder / name / "mip.tif")[None], read_swc(folder / name / "gold.swc")) for name in ids
    ]


def as_report(case: Case) -> PairReport:
    name, image, tree = case
    found = check_alignment(tree, image)
    status = "left out" if found.fit is None else "used" if found.fit == AS_IS else "repaired"
    shape, dtype = image.shape, image.dtype.name
    note = "" if found.fit else str(found)
    return PairReport(name, "", "", status, found.fit, found.figures, 0, shape, dtype, None, len(tree), note=note)


def explanation() -> list[str]:
    return [
        "The figure is the probability that the image is brighter at a place on the tree than at a place beside it; "
        "0.5 is",
        "chance, 1 a tree all of which is brighter than its surroundings. The rule: a tree fits *as is* with a "
        "figure of at",
        f"least {alignment.FITS} (or at most {alignment.FITS_DARK}: a dark neuron, which counts as 1 - figure) "
        "unless another",
        f"hypothesis beats it by {alignment.LEAD}; another hypothesis fits if it has such a figure, beats *as is* by "
        f"{alignment.LEAD}, and",
        f"the tree is at least {alignment.SHORTEST:g} voxels long; else none fits.",
    ]


# Mistakes made by hand


def mistakes(tree: Tree, shape: tuple[int, ...]) -> dict[str, tuple[Tree, str, tuple | None]]:
    """What was done -> the tree with that mistake, the hypothesis that should be found, the voxel size known."""
    x, y, z = tree.xyz.T
    made = {
        "flipped in y": (moved(tree, x, shape[1] - 1 - y, z), Y_FLIPPED, VOXEL_SIZES[0]),
        "x and y swapped": (moved(tree, y, x, z), SWAPPED, VOXEL_SIZES[0]),
    }
    for size in VOXEL_SIZES:
        scaled = moved(tree, x * size[2], y * size[1], z * size[0])
        scaled = dataclasses.replace(scaled, radii=tree.radii * np.sqrt(size[1] * size[2]))
        made[f"scaled by {size[2]:g} {size[1]:g} {size[0]:g}"] = (scaled, SCALED, size)
    return made


def moved(tree: Tree, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Tree:
    return dataclasses.replace(tree, xyz=np.stack([x, y, z], axis=1))


def mistakes_table(cases: list[Case]) -> list[str]:
    lines, found_all, furthest, failed = [], Counter(), 0.0, []
    for name, image, tree in cases:
        found = check_alignment(tree, image, VOXEL_SIZES[0])
        figures = " | ".join(f"{found.figures[key]:.3f}" for key in HYPOTHESES)
        line = f"| {name} | {tree.length:.0f} | {found.fit or 'none'} | {figures} |"
        found_all["left as they are"] += found.fit == AS_IS and found.tree is tree
        failed += [] if found.fit == AS_IS else [f"{name} as it is: {found.fit}"]
        for what, (wrong, expected, size) in mistakes(tree, image.shape[-3:]).items():
            found = check_alignment(wrong, image, size)
            away = max(np.abs(found.tree.xyz - tree.xyz).max(), np.abs(found.tree.radii - tree.radii).max())
            works = found.fit == expected and away < 1e-6
            found_all[what] += works
            furthest = max(furthest, away) if works else furthest
            failed += [] if works else [f"{name} {what}: {found.fit or 'none fits'}"]
            line += (
                f" {found.figures[AS_IS]:.3f} -> {found.figures[expected]:.3f}{'' if works else ' **not found**'} |"
            )
        lines.append(line)
    made = list(found_all)[1:]
    header = ["pair", "length", "fits", *HYPOTHESES, *(f"{what}: as is -> repaired" for what in made)]
    counts = ", ".join(f"{what} {count} of {len(cases)}" for what, count in found_all.items())
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *lines,
        "",
        f"Found and repaired: {counts}. Largest difference of a repaired position or radius: {furthest:.1e} voxels.",
        f"Not found: {'; '.join(failed) or 'none'}.",
    ]


def mistakes_summary(sound: list[Case], stacks: list[Case]) -> list[str]:
    cases = sound[sum(any(case is stack for stack in stacks) for case in sound) :]
    count, told = Counter(), []
    for name, image, tree in cases:
        for what, (wrong, expected, size) in mistakes(tree, image.shape).items():
            found = check_alignment(wrong, image, size)
            count[what] += found.fit == expected
            told += [] if found.fit == expected else [f"{name} {what}: {found.fit or 'none fits'}"]
    lines = [f"- {what}: {number} of {len(cases)} found" for what, number in count.items()]
    return [*lines, f"- not found: {'; '.join(told) or 'none'}"]


def projections_table(cases: list[Case], rows: list[PairReport], folder: Path) -> list[str]:
    index = {}
    if (folder / "index.csv").exists():
        with (folder / "index.csv").open(newline="") as file:
            index = {row["id"]: row["reg_percentile"] for row in csv.DictReader(file)}
    fits = Counter(row.fit or "none" for row in rows)
    names = [name for name in (AS_IS, Y_FLIPPED, SWAPPED) if name in rows[0].figures]
    lines = [
        f"{len(cases)} trees read. What fits: {', '.join(f'{fit} {count}' for fit, count in fits.items())}. "
        f"Not as is: {', '.join(row.neuron_id for row in rows if row.fit != AS_IS) or 'none'}.",
        "",
        f"| id | nodes | {' | '.join(names)} | fits | reg_percentile of index.csv |",
        "|---|---|" + "---|" * (len(names) + 2),
    ]
    for row in sorted(rows, key=lambda row: row.figures[AS_IS]):
        figures = " | ".join(f"{row.figures[name]:.3f}" for name in names)
        lines.append(
            f"| {row.neuron_id} | {row.nodes} | {figures} | {row.fit or '**none**'} | {index.get(row.neuron_id, '')} |"
        )
    return lines


# Calibration


def calibration(cases: list[Case], num_stacks: int) -> list[str]:
    rng = np.random.default_rng(0)
    right, wrong = [], []
    for _, image, tree in cases:
        figures = check_alignment(tree, image, VOXEL_SIZES[0]).figures
        right.append(figures.pop(AS_IS))
        wrong += figures.values()
    others, verdicts = [], Counter()
    for group in (cases[:num_stacks], cases[num_stacks:]):
        couples = [(i, j) for i in range(len(group)) for j in range(len(group)) if i != j]
        for k in rng.permutation(len(couples))[:500]:
            tree, image = group[couples[k][0]][2], group[couples[k][1]][1]
            found = check_alignment(tree, image, VOXEL_SIZES[0])
            others.append(found.figures[AS_IS])
            verdicts["none" if found.fit is None else "as is" if found.fit == AS_IS else "repaired"] += 1
    quantiles = (0, 0.005, 0.05, 0.5, 0.95, 0.99, 0.995, 1)
    lines = [
        f"Without the pairs that do not fit ({len(cases)} remain). The thresholds were set on these very data, in "
        "the gap",
        "between the figures of trees as they are and all others. Figures, by quantile:",
        "",
        f"| | n | {' | '.join('least' if q == 0 else 'most' if q == 1 else f'{q:.1%}' for q in quantiles)} |",
        "|---|---|" + "---|" * len(quantiles),
    ]
    for what, values in (
        ("trees as they are", right),
        ("the same trees, wrong hypotheses", wrong),
        ("trees on another neuron's image", others),
    ):
        lines.append(f"| {what} | {len(values)} | {' | '.join(f'{v:.3f}' for v in np.quantile(values, quantiles))} |")
    shares = ", ".join(f"{verdict} {verdicts[verdict] / len(others):.1%}" for verdict in ("none", "as is", "repaired"))
    lines += ["", f"Verdicts on trees on another neuron's image (four hypotheses tried): {shares}.", ""]
    dark = [check_alignment(tree, np.max(image) - image, VOXEL_SIZES[0]) for _, image, tree in cases]
    told = sum(found.is_dark and found.fit == AS_IS for found in dark)
    lines += [f"Images turned into their negative: {told} of {len(cases)} fit as is, on a dark neuron.", ""]
    return lines + displaced_table(cases, rng) + [""] + pieces_table(cases, rng)


def displaced_table(cases: list[Case], rng: np.random.Generator) -> list[str]:
    """Every node moved in a random direction."""
    lines = ["| every node moved by, voxels | lowest figure | median | fit as is |", "|---|---|---|---|"]
    for distance in (0, 1, 2, 3, 5):
        figures, fits = [], 0
        for _, image, tree in cases:
            shift = rng.normal(size=tree.xyz.shape) * (1, 1, image.shape[0] > 1)
            shift *= distance / np.linalg.norm(shift, axis=1, keepdims=True)
            found = check_alignment(dataclasses.replace(tree, xyz=tree.xyz + shift), image, VOXEL_SIZES[0])
            figures.append(found.figures[AS_IS])
            fits += found.fit == AS_IS
        lines.append(f"| {distance} | {min(figures):.3f} | {np.median(figures):.3f} | {fits} of {len(cases)} |")
    return lines


def pieces_table(cases: list[Case], rng: np.random.Generator, rounds: int = 3) -> list[str]:
    """Connected pieces of the trees, so that one sees from what length on a verdict can be relied on."""
    lines = [
        f"Connected pieces of the trees ({rounds} of each tree). By the rule without its shortest length:",
        "",
        "| length, voxels | pieces | in place: as is | repaired by mistake | flipped: found | laid anywhere: called "
        "as is | repaired |",
        "|---|---|---|---|---|---|---|",
    ]
    shortest, alignment.SHORTEST = alignment.SHORTEST, 0.0
    for length in (0, 10, 25, 50, 100, 200, 400):
        count = Counter()
        for _, image, tree in [case for case in cases for _ in range(rounds)]:
            piece = piece_of(tree, length, rng)
            if piece.length < 0.7 * length:
                continue
            count["all"] += 1
            count["in place", check_alignment(piece, image, VOXEL_SIZES[0]).fit] += 1
            flipped = mistakes(piece, image.shape)["flipped in y"][0]
            count["flipped", check_alignment(flipped, image, VOXEL_SIZES[0]).fit] += 1
            place = piece.xyz - piece.xyz.mean(0) + rng.random(3) * image.shape[::-1]
            place[:, 2] = piece.xyz[:, 2]
            anywhere = dataclasses.replace(piece, xyz=place)
            count["anywhere", check_alignment(anywhere, image, VOXEL_SIZES[0]).fit] += 1
        share = {key: number / count["all"] for key, number in count.items()}
        values = [share.get(("in place", AS_IS), 0), sum(share.get(("in place", name), 0) for name in HYPOTHESES[1:])]
        values += [share.get(("flipped", Y_FLIPPED), 0), share.get(("anywhere", AS_IS), 0)]
        values += [sum(share.get(("anywhere", name), 0) for name in HYPOTHESES[1:])]
        lines.append(f"| {length or 'one node'} | {count['all']} | {' | '.join(f'{v:.1%}' for v in values)} |")
    alignment.SHORTEST = shortest
    return lines


def piece_of(tree: Tree, length: float, rng: np.random.Generator) -> Tree:
    """What is nearest to a random node along the tree, up to a length; at least that node."""
    neighbours = [[] for _ in range(len(tree))]
    for child, parent in tree.edges:
        neighbours[child].append(parent)
        neighbours[parent].append(child)
    start = int(rng.integers(len(tree)))
    number, parents, rows, total, waiting = {start: 0}, [-1], [start], 0.0, deque([start])
    while waiting and total < length:
        row = waiting.popleft()
        for other in neighbours[row]:
            if other not in number and total < length:
                number[other] = len(rows)
                parents.append(number[row])
                rows.append(other)
                waiting.append(other)
                total += np.linalg.norm(tree.xyz[row] - tree.xyz[other])
    return Tree.from_parents(tree.xyz[rows], tree.radii[rows], parents)


def large_volume() -> list[str]:
    rng = np.random.default_rng(0)
    shape = (512, 1024, 2048)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.npy")
        image = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        plane = rng.integers(0, 40, shape[1:], dtype=np.uint8)
        for z in range(shape[0]):
            image[z] = plane
        nodes = np.cumsum(rng.normal(size=(20_000, 3)), axis=0) * (6, 3, 1.5) + np.array(shape[::-1]) / 2
        tree = Tree.from_parents(np.clip(nodes, 0, np.array(shape[::-1]) - 1), np.ones(20_000), np.arange(-1, 19_999))
        x, y, z = np.rint(tree.xyz).astype(int).T
        image[z, y, x] = 255
        image.flush()
        volume = read_volume(path)
        tracemalloc.start()
        started = time.perf_counter()
        found = check_alignment(tree, volume.array, VOXEL_SIZES[0])
        seconds = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return [
        f"{' x '.join(map(str, shape))} uint8, mapped from a file (in the disk's cache), {len(tree)} nodes: "
        f"{seconds:.1f} s, {peak / 1e6:.0f} MB allocated at the peak; fits {found.fit}.",
    ]


def machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}"


if __name__ == "__main__":
    typer.run(main)
