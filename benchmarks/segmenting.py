"""Segmenting whole volumes: beside other networks, without background, in bounded memory. Each part prints Markdown.

    python benchmarks/segmenting.py peers     # MONAI's UNETR, SwinUNETR and DynUNet, the same volume
    python benchmarks/segmenting.py share     # where the time goes, against the machine's matrix rate
    python benchmarks/segmenting.py background --data-dir folder    # tiles skipped, time saved, recall lost
    python benchmarks/segmenting.py choices --data-dir folder --names a --names b    # tiles, dtype, flips: time, Dice
    python benchmarks/segmenting.py sparse    # one neuron in a large, noisy stack, with and without skipping
    python benchmarks/segmenting.py sizes     # memory and time from 256^3 to 2048^3, OME-Zarr

`peers` and `share` are in networks.py.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from basics import report
from networks import DTYPES, peers, share
from outcome import OutputOption

from neuron_vit3d import Segmenter, Volume, segment, segmentation_scores, synthetic_neuron
from neuron_vit3d.data.pairs import IGNORE_INDEX, find_pairs, read_pair
from neuron_vit3d.inference import load_checkpoint


app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)
app.command()(peers)
app.command()(share)


@app.command()
def background(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    output: OutputOption = None,
    model: str | None = None,
    dtype: str = "bfloat16",
) -> None:
    """All real stacks with and without `skip_background`: tiles skipped, time saved, neuron lost."""
    lines = [
        "| | tiles skipped | time without over with skipping | neuron of the gold mask lost | of the own mask lost |",
        "|---|---|---|---|---|",
    ]
    totals = []
    for pair in find_pairs(data_dir):
        try:
            volume = read_pair(pair)
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        image = Volume(np.ascontiguousarray(volume.image[0]))
        found = {}
        for skip in (False, True):
            segmenter = Counting(model, dtype=DTYPES[dtype], skip_background=skip)
            started = time.monotonic()
            mask = segment(image, segmenter).array >= 0.5
            found[skip] = mask, time.monotonic() - started, segmenter.blocks
        gold, (before, seconds, blocks), (after, faster, fewer) = volume.labels == 1, found[False], found[True]
        hit = np.count_nonzero(before & gold)
        lost = np.count_nonzero(before & ~after & gold) / max(1, hit)
        own = np.count_nonzero(before & ~after) / max(1, np.count_nonzero(before))
        totals.append((blocks, fewer, seconds, faster, lost, own))
        lines.append(
            f"| {pair.name} {' x '.join(map(str, image.shape))} | {1 - fewer / blocks:.0%} | {seconds / faster:.2f} | "
            f"{lost:.3%} | {own:.3%} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    blocks, fewer, seconds, faster, lost, own = np.array(totals).T
    lines.append(
        f"| all | {1 - fewer.sum() / blocks.sum():.0%} | {seconds.sum() / faster.sum():.2f} | {lost.mean():.3%} "
        f"(mean) | {own.mean():.3%} (mean) |"
    )
    report("segmenting.py background", lines, output)


class Counting(Segmenter):
    """Counts the blocks that go through the model."""

    blocks = 0

    def _begin(self, batch):
        self.blocks += len(batch)
        return super()._begin(batch)


@app.command()
def choices(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    names: Annotated[list[str], typer.Option(help="Names of the pairs; repeat the option.")],
    output: OutputOption = None,
    model: str | None = None,
    dtype: str = "bfloat16",
    slices: Annotated[int, typer.Option(help="Of each neuron, so many that hold most of it.")] = 16,
) -> None:
    """What each option of `Segmenter` costs in time and brings in Dice and clDice, on a part of real neurons.

    What labelling several slices a pass brings is measured by `model.py slices`: it takes another model.
    """
    pairs = {pair.name: pair for pair in find_pairs(data_dir)}
    segmenters = segmenters_to_choose_from(model, dtype)
    found = {choice: [] for choice in segmenters}
    for name in names:
        volume = read_pair(pairs[name])
        gold = volume.labels == 1
        z = np.convolve(gold.sum((1, 2)), np.ones(min(slices, len(gold))), "valid").argmax()
        part = np.s_[z : z + slices]
        image = Volume(np.ascontiguousarray(volume.image[0, part]))
        for choice, segmenter in segmenters.items():  # by turns, so that whatever else the machine does falls on all
            segment(Volume(image.array[:3]), segmenter)  # the first run of a tile's size loads and chooses kernels
            started = time.monotonic()
            scores = segment(image, segmenter).array
            seconds = time.monotonic() - started
            masks = segmentation_scores(scores >= 0.5, gold[part], ignore=volume.labels[part] == IGNORE_INDEX)
            found[choice].append((seconds, masks["dice"], masks["cldice"]))
            print(f"{name}, {choice}: {seconds:.2f} s, Dice {masks['dice']:.3f}", file=sys.stderr, flush=True)
    lines = [
        f"{slices} slices of each of {', '.join(names)}. First the default options, in {dtype} and with no block "
        "skipped, whose tiles fit the plane; every other row changes one of them, and tiles of a size have that size "
        "whatever the plane. So few slices have "
        "few blocks to skip: for whole stacks see `background`. The time that compiling takes is not in it.",
        "",
        "| | time over the first row's | Dice (mean) | clDice (mean) |",
        "|---|---|---|---|",
    ]
    table = np.array(list(found.values()))  # choices, neurons, figures
    for choice, figures in zip(found, table, strict=True):
        seconds, dice, cldice = figures.T
        over = seconds.sum() / table[0, :, 0].sum()
        lines.append(f"| {choice} | {over:.2f} | {dice.mean():.3f} | {cldice.mean():.3f} |")
    report("segmenting.py choices", lines, output)


class OneSize(Segmenter):
    """Its tiles have the size that is asked for, whatever the plane's."""

    def grid(self, shape):
        return replace(super().grid(shape), tile=(self.tile_size, self.tile_size))


def segmenters_to_choose_from(model: str | None, dtype: str) -> dict[str, Segmenter]:
    """Makes the segmenter of the default options, then those with another value of one of them.

    Nothing is skipped but in one: skipping sets in at a number of blocks, which small tiles reach and large ones do
    not.
    """
    network, processor = load_checkpoint(model)
    default = {"tile_size": processor.tile_size, "tile_overlap": processor.tile_overlap, "dtype": dtype}
    default |= {"flips": False, "skip_background": False, "compile": False}
    values = {
        "tile_size": (128, 160, 192, 224, 256, 320, 384),
        "tile_overlap": (0, 16, 32, 64),
        "dtype": DTYPES,
        "flips": (True,),
        "skip_background": (True,),
        "compile": (True,),  # without the time it takes to compile
    }
    rows = {", ".join(f"{option} {value}" for option, value in default.items()): (Segmenter, default)}
    for option, others in values.items():
        for value in others:
            if option == "tile_size":
                rows[f"tiles of {value}"] = OneSize, {**default, option: value}
            elif value != default[option]:
                rows[f"{option} {value}"] = Segmenter, {**default, option: value}
    return {
        name: kind(network, processor=processor, **{**options, "dtype": DTYPES[options["dtype"]]})
        for name, (kind, options) in rows.items()
    }


@app.command()
def sparse(
    output: OutputOption = None,
    shape: tuple[int, int, int] = (64, 4096, 4096),
    dtype: str = "bfloat16",
    part: Annotated[
        int, typer.Option(help="Without skipping, measure the tiles of the first of so many parts alone.")
    ] = 1,
) -> None:
    """A stack with one neuron in noise: time with and without `skip_background`, and neuron lost."""
    side = min(512, *shape[1:])
    volume, mask = sparse_stack(shape, side)
    segmenter = Counting(dtype=DTYPES[dtype], skip_background=True)
    started = time.monotonic()
    found = segment(volume, segmenter).array >= 0.5
    faster, fewer = time.monotonic() - started, segmenter.blocks
    segmenter = Counting(dtype=DTYPES[dtype], skip_background=False)
    with segmenter.open(volume) as source:
        started = time.monotonic()
        intensities, _ = segmenter._look_at(source)
        look = time.monotonic() - started
        grid = segmenter.grid(source.shape)
        rows = sorted({y for y, _ in grid.tile_origins})
        rows = rows[: -(-len(rows) // part)]
        measured = np.array([y in rows for y, _ in grid.tile_origins])
        complete = shape[1] if measured.all() else min(y for y, _ in grid.tile_origins if y not in rows)
        hits = lost = 0
        started = time.monotonic()
        for z, scores in segmenter.score(source, grid, intensities, np.tile(measured, (len(grid.steps), 1))):
            hit = (scores[0, :complete] >= 0.5) & mask[z, :complete]
            hits += np.count_nonzero(hit)
            lost += np.count_nonzero(hit & ~found[z, :complete])
        seconds = look + (time.monotonic() - started) / measured.mean()
    lines = [
        f"One synthetic neuron in the first corner, {shape[0]} x {side} x {side}, and noise everywhere else: every "
        "voxel is drawn from the neuron's own background, all but its brightest 2 %.",
        "",
        "| | blocks | time without over with skipping | neuron lost |",
        "|---|---|---|---|",
        f"| {' x '.join(map(str, shape))} {volume.array.dtype}, one neuron | {fewer} of {len(grid)} | "
        f"{seconds / faster:.1f} | {lost / max(1, hits):.3%} |",
    ]
    report("segmenting.py sparse", lines, output)


def sparse_stack(shape: tuple[int, int, int], side: int, seed: int = 21) -> tuple[Volume, np.ndarray]:
    """A noisy stack with one synthetic neuron, so many voxels wide, in its first corner, and the neuron's mask."""
    neuron = synthetic_neuron((shape[0], side, side), seed=seed)
    image = neuron.volume.array
    calm = np.sort(image[~neuron.mask].astype(float))
    noise = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(calm)), calm)  # as the neuron's own background
    rng, array = np.random.default_rng(seed), np.empty(shape, image.dtype)
    for z in range(shape[0]):
        array[z] = noise[rng.integers(0, 250, shape[1:], np.uint8)]
    array[:, :side, :side] = image
    mask = np.zeros(shape, bool)
    mask[:, :side, :side] = neuron.mask
    return Volume(array), mask


@app.command()
def sizes(
    output: OutputOption = None,
    volumes: Annotated[
        list[str] | None, typer.Option("--volume", help="SIDE:NEURONS, e.g. 512:4. Repeat the option.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For the volumes; the largest takes as many bytes as voxels.")
    ] = None,
) -> None:
    """Peak memory and time of `neuron-vit3d segment` on OME-Zarr volumes with few neurons in noise."""
    volumes = volumes or ["256:1", "512:1", "512:2", "512:4", "1024:1", "2048:1"]
    neuron = synthetic_neuron((256, 256, 256), seed=22)
    lines = [
        f"uint8. A synthetic neuron, {neuron.tree.length:.0f} voxels long in 256^3, once or several times side by "
        "side in the volume's middle, and noise everywhere else: every voxel is drawn from the neuron's own "
        "background, the darkest 90 % of its volume.",
        "",
        "| volume | neurons | peak memory, GB | seconds | regions with scores above 0 |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name in volumes:
            side, neurons = map(int, name.split(":"))
            image, out = Path(temporary, "image.ome.zarr"), Path(temporary, "out")
            write_sparse_zarr(image, side, neurons, neuron.volume.array)
            words = ["segment", image, "-o", out, "--dtype", "bfloat16", "-q"]
            code = (
                "import resource, subprocess, sys;"
                "subprocess.run([sys.executable, '-m', 'neuron_vit3d.cli', *sys.argv[1:]], check=True,"
                " stdout=subprocess.DEVNULL);"
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True
            )
            seconds = time.monotonic() - started
            shards = sum(path.is_file() for path in (out / "image.scores.ome.zarr" / "0" / "c").rglob("*"))
            lines.append(f"| {side}^3 | {neurons} | {int(done.stdout) / 1e6:.2f} | {seconds:.0f} | {shards} |")
            print(lines[-1], file=sys.stderr, flush=True)
            shutil.rmtree(image)
            shutil.rmtree(out)
    report("segmenting.py sizes", lines, output)


def write_sparse_zarr(path: Path, side: int, neurons: int, neuron: np.ndarray, seed: int = 22) -> None:
    """So many copies of a neuron of 256^3 in noise, each in shards of its own, from near the middle on."""
    from neuron_vit3d.volumes.formats.zarr_writer import ImageLevel, create_image

    create_image(path, (side,) * 3, np.uint8, (1.0, 1.0, 1.0), shard=(64, 256, 256), chunk=(32, 64, 64))
    level, rng = ImageLevel(path), np.random.default_rng(seed)
    darker = neuron[neuron <= np.percentile(neuron, 90)]
    first = (side - 256) // 2 // 256 * 256
    starts = list(product(range(first, side, 256), repeat=3))
    if neurons > len(starts):
        raise typer.BadParameter(f"{side}:{neurons}: only {len(starts)} neurons fit")
    for index in range(len(level)):
        box = level.box(index)
        shape = [one.stop - one.start for one in box]
        voxels = darker[rng.integers(0, len(darker), shape)]
        if tuple(one.start // 256 * 256 for one in box) in starts[:neurons]:
            z = box[0].start % 256
            voxels = neuron[z : z + shape[0]]
        level.write(box, voxels)


if __name__ == "__main__":
    app()
