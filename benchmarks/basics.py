"""Measures what the README and the docs state. Every part prints Markdown, and writes it to a file with --output.

python benchmarks/basics.py cost        # a block of 5 slices against a single slice, ViT-B at 224 x 224
python benchmarks/basics.py startup     # import and load times, the wheel's size
python benchmarks/basics.py memory      # peak memory of `neuron-vit3d segment` on 64 x 2048 x 2048
python benchmarks/basics.py tiling      # a volume in one tile against many
python benchmarks/basics.py volumes --data-dir folder --names a b    # a checkpoint on volumes with traces
python benchmarks/basics.py large --data-dir folder --names a b      # all of segmenting.py and tracing.py
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import outcome


os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does, for us and for the peers

import torch
import typer
from outcome import OutputOption


app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False)


@app.command()
def cost(output: OutputOption = None, rounds: int = 12) -> None:
    """Encoder's forward time and multiplications with 5 slices over those with 1; the decoder's share."""
    from neuron_vit3d import NeuronViT3DConfig, NeuronViT3DForSegmentation

    models = {slices: NeuronViT3DForSegmentation(NeuronViT3DConfig(num_slices=slices)).eval() for slices in (5, 1)}
    blocks = {slices: torch.randn(1, 1, slices, 224, 224) for slices in models}
    times = {slices: [] for slices in models}
    with torch.inference_mode():
        for turn in range(rounds + 2):  # one after the other, so that whatever else the machine does falls on both
            for slices in (5, 1) if turn % 2 else (1, 5):
                started = time.perf_counter()
                models[slices].encoder(blocks[slices])
                times[slices].append(time.perf_counter() - started)
    times = {slices: np.array(values[2:]) for slices, values in times.items()}
    ratio, best = np.median(times[5] / times[1]), times[5].min() / times[1].min()
    counted = {slices: multiplications(model.encoder, blocks[slices]) for slices, model in models.items()}
    whole = multiplications(models[5], blocks[5])
    lines = [
        "| ViT-B/16 encoder, one tile of 224 x 224, float32 | 5 slices over 1 slice |",
        "|---|---|",
        f"| forward time, median of {rounds} ratios (of the best times) | {ratio:.3f} ({best:.3f}) |",
        f"| multiplications | {counted[5] / counted[1]:.4f} |",
        f"| (decoder's multiplications over the encoder's, 5 slices) | {(whole - counted[5]) / counted[5]:.3f} |",
    ]
    report("benchmark.py cost", lines, output)


def multiplications(model, pixel_values: torch.Tensor) -> float:
    """Those of one forward pass, attention's among them."""
    from torch.utils.flop_counter import FlopCounterMode

    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the counter does not see into fused attention on every device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(pixel_values)
    model.set_attn_implementation(attention)
    return counter.get_total_flops() / 2


@app.command()
def startup(output: OutputOption = None, rounds: int = 7) -> None:
    """How long importing takes, against torch and transformers; loading the embedded default; the wheel's size."""
    libraries = "import torch, transformers"
    everything = "from transformers import AutoModel, AutoImageProcessor, PreTrainedModel, pipeline"
    programs = {
        libraries: libraries,
        "import neuron_vit3d": "import neuron_vit3d",
        f"{libraries}, neuron_vit3d": f"{libraries}, neuron_vit3d",
        everything: everything,
        "from neuron_vit3d import NeuronViT3DForSegmentation": "from neuron_vit3d import NeuronViT3DForSegmentation",
    }
    seconds = {name: [] for name in programs}
    for _ in range(rounds):  # one after the other, so that whatever else the machine does falls on all
        for name, program in programs.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            seconds[name].append(time.perf_counter() - started)
    median = {
        name: float(np.median(np.array(times) / np.array(seconds[libraries]))) for name, times in seconds.items()
    }
    load = (
        "import time; from neuron_vit3d.inference import load_checkpoint; load_checkpoint(); times = []\n"
        f"for _ in range({rounds}):\n    t = time.perf_counter(); load_checkpoint(); "
        "times.append(time.perf_counter() - t)\n"
        "print(sorted(times)[len(times) // 2])"
    )
    loaded = subprocess.run([sys.executable, "-c", load], check=True, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, "."]
        subprocess.run(build, check=True, cwd=Path(__file__).resolve().parents[1])
        wheel = next(Path(folder).glob("*.whl")).stat().st_size
    lines = ["| | |", "|---|---|"]
    lines += [
        f"| `{name}`: time over that of `{libraries}`, median of {rounds} ratios | {ratio:.2f} |"
        for name, ratio in median.items()
        if name != libraries
    ]
    load_ratio = float(loaded.stdout) / float(np.median(seconds[libraries]))
    lines += [
        f"| loading the embedded default from a warm disk, over the same | {load_ratio:.2f} "
        f"({float(loaded.stdout):.2f} s) |",
        f"| the wheel | {wheel / 1e6:.1f} MB |",
    ]
    report("benchmark.py startup", lines, output)


@app.command()
def memory(
    output: OutputOption = None, slices: int = 64, side: int = 2048, model: str | None = None, trace: bool = True
) -> None:
    """Peak memory of `neuron-vit3d segment` on a large stack above that of a run on a tiny one."""
    from neuron_vit3d import synthetic_neuron, write_volume
    from neuron_vit3d.volumes import SlabWriter

    with tempfile.TemporaryDirectory() as folder:
        tiny, large = Path(folder, "tiny.tif"), Path(folder, "large.tif")
        neuron = synthetic_neuron((slices, 256, 256), seed=11)
        write_volume(tiny, neuron.volume)
        image = neuron.volume.array
        rng = np.random.default_rng(0)
        with SlabWriter(large, (slices, side, side), np.uint8) as writer:
            for plane in image:  # one neuron in the corner of a large, noisy field
                field = rng.integers(0, max(2, int(np.percentile(plane, 60))), (side, side), dtype=np.uint8)
                field[:256, :256] = plane
                writer.write(field[None])
        used, seconds = {}, {}
        for name, path in (("tiny", tiny), ("large", large)):
            words = ["segment", str(path), "-o", str(Path(folder, name)), "--quiet"]
            words += ["--model", model] if model else []
            words += [] if trace else ["--no-trace"]
            started = time.monotonic()
            # A process of its own for each, so that each one's peak is its own.
            code = (
                "import resource, subprocess, sys;"
                "code = subprocess.run([sys.executable, '-m', 'neuron_vit3d.cli', *sys.argv[1:]],"
                " stdout=subprocess.DEVNULL).returncode;"
                "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
            status, kilobytes = done.stdout.split()
            if status != "0":
                raise SystemExit(f"segment failed: {done.stderr}")
            used[name], seconds[name] = int(kilobytes) / 1e6, time.monotonic() - started
        lines = [
            "| `neuron-vit3d segment` | peak memory, GB | seconds |",
            "|---|---|---|",
            f"| {slices} x 256 x 256 uint8 | {used['tiny']:.2f} | {seconds['tiny']:.0f} |",
            f"| {slices} x {side} x {side} uint8 | {used['large']:.2f} | {seconds['large']:.0f} |",
            f"| difference | {used['large'] - used['tiny']:.2f} | |",
        ]
    report("benchmark.py memory", lines, output)


@app.command()
def tiling(output: OutputOption = None, model: str | None = None) -> None:
    """The same volume in one tile and in many: differences of the scores away from borders, Dice of the two masks."""
    from neuron_vit3d import Segmenter, segment, synthetic_neuron
    from neuron_vit3d.evaluation.segmentation import overlap_scores

    volume = synthetic_neuron((16, 384, 384), seed=12).volume
    lines = [
        "| model | largest difference | 99th percentile | voxels that differ by 1e-3 or more | Dice of the masks |",
        "|---|---|---|---|---|",
    ]
    for name, prepare in (("whole", lambda model: None), ("its stem alone (a local model)", keep_stem_only)):
        scores = {}
        for tile_size, tile_overlap in ((384, 0), (224, 64)):
            segmenter = Segmenter(model, tile_size=tile_size, tile_overlap=tile_overlap, skip_background=False)
            prepare(segmenter.model)
            scores[tile_size] = segment(volume, segmenter).array
        away = away_from_borders(384, 224, 64)
        difference = np.abs(scores[384] - scores[224])[:, away][:, :, away]
        dice = overlap_scores(scores[384] >= 0.5, scores[224] >= 0.5)["dice"]
        share = np.mean(difference >= 1e-3)
        lines.append(
            f"| {name} | {difference.max():.1e} | {np.percentile(difference, 99):.1e} | {share:.3%} | {dice:.4f} |"
        )
    report("benchmark.py tiling", lines, output)


def keep_stem_only(model) -> None:
    """Silences the tokens: what is left of the decoder looks at a neighbourhood of some twenty pixels."""
    for fuse in model.decoder.fuse:
        torch.nn.init.zeros_(fuse[1].weight)
        torch.nn.init.zeros_(fuse[1].bias)


def away_from_borders(length: int, tile: int, overlap: int, margin: int = 32) -> np.ndarray:
    """Pixels of an axis at least `margin` away from where any tile begins or ends inside the volume."""
    from neuron_vit3d.model.blocks import tile_starts

    starts = tile_starts(length, tile, overlap)
    borders = [start for start in starts if start > 0] + [start + tile for start in starts if start + tile < length]
    pixels = np.arange(length)
    return pixels[np.all([np.abs(pixels - border) >= margin for border in borders], axis=0)]


@app.command()
def volumes(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    names: Annotated[list[str], typer.Option(help="Names of the pairs; repeat the option.")],
    output: OutputOption = None,
    model: str | None = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder to leave masks, trees and pictures in.")] = None,
) -> None:
    """A checkpoint on volumes with gold trees: mask, tree and distances, by the command line a user would type."""
    from neuron_vit3d.data.pairs import find_pairs, read_pair
    from neuron_vit3d.evaluation.segmentation import segmentation_scores
    from neuron_vit3d.morphology import read_swc, tree_distance
    from neuron_vit3d.volumes import read_volume

    pairs = {pair.name: pair for pair in find_pairs(data_dir)}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            pair, folder = pairs[name], Path(pictures or temporary) / name
            started = time.monotonic()
            run_cli("segment", pair.image, "-o", folder, "--quiet", *(["--model", model] if model else []))
            seconds = time.monotonic() - started
            swc = folder / f"{pair.image.stem}.swc"
            run_cli("view", pair.image, swc, "--gold", pair.annotation, "-o", folder / "compared.png")
            mask = read_volume(folder / f"{pair.image.stem}.mask.tif").array > 0
            masks = segmentation_scores(mask, read_pair(pair).labels == 1)
            trees = tree_distance(read_swc(swc), read_swc(pair.annotation, mend_structure=True))
            row = {key: masks[key] for key in ("dice", "precision", "recall", "cldice")}
            row |= {f"tree_{key}": trees[key] for key in ("f1", "precision", "recall")}
            row |= {"esa": trees["esa"], "seconds": seconds}
            rows.append({"name": name, **{key: round(value, 4) for key, value in row.items()}})
    lines = [
        "| volume | Dice | precision | recall | clDice | tree F1 | tree precision | tree recall | ESA | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    table = {row["name"]: [value for key, value in row.items() if key != "name"] for row in rows}
    if len(rows) > 1:
        table["mean"] = np.mean(list(table.values()), axis=0)
    for name, (*values, seconds) in table.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {seconds:.0f} |")
    report("benchmark.py volumes", lines, output)
    if output is not None:  # for the model card, whose numbers are never typed
        values = {"command": "benchmarks/basics.py volumes", "machine": machine(), "volumes": rows}
        output.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n")


@app.command()
def large(
    data_dir: Annotated[Path, typer.Option(help="Folder of image + SWC pairs.")],
    names: Annotated[list[str], typer.Option(help="Names of the pairs that trees are traced of; repeat the option.")],
    reports: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("benchmarks/results"),
) -> None:
    """Measures speed, memory and trees of whole volumes, beside the peers, one part after the other.

    It takes some hours on two cores.
    """
    data, chosen = ["--data-dir", data_dir], [word for name in names for word in ("--names", name)]
    parts = {
        "segmenting.py": {
            "peers": [],
            "share": [],
            "background": data,
            "choices": [*data, *chosen],
            "sparse": [],
            "sizes": [],
        },
        "tracing.py": {"peers": [], "real": [*data, *chosen], "size": [], "regions": [], "distance": []},
    }
    for script, commands in parts.items():
        kind = script.removesuffix(".py")
        for command, words in commands.items():
            words = [Path(__file__).with_name(script), command, *words, "--output", reports / f"{kind}_{command}.md"]
            subprocess.run([sys.executable, *map(str, words)], check=True)


def run_cli(*words) -> None:
    subprocess.run([sys.executable, "-m", "neuron_vit3d.cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def machine() -> str:
    """Where something was measured."""
    gpu = "GPU" if torch.cuda.is_available() else "no GPU"
    return f"{torch.get_num_threads()} threads, {gpu}, {platform.machine()}, torch {torch.__version__}"


def report(command: str, lines: list[str], output: Path | None) -> None:
    """Prints the table with how and where it was measured, and writes it."""
    text = "\n".join([f"`benchmarks/{command}` ({machine()})", "", *lines]) + "\n"
    outcome.write(text, output)


if __name__ == "__main__":
    app()
