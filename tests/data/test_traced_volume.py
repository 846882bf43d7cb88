"""Rows of the `volumes` config as volumes to cut blocks from: nothing is copied or drawn that is not needed."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, Features
from torch.utils.data import DataLoader

from neuron_vit3d import NeuronViT3DImageProcessor, rasterize, synthetic_neuron
from neuron_vit3d.data.augmentation import Augmentation
from neuron_vit3d.data.pairs import LabelledVolume
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.data.sources import DataError
from neuron_vit3d.data.traced_volume import TracedVolume
from support.rows import FEATURES, volume_row


SHAPE = (10, 70, 64)


@pytest.fixture(scope="module")
def neurons():
    return [synthetic_neuron(SHAPE, seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def dataset(neurons, tmp_path_factory):
    """On disk and memory-mapped, two rows a record batch, one of them 16 bits deep."""
    rows = [volume_row(neuron, f"n{i}", "uint16" if i == 2 else "uint8") for i, neuron in enumerate(neurons)]
    folder = tmp_path_factory.mktemp("volumes")
    Dataset.from_list(rows, features=FEATURES).save_to_disk(folder, num_shards=2)
    return Dataset.load_from_disk(str(folder))


def test_voxels_are_views_of_the_file(dataset, neurons):
    for index, neuron in enumerate(neurons):
        volume = TracedVolume.from_dataset(dataset, index)
        assert (volume.name, volume.lab, volume.shape) == (f"n{index}", f"lab {index}", SHAPE)
        assert volume.image.shape == (1, *SHAPE)
        assert volume.image.dtype == (np.uint16 if index == 2 else np.uint8)
        assert np.array_equal(volume.image[0], neuron.volume.array)
        assert not volume.image.flags.owndata and not volume.image.flags.writeable
        buffers = dataset.data.column("image").chunks
        pieces = [np.frombuffer(chunk.values.buffers()[2], np.uint8) for chunk in buffers]
        assert any(np.shares_memory(volume.image, piece) for piece in pieces)


def test_a_selection_of_rows_is_followed(dataset, neurons):
    chosen = TracedVolume.all_of(dataset.select([3, 1]))
    assert [volume.name for volume in chosen] == ["n3", "n1"]
    assert np.array_equal(chosen[0].image[0], neurons[3].volume.array)


def test_a_row_from_a_stream(neurons):
    volume = TracedVolume.from_row(volume_row(neurons[0], "n0", "float32"))
    assert np.array_equal(volume.image[0], neurons[0].volume.array.astype(np.float32))
    assert np.array_equal(volume.labels((slice(0, 10), slice(0, 70), slice(0, 64))), neurons[0].mask)


def test_datasets_of_before_there_were_pictures_and_measures_are_read(neurons):
    later = {"thumbnail", "nodes", "length", "length_um", "branches", "branch_points", "tips", "extent_um"}
    old = {name: value for name, value in volume_row(neurons[0], "n0").items() if name not in later}
    types = Features({name: kind for name, kind in FEATURES.items() if name not in later})
    assert set(FEATURES) - set(types) == later
    for volume in (TracedVolume.from_dataset(Dataset.from_list([old], types), 0), TracedVolume.from_row(old)):
        assert np.array_equal(volume.image[0], neurons[0].volume.array)
        assert len(volume.tree) == len(neurons[0].tree)


def test_labels_are_those_of_the_whole_volume(dataset, neurons):
    volume, whole = TracedVolume.from_dataset(dataset, 0), neurons[0].mask.astype(np.uint8)
    assert np.array_equal(rasterize(volume.tree, SHAPE), neurons[0].mask)
    rng = np.random.default_rng(0)
    for _ in range(20):
        begin = rng.integers(0, np.array(SHAPE) - 3)
        window = tuple(slice(b, int(rng.integers(b + 1, side + 1))) for b, side in zip(begin, SHAPE, strict=True))
        assert np.array_equal(volume.labels(window), whole[window])
        assert volume.labels(window).dtype == np.uint8


def test_the_label_policy_is_obeyed(dataset):
    from neuron_vit3d.data.labels import LabelPolicy, draw_labels

    policy = LabelPolicy(min_radius=None, edge_band=1.0, ignore_untraced=True)
    volume = TracedVolume.from_dataset(dataset, 1, policy=policy)
    whole = draw_labels(volume.tree, SHAPE, policy, image=volume.image[0], level=60.0)
    assert set(np.unique(whole)) == {0, 1, 255}
    window = (slice(0, 10), slice(20, 50), slice(10, 50))
    assert np.array_equal(volume.labels(window), whole[window])


def test_foreground_places_lie_on_the_tree_with_even_odds_per_length():
    """A straight trunk of 40 voxels in two edges, the second three times as long; a node alone far away."""
    swc = "1 0 5 20 2 2 -1\n2 0 15 20 2 2 1\n3 0 45 20 2 2 2\n4 0 60 60 8 2 -1\n"
    image = [bytes(70 * 64)] * 10
    volume = TracedVolume.from_row({"neuron_id": "t", "image": image, "shape": SHAPE, "dtype": "uint8", "swc": swc})
    rng = np.random.default_rng(0)
    places = np.array([volume.foreground_place(rng, slice(0, 10)) for _ in range(4000)])
    trunk = places[places[:, 0] == 2]
    assert (trunk[:, 1] == 20).all() and (places[places[:, 0] != 2] == (8, 60, 60)).all()
    assert 20 < len(places) - len(trunk) < 250  # the node counts as one voxel in 41
    counts = np.bincount(trunk[:, 2], minlength=46)[6:45]
    assert counts.min() > 50 and counts.max() < 160  # 100 a voxel
    assert volume.foreground_place(rng, slice(4, 6)) is None
    assert volume.foreground_place(rng, slice(8, 9)) in ((8, 60, 60), None)


def test_a_tree_outside_of_the_image_has_no_place():
    outside = {"neuron_id": "t", "image": [bytes(16)] * 2, "shape": [2, 4, 4], "dtype": "uint8"}
    volume = TracedVolume.from_row({**outside, "swc": "1 0 50 50 50 1 -1\n2 0 60 50 50 1 1\n"})
    assert volume.foreground_place(np.random.default_rng(0), slice(0, 2)) is None


def test_black_and_white_are_the_processors_and_found_once(dataset, neurons, monkeypatch):
    processor, volume = NeuronViT3DImageProcessor(), TracedVolume.from_dataset(dataset, 0)
    expected = processor.intensity_range(neurons[0].volume.array[None])
    assert np.array_equal(volume.intensity_range(processor), expected)
    monkeypatch.setattr(NeuronViT3DImageProcessor, "intensity_range", lambda *_: pytest.fail("looked at again"))
    assert np.array_equal(volume.intensity_range(processor), expected)


def test_of_large_volumes_some_slices_are_looked_at(dataset, neurons, monkeypatch):
    monkeypatch.setattr("neuron_vit3d.data.traced_volume._ENOUGH_VOXELS", 3 * 70 * 64)
    processor, volume = NeuronViT3DImageProcessor(), TracedVolume.from_dataset(dataset, 0)
    assert np.array_equal(
        volume.intensity_range(processor), processor.intensity_range(neurons[0].volume.array[None, ::4])
    )


def test_a_pickle_holds_no_voxels(dataset):
    volumes = TracedVolume.all_of(dataset)
    expected = [volume.image.copy() for volume in volumes]
    _ = volumes[0].tree, volumes[0].foreground_place(np.random.default_rng(0), slice(0, 10))
    content = pickle.dumps(volumes)
    assert len(content) < 0.5 * sum(image.nbytes for image in expected)
    assert expected[0].tobytes()[2000:4000] not in content
    for volume, image in zip(pickle.loads(content), expected, strict=True):
        assert np.array_equal(volume.image, image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [10, 70]}, "n0: expected a shape of three positive sizes"),
        ({"shape": [10, 70, 0]}, "n0: expected a shape of three positive sizes"),
        ({"dtype": "uint9"}, "n0: expected a numpy type of real numbers"),
        ({"dtype": "complex64"}, "n0: expected a numpy type of real numbers"),
        ({"dtype": "uint16"}, "n0: expected 89600 bytes .* found 44800"),
        ({"image": [b"abc"] * 10}, "n0: expected 44800 bytes .* found 30"),
        ({"swc": "# nothing\n"}, "n0: no node"),
        ({"swc": "1 0 a 0 0 1 -1\n"}, "n0:1: x must be a number"),
        ({"swc": "1 0 0 0 0 1 7\n"}, "n0:1: node 1: its parent 7"),
    ],
)
def test_bad_rows_are_refused(neurons, changes, message):
    bad = {**volume_row(neurons[0], "n0"), **changes}
    with pytest.raises(DataError, match=message):
        _ = TracedVolume.from_row(bad).tree
    with pytest.raises(DataError, match=message):
        volume = TracedVolume.from_dataset(Dataset.from_list([bad], features=FEATURES), 0)
        _ = volume.image, volume.tree


def test_another_config_is_refused():
    with pytest.raises(DataError, match="config 'volumes'"):
        TracedVolume.all_of(Dataset.from_dict({"neuron_id": ["a"], "image": [b"a"]}))


def blocks(volumes, **options):
    processor = NeuronViT3DImageProcessor()
    return BlockDataset(volumes, processor, **{"length": 8, "tile_size": 32, "seed": 3, **options})


def test_blocks_without_variation_are_those_of_the_volume_in_memory(dataset, neurons):
    """Where in the volume they lie differs (voxels of the mask there, pieces of the tree here); anywhere is the
    same."""
    options = {"augmentation": Augmentation.none(), "foreground_probability": 0.0}
    in_memory = [LabelledVolume("n", n.volume.array[None], n.mask.astype(np.uint8)) for n in neurons]
    for mapped, held in zip(
        blocks(TracedVolume.all_of(dataset), **options), blocks(in_memory, **options), strict=True
    ):
        np.testing.assert_allclose(mapped["pixel_values"], held["pixel_values"])
        assert np.array_equal(mapped["labels"], held["labels"])


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_make_the_same_blocks(dataset, context):
    made = blocks(TracedVolume.all_of(dataset), augmentation=replace(Augmentation(), mix=1.0))
    expected = list(made)
    workers = 2 if context == "fork" else 1  # one that is spawned imports torch anew
    loader = DataLoader(made, batch_size=None, num_workers=workers, multiprocessing_context=context)
    for block, same in zip(loader, expected, strict=True):
        assert np.array_equal(block["pixel_values"], same["pixel_values"])
        assert np.array_equal(block["labels"], same["labels"])
