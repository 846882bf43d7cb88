"""Scores without low ones have a threshold of a half; weights in between lie in between."""

import torch

from neuron_vit3d import threshold_from_noise
from neuron_vit3d.teaching.judging import LOWEST_SCORE, between
from support.tiny_models import tiny_model


def test_the_threshold_of_scores_without_low_ones_is_a_half():
    scores = torch.rand(4, 40, 40, generator=torch.Generator().manual_seed(1)).pow(6).numpy()
    scores[scores < LOWEST_SCORE] = 0
    assert threshold_from_noise(scores) == 0.5


def test_half_of_the_way_lies_between():
    base, taught = tiny_model(seed=1), tiny_model(seed=2)
    expected = {
        name: (base.state_dict()[name] + value) / 2 if value.is_floating_point() else value
        for name, value in tiny_model(seed=2).state_dict().items()
    }
    found = between(base, taught, 0.5).state_dict()
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in expected.items())
