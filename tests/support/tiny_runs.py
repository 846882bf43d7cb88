"""Training runs that take a second: their data, base model and options, and what they leave behind."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.data.synthetic import write_synthetic_pairs
from neuron_vit3d.training.config import TrainingConfig
from support.tiny_models import save_2d


def save_data(folder: Path) -> str:
    """Two synthetic neurons, neuron_0000 and neuron_0001, of 6 x 48 x 48 voxels."""
    write_synthetic_pairs(folder, 2, seed=4, shape=(6, 48, 48), quality="clean")
    return str(folder)


def save_base(folder: Path) -> str:
    """A 2D transformer of two layers."""
    return str(save_2d(folder, num_hidden_layers=2))


def tiny_run(base: str, data: str, output: Path) -> TrainingConfig:
    """Six steps of two blocks, on the CPU."""
    return TrainingConfig(
        train_data=[data],
        output_dir=str(output),
        base_model=base,
        num_slices=3,
        decoder_hidden_size=8,
        stem_sizes=[4, 4, 8],
        tile_size=32,
        batch_size=2,
        max_steps=6,
        learning_rate=1e-2,
        encoder_learning_rate=1e-3,
        warmup_steps=2,
        evaluation_steps=100,
        checkpoint_steps=2,
        log_steps=1,
        mixed_precision="no",
        num_workers=0,
        cpu=True,
    )


@contextmanager
def run_of_a_test(folder: Path) -> Iterator[TrainingConfig]:
    """A tiny run on data and a base model of its own, in one thread: two that wait for each other take longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield tiny_run(save_base(folder / "base"), save_data(folder / "data"), folder / "run")
    finally:
        torch.set_num_threads(threads)
        forget_accelerate()


def forget_accelerate() -> None:
    """Accelerate keeps its state for a process's life; the next test gets a new one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def log_of(folder, key: str) -> dict[int, float]:
    """step -> value; fails where a step is told twice."""
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if key in line]
    assert len(steps) == len(set(steps)) and steps == sorted(steps)
    return {line["step"]: line[key] for line in lines if key in line}


def stop_at(monkeypatch, block: int, error: type = KeyboardInterrupt) -> None:
    """The run is interrupted when it asks for this block."""
    original = BlockDataset.__getitem__

    def interrupted(self, index):
        if index == block:
            raise error
        return original(self, index)

    monkeypatch.setattr(BlockDataset, "__getitem__", interrupted)


def hidden(folder) -> list[Path]:
    """What is only there while something is written."""
    return list(Path(folder).rglob(".*"))
