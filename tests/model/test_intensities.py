"""Black and white of a volume: what moves them and what must not, however the volume is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.model.intensities import DEFAULT_PERCENTILES, HIGHEST, IntensityRange, compressed


ROBUST = DEFAULT_PERCENTILES["robust"]


def neurites(shape=(12, 128, 128), seed=0) -> np.ndarray:
    """Lines 3 pixels wide and 5 slices deep, 100 above a grainy background of 20."""
    rng = np.random.default_rng(seed)
    image = rng.normal(20, 3, shape).astype(np.float32)
    for y in range(10, shape[1] - 5, 20):
        image[4:9, y : y + 3] += 100
    return image


def robust_range(*slabs: np.ndarray, shape=None) -> tuple[float, float]:
    depth = sum(len(slab) for slab in slabs)
    collected = IntensityRange(shape or (depth, *slabs[0].shape[1:]), "robust")
    for slab in slabs:
        collected.add(slab[None])
    black, white = collected.result(*ROBUST)
    return black[0], white[0]


def with_soma(image, times):
    y, x = np.ogrid[: image.shape[1], : image.shape[2]]
    radius = np.sqrt(0.02 * y.size * x.size / np.pi)
    image[2:10, (y - 64) ** 2 + (x - 64) ** 2 < radius**2] = 20 + 100 * times
    return image


def with_bar(image):
    image[:, 100:104, 80:110] = 60_000
    return image


def with_hot_pixels(image):
    places = np.random.default_rng(1).integers(0, image.size, 300)
    image.reshape(-1)[places] = 60_000
    return image


def with_hot_slice(image):
    image[7] += 5_000
    return image


@pytest.mark.parametrize(
    "spoil",
    [lambda v: with_soma(v, 3), lambda v: with_soma(v, 30), with_bar, with_hot_pixels, with_hot_slice],
    ids=["soma 3 x", "soma 30 x", "scale bar", "hot pixels", "hot slice"],
)
def test_one_bright_thing_moves_neither_black_nor_white(spoil):
    black, white = robust_range(neurites())
    assert 100 < white < 140 and 15 < black < 20
    spoilt_black, spoilt_white = robust_range(spoil(neurites()))
    assert abs(spoilt_black - black) < 3
    assert white / 1.3 < spoilt_white < white * 1.3


def test_an_offset_and_a_factor_change_nothing():
    processor = NeuronViT3DImageProcessor(intensities="robust", lower_percentile=ROBUST[0], upper_percentile=ROBUST[1])
    image = np.rint(neurites())[None]
    plain = processor.scale(image, processor.intensity_range(image))
    other = (image * 7 + 2000).astype(np.uint16)  # 12 bits in 16, with a camera's offset
    np.testing.assert_allclose(processor.scale(other, processor.intensity_range(other)), plain, atol=1e-5)
    assert plain.min() == 0 and plain.max() < 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_range_does_not_depend_on_the_slabs_a_volume_is_read_in(depth, thickness):
    volume = np.random.default_rng(depth).integers(0, 999, (depth, 40, 35))
    slabs = [volume[z : z + thickness] for z in range(0, depth, thickness)]
    assert robust_range(*slabs) == robust_range(volume)


def test_range_does_not_depend_on_the_boxes_a_volume_is_read_in():
    volume = np.random.default_rng(0).integers(0, 999, (2, 8, 40, 36), np.uint16)
    collected = IntensityRange(volume.shape[1:], "robust")
    for z in (slice(0, 3), slice(3, 8)):
        for y in (slice(0, 20), slice(20, 40)):
            collected.add(volume[:, z, y], (y.start, 0))
    whole = IntensityRange(volume.shape[1:], "robust")
    whole.add(volume)
    np.testing.assert_array_equal(collected.result(*ROBUST)[1], whole.result(*ROBUST)[1])


def test_a_cleaned_image_with_little_in_it_has_a_white():
    image = np.zeros((10, 160, 160), np.uint8)
    image[3:7, 50:53, 20:60] = 200
    assert robust_range(image) == (0.0, 200.0)
    image = np.zeros((10, 160, 160), np.uint8)
    image[3:7, 50, 50] = 9  # no cell has it at its bright end
    assert robust_range(image) == (0.0, 9.0)


def test_a_constant_and_a_flat_volume_have_a_range():
    assert robust_range(np.full((3, 8, 8), 7.0)) == (7.0, 8.0)
    assert robust_range(np.arange(64.0).reshape(1, 8, 8))[1] > 40


@given(st.floats(0, 2 * HIGHEST), st.floats(0, 2 * HIGHEST))
def test_the_curve_keeps_the_order_and_stays_in_its_range(one, other):
    low, high = compressed(np.array(sorted((one, other))))
    assert 0 <= low <= high <= 1
    assert compressed(np.array([0.0, HIGHEST])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("method", ["percentiles", "robust"])
def test_an_image_dark_on_bright_is_found(method):
    def is_inverted(image):
        collected = IntensityRange(image.shape, method)
        collected.add(image[None])
        return collected.is_inverted()

    image = np.clip(neurites(), 0, 255).astype(np.uint8)
    assert is_inverted(255 - image) and not is_inverted(image)
    image[:, :40] = 0  # the sample ends there
    assert not is_inverted(image)
    assert not is_inverted(np.random.default_rng(0).normal(100, 10, (8, 64, 64)))
    assert not is_inverted(np.full((4, 8, 8), 3))
