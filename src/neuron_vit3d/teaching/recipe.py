"""How a model is taught a few stacks: the options of its trainings, and how far its weights are moved.

The figures behind the numbers are in experiments/results/teaching.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ..training.config import TrainingConfig


# So many that three stacks take about 20 minutes on two cores, for four trainings.
STEPS_ON_CPU, STEPS_ON_GPU = 200, 400
# Shares of the way from the weights of the base model to the taught ones (Wortsman et al. 2022, "Robust fine-tuning of
# zero-shot models"): the way in between keeps more of what the base model knew. What is best on unseen stacks is kept.
SHARES = (0.5, 1.0)
_RATES = {"learning_rate": 3e-4, "encoder_learning_rate": 3e-5}
# Of a model that has seen no neuron yet: those of TrainingConfig, where they were found.
_RATES_OF_A_BEGINNER = {"learning_rate": 1e-3, "encoder_learning_rate": 1e-4}
# Half of the blocks show synthetic neurons: without them other kinds of images are forgotten.
_REPLAY = 0.5
# Voxels. Radii drawn by hand are wider than what is seen (fly neurons: 3.8 and 2.5 in the median). A model that is
# taught them closes the gaps between neurites side by side.
_WIDEST_LABEL = 1.5
# Tiles overlap by a sixth on each side; two thirds of each in each direction are new.
_NEW_VOXELS = (2 / 3) ** 2


def recipe(*, knows_neurons: bool, on_gpu: bool) -> dict[str, Any]:
    """Returns the training options that suit a few stacks.

    Args:
        knows_neurons: the base model is a 3D checkpoint of this package; else a 2D model that is inflated.
        on_gpu: training runs on a GPU.
    """
    steps = STEPS_ON_GPU if on_gpu else STEPS_ON_CPU
    return {
        "max_steps": steps,
        "batch_size": 6,
        "warmup_steps": steps // 10,
        "synthetic_share": _REPLAY,
        "max_radius": _WIDEST_LABEL,
        "checkpoint_steps": 50,
        "evaluation_steps": steps,
        **(_RATES if knows_neurons else _RATES_OF_A_BEGINNER),
    }


@dataclass(frozen=True)
class Pace:
    """How fast this machine is.

    Attributes:
        step: seconds of a training step.
        voxels: so many of them are segmented in a second.
    """

    step: float
    voxels: float

    def seconds(self, config: TrainingConfig, trainings: int, voxels: int) -> float:
        """Estimates the time of so many trainings and of segmenting so many voxels."""
        return trainings * config.max_steps * self.step + voxels / self.voxels


def measure_pace(model, config: TrainingConfig) -> Pace:
    """Runs a step forward and backward, once to get ready and once more with a clock.

    Args:
        model: of the base checkpoint.
        config: of the trainings.
    """
    import torch

    device = "cpu" if config.cpu or not torch.cuda.is_available() else "cuda"
    model = model.to(device).train()
    shape = (config.batch_size, model.config.num_channels, model.config.num_slices, *[config.tile_size] * 2)
    blocks = torch.zeros(shape, device=device)

    def timed(call) -> float:
        begun = time.monotonic()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - begun

    def step() -> None:
        model(pixel_values=blocks).logits.float().square().mean().backward()

    def score() -> None:
        with torch.no_grad():
            model(pixel_values=blocks)

    timed(step)
    pace = Pace(timed(step), _NEW_VOXELS * blocks[:, 0, 0].numel() / timed(score))
    model.zero_grad()
    return pace
