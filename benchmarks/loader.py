"""Measures how many training blocks a second the loaders make, with and without augmentation.

It writes benchmarks/results/loader.md.

python benchmarks/loader.py run --output benchmarks/results/loader.md

Twelve synthetic neurons are prepared as `scripts/prepare_bigneuron.py` prepares real ones, and blocks are loaded from
the config `volumes` (memory-mapped), from `blocks` on disk and from `blocks` streamed from a Hub on the loopback.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome
import torch
import typer
from outcome import OutputOption


ROOT = Path(__file__).resolve().parents[1]
REPO = "user/neurons"
SOURCES = {
    "volumes": "config `volumes`, memory-mapped (`BlockDataset`)",
    "blocks": "config `blocks`, on disk (`StreamedBlocks`)",
    "hub": "config `blocks`, streamed from the loopback Hub (`StreamedBlocks`)",
}

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def run(
    output: OutputOption = None,
    work: Annotated[Path | None, typer.Option(help="Folder to prepare the data in, and to find it again.")] = None,
    neurons: int = 12,
    blocks: int = 480,
    rounds: int = 3,
    workers: int = 2,
    tile_size: int = 224,
) -> None:
    """Everything: prepares the data, measures each source `rounds` times by turns, and reports the best of them."""
    HubServer = runpy.run_path(str(ROOT / "tests" / "support" / "hub_server.py"))["HubServer"]
    with tempfile.TemporaryDirectory() as scratch, HubServer() as hub:
        folder = work or Path(scratch)
        described = _prepare(folder, neurons)
        environment = hub.environment(Path(scratch, "home"))
        _call(environment, "push", folder)
        busy, results = os.getloadavg()[0], {}
        for _ in range(rounds):
            for source in SOURCES:
                for augmented in (True, False):
                    words = [folder, source, str(blocks), str(workers), str(tile_size), str(augmented)]
                    result = json.loads(_call(environment, "measure", *words))
                    results.setdefault((source, augmented), []).append(result)
        waiting = json.loads(_call(environment, "wait", folder, str(workers), str(tile_size)))
    lines = [
        f"`benchmarks/loader.py run` ({_machine()})",
        "",
        f"{described}; blocks of 5 x {tile_size} x {tile_size}, batches of 8, DataLoader with {workers} workers, "
        f"{blocks} blocks a measurement after as many to warm up.",
        f"Blocks a second: best of {rounds} measurements taken in turn (all of them in brackets). CPU: processor "
        "time of a block in all processes of the loader, the least of the measurements.",
        f"Other work on the machine (load average before the measurements): {busy:.1f} processes on {os.cpu_count()} "
        "cores.",
        "",
        "| source | full augmentation: blocks/s | CPU ms a block | none: blocks/s | CPU ms a block |",
        "|---|---|---|---|---|",
    ]
    for source, name in SOURCES.items():
        cells = []
        for augmented in (True, False):
            rates = [one["blocks_per_second"] for one in results[source, augmented]]
            cells.append(f"{max(rates):.0f} ({', '.join(f'{rate:.0f}' for rate in sorted(rates))})")
            cells.append(f"{min(one['cpu_milliseconds'] for one in results[source, augmented]):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Full augmentation: `Augmentation()`, every kind at its default strength and frequency, another neuron mixed "
        "into a fifth of the blocks. The Hub's own processor time comes on top of the last line.",
        "",
        f"Training the embedded default on the CPU out of `volumes` with {workers} workers on the same cores, "
        f"batches of 4: {100 * waiting['share']:.1f} % of a step of {waiting['step']:.2f} s is spent waiting for "
        "data.",
    ]
    text = "\n".join(lines) + "\n"
    outcome.write(text, output)


@app.command(hidden=True)
def push(folder: Path) -> None:
    """Publishes what was prepared on the Hub of the environment, as users do."""
    from neuron_vit3d import load_bigneuron
    from neuron_vit3d.hub import publish_dataset

    configs = {config: load_bigneuron(folder / "prepared", config) for config in ("volumes", "blocks")}
    publish_dataset(configs, REPO, title="Synthetic neurons", license="other")


@app.command(hidden=True)
def measure(
    folder: Path, source: str, blocks: int, workers: int, tile_size: int, augmented: bool, batch: int = 8
) -> None:
    """Blocks a second of one source, as JSON."""
    from torch.utils.data import DataLoader

    dataset = _dataset(folder, source, tile_size, augmented, length=100 * blocks)
    loader = iter(DataLoader(dataset, batch_size=batch, num_workers=workers, prefetch_factor=2))
    # Workers have started, trees are parsed, black and white are found, and the queue is full when the clock starts.
    for _ in range(max(8 * workers, blocks // batch)):
        next(loader)
    started, used = time.perf_counter(), _cpu_seconds()
    for _ in range(blocks // batch):
        assert next(loader)["pixel_values"].shape == (batch, 1, 5, tile_size, tile_size)
    seconds, used = time.perf_counter() - started, _cpu_seconds() - used
    count = blocks // batch * batch
    print(json.dumps({"blocks_per_second": count / seconds, "cpu_milliseconds": 1000 * used / count}))
    sys.stdout.flush()
    os._exit(0)  # workers that are in the middle of a stream would be waited for


@app.command(hidden=True)
def wait(folder: Path, workers: int, tile_size: int, steps: int = 6) -> None:
    """Share of a training step of the embedded default that is spent waiting for data, as JSON."""
    from torch.utils.data import DataLoader

    from neuron_vit3d.inference import load_checkpoint

    model = load_checkpoint()[0].train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    loader = iter(DataLoader(_dataset(folder, "volumes", tile_size, True, length=10_000), 4, num_workers=workers))
    waited, times = [], []
    for _ in range(steps + 3):
        began = time.perf_counter()
        block = next(loader)
        waited.append(time.perf_counter() - began)
        model(**block).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - began)
    print(json.dumps({"share": sum(waited[3:]) / sum(times[3:]), "step": float(np.mean(times[3:]))}))
    sys.stdout.flush()
    os._exit(0)


def _cpu_seconds() -> float:
    """Processor time of this process and its workers so far (Linux)."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    total = 0
    for process in (os.getpid(), *children):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # in user and in kernel mode
    return total / os.sysconf("SC_CLK_TCK")


def _dataset(folder: Path, source: str, tile_size: int, augmented: bool, length: int):
    from datasets import load_dataset

    from neuron_vit3d import NeuronViT3DImageProcessor, load_bigneuron
    from neuron_vit3d.data.augmentation import Augmentation
    from neuron_vit3d.data.sampling import BlockDataset
    from neuron_vit3d.data.streaming import StreamedBlocks
    from neuron_vit3d.data.traced_volume import TracedVolume

    processor = NeuronViT3DImageProcessor()
    augmentation = Augmentation() if augmented else Augmentation.none()
    options = {"tile_size": tile_size, "augmentation": augmentation}
    if source == "volumes":
        volumes = TracedVolume.all_of(load_bigneuron(folder / "prepared", "volumes")["train"])
        return BlockDataset(volumes, processor, length=length, **options)
    if source == "blocks":
        return StreamedBlocks(load_bigneuron(folder / "prepared", "blocks")["train"], processor, **options)
    return StreamedBlocks(load_dataset(REPO, "blocks", split="train", streaming=True), processor, **options)


def _prepare(folder: Path, neurons: int) -> str:
    """Synthetic neurons as a prepared dataset; what they are, in words."""
    from neuron_vit3d import load_bigneuron
    from neuron_vit3d.data import write_synthetic_pairs
    from neuron_vit3d.data.bigneuron import PreparationOptions

    shape = (64, 512, 512)
    write_synthetic_pairs(folder / "pairs", neurons, seed=0, shape=shape)
    options = PreparationOptions(fractions=(1.0, 0.0, 0.0))
    volumes = load_bigneuron(folder / "pairs", "volumes", output=folder / "prepared", options=options)["train"]
    rows = load_bigneuron(folder / "prepared", "blocks")["train"]
    nodes = [text.count("\n") for text in volumes["swc"]]
    return (
        f"{len(volumes)} synthetic neurons of {' x '.join(map(str, shape))} ({min(nodes)} to {max(nodes)} nodes), "
        f"{len(rows)} rows of `blocks` of {' x '.join(map(str, rows[0]['shape']))}"
    )


def _call(environment: dict[str, str], command: str, *words) -> str:
    """One of the hidden commands, in a process of its own; what it printed last."""
    words = [sys.executable, __file__, command, *map(str, words)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=600)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _machine() -> str:
    import platform

    return f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"


if __name__ == "__main__":
    app()
