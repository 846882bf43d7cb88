"""Neurons made while a model learns: each block's follows from seed and number alone, and none is made twice in
vain."""

import numpy as np
import pytest

from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.data import fresh_neurons
from neuron_vit3d.data.augmentation import Augmentation
from neuron_vit3d.data.fresh_neurons import AT_HAND, BLOCKS_OF_A_NEURON, STREAMS, FreshNeurons
from neuron_vit3d.data.sampling import ArrayVolume, BlockDataset


SHAPE = (8, 64, 64)
PROCESSOR = NeuronViT3DImageProcessor(num_slices=3)


def fresh(**options) -> FreshNeurons:
    return FreshNeurons(**{"seed": 3, "batch_size": 2, "shape": SHAPE, **options})


def dataset(source, volumes=(), share=1.0, **options) -> BlockDataset:
    return BlockDataset(volumes, PROCESSOR, length=100, tile_size=32, fresh=source, fresh_share=share, **options)


def test_a_block_does_not_depend_on_which_blocks_came_before():
    in_order, alone = dataset(fresh()), dataset(fresh())
    for index in range(5):
        before = in_order[index]
    for name, values in alone[4].items():
        np.testing.assert_array_equal(values, before[name])
    other = dataset(fresh(seed=4))[4]["pixel_values"]
    assert not np.array_equal(other, before["pixel_values"])


def test_each_process_makes_the_neurons_of_its_own_streams_only(monkeypatch):
    made = []
    monkeypatch.setattr(FreshNeurons, "_make", lambda self, *key: made.append(key) or object())
    numbers = np.arange(2000)
    for process in range(2):
        source, rng = fresh(), np.random.default_rng(0)
        for index in numbers[numbers // 2 % 2 == process]:
            source.draw(int(index), rng)
    assert len(made) == len(set(made))
    assert {stream for stream, _ in made} == set(range(STREAMS))
    newest = max(number for _, number in made)
    assert newest == (len(numbers) - 1) // (STREAMS * BLOCKS_OF_A_NEURON) + AT_HAND - 1


def test_blocks_come_from_both_kinds_by_their_share():
    rng = np.random.default_rng(0)
    image = rng.random((1, 8, 64, 64), np.float32)
    own = ArrayVolume("own", image, np.ones(SHAPE, np.uint8))
    made = ArrayVolume("made", image, np.zeros(SHAPE, np.uint8))

    class Source:
        def draw(self, index, rng):
            return made

    blocks = dataset(Source(), [own], share=0.25, augmentation=Augmentation.none())
    names = [blocks.origin(index).split(",")[0] for index in range(100)]
    assert 10 <= names.count("made") <= 40 and names.count("own") == 100 - names.count("made")
    assert dataset(Source()).origin(0).startswith("made")
    assert dataset(None, [own], share=0.0).origin(0).startswith("own")


def test_labels_are_those_of_the_neuron():
    neuron = fresh().draw(0, np.random.default_rng(0))
    assert neuron.shape == SHAPE and neuron.image.shape == (1, *SHAPE)
    window = tuple(slice(0, side) for side in SHAPE)
    assert set(np.unique(neuron.labels(window))) <= {0, 1, 255}
    place = neuron.foreground_place(np.random.default_rng(0), slice(0, SHAPE[0]))
    assert neuron.labels(window)[place] == 1


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(fresh_neurons, "BLOCKS_OF_A_NEURON", 1)
    monkeypatch.setattr(FreshNeurons, "_make", lambda self, *key: object())
    source, rng = fresh(), np.random.default_rng(0)
    for index in range(500):
        source.draw(index, rng)
    assert len(source._made) <= STREAMS * (AT_HAND + 1)


def test_an_unknown_ingredient_is_refused_before_training():
    from neuron_vit3d.training.config import TrainingConfig, TrainingError
    from neuron_vit3d.training.reading import fresh_neurons as made_by

    config = TrainingConfig(output_dir="run", synthetic_share=0.5, synthetic_without=["bedas"])
    with pytest.raises(TrainingError, match="bedas"):
        made_by(config)
    assert made_by(TrainingConfig(output_dir="run")) is None
