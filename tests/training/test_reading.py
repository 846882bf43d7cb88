"""What a training run reads out of a prepared dataset; folders of pairs are tested with the loop."""

from dataclasses import replace

import numpy as np
import pytest

from neuron_vit3d.data.bigneuron import load_bigneuron, prepare
from neuron_vit3d.data.pairs import LabelledVolume, find_pairs, read_pair
from neuron_vit3d.data.preparation import PreparationOptions
from neuron_vit3d.data.traced_volume import TracedVolume
from neuron_vit3d.training.config import TrainingError
from neuron_vit3d.training.reading import read_data
from neuron_vit3d.training.trainer import train
from support.tiny_runs import forget_accelerate, log_of, save_base, save_data, tiny_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def prepared(data, tmp_path_factory) -> str:
    """One neuron to train on and one to validate on."""
    output = tmp_path_factory.mktemp("prepared") / "out"
    for seed in range(100):
        prepare(data, output, options=PreparationOptions(fractions=(0.5, 0.5, 0), seed=seed))
        if len(load_bigneuron(output)) == 2:
            return str(output)
    raise AssertionError("no seed splits two neurons")


@pytest.fixture
def config(data, prepared, tmp_path):
    yield replace(tiny_run(save_base(tmp_path / "base"), data, tmp_path / "run"), train_data=[], dataset=prepared)
    forget_accelerate()


def test_parts_become_training_and_validation(config, data):
    (train_volume,), (validation_volume,) = read_data(config)
    assert isinstance(train_volume, TracedVolume) and isinstance(validation_volume, LabelledVolume)
    assert {train_volume.name, validation_volume.name} == {"neuron_0000", "neuron_0001"}
    (pair,) = [pair for pair in find_pairs(data) if pair.name == validation_volume.name]
    expected = read_pair(pair)
    assert np.array_equal(expected.image, validation_volume.image)
    assert np.array_equal(expected.labels, validation_volume.labels)
    (chosen,), _ = read_data(replace(config, names=[train_volume.name]))
    assert chosen.name == train_volume.name


def test_a_run_on_a_prepared_dataset(config):
    folder = train(replace(config, max_steps=4, evaluation_steps=4, balance="lab"))
    assert len(log_of(folder, "loss")) == 4 and len(log_of(folder, "dice")) == 1


def test_what_cannot_be_read(config, data, prepared, tmp_path):
    def refused(match, **changes):
        with pytest.raises(TrainingError, match=match):
            read_data(replace(config, **changes))

    refused("expected one of both, got both", train_data=[data])
    refused("expected a folder that `neuron-vit3d prepare` made", dataset=data)
    refused("found no neuron named 'nobody' in the part", names=["nobody"])
    refused("dataset user/nowhere: expected a prepared folder or a dataset on the Hub", dataset="user/nowhere")
    prepare(data, tmp_path / "out", options=PreparationOptions(fractions=(0, 0, 1)))
    refused("has no part 'train', only test", dataset=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="balance must be one of neuron, lab, volume"):
        replace(config, balance="day")
