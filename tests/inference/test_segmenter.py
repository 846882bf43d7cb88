"""Whole volumes through a model: what the tiles, batches and files of `segment` must not change, and what it
refuses."""

import json
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from neuron_vit3d import NeuronViT3DImageProcessor, SegmentOptions, Volume, read_volume, segment, write_volume
from neuron_vit3d.inference import Segmenter, load_checkpoint
from neuron_vit3d.inference.channel_reader import ChannelReader, ahead
from neuron_vit3d.volumes import VolumeError
from support.tiny_models import save_2d, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model("dinov2")


def segmenter(model, **options) -> Segmenter:
    """On the CPU, in tiles of 32 pixels that overlap by 8."""
    return Segmenter(
        model, **{"device": "cpu", "tile_size": 32, "tile_overlap": 8, "skip_background": False, **options}
    )


def neuron_like(shape=(6, 40, 50), *, seed: int = 0, dtype=np.uint8) -> Volume:
    """Noise and a bright line."""
    array = np.random.default_rng(seed).gamma(2.0, 10.0, shape)
    array[..., shape[-2] // 2, 5:-5] += 150
    return Volume(array.clip(0, 255).astype(dtype), voxel_size=(1.0, 0.3, 0.3), source="line.tif")


# -- the same as the model itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 6, 9])
@pytest.mark.parametrize(("slices", "outputs"), [(3, 1), (5, 3), (3, 3)])
def test_one_tile_over_the_plane_is_the_model_itself(depth, slices, outputs):
    model = tiny_model(num_slices=slices, num_output_slices=outputs)
    volume = neuron_like((depth, 30, 28))
    scores = segment(volume, segmenter(model))
    assert scores.array.shape == volume.shape and scores.array.dtype == np.float32
    assert scores.voxel_size == volume.voxel_size
    features = NeuronViT3DImageProcessor.for_model(model.config)(volume.array)
    with torch.inference_mode():
        logits = model(features["pixel_values"]).logits
    probabilities = logits.softmax(1)[:, 1]
    center = outputs // 2 if depth == 1 else slice(None)  # a single slice is the center one
    probabilities = probabilities[:, center].reshape(scores.array.shape).numpy()
    np.testing.assert_allclose(scores.array, probabilities, atol=1e-5)
    assert scores.array.std() > 0.01


@pytest.mark.parametrize(
    ("shape", "outputs", "overlap"),
    [((5, 70, 45), 1, 0), ((7, 45, 33), 3, 0), ((7, 45, 33), 3, 2), ((2, 33, 45), 3, 1), ((11, 20, 33), 5, 3)],
)
def test_slab_by_slab_is_the_same_as_the_image_processor_on_the_whole(shape, outputs, overlap):
    model = tiny_model(num_slices=5, num_output_slices=outputs)
    volume = neuron_like(shape)
    processor = NeuronViT3DImageProcessor.for_model(model.config, tile_size=32, tile_overlap=8, slice_overlap=overlap)
    features = processor(volume.array)
    with torch.inference_mode():
        expected = processor.post_process_segmentation(
            model(features["pixel_values"]).logits, features["volume_shape"]
        )
    by_slab = segment(volume, segmenter(model, processor=processor))
    np.testing.assert_allclose(by_slab.array, expected, atol=1e-5)


def test_scores_of_slices_that_blocks_share_are_averaged():
    model = tiny_model(num_slices=5, num_output_slices=5)
    volume = neuron_like((7, 30, 28))
    features = NeuronViT3DImageProcessor.for_model(model.config, slice_overlap=3)(volume.array)
    with torch.inference_mode():
        first, second = model(features["pixel_values"]).logits.softmax(1)[:, 1].numpy()  # slices 0 to 4, 2 to 6
    # A slice at the end of those that a block labels weighs 1, its neighbour 2, the center one 3.
    expected = [first[0], first[1], *(first[2:] * [[[3]], [[2]], [[1]]] + second[:3] * [[[1]], [[2]], [[3]]]) / 4]
    scores = segment(volume, segmenter(model, slice_overlap=3)).array
    np.testing.assert_allclose(scores, [*expected, second[3], second[4]], atol=1e-5)


def test_slice_overlap_of_the_segmenter_goes_before_the_processors():
    model, volume = tiny_model(num_output_slices=3), neuron_like((7, 30, 28))
    processors = [NeuronViT3DImageProcessor.for_model(model.config, slice_overlap=overlap) for overlap in (0, 2)]
    apart, shared = (segment(volume, segmenter(model, processor=processor)).array for processor in processors)
    assert np.abs(apart - shared).max() > 0.01
    for processor in processors:
        for overlap, expected in ((0, apart), (2, shared), (None, shared if processor.slice_overlap else apart)):
            scores = segment(volume, segmenter(model, processor=processor, slice_overlap=overlap)).array
            np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("outputs", [1, 3])
def test_batch_size_does_not_matter(outputs):
    model, volume = tiny_model(num_output_slices=outputs), neuron_like((4, 40, 50))
    options = {"slice_overlap": outputs - 1}
    scores = [segment(volume, segmenter(model, batch_size=size, **options)).array for size in (1, 5, 1000)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
    np.testing.assert_allclose(scores[2], scores[0], atol=1e-5)


@pytest.mark.parametrize(("outputs", "overlap"), [(1, 0), (3, 0), (3, 2)])
def test_slabs_come_in_order_and_none_is_missing(outputs, overlap):
    segmenter_ = segmenter(tiny_model(num_output_slices=outputs), batch_size=7, slice_overlap=overlap)
    with segmenter_.open(neuron_like()) as source:
        slabs = list(segmenter_.slabs(source))
    assert [z for z, _ in slabs] == list(range(6))
    assert all(slab.shape == (1, 40, 50) for _, slab in slabs)


@pytest.mark.parametrize(("outputs", "overlap"), [(1, 0), (3, 0), (3, 1), (3, 2), (5, 4)])
def test_every_slice_is_read_twice_at_most(outputs, overlap, monkeypatch):
    # Once for black and white, once for its blocks: a compressed file is not decoded over and over.
    reads = []
    read = ChannelReader.read
    monkeypatch.setattr(ChannelReader, "read", lambda self, z, end: reads.extend(range(z, end)) or read(self, z, end))
    model = tiny_model(num_slices=5, num_output_slices=outputs)
    segment(neuron_like(), segmenter(model, slice_overlap=overlap))
    assert sorted(reads) == sorted([*range(6)] * 2)


@pytest.mark.slow
@pytest.mark.parametrize(("outputs", "overlap", "least"), [(1, 0, 2), (3, 0, 5), (3, 2, 3), (5, 3, 6)])
@pytest.mark.parametrize("batch_size", [1, 6])
def test_slices_are_done_with_before_much_later_ones_are_read(batch_size, outputs, overlap, least, monkeypatch):
    """Three steps are read ahead at most: two wait, and one waits to wait.

    And a batch is stitched when the next one is full.
    """
    model = tiny_model(num_slices=max(3, outputs), num_output_slices=outputs)
    segmenter_ = segmenter(model, batch_size=batch_size, slice_overlap=overlap)
    with segmenter_.open(neuron_like((14, 56, 56))) as source:
        slabs = segmenter_.slabs(source)
        last_read = []
        read = source.read
        monkeypatch.setattr(source, "read", lambda z, end: last_read.append(end - 1) or read(z, end))
        steps_of_batch = -(-batch_size // 4)  # 4 tiles a plane: a batch of 6 spans two planes
        for z, _ in slabs:
            assert last_read[-1] <= z + least + (3 + steps_of_batch) * (outputs - overlap)


def test_items_made_ahead_come_in_order_with_their_error_and_no_thread_is_left():
    made = []

    def items():
        for number in range(6):
            made.append(number)
            yield number
        raise VolumeError("torn")

    before = threading.active_count()
    come = ahead(items(), 2)
    assert next(come) == 0
    come.close()
    assert threading.active_count() == before and len(made) <= 4
    got = []
    with pytest.raises(VolumeError, match="torn"):
        got.extend(ahead(items(), 2))
    got.clear()
    for number in (come := ahead(items(), 2)):
        got.append(number)
        if number == 5:
            break
    come.close()
    assert got == [*range(6)] and threading.active_count() == before
    assert list(ahead(iter([]))) == []


def test_bfloat16_computes_nearly_the_same(model):
    volume = neuron_like((2, 32, 32))
    scores = segment(volume, segmenter(model, dtype=torch.bfloat16))
    assert scores.array.dtype == np.float32
    np.testing.assert_allclose(scores.array, segment(volume, segmenter(model)).array, atol=0.1)


@pytest.mark.slow
def test_compiled_once_with_constant_weights_it_computes_the_same_whatever_is_left_for_the_last_batch(
    model, monkeypatch
):
    from torch._dynamo.utils import counters
    from torch._inductor import freezing

    make_constant, made_constant = freezing.replace_params_with_constants, []

    def look(graph, tensors, *rest):
        made_constant.append(len(tensors))
        return make_constant(graph, tensors, *rest)

    monkeypatch.setattr(freezing, "replace_params_with_constants", look)
    torch._dynamo.reset()
    counters.clear()
    volume = neuron_like()  # 24 blocks, so that the last batch of 5 lacks one
    compiled = segmenter(model, compile=True, batch_size=5)
    scores = segment(volume, compiled).array
    np.testing.assert_allclose(scores, segment(volume, segmenter(model)).array, atol=1e-4)
    assert segment(volume, compiled).array.tobytes() == scores.tobytes()
    few = Volume(volume.array[:1])  # 4 blocks are not half a batch of 9: they go through the model itself
    compiled = segmenter(model, compile=True, batch_size=9)
    assert segment(few, compiled).array.tobytes() == segment(few, segmenter(model, batch_size=9)).array.tobytes()
    assert counters["stats"]["unique_graphs"] == 1
    assert len(made_constant) == 1 and made_constant[0] >= len(list(model.parameters())) - 2
    torch._dynamo.reset()


# -- tiles -----------------------------------------------------------------------------------------------------------


class LocalDecoder(nn.Module):
    """Stands in for the decoder: logits that depend on 3 x 3 pixels of the center slice, and on no token."""

    def __init__(self):
        super().__init__()
        kernel = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        self.kernel = nn.Parameter(kernel)

    def forward(self, features, pixel_values):
        center = pixel_values[:, :, pixel_values.shape[2] // 2]
        return F.conv2d(center, self.kernel, padding=1).unsqueeze(2)


def test_tiles_leave_no_trace_where_the_model_looks_less_far_than_they_overlap():
    model = tiny_model()
    model.decoder = LocalDecoder()
    volume = neuron_like((4, 90, 75))
    whole = segment(volume, segmenter(model, tile_size=96)).array
    tiled_by = segmenter(model)
    tiled = segment(volume, tiled_by).array
    with tiled_by.open(volume) as source:
        grid = tiled_by.grid(source.shape)
    near_border = np.zeros(volume.shape[1:], bool)  # the outermost pixels of a tile miss a neighbour
    for y, x in grid.tile_origins:
        near_border[[max(y - 1, 0), y, y + grid.tile[0] - 1]] = True
        near_border[:, [max(x - 1, 0), x, x + grid.tile[1] - 1]] = True
    assert len(grid.tile_origins) == 9 and near_border.mean() < 0.4
    np.testing.assert_allclose(tiled[:, ~near_border], whole[:, ~near_border], atol=1e-3)
    # On a tile's border its weight is small, so even there the difference is.
    assert np.abs(tiled - whole).mean() < 0.01


def test_scores_stay_within_zero_and_one_and_tiles_larger_than_the_plane_are_cut_to_it(model):
    for size in (16, 500):
        scores = segment(neuron_like((3, 20, 37)), segmenter(model, tile_size=size)).array
        assert scores.shape == (3, 20, 37)
        assert 0 <= scores.min() < scores.max() <= 1


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """Folder of a saved model with its image processor."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    processor = NeuronViT3DImageProcessor.for_model(model.config, 0.45, 0.22, tile_size=32, tile_overlap=8)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("suffix", [".tif", ".v3draw", ".npy"])
def test_file_and_checkpoint_give_the_same_as_objects(model, checkpoint, suffix, tmp_path):
    volume = neuron_like()
    path = write_volume(tmp_path / f"line{suffix}", volume)
    processor = NeuronViT3DImageProcessor.from_pretrained(checkpoint)
    expected = segment(volume, model, processor=processor, device="cpu").array
    np.testing.assert_allclose(segment(path, checkpoint, device="cpu").array, expected, atol=1e-6)


def test_scores_on_disk_are_the_scores_in_memory(model, tmp_path):
    volume, outputs = neuron_like(), tmp_path / "scores.tif"
    expected = segment(volume, segmenter(model))
    scores = segment(volume, segmenter(model), out=outputs)
    np.testing.assert_array_equal(scores.array, expected.array)
    again = read_volume(outputs)
    np.testing.assert_array_equal(again.array, expected.array)
    assert again.array.dtype == np.float32
    assert again.voxel_size == pytest.approx(volume.voxel_size, rel=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.tif"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_interrupted_segmentation_leaves_what_was_there(model, interruption, tmp_path, monkeypatch):
    out = tmp_path / "scores.tif"
    out.write_bytes(b"of yesterday")
    calls = []

    def fail_late(batch):
        calls.append(len(batch))
        if len(calls) == 4:
            raise interruption
        return begin(batch)

    stopped = segmenter(model, batch_size=4)
    begin = stopped._begin
    monkeypatch.setattr(stopped, "_begin", fail_late)
    with pytest.raises(interruption):
        segment(neuron_like((6, 56, 56)), stopped, out=out)
    assert len(calls) == 4
    assert out.read_bytes() == b"of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.tif"]


def test_progress_counts_every_voxel(model, capsys, monkeypatch):
    monkeypatch.setattr("neuron_vit3d.progress.SECONDS", 0)
    segment(neuron_like((2, 40, 50)), segmenter(model, batch_size=3), progress=True)
    assert capsys.readouterr().err.splitlines()[-1].startswith("segment: 4,000 of 4,000 voxels, 100% in 0:0")
    segment(neuron_like((2, 40, 50)), segmenter(model))
    assert capsys.readouterr().err == ""


# -- channels --------------------------------------------------------------------------------------------------------


def test_channel_is_chosen(model):
    volume = neuron_like((3, 4, 32, 32))
    scores = segment(volume, segmenter(model), channel=2).array
    np.testing.assert_array_equal(scores, segment(volume.channel(2), segmenter(model)).array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, bool])
def test_the_negative_read_inverted_is_the_image(model, dtype, caplog):
    image = neuron_like(dtype=dtype) if dtype is not bool else Volume(neuron_like().array > 60)
    negative = Volume(-image.array if dtype is np.float32 else np.invert(image.array), source="negative.tif")
    expected = segment(image, segmenter(model)).array
    np.testing.assert_allclose(segment(negative, segmenter(model, invert=True)).array, expected, atol=1e-5)
    plain, inverted = segmenter(model), segmenter(model, invert=True)
    assert plain.key(image.shape) != inverted.key(image.shape)


def test_an_image_dark_on_bright_is_told_of(model, caplog):
    image = neuron_like()
    segment(image, segmenter(model))
    assert not caplog.records
    negative = Volume(255 - image.array, source="negative.tif")
    segment(negative, segmenter(model, invert=True))
    assert not caplog.records
    segment(negative, segmenter(model))
    (record,) = caplog.records
    assert record.getMessage().startswith("negative.tif: looks dark on bright") and "--invert" in record.getMessage()
    segment(image, segmenter(model, invert=True))
    assert "leave --invert out" in caplog.records[-1].getMessage()


def test_model_of_several_channels_takes_all(tmp_path):
    model, volume = tiny_model(num_channels=2), neuron_like((2, 4, 30, 30))
    scores = segment(write_volume(tmp_path / "two.tif", volume), segmenter(model)).array
    features = NeuronViT3DImageProcessor.for_model(model.config)(volume.array)
    with torch.inference_mode():
        expected = model(features["pixel_values"]).logits.softmax(1)[:, 1, 0].numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    with pytest.raises(ValueError, match="the model takes 2 channels at once; channel = 1 cannot be chosen"):
        segment(volume, segmenter(model), channel=1)
    with pytest.raises(VolumeError, match=r"line\.tif: expected a channel from 0 to 0, got 1"):
        segment(neuron_like(), segmenter(model))


@pytest.mark.parametrize("suffix", ["tif", "v3draw", "npy"])
def test_a_model_of_several_channels_does_not_choose_among_more(suffix, tmp_path):
    image = write_volume(tmp_path / f"three.{suffix}", neuron_like((3, 4, 30, 30)))
    with pytest.raises(VolumeError, match=rf"three\.{suffix}: the model takes 2 channels, the image has more$"):
        segment(image, segmenter(tiny_model(num_channels=2)))


def test_a_volume_in_memory_has_no_channels_too_many_either():
    with pytest.raises(VolumeError, match=r"line\.tif: the model takes 2 channels, the image has more$"):
        segment(neuron_like((4, 4, 30, 30)), segmenter(tiny_model(num_channels=2)))


# -- weights in half precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("computation", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_of_the_weights_and_not_of_the_computation(weights, computation):
    expected = segment(neuron_like(), segmenter(tiny_model().to(weights).float(), dtype=computation)).array
    model = tiny_model().to(weights)
    np.testing.assert_array_equal(segment(neuron_like(), segmenter(model, dtype=computation)).array, expected)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_quantised_model_stays_as_it_is():
    """transformers refuses to convert one."""
    model = tiny_model().to(torch.bfloat16)
    model.is_quantized = True
    assert segmenter(model).model.dtype == torch.bfloat16


# -- refusals --------------------------------------------------------------------------------------------------------


def spoiled(value, **changes) -> np.ndarray:
    array = neuron_like(dtype=np.float32).array.copy()
    array[2, 3, 4] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (spoiled(np.nan), "expected finite voxels, got 1 NaN and 0 infinite ones"),
        (spoiled(-np.inf), "expected finite voxels, got 0 NaN and 1 infinite ones"),
        (np.full((3, 8, 8), 7, np.uint8), "expected an image, got the value 7 in every voxel"),
        (np.zeros((2, 3, 8, 8), np.uint8), "has 2 channels: choose one with channel=0"),
        (
            np.zeros((1, 2, 3, 8, 8), np.uint8),
            r"expected axes \(z, y, x\) or \(c, z, y, x\), got shape \(1, 2, 3, 8, 8\)",
        ),
        (np.zeros((3, 8, 8), complex), "expected bool, integer or real voxels"),
    ],
    ids=["nan", "infinite", "constant", "channels", "axes", "complex"],
)
def test_what_cannot_be_segmented_is_refused_by_name(model, array, message, tmp_path):
    path = tmp_path / "spoiled.npy"
    np.save(path, array)
    with pytest.raises(VolumeError, match=rf"spoiled\.npy: {message}") as caught:
        segment(path, segmenter(model), out=tmp_path / "scores.tif")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled.npy"]


def test_missing_volume_is_an_os_error(model, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        segment(tmp_path / "nowhere.tif", segmenter(model))


def test_checkpoint_of_another_kind_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected a neuron_vit3d checkpoint, found a model of type 'vit'") as caught:
        segment(neuron_like(), save_2d(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_checkpoint_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")


def test_folder_without_a_checkpoint_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=f"Unrecognized model in {tmp_path}"):
        load_checkpoint(tmp_path)


def test_checkpoint_whose_weights_do_not_fit_is_refused(checkpoint, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    classifier = "decoder.classifier.weight"
    for changed, problem in (
        ({key: tensor for key, tensor in weights.items() if key != classifier}, "missing"),
        ({**weights, classifier: torch.zeros(5, 4, 1, 1)}, "mismatched"),
        ({**weights, classifier + "s": torch.zeros(1)}, "unexpected"),
    ):
        save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(
            ValueError, match=rf"do not fit its config\.json: 1 {problem}, first {classifier}"
        ) as caught:
            load_checkpoint(tmp_path)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_checkpoint_without_an_image_processor_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"preprocessor_config\.json"):
        load_checkpoint(tmp_path)


def test_image_processor_of_another_depth_is_refused(model, checkpoint, tmp_path):
    message = "the image processor has num_slices = 5, the model 3: they belong to different checkpoints"
    with pytest.raises(ValueError, match=message):
        Segmenter(model, processor=NeuronViT3DImageProcessor(num_slices=5))
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**saved, "num_slices": 5}))
    with pytest.raises(ValueError, match=message):
        segment(neuron_like(), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_overlap": 32}, "expected a tile overlap from 0 to 31"),
        ({"tile_overlap": -1}, "expected a tile overlap from 0 to 31"),
        ({"slice_overlap": 1}, "slice_overlap must be at least 0 and less than num_output_slices = 1; got 1"),
        ({"batch_size": 0}, "expected a batch size of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        segmenter(model, **options)


def test_options_are_a_record_or_keywords(model):
    record = segmenter(model, flips=True).options
    assert (record.flips, record.tile_size, record.device, record.batch_size) == (True, 32, "cpu", 8)
    again = Segmenter(model, record)
    assert (
        again.options == record
        and again.tile_overlap == 8
        and again.key((9, 40, 50)) == segmenter(model, flips=True).key((9, 40, 50))
    )
    np.testing.assert_array_equal(
        segment(neuron_like(), model, record).array,
        segment(neuron_like(), model, SegmentOptions(), **vars(record)).array,
    )
    for function in (segment, Segmenter):
        with pytest.raises(TypeError, match=r"no such option: tile_sise; the nearest is tile_size"):
            function(model, tile_sise=32)


def test_options_beside_a_segmenter_are_refused_not_ignored(model):
    with pytest.raises(ValueError, match="a Segmenter has its options already; got batch_size, device again"):
        segment(neuron_like(), segmenter(model), device="cpu", batch_size=2)
