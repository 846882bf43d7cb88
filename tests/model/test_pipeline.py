"""pipeline("neuron-segmentation"): volumes and files in, scores, masks and trees out."""

import numpy as np
import pytest
import torch
from transformers import pipeline
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.pipelines import PIPELINE_REGISTRY

from neuron_vit3d import (
    NeuronSegmentationPipeline,
    NeuronViT3DImageProcessor,
    Volume,
    read_swc,
    segment,
    synthetic_neuron,
    write_volume,
)
from neuron_vit3d.inference import DEFAULT_CHECKPOINT
from support.program import save_checkpoint
from support.tiny_models import model_2d, tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("pipeline") / "tiny")


@pytest.fixture(scope="module")
def pipe(checkpoint):
    return pipeline("neuron-segmentation", model=str(checkpoint))


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return synthetic_neuron((6, 40, 50), seed=2, quality="clean").volume.array


def test_transformers_knows_the_task(pipe):
    assert "neuron-segmentation" in PIPELINE_REGISTRY.get_supported_tasks()
    assert type(pipe) is NeuronSegmentationPipeline


def test_a_volume_becomes_scores_and_their_mask(pipe, volume):
    result = pipe(volume, threshold=0.6, trace=False)
    assert set(result) == {"scores", "mask"}
    assert result["scores"].shape == volume.shape and result["scores"].dtype == np.float32
    assert result["scores"].min() >= 0 and result["scores"].max() <= 1
    assert result["mask"].dtype == bool and np.array_equal(result["mask"], result["scores"] >= 0.6)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_scores_are_those_of_segment_whatever_the_batch(pipe, checkpoint, volume, batch_size):
    scores = pipe(volume, batch_size=batch_size, trace=False)["scores"]
    np.testing.assert_allclose(scores, segment(Volume(volume), checkpoint).array, atol=1e-6)


@pytest.mark.parametrize(("outputs", "overlap"), [(1, 0), (3, 0), (3, 2), (5, 1)])
def test_several_output_slices_are_stitched(outputs, overlap, volume):
    model = tiny_model(num_slices=5, num_output_slices=outputs)
    processor = NeuronViT3DImageProcessor.for_model(model.config, tile_size=32, tile_overlap=8, slice_overlap=overlap)
    pipe = pipeline("neuron-segmentation", model=model, image_processor=processor)
    expected = segment(Volume(volume), model, processor=processor).array
    np.testing.assert_allclose(pipe(volume, trace=False, batch_size=4)["scores"], expected, atol=1e-6)


def test_arrays_tensors_volumes_and_files_are_taken_alike(pipe, volume, tmp_path):
    expected = pipe(volume, trace=False)["scores"]
    np.save(tmp_path / "volume.npy", volume)
    write_volume(tmp_path / "volume.tif", Volume(volume))
    for same in (
        torch.from_numpy(volume),
        Volume(volume),
        volume[None],
        tmp_path / "volume.npy",
        str(tmp_path / "volume.tif"),
    ):
        assert np.array_equal(pipe(same, trace=False)["scores"], expected)


def test_a_list_of_volumes_gives_a_list_of_results(pipe, volume):
    results = pipe([volume, volume[:3, :20, :20]], trace=False, batch_size=8)  # one smaller than a tile
    assert [result["scores"].shape for result in results] == [(6, 40, 50), (3, 20, 20)]
    assert pipe([]) == []
    np.testing.assert_allclose(results[0]["scores"], pipe(volume, trace=False)["scores"], atol=1e-6)


def test_a_channel_is_chosen_where_there_are_several(pipe, volume):
    channels = np.stack([volume, volume[::-1]])
    expected = pipe(volume[::-1].copy(), trace=False)["scores"]
    assert np.array_equal(pipe(channels, channel=1, trace=False)["scores"], expected)


def test_a_model_of_several_channels_takes_all(volume):
    model = tiny_model(num_channels=2)
    processor = NeuronViT3DImageProcessor.for_model(model.config, tile_size=64, tile_overlap=8)
    pipe = pipeline("neuron-segmentation", model=model, image_processor=processor)
    assert pipe(np.stack([volume, volume[::-1]]), trace=False)["scores"].shape == volume.shape


@pytest.mark.slow
def test_the_embedded_default_traces_a_neuron_in_full_precision(tmp_path):
    neuron = synthetic_neuron((16, 96, 96), seed=5)
    pipe = pipeline("neuron-segmentation", model=str(DEFAULT_CHECKPOINT), batch_size=4)
    assert pipe.model.dtype == torch.float32  # a CPU only emulates the half precision that it is stored in
    result = pipe(Volume(neuron.volume.array, (1.0, 0.5, 0.5)))
    (tmp_path / "traced.swc").write_text(result["swc"])
    tree = read_swc(tmp_path / "traced.swc")
    assert len(tree) > 10 and len(tree.roots) == 1


def test_a_mask_with_nothing_to_trace_has_no_tree(pipe, volume, caplog):
    result = pipe(volume, threshold=1.0)
    assert not result["mask"].any() and result["swc"] is None


def test_saved_pipeline_comes_back_the_same(pipe, volume, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert {"pipeline_neuron_vit3d.py", "modeling_neuron_vit3d.py", "image_processing_neuron_vit3d.py"} <= {
        path.name for path in tmp_path.iterdir()
    }
    again = pipeline("neuron-segmentation", model=str(tmp_path))
    assert np.array_equal(again(volume, trace=False)["scores"], pipe(volume, trace=False)["scores"])


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (np.zeros((4, 4)), {}, r"expected a volume .* got shape \(4, 4\)"),
        (np.full((3, 8, 8), 7), {}, "expected an image, got the value 7 in every voxel"),
        (np.full((3, 8, 8), np.nan), {}, "expected finite voxels, got 192 that are not"),
        (np.zeros((2, 3, 8, 8)), {}, r"has 2 channels: choose one with channel=0 \.\. 1"),
        (np.zeros((2, 3, 8, 8)), {"channel": 2}, r"channel 2 cannot be chosen in a volume of shape \(2, 3, 8, 8\)"),
        (np.zeros((3, 8, 8)), {"threshold": 1.5}, "threshold must be above 0 and at most 1; got 1.5"),
        (np.zeros((3, 8, 8)), {"treshold": 0.5}, "has no option 'treshold'"),
    ],
)
def test_what_cannot_be_segmented_is_refused(pipe, volume, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(volume, **options)


def test_an_image_processor_of_another_model_is_refused(checkpoint):
    with pytest.raises(ValueError, match="num_slices = 7, the model 3: they belong to different checkpoints"):
        pipeline("neuron-segmentation", model=str(checkpoint), image_processor=NeuronViT3DImageProcessor(num_slices=7))


def test_what_belongs_to_a_2d_model_is_refused_by_name(checkpoint, tmp_path):
    ours = NeuronViT3DImageProcessor.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match="expected a neuron_vit3d model, got one of type 'vit'"):
        NeuronSegmentationPipeline(model=model_2d(), image_processor=ours)
    with pytest.raises(ValueError, match="expected a NeuronViT3DImageProcessor, got a ViTImageProcessor"):
        pipeline("neuron-segmentation", model=str(checkpoint), image_processor=ViTImageProcessorPil())
