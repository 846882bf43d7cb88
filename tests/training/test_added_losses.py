"""Losses that are added by weight: a row gives an option, in its place, without torch."""

import subprocess
import sys
from dataclasses import dataclass, fields

import pytest

from neuron_vit3d.training import added_losses
from neuron_vit3d.training.added_losses import ADDED, with_weights
from neuron_vit3d.training.config import TrainingConfig


def test_a_row_is_an_option_after_the_loss(monkeypatch):
    monkeypatch.setattr(added_losses, "ADDED", {**ADDED, "tversky": "the Tversky loss"})

    @dataclass
    @with_weights
    class Options:
        steps: int
        loss: str = "dice"
        seed: int = 0

    weights = ["cldice_weight", "skeleton_weight", "tversky_weight"]
    assert [field.name for field in fields(Options)] == ["steps", "loss", *weights, "seed"]
    assert vars(Options(3, tversky_weight=0.5)) == {
        "steps": 3, "loss": "dice", "cldice_weight": 0.0, "skeleton_weight": 0.0, "tversky_weight": 0.5, "seed": 0,
    }  # fmt: skip


def test_the_training_options_have_the_weights():
    names = [field.name for field in fields(TrainingConfig)]
    first = names.index("loss") + 1
    assert names[first : first + len(ADDED)] == [f"{name}_weight" for name in ADDED]
    assert TrainingConfig("", skeleton_weight=0.5).skeleton_weight == 0.5
    with pytest.raises(ValueError, match="skeleton_weight must"):
        TrainingConfig("", skeleton_weight=-1.0)


@pytest.mark.slow
def test_options_are_known_without_torch():
    code = "import sys; import neuron_vit3d.training.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
