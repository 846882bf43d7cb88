"""The training loop: it learns, goes on where it was interrupted, and refuses what cannot be right."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import forget_accelerate, log_of, same, save_base, save_data, tiny_run, weights

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, Volume, write_volume
from neuron_vit3d.data.pairs import DataError, find_pairs, read_pair
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.model.loading import CheckpointError
from neuron_vit3d.training import trainer
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.trainer import TrainingError, build_model, parameter_groups, train
from neuron_vit3d.training.validation import THRESHOLDS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return save_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def config(base, data, tmp_path) -> Iterator[TrainingConfig]:
    yield tiny_run(base, data, tmp_path / "run")
    forget_accelerate()


def stop_at(monkeypatch, block: int, error: type = KeyboardInterrupt) -> None:
    """The run is interrupted when it asks for this block."""
    original = BlockDataset.__getitem__

    def interrupted(self, index):
        if index == block:
            raise error
        return original(self, index)

    monkeypatch.setattr(BlockDataset, "__getitem__", interrupted)


def test_training_learns_and_leaves_a_checkpoint_to_load(config):
    folder = train(replace(config, max_steps=60, augment=False, learning_rate=2e-2))
    losses = list(log_of(folder, "loss").values())
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    model = NeuronViT3DForSegmentation.from_pretrained(folder)
    assert same(weights(folder), model.state_dict())
    processor = NeuronViT3DImageProcessor.from_pretrained(folder)
    assert (processor.num_slices, processor.tile_size) == (3, 32)
    assert json.loads((folder / "training_config.json").read_text())["max_steps"] == 60
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_0000058", "step_0000060"]
    assert not list(folder.glob(".*"))  # nothing temporary is left


def test_an_interrupted_run_ends_as_an_uninterrupted_one(config, monkeypatch, tmp_path):
    """Two batches a step; interrupted in the middle of step 6, two steps after a checkpoint, and once more."""
    config = replace(config, gradient_accumulation_steps=2, max_steps=8, checkpoint_steps=3)
    whole = train(replace(config, output_dir=str(tmp_path / "whole")))
    for block in (5 * 4 + 2, 7 * 4):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at(patch, block)
            train(config)
        assert not (Path(config.output_dir) / "model.safetensors").exists()
    parts = train(config)
    assert same(weights(parts), weights(whole))
    assert log_of(parts, "loss") == log_of(whole, "loss")
    assert log_of(parts, "learning_rate") == log_of(whole, "learning_rate")


def test_a_run_interrupted_before_its_first_checkpoint_starts_anew(config, monkeypatch, tmp_path):
    whole = train(replace(config, output_dir=str(tmp_path / "whole"), checkpoint_steps=5))
    config = replace(config, checkpoint_steps=5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 6)
        train(config)
    log = Path(config.output_dir) / "log.jsonl"
    log.write_text(log.read_text()[:-5])  # killed in the middle of a line
    assert same(weights(train(config)), weights(whole))
    assert len(log_of(config.output_dir, "loss")) == 6


def test_a_run_killed_while_it_wrote_a_checkpoint_goes_on_from_the_one_before(config, monkeypatch):
    def killed(partial, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        original = os.replace
        patch.setattr(trainer.os, "replace", lambda a, b: killed(a, b) if "step_0000004" in str(b) else original(a, b))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    folder = Path(config.output_dir)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [".step_0000004", "step_0000002"]
    train(config)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_0000004", "step_0000006"]
    assert len(log_of(folder, "loss")) == 6


def test_a_finished_run_is_not_trained_again(config, monkeypatch):
    folder = train(config)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    stop_at(monkeypatch, 0)
    train(config)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1 now"),
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is 0.5 now"),
        ({"max_steps": 7}, "max_steps was 6 and is 7 now"),
        ({"stem_sizes": [0]}, r"stem_sizes was \[4, 4, 8\] and is \[\] now"),
    ],
)
def test_another_run_in_the_folder_is_refused(change, message, config):
    folder = Path(config.output_dir)
    folder.mkdir()
    (folder / "training_config.json").write_text(json.dumps(asdict(config)))
    with pytest.raises(TrainingError, match=rf"run: holds another run \({message}\)"):
        train(replace(config, **change))
    assert [path.name for path in folder.iterdir()] == ["training_config.json"]


def test_what_does_not_change_the_result_may_change(config):
    earlier = json.loads(json.dumps(asdict(config)))
    same_run = replace(config, log_steps=3, num_workers=2, checkpoint_steps=9, keep_checkpoints=1, output_dir="moved")
    assert same_run.difference(earlier) is None
    assert replace(config, stem_sizes=(4, 4, 8), train_data=tuple(config.train_data)).difference(earlier) is None


def test_a_run_that_cannot_start_leaves_no_trace(config):
    with pytest.raises(DataError, match="nowhere: expected a folder"):
        train(replace(config, train_data=["nowhere"]))
    with pytest.raises(CheckpointError, match="base_model nothing: no such folder here, not in the cache"):
        train(replace(config, base_model="nothing"))
    assert not Path(config.output_dir).exists()


def test_a_neuron_in_training_and_validation_is_refused(config, data, tmp_path):
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(TrainingError, match=r"neuron_0000\.tif: is in the training and in the validation data"):
        train(replace(config, validation_data=[str(tmp_path / "link")]))
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"]}
    with pytest.raises(DataError, match="found no pair named 'neuron_0007'"):
        train(replace(config, validation_data=[data], **split | {"names": ["neuron_0000", "neuron_0007"]}))
    with pytest.raises(TrainingError, match="train_data: expected at least one folder"):
        train(replace(config, train_data=[]))


def test_the_best_step_by_validation_is_kept(config, data, monkeypatch):
    """Dice of the three validations as told by a stand-in: the second is the best, so its weights stay."""
    dice = iter([0.3, 0.8, 0.5])
    saved = {}

    def told(segmenter, volumes):
        assert [volume.name for volume in volumes] == ["neuron_0001"]
        assert not segmenter.model.training
        value = next(dice)
        saved[value] = {key: tensor.clone() for key, tensor in segmenter.model.state_dict().items()}
        return {"neuron_0001": {float(t): value - abs(t - 0.3) / 10 for t in THRESHOLDS}}

    monkeypatch.setattr(trainer, "validation_dice", told)
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": [data]}
    folder = train(replace(config, evaluation_steps=2, **split))
    assert log_of(folder, "best_threshold_dice") == {2: 0.3, 4: 0.8, 6: 0.5}
    assert set(log_of(folder, "best_threshold").values()) == {0.3}
    assert log_of(folder, "dice")[4] == pytest.approx(0.78)
    kept = weights(folder)
    bias = kept.pop("decoder.classifier.bias")
    trained_bias = saved[0.8].pop("decoder.classifier.bias")
    assert same(kept, saved[0.8])
    # Scores of 0.3, the best threshold there, have become 0.5.
    assert torch.allclose(bias - trained_bias, torch.tensor([0.0, -math.log(0.3 / 0.7)]))


def test_a_loss_that_is_not_finite_stops_the_run(config, monkeypatch):
    original, calls = NeuronViT3DForSegmentation.loss_function, []

    def loss_function(self, logits, labels):
        calls.append(1)
        return original(self, logits, labels) * (math.nan if len(calls) == 4 else 1.0)

    monkeypatch.setattr(NeuronViT3DForSegmentation, "loss_function", loss_function)
    with pytest.raises(
        TrainingError, match=r"the loss became nan at step 4; the last good checkpoint is step 2 in .*"
    ):
        train(config)
    checkpoints = Path(config.output_dir) / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["step_0000002"]
    assert all(tensor.isfinite().all() for tensor in weights(checkpoints / "step_0000002").values())


def test_initialisations(config, base):
    from transformers import AutoModel

    kernel = AutoModel.from_pretrained(base).embeddings.patch_embeddings.projection.weight.detach().sum(1)
    models = {name: build_model(replace(config, initialisation=name))[0] for name in ("center", "average", "scratch")}
    patches = {name: model.encoder.patch_embedding_3d.detach()[:, 0] for name, model in models.items()}
    torch.testing.assert_close(patches["center"][:, 1], kernel)
    assert not patches["center"][:, [0, 2]].any()
    torch.testing.assert_close(patches["average"], (kernel / 3)[:, None].expand(-1, 3, -1, -1))
    assert (patches["scratch"].abs() > 0).all() and patches["scratch"].std() < 0.1
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in models.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    layer = "encoder.backbone.layers.0.mlp.fc1.weight"
    layers = {name: dict(model.named_parameters()).get(layer) for name, model in models.items()}
    assert all(tensor is not None for tensor in layers.values()), [*models["center"].state_dict()][:20]
    assert torch.equal(layers["center"], layers["average"])
    assert not torch.equal(layers["center"], layers["scratch"])


def test_pictures_statistics_of_the_2d_model_are_taken_over(config, base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "base" / "preprocessor_config.json").write_text(json.dumps(statistics))
    processor = build_model(replace(config, base_model=str(tmp_path / "base")))[1]
    assert (processor.image_mean, processor.image_std) == (pytest.approx(0.5), pytest.approx(0.2))
    assert build_model(config)[1].image_mean == 0.5


def test_a_3d_checkpoint_is_continued_from(config, tmp_path):
    first = train(config)
    config = replace(config, base_model=str(first), output_dir=str(tmp_path / "second"))
    model, processor = build_model(config)
    assert same(model.state_dict(), weights(first))
    assert processor.to_dict() == NeuronViT3DImageProcessor.from_pretrained(first).to_dict()
    second = train(config)
    assert not same(weights(second), weights(first))
    (first / "model.safetensors").write_bytes((first / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(OSError, match=r"run: .* damaged"):
        build_model(config)


def test_images_of_several_channels_need_a_choice(config, data, tmp_path):
    pair = find_pairs(data)[0]
    array = read_pair(pair).image[0]
    (tmp_path / "two").mkdir()
    write_volume(tmp_path / "two" / "a.tif", Volume(np.stack([array, array])))
    shutil.copy(pair.annotation, tmp_path / "two" / "a.swc")
    config = replace(config, train_data=[str(tmp_path / "two")], max_steps=1)
    with pytest.raises(TrainingError, match=r"a: expected 1 channel\(s\), found 2; choose one with --channel"):
        train(config)
    assert log_of(train(replace(config, channel=1)), "loss")


def test_every_weight_is_optimised_once_at_its_rate(config):
    model, _ = build_model(config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = []
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            assert group["lr"] == (1e-3 if name.startswith("encoder.") else 1e-2)
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "position_embeddings"))
            assert group["weight_decay"] == (0.05 if decays else 0.0), name
    assert sorted(seen) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_learning_rate_warms_up_and_falls_to_zero(config):
    config = replace(config, warmup_steps=4, max_steps=20)
    factors = [trainer._warmup_cosine(step, config) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5) and factors[20] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in pairwise(factors[4:]))


@pytest.mark.parametrize(
    ("option", "value"),
    [("initialisation", "random"), ("max_steps", 0), ("log_steps", 0), ("foreground_probability", 1.5)],
)
def test_options_out_of_range_are_refused(option, value, config):
    with pytest.raises(ValueError, match=f"{option} must be .*; got"):
        replace(config, **{option: value})
