"""How fast a machine is gets measured on blocks of the model's own shape."""

import pytest

from neuron_vit3d.teaching.recipe import measure_pace, recipe
from neuron_vit3d.training.config import TrainingConfig
from support.tiny_models import TILE, tiny_model


@pytest.mark.parametrize("channels", [1, 2])
def test_the_pace_is_measured_whatever_channels_the_model_takes(channels):
    model = tiny_model(num_channels=channels)
    config = TrainingConfig("x", tile_size=TILE, batch_size=2, max_steps=10, cpu=True)
    pace = measure_pace(model, config)
    assert pace.step > 0 and pace.voxels > 0
    assert pace.seconds(config, 3, 1000) == pytest.approx(30 * pace.step + 1000 / pace.voxels)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_beginner_learns_faster_and_a_gpu_longer():
    known, new = (recipe(knows_neurons=one, on_gpu=False) for one in (True, False))
    assert new["learning_rate"] > known["learning_rate"]
    assert recipe(knows_neurons=True, on_gpu=True)["max_steps"] > known["max_steps"]
