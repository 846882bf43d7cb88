"""NeuronViT3DImageProcessor: black and white are found, volumes are cut into blocks, logits are stitched to scores."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoImageProcessor

from neuron_vit3d import NeuronViT3DImageProcessor
from neuron_vit3d.model.image_processing_neuron_vit3d import scores_from_logits
from neuron_vit3d.model.intensities import IntensityRange
from support.tiny_models import tiny_config


# -- intensities -----------------------------------------------------------------------------------------------------


def scaled(volume: np.ndarray, **options) -> np.ndarray:
    """Volume (channels, slices, height, width) to intensities in [0, 1]."""
    processor = NeuronViT3DImageProcessor(num_channels=len(volume), **options)
    return processor.scale(volume, processor.intensity_range(volume))


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int16, np.uint16, np.uint32, np.int64, np.float16, np.float32, np.float64]
)
def test_every_type_of_voxel_is_scaled_to_zero_to_one(dtype):
    values = np.random.default_rng(0).random((1, 6, 20, 20)) ** 4 * 200
    volume = values > 100 if dtype is bool else values.astype(dtype)
    result = scaled(volume)
    assert result.dtype == np.float32
    assert result.min() == 0 and result.max() == 1
    order = np.argsort(volume.ravel(), kind="stable")
    assert (np.diff(result.ravel()[order]) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(0.01, 100), offset=st.floats(-100, 100))
def test_brightness_and_contrast_of_the_microscope_do_not_matter(gain, offset):
    volume = np.random.default_rng(0).gamma(2.0, size=(1, 5, 16, 16))
    np.testing.assert_allclose(scaled(gain * volume + offset), scaled(volume), atol=1e-4)


def test_large_numbers_keep_their_digits():
    volume = np.random.default_rng(0).integers(0, 200, (1, 4, 16, 16))
    np.testing.assert_allclose(scaled((volume + 2**31).astype(np.uint32)), scaled(volume), atol=1e-6)
    np.testing.assert_allclose(scaled(volume * 1e300), scaled(volume), atol=1e-6)


def test_sparse_neuron_becomes_white_however_deep_the_volume():
    rng = np.random.default_rng(0)
    for depth in (8, 64):
        volume = rng.normal(100, 5, (1, depth, 64, 64))
        volume[0, depth // 2, 20:22] = 200  # 128 voxels of a 64 x 64 plane
        result = scaled(volume)
        neuron = result[0, depth // 2, 20:22]
        assert neuron.min() > 0.95
        assert np.median(result) < 0.2


def test_neuron_smaller_than_the_percentile_leaves_out_still_shows():
    volume = np.zeros((1, 5, 64, 64), np.uint8)
    volume[0, 2, 30, 30:33] = 80
    result = scaled(volume)
    assert set(np.unique(result)) == {0, 1} and result.sum() == 3


def test_constant_volume_becomes_black():
    for value in (0, 7, 255):
        assert (scaled(np.full((1, 3, 8, 8), value, np.uint8)) == 0).all()


def test_hot_pixel_does_not_darken_the_rest():
    volume = np.random.default_rng(0).random((1, 5, 64, 64))
    hot = volume.copy()
    hot[0, 2, 5, 5] = 1e6
    result = scaled(hot)
    assert result[0, 2, 5, 5] == 1
    result[0, 2, 5, 5] = scaled(volume)[0, 2, 5, 5]
    np.testing.assert_allclose(result, scaled(volume), atol=1e-2)


def test_channels_are_scaled_each_by_itself():
    volume = np.random.default_rng(0).random((2, 4, 16, 16))
    together = scaled(volume * np.array([1, 1000]).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(together[1:], scaled(volume[1:]), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_range_does_not_depend_on_the_slabs_a_volume_is_read_in(depth, thickness):
    volume = np.random.default_rng(depth).integers(0, 999, (2, depth, 12, 10))
    collected = IntensityRange(volume.shape[1:])
    for z in range(0, depth, thickness):
        collected.add(volume[:, z : z + thickness])
    expected = NeuronViT3DImageProcessor(num_channels=2).intensity_range(volume)
    np.testing.assert_array_equal(collected.result(1.0, 99.5), expected)


def test_range_of_a_large_volume_is_taken_from_a_sample():
    volume = np.random.default_rng(0).integers(0, 256, (1, 4, 1200, 1200), np.uint8)
    collected = IntensityRange(volume.shape[1:])
    collected.add(volume)
    assert collected.stride > 1
    black, white = collected.result(10.0, 99.5)
    assert abs(black[0] - np.percentile(volume, 10)) <= 1
    assert white[0] == np.percentile(volume[0].max(0), 99.5)


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_blocks_are_the_normalised_slices_around_each_slice():
    volume = np.random.default_rng(0).random((4, 10, 12), np.float32)
    processor = NeuronViT3DImageProcessor(num_slices=3, image_mean=0.4, image_std=0.2)
    features = processor(volume)
    blocks = features["pixel_values"]
    assert blocks.shape == (4, 1, 3, 10, 12) and blocks.dtype == torch.float32
    assert features["volume_shape"].tolist() == [4, 10, 12]
    expected = (scaled(volume[None])[0] - 0.4) / 0.2
    np.testing.assert_allclose(blocks[1, 0], expected[:3], rtol=1e-5)
    np.testing.assert_allclose(blocks[0, 0], expected[[0, 0, 1]], rtol=1e-5)


def test_tiles_are_about_as_large_as_asked_for():
    processor = NeuronViT3DImageProcessor(
        num_slices=3, num_output_slices=3, tile_size=16, tile_overlap=4, num_channels=2, patch_size=1
    )
    blocks = processor(np.random.default_rng(0).random((2, 4, 20, 30)), return_tensors="np")["pixel_values"]
    assert blocks.shape == (2 * 1 * 2, 2, 3, 20, 17)  # 2 steps, 1 row, 2 columns


@pytest.mark.parametrize(
    ("depth", "outputs", "overlap"), [(4, 1, 0), (4, 3, 0), (7, 3, 2), (2, 3, 1), (9, 5, 0), (9, 5, 3)]
)
def test_scores_are_stitched_where_their_blocks_were_cut(depth, outputs, overlap):
    volume = np.random.default_rng(0).random((depth, 40, 50), np.float32)
    processor = NeuronViT3DImageProcessor(
        num_slices=5, num_output_slices=outputs, tile_size=24, tile_overlap=8, slice_overlap=overlap
    )
    features = processor(volume)
    first = (5 - outputs) // 2
    # A model that answers, for the probability of a voxel, with its intensity.
    probability = (features["pixel_values"][:, 0, first : first + outputs] * 0.5 + 0.5).clamp(1e-4, 1 - 1e-4)
    logits = torch.stack([torch.log1p(-probability), torch.log(probability)], dim=1)
    scores = processor.post_process_segmentation(logits, features["volume_shape"])
    assert scores.shape == volume.shape and scores.dtype == np.float32
    np.testing.assert_allclose(scores, scaled(volume[None])[0].clip(1e-4, 1 - 1e-4), atol=1e-5)


def test_scores_of_slices_that_blocks_share_are_averaged():
    processor = NeuronViT3DImageProcessor(num_slices=3, num_output_slices=3, slice_overlap=2)
    probability = torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1).expand(2, 3, 5, 5)  # one a block, whatever the slice
    logits = torch.stack([torch.log1p(-probability), torch.log(probability)], dim=1)
    scores = processor.post_process_segmentation(logits, (4, 5, 5))
    # Nearer to the center of the first block, of which slice 1 is the center one, than to that of the second.
    np.testing.assert_allclose(scores[:, 2, 2], [0.1, 0.1 + 0.8 / 3, 0.9 - 0.8 / 3, 0.9], rtol=1e-5)


def test_score_is_the_probability_of_any_class_but_background():
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16).reshape(1, 3, 1, 1, 1)
    expected = 1 - logits.float().softmax(1)[0, 0]
    torch.testing.assert_close(scores_from_logits(logits)[0], expected)
    assert scores_from_logits(logits).dtype == torch.float32


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((8, 8)), r"expected a volume \(slices, height, width\) .* got shape \(8, 8\)"),
        (np.zeros((2, 3, 8, 8)), r"1 channels, slices, height, width\), got shape \(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8)), r"at least one voxel along every axis, got shape \(1, 0, 8, 8\)"),
        (np.zeros((3, 8, 8), complex), "expected a volume of real numbers, got complex128"),
        (np.array([[["a"]]]), "expected a volume of real numbers, got <U1"),
        (np.array([[[np.nan, np.inf, 1.0]]]), "expected finite voxels, got 2 that are not"),
    ],
)
def test_what_is_no_volume_is_refused(volume, message):
    with pytest.raises(ValueError, match=message):
        NeuronViT3DImageProcessor()(volume)


# -- saving and loading ----------------------------------------------------------------------------------------------


def test_saved_processor_comes_back_the_same(tmp_path):
    processor = NeuronViT3DImageProcessor(
        num_slices=7, num_channels=2, num_output_slices=3, tile_size=96, tile_overlap=12, lower_percentile=2.0,
        upper_percentile=99.0, image_mean=0.45, image_std=0.22, slice_overlap=2,
    )  # fmt: skip
    processor.save_pretrained(tmp_path)
    tiny_config(num_slices=7, num_channels=2, num_output_slices=3).save_pretrained(tmp_path)
    volume = np.random.default_rng(0).random((2, 4, 100, 99))
    for door in (NeuronViT3DImageProcessor, AutoImageProcessor):
        again = door.from_pretrained(tmp_path)
        assert type(again) is NeuronViT3DImageProcessor
        assert again.to_dict() == processor.to_dict() and again.slice_overlap == 2
        assert torch.equal(again(volume)["pixel_values"], processor(volume)["pixel_values"])


def test_processor_saved_before_slices_overlapped_loads_without_overlap(tmp_path):
    NeuronViT3DImageProcessor(num_output_slices=3).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved.pop("slice_overlap") == 0
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    again = NeuronViT3DImageProcessor.from_pretrained(tmp_path)
    assert again.slice_overlap == 0 and again.grid((9, 40, 40)).steps == [0, 3, 6]


def test_processor_saved_before_tiles_fitted_the_plane_learns_of_the_models_patches(tmp_path):
    config = tiny_config()
    NeuronViT3DImageProcessor.for_model(config, tile_size=32, tile_overlap=8).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved.pop("patch_size") == config.patch_size > 1
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    again = NeuronViT3DImageProcessor.from_pretrained(tmp_path)
    assert again.patch_size == 16
    again.fit_to(config)
    assert again.patch_size == config.patch_size and again.grid((9, 60, 60)) == NeuronViT3DImageProcessor.for_model(
        config, tile_size=32, tile_overlap=8
    ).grid((9, 60, 60))


def test_options_of_a_grid_replace_the_processors():
    processor = NeuronViT3DImageProcessor(num_output_slices=3, tile_size=32, tile_overlap=8, patch_size=1)
    grid = processor.grid((9, 56, 56), tile_size=16, tile_overlap=0, slice_overlap=1)
    assert (grid.tile, grid.overlap, grid.slice_overlap) == ((14, 14), (0, 0), 1)
    assert processor.grid((9, 56, 56)) == processor.grid((9, 56, 56), tile_size=32, tile_overlap=8, slice_overlap=0)


def test_overlap_of_all_labelled_slices_is_refused_when_it_is_set_and_when_it_is_loaded(tmp_path):
    message = "slice_overlap must be at least 0 and less than num_output_slices = 3; got 3"
    with pytest.raises(ValueError, match=message):
        NeuronViT3DImageProcessor.for_model(tiny_config(num_output_slices=3), slice_overlap=3)
    NeuronViT3DImageProcessor(num_output_slices=5, slice_overlap=3).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_output_slices": 3}))
    with pytest.raises(ValueError, match=message):
        NeuronViT3DImageProcessor.from_pretrained(tmp_path)


def test_processor_of_a_model_takes_its_depths_and_averages_the_colours():
    config = tiny_config(num_slices=7, num_channels=2, num_output_slices=3)
    processor = NeuronViT3DImageProcessor.for_model(config, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], tile_size=64)
    assert (processor.num_slices, processor.num_channels, processor.num_output_slices) == (7, 2, 3)
    assert (processor.image_mean, processor.image_std) == pytest.approx((0.449, 0.226))
    assert processor.tile_size == 64


def test_each_channel_keeps_its_colour_where_there_are_as_many():
    config = tiny_config(num_channels=3, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    processor = NeuronViT3DImageProcessor.for_model(config)
    assert processor.image_mean == [0.485, 0.456, 0.406]
    scaled_volume = np.random.default_rng(0).random((3, 2, 4, 4), np.float32)
    expected = (scaled_volume[1] - 0.456) / 0.224
    np.testing.assert_allclose(processor.standardise(scaled_volume)[1], expected, rtol=1e-5)
    assert NeuronViT3DImageProcessor.for_model(tiny_config(num_channels=3)).image_mean == 0.5


def test_the_models_own_normalisation_is_the_default():
    config = tiny_config(image_mean=[0.485, 0.456, 0.406], image_std=[0.2])
    processor = NeuronViT3DImageProcessor.for_model(config)
    assert (processor.image_mean, processor.image_std) == pytest.approx((0.449, 0.2))


def test_options_that_do_nothing_are_refused():
    with pytest.raises(ValueError, match="has no option 'tiel_size'"):
        NeuronViT3DImageProcessor.for_model(tiny_config(), tiel_size=1)
    with pytest.raises(ValueError, match="takes no option 'tile_size' with a volume"):
        NeuronViT3DImageProcessor()(np.zeros((3, 8, 8)), tile_size=32)
    with pytest.raises(ValueError, match="image_std must be positive; got 0"):
        NeuronViT3DImageProcessor(image_std=0)


def test_an_option_that_does_not_exist_is_refused_and_one_that_was_saved_is_told_of(tmp_path, caplog):
    with pytest.raises(ValueError, match=r"has no option 'tile_sise' \(value 64\); did you mean tile_size\?"):
        NeuronViT3DImageProcessor(tile_sise=64)
    NeuronViT3DImageProcessor(tile_size=64).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**saved, "gama": 2, "processor_class": "Some"}))
    loaded = NeuronViT3DImageProcessor.from_pretrained(tmp_path)
    assert "kept, but without effect: the image processor has no option 'gama' (value 2)" in caplog.text
    assert (loaded.tile_size, loaded.gama) == (64, 2)
    loaded.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert again == {**saved, "gama": 2}


def test_what_older_checkpoints_hold_loads_without_a_word(caplog):
    """The options that there have been from the first version on, without those that came later."""
    old = {"num_slices": 5, "num_channels": 1, "num_output_slices": 1, "tile_size": 224, "tile_overlap": 32}
    old |= {"lower_percentile": 1.0, "upper_percentile": 99.5, "image_mean": 0.5, "image_std": 0.5}
    loaded = NeuronViT3DImageProcessor.from_dict({**old, "image_processor_type": "NeuronViT3DImageProcessor"})
    assert caplog.text == "" and {key: getattr(loaded, key) for key in old} == old
    assert (loaded.slice_overlap, loaded.patch_size, loaded.intensities) == (0, 16, "percentiles")
