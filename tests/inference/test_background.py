"""What segment leaves out: cells that do not stand out of the noise, as far as the model has found nothing in such
cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Volume, segment
from neuron_vit3d.inference import Segmenter, background
from neuron_vit3d.inference.background import Contrast, highest_in_blocks, needed_blocks
from neuron_vit3d.model.blocks import BlockGrid
from support.tiny_models import tiny_model


def contrast_of(image: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Of an image (slices, height, width) given in slabs."""
    contrast = Contrast(image.shape)
    for z in range(0, len(image), thickness):
        contrast.add(image[None, z : z + thickness])
    return contrast.result()


def noise(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


def test_a_faint_line_stands_out_of_noise_and_of_uneven_light():
    image = noise((9, 256, 320)) + np.linspace(0, 200, 320, dtype=np.float32)
    flat = contrast_of(image)
    image[4, 96:98, 40:280] += 50
    line = contrast_of(image)
    assert flat.shape == (9, 8, 10)
    assert flat.max() < 6 and line[3:6, 3, 2:8].min() > 7
    far = np.ones_like(flat, bool)
    far[2:7, 1:6] = False
    assert np.allclose(line[far], flat[far], rtol=0.2)


def test_neighbours_of_what_stands_out_stand_out():
    image = noise((7, 160, 160))
    image[3, 80:84, 80:84] += 500
    cells = contrast_of(image) > 20
    assert cells[1:6, 1:4, 1:4].sum() >= 27 and not cells[0].any() and not cells[:, 0].any()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 80), st.integers(1, 80)),
    thickness=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, bool]),
    seed=st.integers(0, 5),
)
def test_it_does_not_depend_on_the_slabs_and_takes_any_shape(shape, thickness, dtype, seed):
    image = (np.random.default_rng(seed).random(shape) * 100 > 40).astype(dtype)
    slice_by_slice = contrast_of(image)
    assert slice_by_slice.shape == (shape[0], -(-shape[1] // 32), -(-shape[2] // 32))
    assert np.isfinite(slice_by_slice).all()
    assert np.array_equal(contrast_of(image, thickness), slice_by_slice)


def test_scale_and_offset_of_the_intensities_do_not_matter():
    image = noise((3, 100, 100))
    np.testing.assert_allclose(contrast_of(image * 50 - 3000), contrast_of(image), rtol=1e-2)


def test_of_several_channels_the_one_that_stands_out_counts():
    first, second = noise((3, 64, 64), 0), noise((3, 64, 64), 1)
    second[1, 10:12, 10:40] += 100
    both = Contrast(first.shape)
    both.add(np.stack([first, second]))
    assert both.result().max() == pytest.approx(contrast_of(second).max(), rel=0.1)


GRID = BlockGrid((40, 512, 512), (128, 128), (16, 16), 5)


def test_how_much_is_enough_is_what_the_faintest_neuron_that_the_model_finds_shows():
    stands_out = np.random.default_rng(0).uniform(1, 4, (40, 16, 16)).astype(np.float32)
    stands_out[:, 3, :] = 14  # neurites
    stands_out[20:, 10, :] = 6.5  # something else
    seen = []

    def score(blocks):
        seen.extend(blocks)
        for _, (y, _x) in blocks:
            scores = np.zeros((1, 128, 128), np.float32)
            rows = np.arange(y, y + 128) // 32 == 3
            scores[:, rows] = 0.9
            yield scores

    needed = needed_blocks(stands_out, GRID, score)
    assert [step for step, _ in seen] == sorted(step for step, _ in seen) and len(seen) == 48
    expected = highest_in_blocks(stands_out, GRID) >= 7
    assert np.array_equal(needed, expected) and 0 < expected.mean() < 0.6


def test_where_the_model_finds_nothing_only_noise_is_left_out():
    stands_out = np.full((40, 16, 16), 2.0, np.float32)
    stands_out[7, 8, 8] = 6.0
    needed = needed_blocks(stands_out, GRID, lambda blocks: [np.zeros((1, 128, 128))] * len(blocks))
    assert np.array_equal(needed, highest_in_blocks(stands_out, GRID) == 6.0)


def test_a_small_volume_is_looked_at_as_a_whole():
    grid = BlockGrid((8, 64, 64), (32, 32), (8, 8), 5)

    def refuse(blocks):
        raise AssertionError("no sample is taken")

    assert needed_blocks(np.zeros((8, 2, 2)), grid, refuse).all()


@pytest.mark.parametrize("outputs", [1, 3])
def test_skipped_blocks_score_0_and_all_else_is_as_before(outputs, monkeypatch):
    monkeypatch.setattr(background, "_MIN_BLOCKS", 0)
    monkeypatch.setattr(background, "_SURE", 2.0)  # the model finds nothing: only noise is left out
    image = noise((9, 128, 256))
    image[:, 20:23, 10:60] += 300
    model = tiny_model(num_output_slices=outputs)
    options = {"device": "cpu", "tile_size": 64, "tile_overlap": 0, "batch_size": 5}
    whole = segment(Volume(image), Segmenter(model, skip_background=False, **options)).array
    monkeypatch.setattr(background, "_LOWEST", 10.0)
    part = segment(Volume(image), Segmenter(model, skip_background=True, **options)).array
    assert whole.min() > 0 and np.array_equal(part[:, :64, :64], whole[:, :64, :64])
    assert not part[:, 64:].any() and not part[:, :, 128:].any()


def test_a_tile_beside_a_skipped_one_is_not_dimmed(tiles_as_asked, monkeypatch):
    monkeypatch.setattr(background, "_MIN_BLOCKS", 0)
    monkeypatch.setattr(background, "_SURE", 2.0)
    monkeypatch.setattr(background, "_LOWEST", 10.0)
    image = noise((5, 64, 300))
    image[:, 30:33, 5:20] += 300
    model = tiny_model()
    options = {"device": "cpu", "tile_size": 64, "tile_overlap": 32}
    part = segment(Volume(image), Segmenter(model, skip_background=True, **options)).array
    alone = segment(Volume(image), Segmenter(model, device="cpu", tile_size=64, tile_overlap=0))
    np.testing.assert_allclose(part[:, :, :30], alone.array[:, :, :30], atol=1e-5)
    assert part[:, :, 32:60].min() > 0 and not part[:, :, 200:].any()


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("skip", [False, True])
def test_a_run_that_goes_on_gives_what_an_uninterrupted_one_does_bit_for_bit(outputs, skip, monkeypatch):
    monkeypatch.setattr(background, "_MIN_BLOCKS", 0)
    monkeypatch.setattr(background, "_SURE", 2.0)
    monkeypatch.setattr(background, "_LOWEST", 6.0)
    image = noise((9, 100, 130))
    image[2:5, 20:23, 10:60] += 300
    image[7, 70:73, 10:60] += 300
    options = {"device": "cpu", "tile_size": 32, "tile_overlap": 4, "slice_overlap": outputs // 2, "batch_size": 7}
    monkeypatch.setattr(background, "_SAMPLE", 13)
    segmenter = Segmenter(tiny_model(num_output_slices=outputs), skip_background=skip, **options)
    with segmenter.open(Volume(image)) as source:
        whole = np.concatenate([slab for _, slab in segmenter.slabs(source)])
        assert (whole == 0).any() == skip
        for first in range(len(image)):
            again = list(segmenter.slabs(source, first=first))
            assert [z for z, _ in again] == list(range(first, len(image)))
            np.testing.assert_array_equal(np.concatenate([slab for _, slab in again]), whole[first:])
