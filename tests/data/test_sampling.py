"""Training blocks: the same in every run, and image and labels that belong together whatever is done to them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from neuron_vit3d import NeuronViT3DImageProcessor, synthetic_neuron
from neuron_vit3d.data import sampling
from neuron_vit3d.data.pairs import IGNORE_INDEX, LabelledVolume
from neuron_vit3d.data.sampling import ArrayVolume, Augmentation, BlockDataset, _mirror
from neuron_vit3d.data.sources import DataError


GEOMETRY_ONLY = replace(Augmentation.none(), flip=True, zoom=1.4, rotation=20.0, anisotropy=2.0)


def processor(**changes) -> NeuronViT3DImageProcessor:
    """Black and white are the lowest and the highest voxel, and nothing is shifted: intensities stay in [0, 1]."""
    plain = {"lower_percentile": 0.0, "upper_percentile": 100.0, "image_mean": 0.0, "image_std": 1.0}
    return NeuronViT3DImageProcessor(**{**plain, **changes})


@pytest.fixture(scope="module")
def neuron() -> LabelledVolume:
    made = synthetic_neuron((8, 64, 64), seed=1)
    return LabelledVolume("neuron", made.volume.array[None], made.mask.astype(np.uint8))


def tube(shape=(7, 60, 52), side: int = 12) -> LabelledVolume:
    """A bright bent tube; its voxels are as bright as they are labelled."""
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 10 : 10 + side] = 1
    labels[1:4, :, 30 : 30 + side] = 1
    return LabelledVolume("tube", labels[None] * np.uint8(200), labels)


def blocks(*volumes, length: int = 6, tile_size: int = 24, **options):
    own_processor = options.pop("processor", None) or processor()
    return BlockDataset(volumes, own_processor, length=length, tile_size=tile_size, **options)


def equal(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in ("pixel_values", "labels"))


def test_shapes_and_types(neuron):
    dataset = blocks(neuron, length=3, processor=processor(num_slices=5, num_output_slices=3))
    assert len(dataset) == len(list(dataset)) == 3
    for item in dataset:
        assert item["pixel_values"].shape == (1, 5, 24, 24) and item["pixel_values"].dtype == np.float32
        assert item["labels"].shape == (3, 24, 24) and item["labels"].dtype == np.int64
        assert 0 <= item["pixel_values"].min() < item["pixel_values"].max() <= 1
        assert set(np.unique(item["labels"])) <= {0, 1, IGNORE_INDEX}
    for index in (-1, 3):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_block_depends_on_seed_and_index_alone(neuron):
    one, again = blocks(neuron, seed=5, length=6), blocks(neuron, seed=5, length=60)
    order = [4, 0, 5, 2, 1, 3]
    assert all(equal(one[index], again[index]) for index in order)
    assert not any(equal(one[0], one[index]) for index in range(1, 6))
    other = blocks(neuron, seed=6)
    assert not any(equal(one[index], other[index]) for index in range(6))


def test_worker_processes_make_the_same_blocks(neuron):
    dataset = blocks(neuron, length=4)
    loaded = DataLoader(dataset, batch_size=2, num_workers=1)
    for batch, first in zip(loaded, (0, 2), strict=True):
        for row in range(2):
            assert equal({key: values[row].numpy() for key, values in batch.items()}, dataset[first + row])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), output_slices=st.sampled_from([1, 3]), tile=st.sampled_from([17, 24, 40]))
def test_image_and_labels_never_disagree(seed, output_slices, tile):
    """Flips, swaps and zoom: what is labelled is bright and what is not is dark, except for a pixel at the edges."""
    volume = tube()
    chosen = processor(num_slices=5, num_output_slices=output_slices)
    item = blocks(volume, tile_size=tile, seed=seed, processor=chosen, augmentation=GEOMETRY_ONLY)[0]
    middle = slice(2 - output_slices // 2, 3 + output_slices // 2)
    image, labels = item["pixel_values"][0, middle], item["labels"]
    known = labels != IGNORE_INDEX
    assert known.any()
    assert np.array_equal(
        (image > 0.5)[known & (np.abs(image - 0.5) > 0.4)], labels[known & (np.abs(image - 0.5) > 0.4)]
    )
    # Linear interpolation blurs the tube's edges by a pixel; everywhere else there is no doubt.
    unclear = known & (np.abs(image - 0.5) <= 0.4)
    assert unclear.sum() <= 8 * tile * output_slices


def test_beyond_its_border_a_volume_is_mirrored():
    assert _mirror(np.arange(-5, 9), 4).tolist() == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]
    assert _mirror(np.arange(-2, 3), 1).tolist() == [0] * 5


def test_without_augmentation_blocks_are_cut_as_they_are(neuron):
    dataset = blocks(neuron, length=20, augmentation=Augmentation.none(), processor=processor(num_slices=3))
    image = dataset.processor.scale(neuron.image, dataset.intensities(0))[0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), axis=(1, 2))
    label_windows = np.lib.stride_tricks.sliding_window_view(neuron.labels, (24, 24), axis=(1, 2))
    for item in dataset:
        middle = item["pixel_values"][0, 1]
        z, y, x = np.argwhere((windows == middle).all(axis=(-1, -2)))[0]
        assert np.array_equal(item["labels"][0], label_windows[z, y, x])
        above, below = max(z - 1, 0), min(z + 1, len(image) - 1)  # beyond the ends the outer slice is repeated
        assert np.array_equal(item["pixel_values"][0, 0], windows[above, y, x])
        assert np.array_equal(item["pixel_values"][0, 2], windows[below, y, x])


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_origin_of_a_block_is_where_it_was_cut(epoch, neuron):
    made = synthetic_neuron((6, 56, 72), seed=2)
    other = LabelledVolume("other", made.volume.array[None], made.mask.astype(np.uint8))
    dataset = blocks(neuron, other, length=20, augmentation=Augmentation.none(), processor=processor(num_slices=3))
    dataset.set_epoch(epoch)
    names = []
    for index in range(20):
        found = re.fullmatch(r"(\w+), slice (\d+), tile of 24 from y (\d+), x (\d+)", dataset.origin(index))
        names.append(found[1])
        z, y, x = (int(number) for number in found.groups()[1:])
        which = [neuron, other][found[1] == "other"]
        image = dataset.processor.scale(which.image, dataset.intensities(int(found[1] == "other")))[0]
        assert np.array_equal(dataset[index]["pixel_values"][0, 1], image[z, y : y + 24, x : x + 24])
        assert np.array_equal(dataset[index]["labels"][0], which.labels[z, y : y + 24, x : x + 24])
    assert set(names) == {"neuron", "other"}


def test_the_origin_of_a_varied_block_is_not_that_of_what_was_mixed_in(neuron, monkeypatch):
    cuts, original = [], sampling.cut_window
    monkeypatch.setattr(sampling, "cut_window", lambda *given: (cuts.append(given), original(*given))[1])
    other = replace(neuron, name="other")
    dataset = blocks(neuron, other, length=30, augmentation=replace(Augmentation(), mix=1.0))
    for index in range(30):
        cuts.clear()
        name, z, window, y, x = re.fullmatch(
            r"(\w+), slice (\d+), tile of (\d+) from y (-?\d+), x (-?\d+)", dataset.origin(index)
        ).groups()
        assert {volume.name for volume, *_ in cuts} == {"neuron", "other"}
        drawn = dataset.volumes[dataset._choose(np.random.default_rng([dataset.seed, 0, index]), index)].name
        places = [(place, view.window) for volume, place, view, _ in cuts if volume.name == name]
        assert name == drawn and places == [((int(z), int(y), int(x)), int(window))]


def test_intensities_are_varied_within_their_range(neuron):
    light_only = replace(Augmentation(), flip=False, zoom=1.0, rotation=0.0, anisotropy=1.0, mix=0.0)
    varied = blocks(neuron, length=8, augmentation=light_only)
    plain = blocks(neuron, length=8, augmentation=Augmentation.none())
    for one, other in zip(varied, plain, strict=True):
        assert np.array_equal(one["labels"], other["labels"])
        assert not np.array_equal(one["pixel_values"], other["pixel_values"])
        assert np.isfinite(one["pixel_values"]).all()
        assert 0 <= one["pixel_values"].min() and one["pixel_values"].max() <= 1


def test_the_processors_normalisation_is_used(neuron):
    plain = blocks(neuron, augmentation=Augmentation.none())[0]["pixel_values"]
    chosen = processor(image_mean=0.25, image_std=0.5)
    shifted = blocks(neuron, augmentation=Augmentation.none(), processor=chosen)[0]["pixel_values"]
    np.testing.assert_allclose(shifted, (plain - 0.25) / 0.5, atol=1e-6)


@pytest.mark.parametrize("augmentation", [Augmentation.none(), GEOMETRY_ONLY], ids=["plain", "varied"])
@pytest.mark.parametrize("tile", [20, 32])
def test_a_tile_larger_than_the_volume_is_ignored_outside_of_it(tile, augmentation):
    """A volume of 9 x 10 pixels, all neuron: as many pixels are labelled as it has, the rest is ignored."""
    labels = np.ones((5, 9, 10), np.uint8)
    image = np.random.default_rng(0).integers(1, 200, (1, 5, 9, 10), dtype=np.uint8)
    dataset = blocks(LabelledVolume("small", image, labels), tile_size=tile, length=8, augmentation=augmentation)
    for item in dataset:
        assert set(np.unique(item["labels"])) == {1, IGNORE_INDEX}
        assert np.isfinite(item["pixel_values"]).all()
        if augmentation.zoom == 1.0:
            assert np.count_nonzero(item["labels"] == 1) == 90


def test_labelled_slices_outside_the_volume_are_ignored():
    labels = np.ones((2, 40, 40), np.uint8)
    image = np.random.default_rng(0).integers(1, 200, (1, 2, 40, 40), dtype=np.uint8)
    chosen = processor(num_slices=5, num_output_slices=3)
    options = {"length": 10, "processor": chosen, "augmentation": Augmentation.none()}
    seen = set()
    for item in blocks(LabelledVolume("two slices", image, labels), **options):
        seen.add(tuple(int(plane[0, 0]) for plane in item["labels"]))
        assert all(len(np.unique(plane)) == 1 for plane in item["labels"])
    assert seen == {(IGNORE_INDEX, 1, 1), (1, 1, IGNORE_INDEX)}


@pytest.mark.parametrize(("probability", "lowest", "highest"), [(1.0, 1.0, 1.0), (0.5, 0.35, 0.75), (0.0, 0.0, 0.25)])
def test_share_of_blocks_with_foreground(probability, lowest, highest):
    """In a volume whose neuron is a single voxel hardly any block meets it by chance."""
    labels = np.zeros((5, 200, 200), np.uint8)
    labels[2, 7, 190] = 1  # near a corner, where windows are moved back into the volume
    volume = LabelledVolume("speck", labels[None] * np.uint8(9), labels)
    dataset = blocks(volume, length=80, foreground_probability=probability, augmentation=Augmentation.none())
    share = np.mean([(item["labels"] == 1).any() for item in dataset])
    assert lowest <= share <= highest


def test_every_volume_is_drawn_from(neuron):
    flat = LabelledVolume("labelled all over", neuron.image, np.ones_like(neuron.labels))
    dataset = blocks(neuron, flat, length=60, tile_size=16)
    share = np.mean([(item["labels"] == 0).sum() == 0 for item in dataset])
    assert 0.3 < share < 0.7


def counted(balance: str) -> list[float]:
    """How often each of four volumes is drawn from: their intensities tell them apart."""
    plan = [("a", 1), ("a", 1), ("b", 1), (None, 5)]  # lab, and how many times as large
    volumes = []
    for number, (lab, size) in enumerate(plan):
        image = np.zeros((1, 5, 30, 30 * size), np.uint8)
        intensities = np.array([-float(number)]), np.array([9.0 - number])
        volumes.append(ArrayVolume(f"v{number}", image, np.zeros(image.shape[1:], np.uint8), intensities, lab))
    dataset = blocks(*volumes, length=1000, tile_size=8, balance=balance, augmentation=Augmentation.none())
    drawn = [round(float(item["pixel_values"].flat[0]) * 9) for item in dataset]
    return (np.bincount(drawn, minlength=4) / len(drawn)).tolist()


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("neuron", [1 / 4, 1 / 4, 1 / 4, 1 / 4]),
        ("lab", [1 / 6, 1 / 6, 1 / 3, 1 / 3]),
        ("volume", [1 / 8, 1 / 8, 1 / 8, 5 / 8]),
    ],
)
def test_balance(balance, expected):
    np.testing.assert_allclose(counted(balance), expected, atol=0.05)


def test_epochs_have_blocks_of_their_own(neuron):
    dataset = blocks(neuron, length=4)
    first = list(dataset)
    dataset.set_epoch(1)
    second = list(dataset)
    assert not any(equal(a, b) for a in first for b in second)
    dataset.set_epoch(0)
    assert all(equal(a, b) for a, b in zip(first, dataset, strict=True))


def test_workers_that_live_on_hear_of_the_next_epoch(neuron):
    dataset = blocks(neuron, length=4)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        loaded = [{name: value.numpy() for name, value in item.items()} for item in loader]
        assert all(equal(a, b) for a, b in zip(loaded, dataset, strict=True))


def test_accelerate_resumes_in_the_middle_of_an_epoch(neuron):
    """On two real processes: see test_streaming.py."""
    from accelerate import Accelerator

    loader = Accelerator(cpu=True).prepare(DataLoader(blocks(neuron, length=8), batch_size=2))
    loader.set_epoch(3)
    expected = [batch["pixel_values"] for batch in loader]
    loader.set_epoch(3)
    rest = [batch["pixel_values"] for batch in Accelerator(cpu=True).skip_first_batches(loader, 1)]
    assert len(rest) == 3 and all((a == b).all() for a, b in zip(expected[1:], rest, strict=True))


def test_bad_input(neuron):
    with pytest.raises(DataError, match="at least one volume"):
        blocks()
    with pytest.raises(DataError, match="balance: expected"):
        blocks(neuron, balance="species")
    two = LabelledVolume("two", np.concatenate([neuron.image] * 2), neuron.labels)
    with pytest.raises(DataError, match=r"two: expected 1 channel\(s\) as the processor, got 2"):
        blocks(two)


def test_a_volume_without_a_neuron_gives_blocks_from_anywhere(neuron):
    empty = LabelledVolume("empty", neuron.image, np.zeros_like(neuron.labels))
    assert not any(item["labels"].any() for item in blocks(empty, foreground_probability=1.0))
