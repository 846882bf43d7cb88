"""Measures how fast the trainer trains, and what it spends outside of the model: benchmarks/results/training.md.

python benchmarks/training.py --base-models weights/vit-tiny-patch16-224 weights/dinov2-vits14-saliency \
    --output benchmarks/results/training.md

Each model is trained by the trainer itself on synthetic neurons, with all its augmentation; the figures are those of
its own log. The device's matrix rate is measured in the same run, by products of large matrices of the same kind.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from basics import report
from transformers import HfArgumentParser

from neuron_vit3d.data import write_synthetic_pairs
from neuron_vit3d.training.building import build_model, computation_dtype
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import train


@dataclass
class Arguments:
    base_models: list[str] = field(metadata={"help": "Folders or names of 2D vision transformers."})
    output: str | None = field(default=None, metadata={"help": "Markdown file to write."})
    batch_size: int = 6
    tile_size: int = field(default=192, metadata={"help": "Of a tile, about: the nearest multiple of the patch."})
    laps: int = field(default=6, metadata={"help": "Stretches of 5 steps that are measured, after one to warm up."})
    workers: int = 1


def main() -> int:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__.splitlines()[0]).parse_args_into_dataclasses()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = [
        f"Batches of {arguments.batch_size} blocks of 5 slices, full augmentation in {arguments.workers} worker "
        f"process(es); medians of {arguments.laps} stretches of 5 steps.",
        "",
        "| 2D model | tile | decoder | blocks a second | of a step's time outside the model | operations a second, "
        "of what matrix products reach |",
        "|---|---|---|---|---|---|",
    ]
    try:
        with tempfile.TemporaryDirectory() as work:
            write_synthetic_pairs(Path(work) / "data", 4, seed=5, shape=(24, 256, 256))
            for number, base in enumerate(arguments.base_models):
                for decoder, sizes in (("with stem", [8, 16, 32]), ("tokens alone", [])):
                    config = configuration(arguments, base, sizes, Path(work), f"{number}{decoder}")
                    rate, outside = measure(config)
                    share = rate * operations(config) / matrix_rate(device, computation_dtype(config))
                    lines.append(
                        f"| {Path(base).name} | {config.tile_size} | {decoder} | {rate:.1f} | {outside:.1%} | "
                        f"{share:.0%} |"
                    )
    except (ValueError, OSError) as error:
        print(f"training.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    lines += ["", f"On {name}, in {str(computation_dtype(config)).removeprefix('torch.')}."]
    report("training.py", lines, Path(arguments.output) if arguments.output else None)
    return 0


def configuration(arguments: Arguments, base: str, stem_sizes: list[int], work: Path, name: str) -> TrainingConfig:
    from transformers import AutoConfig

    patch = AutoConfig.from_pretrained(base).patch_size
    steps = 5 * (arguments.laps + 1)
    return TrainingConfig(
        train_data=[str(work / "data")],
        output_dir=str(work / name),
        base_model=base,
        stem_sizes=stem_sizes,
        tile_size=round(arguments.tile_size / patch) * patch,
        batch_size=arguments.batch_size,
        max_steps=steps,
        evaluation_steps=steps,
        checkpoint_steps=steps,
        log_steps=5,
        num_workers=arguments.workers,
    )


def measure(config: TrainingConfig) -> tuple[float, float]:
    """Blocks a second, and the share of the time outside of the model."""
    folder = train(config)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    laps = [line for line in lines if "blocks_per_second" in line][1:]
    return tuple(float(np.median([lap[key] for lap in laps])) for key in ("blocks_per_second", "outside_model"))


def operations(config: TrainingConfig) -> float:
    """Floating-point operations of learning from one block, forward and backward; attention counts as products."""
    from torch.utils.flop_counter import FlopCounterMode

    model, _ = build_model(config)
    model.set_attn_implementation("eager")  # the counter sees nothing in others
    block = torch.randn(1, 1, config.num_slices, config.tile_size, config.tile_size)
    with FlopCounterMode(display=False) as counter:
        model.train()(block).logits.sum().backward()
    return counter.get_total_flops()


def matrix_rate(device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """Operations a second of square matrix products, the best of some."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(rounds + 1):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    raise SystemExit(main())
