"""Whatever is done to a block, its labels say what its image shows."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.data.augmentation import Augmentation, View, make_block, mix, vary_intensities
from neuron_vit3d.data.pairs import LabelledVolume
from neuron_vit3d.data.sampling import Augmentation as AugmentationOfSampling
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.data.sources import DataError


NONE = Augmentation.none()
MIDDLE = slice(2, 3)


def only(**strengths) -> Augmentation:
    return replace(NONE, **strengths)


def varied(image: np.ndarray, seed: int = 0, **strengths) -> np.ndarray:
    return vary_intensities(image, only(**strengths), np.random.default_rng(seed), MIDDLE)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 0.6, (1, 5, 40, 40)).astype(np.float32)


def tube() -> LabelledVolume:
    """A bright bent tube in the dark, 9 voxels wide; its voxels are as bright as they are labelled."""
    labels = np.zeros((11, 80, 90), np.uint8)
    labels[2:8, 20:29, :] = 1
    labels[4:10, :, 50:59] = 1
    labels[:, :, 85:] = 255
    return LabelledVolume("tube", (labels[None] == 1) * np.uint8(200), labels)


def blocks(augmentation: Augmentation, seed: int, output_slices: int = 1, length: int = 3, volumes=None):
    processor = NeuronViT3DImageProcessor(
        image_mean=0.0, image_std=1.0, lower_percentile=0.0, upper_percentile=100.0, num_output_slices=output_slices
    )
    return BlockDataset(
        volumes or [tube()], processor, length=length, tile_size=36, seed=seed, augmentation=augmentation
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        only(flip=True),
        only(zoom=1.5),
        only(rotation=45.0),
        only(anisotropy=3.0),
        only(flip=True, zoom=1.4, rotation=15.0, anisotropy=2.0),
        only(flip=True, zoom=1.4, rotation=15.0, anisotropy=2.0, mix=1.0),
        only(blur=0.8),
        only(gamma=2.0, contrast=0.05, brightness=0.02, background=0.05),
        only(noise=0.03, shot_noise=0.03),
        only(slice_dropout=1.0),
    ],
    ids=lambda a: "+".join(f.name for f in fields(a) if getattr(a, f.name) != getattr(NONE, f.name)),
)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 100_000), output_slices=st.sampled_from([1, 3]))
def test_what_is_labelled_is_bright_and_nothing_else(augmentation, seed, output_slices):
    """But for a pixel at the edges of the tube, where interpolation and blur leave doubt (0.25 to 0.75 at its
    corners)."""
    for block in blocks(augmentation, seed, output_slices):
        middle = slice(2 - output_slices // 2, 3 + output_slices // 2)
        image, labels = block["pixel_values"][0, middle], block["labels"]
        certain = (labels != 255) & ((image < 0.2) | (image > 0.8))
        wrong = certain & ((image > 0.5) != (labels == 1))
        if augmentation.mix:  # two doubtful edges may add up to something bright
            assert wrong.sum() < 20 and not labels[wrong].any()
        else:
            assert not wrong.any()
        doubtful = (labels != 255) & ~certain
        assert doubtful.sum() <= 12 * 36 * output_slices


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_turned_labels_are_the_turned_image(seed):
    """An image of vertical bands, labels the same bands: turned and widened, they still lie on one another."""
    rng = np.random.default_rng(seed)
    view = replace(NONE, rotation=45.0, zoom=1.3, flip=True).draw_view(40, 5, rng)
    bands = (np.arange(view.window) // 8 % 2).astype(np.uint8)
    labels = np.broadcast_to(bands, (1, view.window, view.window)).copy()
    image = np.broadcast_to(bands.astype(np.float32), (2, 5, view.window, view.window)).copy()
    turned, turned_labels = view.apply(image, labels)
    assert turned.shape == (2, 5, 40, 40) and turned_labels.shape == (1, 40, 40) and turned_labels.dtype == np.uint8
    assert np.array_equal(turned[0, 0], turned[1, 4])
    certain = np.abs(turned[0, 2] - 0.5) > 0.01
    assert certain.mean() > 0.9
    assert np.array_equal((turned[0, 2] > 0.5)[certain], turned_labels[0][certain] == 1)


def test_a_view_that_changes_nothing_gives_the_same_array():
    image, labels = np.random.default_rng(0).random((1, 5, 24, 24), np.float32), np.ones((1, 24, 24), np.uint8)
    view = NONE.draw_view(24, 5, np.random.default_rng(0))
    assert view.window == 24 and view.depth.tolist() == [-2, -1, 0, 1, 2]
    same, same_labels = view.apply(image, labels)
    assert same is image and same_labels is labels


def test_a_quarter_turn_is_exact():
    """Resampling by 90 degrees is a rotation of the array: angle and axes are right."""
    image = np.random.default_rng(0).random((1, 5, 24, 24), np.float32)
    labels = (image[0, :1] > 0.5).astype(np.uint8)
    turned, turned_labels = View(24, 1.0, np.pi / 2, np.arange(-2, 3), (False,) * 4).apply(image, labels)
    for turns in (1, 3):
        if np.allclose(turned, np.rot90(image, turns, (-2, -1)), atol=1e-4):
            assert np.array_equal(turned_labels, np.rot90(labels, turns, (-2, -1)))
            return
    pytest.fail("no rotation of the image")


def test_all_sixteen_flips_occur_and_take_the_labels_along():
    block = np.arange(3 * 4 * 4).reshape(3, 4, 4).astype(np.float32)
    views = [only(flip=True).draw_view(4, 3, np.random.default_rng(seed)) for seed in range(200)]
    flipped = [view.apply(block[None], block) for view in views]
    assert all(np.array_equal(image[0], labels) for image, labels in flipped)
    assert len({image.tobytes() for image, _ in flipped}) == 16


def test_views_are_drawn_within_their_limits():
    views = [Augmentation().draw_view(100, 5, np.random.default_rng(seed)) for seed in range(400)]
    angles = np.rad2deg([view.angle for view in views])
    assert 0.4 < np.mean(angles == 0) < 0.6 and 14 < np.abs(angles).max() <= 15
    factors = [view.factor for view in views]
    assert 0.8 <= min(factors) < 0.82 and 1.23 < max(factors) <= 1.25
    spreads = {tuple(view.depth.tolist()) for view in views}
    assert (-2, -1, 0, 1, 2) in spreads and (-4, -2, 0, 2, 4) in spreads and max(max(s) for s in spreads) == 4
    assert all(np.array_equal(view.depth, -view.depth[::-1]) for view in views)
    near = [only(anisotropy=4.0).draw_view(9, 5, np.random.default_rng(s), farthest=3) for s in range(60)]
    assert max(view.depth.max() for view in near) == 3
    shallow = [only(anisotropy=4.0).draw_view(9, 5, np.random.default_rng(s), farthest=1) for s in range(60)]
    assert max(view.depth.max() for view in shallow) == 2


@pytest.mark.parametrize("name", [f.name for f in fields(Augmentation)])
def test_each_kind_alone_changes_blocks_and_is_off_when_neutral(name):
    strong = {"flip": True, "rotation": 30.0, "slice_dropout": 1.0, "mix": 1.0}
    value = strong.get(name, 2.0 if name in ("zoom", "gamma", "anisotropy") else 0.5)
    options = {"length": 16, "volumes": [grey(tube()), grey(tube())]}
    plain = list(blocks(NONE, 0, **options))
    changed = [
        not np.array_equal(a["pixel_values"], b["pixel_values"])
        for a, b in zip(blocks(only(**{name: value}), 0, **options), plain, strict=True)
    ]
    assert any(changed)
    again = list(blocks(only(**{name: getattr(NONE, name)}), 0, **options))
    assert all(np.array_equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(again, plain, strict=True))


def grey(volume: LabelledVolume) -> LabelledVolume:
    texture = np.random.default_rng(0).integers(0, 50, volume.image.shape, np.uint8)
    return LabelledVolume("grey", volume.image // 2 + texture, volume.labels)


def test_light_keeps_the_image_where_it_is(image):
    for strengths in (
        {"gamma": 1.5},
        {"contrast": 0.3},
        {"brightness": 0.1},
        {"background": 0.2},
        {"noise": 0.1},
        {"shot_noise": 0.1},
        {"blur": 1.0},
        {"blur_z": 1.0},
    ):
        for seed in range(8):
            result = varied(image, seed, **strengths)
            assert result.shape == image.shape and result.dtype == np.float32
            assert 0 <= result.min() and result.max() <= 1
    assert image.max() < 0.6  # the given array is as it was


def test_noise_has_the_strength_and_the_kind_asked_for():
    dark_and_bright = np.full((1, 5, 200, 200), 0.1, np.float32)
    dark_and_bright[..., 100:] = 0.6
    deviations = []
    for seed in range(30):
        result = varied(dark_and_bright, seed, shot_noise=0.1)
        deviations.append((result[..., :100].std(), result[..., 100:].std()))
    deviations = np.array(deviations)
    seen = deviations[deviations[:, 0] > 0.005]
    np.testing.assert_allclose(seen[:, 1] / seen[:, 0], np.sqrt(6), rtol=0.1)  # as the root of the intensity
    assert deviations[:, 1].max() <= 0.1 * np.sqrt(0.6) * 1.02
    flat = np.full((1, 5, 200, 200), 0.5, np.float32)
    strengths = [varied(flat, seed, noise=0.1).std() for seed in range(30)]
    assert 0.05 < max(strengths) <= 0.102
    one, other = (varied(flat, seed, noise=0.1) for seed in (3, 4))
    correlation = np.corrcoef((one - one.mean()).ravel(), (other - other.mean()).ravel())[0, 1]
    assert abs(correlation) < 0.02  # other places of the table


def test_background_is_smooth():
    flat = np.full((1, 5, 64, 64), 0.5, np.float32)
    results = [varied(flat, seed, background=0.3) for seed in range(20)]
    assert any(np.ptp(result) > 0.1 for result in results)
    for result in results:
        assert max(np.abs(np.diff(result, axis=axis)).max() for axis in (-1, -2)) < 0.06
        assert np.ptp(result, axis=1).max() == 0  # the same light on all slices


def test_a_blur_along_z_leaves_most_of_the_slice_in_it():
    image = np.zeros((1, 5, 8, 8), np.float32)
    image[:, 2] = 1
    centers = [varied(image, seed, blur_z=0.6)[0, 2].mean() for seed in range(40)]
    assert 0.6 < min(centers) < 0.9 and max(centers) == 1


def test_a_dropped_slice_has_no_labels(image):
    image = image + np.arange(5, dtype=np.float32)[:, None, None] / 10
    kinds = set()
    for seed in range(60):
        result = varied(image, seed, slice_dropout=1.0)[0]
        changed = [z for z in range(5) if not np.array_equal(result[z], image[0, z])]
        assert len(changed) == 1 and changed != [2]
        z = changed[0]
        black = not result[z].any()
        assert black or np.array_equal(result[z], image[0, z + (1 if z < 2 else -1)])
        kinds.add((z, black))
    assert len(kinds) == 8
    everything = vary_intensities(image, only(slice_dropout=1.0), np.random.default_rng(0), slice(0, 5))
    assert np.array_equal(everything, image)


def mixing(seed: int):
    rng = np.random.default_rng(seed)
    other_labels = np.zeros((5, 40, 40), np.uint8)
    other_labels[:, 10:16] = 1
    other_labels[:, 16:18] = 255  # beside the neuron
    other_labels[:, 35:] = 255  # far from it
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[:, :, 5:9] = 1
    labels[:, :, 30:] = 255
    image = rng.uniform(0, 0.3, (1, 5, 40, 40)).astype(np.float32)
    image[..., 5:9] = 0.8
    other = rng.uniform(0, 0.2, (1, 5, 40, 40)).astype(np.float32)
    other[..., 10:16, :] = 0.9
    other[..., 30:33, :] = 0.9  # bright, but no neuron: it stays behind
    return image, labels, other, other_labels, rng


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_mixing_joins_images_and_labels(seed):
    image, labels, other, other_labels, rng = mixing(seed)
    kept = image.copy(), labels.copy(), other.copy(), other_labels.copy()
    mixed, joined = mix(image, labels, other, other_labels, MIDDLE, rng)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (image, labels, other, other_labels), strict=True))
    assert mixed.shape == image.shape and mixed.dtype == np.float32 and joined.dtype == np.uint8
    neuron = (labels == 1) | (other_labels[MIDDLE] == 1)
    assert np.array_equal(joined == 1, neuron)
    assert mixed[0, MIDDLE][neuron].min() > 0.65  # it is seen where it is labelled
    assert (mixed >= image).all()
    assert (joined[:, 16:18][labels[:, 16:18] == 0] == 255).all()  # blended in with the margin
    assert (joined[:, 35:, 10:30] == 0).all()  # what is far from the neuron does not come along
    assert (joined[..., 30:][~neuron[..., 30:]] == 255).all()  # ignored stays ignored
    assert np.array_equal(mixed[..., 25:, :], image[..., 25:, :])


def test_mixing_blends_softly_and_in_two_ways():
    results = {tuple(np.round(mix(*mixing_without_noise(seed))[0][0, 2, 8:20, 20], 3)) for seed in range(20)}
    assert len(results) == 2
    for profile in results:
        assert profile[0] <= profile[1] <= profile[2] and profile[2] > profile[0]


def mixing_without_noise(seed: int):
    image, labels, other, other_labels, _ = mixing(0)
    return image * 0 + 0.2, labels, np.where(other > 0.5, 0.9, 0.1), other_labels, MIDDLE, np.random.default_rng(seed)


def test_mixing_without_a_neuron_changes_nothing():
    image, labels, other, other_labels, rng = mixing(0)
    same, same_labels = mix(image, labels, other, np.where(other_labels == 1, 0, other_labels), MIDDLE, rng)
    assert same is image and same_labels is labels


def test_a_block_that_finds_no_other_neuron_stays_alone():
    processor = NeuronViT3DImageProcessor()

    def cut(view, labelled, rng, donor):
        if donor:
            return None
        return np.zeros((1, 5, view.window, view.window), np.float32), np.zeros(
            (1, view.window, view.window), np.uint8
        )

    block = make_block(cut, processor, only(mix=1.0), 32, np.random.default_rng(0))
    assert block["pixel_values"].shape == (1, 5, 32, 32) and not block["labels"].any()


def test_none_and_bad_strengths():
    assert AugmentationOfSampling is Augmentation
    assert Augmentation() != NONE == Augmentation.none()
    for bad in ({"zoom": 0.5}, {"gamma": 0.0}, {"noise": -1.0}, {"mix": 1.5}, {"rotation": 90.0}, {"blur": np.nan}):
        with pytest.raises(DataError, match=f"expected {next(iter(bad))} in"):
            replace(NONE, **bad)
