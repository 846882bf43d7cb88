"""Fixtures of the command line's tests: a neuron's files in the folder one works in, and a checkpoint."""

from pathlib import Path

import pytest


SHAPE = (8, 64, 64)


@pytest.fixture(scope="module")
def neuron():
    from neuron_vit3d import synthetic_neuron

    return synthetic_neuron(SHAPE, seed=0, quality="clean")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from support.program import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(neuron, tmp_path, monkeypatch) -> Path:
    """The folder one works in: image.tif, gold.swc and drawn.tif, its mask."""
    from support.program import save_neuron

    monkeypatch.chdir(tmp_path)
    return save_neuron(tmp_path, neuron)
