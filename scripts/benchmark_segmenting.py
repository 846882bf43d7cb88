"""Segmenting whole volumes: beside other networks, without background, in bounded memory. Each part prints Markdown.

python scripts/benchmark_segmenting.py peers         # MONAI's UNETR, SwinUNETR and DynUNet, the same volume
python scripts/benchmark_segmenting.py share         # where the time goes, against the machine's matrix rate
python scripts/benchmark_segmenting.py background --data-dir folder     # tiles skipped, time saved, recall lost
python scripts/benchmark_segmenting.py sparse        # one neuron in a large, noisy stack, with and without skipping
python scripts/benchmark_segmenting.py sizes         # memory and time from 256^3 to 2048^3, OME-Zarr

Networks have random weights where no checkpoint is needed: speed does not depend on them.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from benchmark import OutputOption, report

from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation, Segmenter, Volume, segment, synthetic_neuron


app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@app.command()
def peers(
    output: OutputOption = None,
    shape: tuple[int, int, int] = (192, 192, 192),
    patch: int = 96,
    dtypes: Annotated[list[str] | None, typer.Option("--dtype", help="float32, bfloat16.")] = None,
) -> None:
    """Voxels per second of one volume: ours, and MONAI's networks by its sliding-window inferer at 0.5 overlap."""
    rng = np.random.default_rng(0)
    volume = Volume(rng.integers(0, 256, shape, np.uint8))
    lines = [
        f"A volume of {' x '.join(map(str, shape))}; peers in patches of {patch}^3 at an overlap of 0.5, ours in tiles.",
        "",
        "| | computed in | voxels per second | over UNETR | over SwinUNETR | over DynUNet |",
        "|---|---|---|---|---|---|",
    ]
    for dtype in dtypes or list(DTYPES):
        rates = {name: rate_of_peer(network, volume, patch, DTYPES[dtype]) for name, network in monai_networks(patch)}
        theirs = dict(rates)
        for name, segmenter in ours(DTYPES[dtype]):
            rates[name] = rate(lambda segmenter=segmenter: segment(volume, segmenter), volume)
        for name, value in rates.items():
            over = " | ".join(f"{value / other:.1f}" for other in theirs.values())
            lines.append(f"| {name} | {dtype} | {value:,.0f} | {over} |")
    report("benchmark_segmenting.py peers", lines, output)


def ours(dtype: torch.dtype):
    """ViT-B with five slices labelled a pass and with one, and the embedded default."""
    for outputs in (5, 1):
        config = NeuronViT3DConfig(num_slices=5, num_output_slices=outputs)
        model = NeuronViT3DForSegmentation(config).eval()
        yield f"ViT-B, 5 slices, {outputs} labelled a pass", Segmenter(model, dtype=dtype, skip_background=False)
    yield "the embedded default, 1 labelled a pass", Segmenter(dtype=dtype, skip_background=False)


def monai_networks(patch: int):
    """(name, network) of the peers, for grey volumes and two labels."""
    from monai.networks.nets import UNETR, DynUNet, SwinUNETR

    yield "UNETR (ViT-B)", UNETR(1, 2, img_size=(patch,) * 3)  # 12 layers, 768 wide, patches of 16^3
    yield "SwinUNETR (48)", SwinUNETR(1, 2, feature_size=48)
    kernels, strides = [3] * 5, [1, 2, 2, 2, 2]
    yield "DynUNet", DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[32, 64, 128, 256, 320])


def rate_of_peer(network: torch.nn.Module, volume: Volume, patch: int, dtype: torch.dtype) -> float:
    from monai.inferers import sliding_window_inference

    image = torch.from_numpy(volume.array.astype(np.float32))[None, None] / 255
    network.eval().to(DEVICE)

    def run() -> None:
        with torch.inference_mode(), torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
            sliding_window_inference(image.to(DEVICE), (patch,) * 3, 1, network, overlap=0.5, mode="gaussian").cpu()

    return rate(run, volume)


def rate(run, volume: Volume) -> float:
    """Voxels a second. On a GPU of the second run: the first one loads and chooses kernels."""
    for _ in range(2 if DEVICE.type == "cuda" else 1):
        started = time.monotonic()
        run()
        seconds = time.monotonic() - started
    return volume.array.size / seconds


def wait() -> float:
    """The time at which the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


@app.command()
def share(output: OutputOption = None, shape: tuple[int, int, int] = (32, 384, 384)) -> None:
    """The transformer's share of the time, and the multiplications of all of it against those of a large matrix product."""
    from torch.utils.flop_counter import FlopCounterMode

    volume = synthetic_neuron(shape, seed=5).volume
    lines = [
        "| | computed in | time in the transformer | in the model | of the machine's matrix rate |",
        "|---|---|---|---|---|",
    ]
    for name, dtype in DTYPES.items():
        peak = matrix_rate(dtype)
        for what, segmenter in ours(dtype):
            encoder, whole = Clock(segmenter.model.encoder), Clock(segmenter.model)
            with encoder.running(), whole.running():
                started = wait()
                segment(volume, segmenter)
                seconds = wait() - started
            block = torch.zeros(1, 1, segmenter.processor.num_slices, *(min(segmenter.tile_size, shape[1]),) * 2)
            block = block.to(DEVICE)
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                segmenter.model(block)
            done = counter.get_total_flops() / 2 * whole.blocks
            lines.append(
                f"| {what} | {name} | {encoder.seconds / seconds:.0%} | {whole.seconds / seconds:.0%} | "
                f"{done / seconds / peak:.0%} |"
            )
    report("benchmark_segmenting.py share", lines, output)


class Clock:
    """How long a module takes, and how many blocks it is given."""

    def __init__(self, module: torch.nn.Module):
        self.module, self.seconds, self.blocks = module, 0.0, 0

    @contextmanager
    def running(self):
        def before(*_) -> None:
            self.started = wait()

        def after(_, inputs, *rest) -> None:
            self.seconds += wait() - self.started
            self.blocks += len(inputs[0]) if inputs else 0

        hooks = self.module.register_forward_pre_hook(before), self.module.register_forward_hook(after)
        yield self
        for hook in hooks:
            hook.remove()


def matrix_rate(dtype: torch.dtype) -> float:
    """Multiplications a second of the best of several products of two square matrices."""
    side = 8192 if DEVICE.type == "cuda" else 2048
    first, second = torch.randn(2, side, side, device=DEVICE).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = wait()
        first @ second
        best = min(best, wait() - started)
    return side**3 / best


@app.command()
def background(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    output: OutputOption = None,
    model: str | None = None,
    dtype: str = "bfloat16",
) -> None:
    """All real stacks with and without `skip_background`: tiles skipped, time saved, neuron lost."""
    from neuron_vit3d.data.pairs import find_pairs, read_pair

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
        f"| all | {1 - fewer.sum() / blocks.sum():.0%} | {seconds.sum() / faster.sum():.2f} | {lost.mean():.3%} (mean) | "
        f"{own.mean():.3%} (mean) |"
    )
    report("benchmark_segmenting.py background", lines, output)


class Counting(Segmenter):
    """Counts the blocks that go through the model."""

    blocks = 0

    def _begin(self, batch):
        self.blocks += len(batch)
        return super()._begin(batch)


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
    volume, mask = sparse_stack(shape)
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
        "| | blocks | time without over with skipping | neuron lost |",
        "|---|---|---|---|",
        f"| {' x '.join(map(str, shape))}, one neuron | {fewer} of {len(grid)} | {seconds / faster:.1f} | "
        f"{lost / max(1, hits):.3%} |",
    ]
    report("benchmark_segmenting.py sparse", lines, output)


def sparse_stack(shape: tuple[int, int, int], seed: int = 21) -> tuple[Volume, np.ndarray]:
    """A noisy stack with one synthetic neuron in its first corner, and the neuron's mask."""
    side = min(512, *shape[1:])
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
    sides: Annotated[list[int] | None, typer.Option("--side", help="Repeat the option.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For the volumes; the largest takes as many bytes as voxels.")
    ] = None,
) -> None:
    """Peak memory and time of `neuron-vit3d segment` on OME-Zarr volumes with one neuron in noise."""
    lines = [
        "| volume | peak memory, GB | seconds | regions with neuron |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for side in sides or (256, 512, 1024, 2048):
            image = Path(temporary, f"{side}.ome.zarr")
            write_sparse_zarr(image, side)
            words = ["segment", image, "-o", Path(temporary, "out"), "--dtype", "bfloat16", "-q"]
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
            scores = Path(temporary, "out", f"{side}.scores.ome.zarr", "0", "c")
            shards = sum(path.is_file() for path in scores.rglob("*"))
            lines.append(f"| {side}^3 | {int(done.stdout) / 1e6:.2f} | {seconds:.0f} | {shards} |")
    report("benchmark_segmenting.py sizes", lines, output)


def write_sparse_zarr(path: Path, side: int, seed: int = 22) -> None:
    """One neuron of 256^3 in noise, near the middle."""
    from neuron_vit3d.volumes.zarr_writer import ImageLevel, create_image

    neuron = synthetic_neuron((256, 256, 256), seed=seed).volume.array
    create_image(path, (side,) * 3, np.uint8, (1.0, 1.0, 1.0), shard=(64, 256, 256), chunk=(32, 64, 64))
    level, rng = ImageLevel(path), np.random.default_rng(seed)
    darker = neuron[neuron <= np.percentile(neuron, 90)]
    start = (side - 256) // 2 // 256 * 256
    for index in range(len(level)):
        box = level.box(index)
        shape = [one.stop - one.start for one in box]
        voxels = darker[rng.integers(0, len(darker), shape)]
        inside = [one.start - start for one in box]
        if all(0 <= at < 256 for at in inside):
            voxels = neuron[tuple(slice(at, at + length) for at, length in zip(inside, shape, strict=True))]
        level.write(box, voxels)


if __name__ == "__main__":
    app()
