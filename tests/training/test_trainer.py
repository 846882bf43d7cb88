"""The training loop: it learns, goes on where it was interrupted, and refuses what cannot be right."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, Volume, write_volume
from neuron_vit3d.data.pairs import DataError, find_pairs, read_pair
from neuron_vit3d.model.loading import CheckpointError
from neuron_vit3d.training import trainer
from neuron_vit3d.training.config import TrainingConfig
from neuron_vit3d.training.losses import SegmentationLoss
from neuron_vit3d.training.trainer import TrainingError, train
from neuron_vit3d.training.validation import THRESHOLDS
from support.tiny_models import save_2d
from support.tiny_runs import hidden, log_of, run_of_a_test, same, save_base, stop_at, weights


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


@pytest.fixture
def data(config) -> str:
    return config.train_data[0]


@pytest.fixture
def base(config) -> str:
    return config.base_model


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
    assert not hidden(folder)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(config, monkeypatch, tmp_path):
    """Two batches a step, with dropout; interrupted in the middle of step 6, two steps after a checkpoint, and once
    more."""
    base = str(save_2d(tmp_path / "dropout", num_hidden_layers=2, hidden_dropout_prob=0.2))
    config = replace(config, base_model=base, gradient_accumulation_steps=2, max_steps=8, checkpoint_steps=3)
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


@pytest.mark.slow
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
        patch.setattr(os, "replace", lambda a, b: killed(a, b) if "step_0000004" in str(b) else original(a, b))
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
    (folder / "checkpoints" / "step_0000002").mkdir(parents=True)
    with pytest.raises(TrainingError, match=rf"run: holds another run \({message}\)"):
        train(replace(config, **change))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "training_config.json"]


def test_a_model_that_no_run_left_is_not_written_over(config):
    folder = Path(config.output_dir)
    save_base(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for base in (config.base_model, str(folder)):
        with pytest.raises(TrainingError, match=r"run: holds model\.safetensors and no training_config\.json"):
            train(replace(config, base_model=base))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("change", ["labels", "gone"])
def test_other_data_under_the_same_options_are_noticed(change, config, data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 7)
        train(config)
    first, second = find_pairs(data)
    if change == "labels":
        shutil.copy(first.annotation, second.annotation)
        complaint = "another image or other labels of the training volume neuron_0001"
    else:
        second.annotation.unlink()
        complaint = "2 training volumes then, 1 now"
    with pytest.raises(TrainingError, match=rf"run: holds a run with other data \({complaint}\)"):
        train(config)


def test_a_run_that_has_learned_nothing_may_be_begun_again_with_other_options(config, monkeypatch):
    """As the advice for too little memory says."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 0)
        train(config)
    folder = train(replace(config, batch_size=1, max_steps=2))
    assert json.loads((folder / "training_config.json").read_text())["batch_size"] == 1
    assert set(log_of(folder, "loss")) == {1, 2}


def test_what_does_not_change_the_result_may_change(config):
    earlier = json.loads(json.dumps(asdict(config)))
    del earlier["ema_decay"]  # the run of a version that did not know it
    assert replace(config, ema_decay=0.9).difference(earlier) == "ema_decay was 0.0 and is 0.9 now"
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


@pytest.mark.slow
def test_it_stops_where_validation_gets_no_better(config, data, monkeypatch):
    """Two validations without a better one: step 4 is the best, steps 6 and 8 are not. Killed after step 6, too."""
    dice = {2: 0.3, 4: 0.8, 6: 0.5, 8: 0.8, 10: 0.9}
    seen, at = [], {}

    def told(segmenter, volumes):
        seen.append(2 * len(seen) + 2)
        at[seen[-1]] = {key: tensor.clone() for key, tensor in segmenter.model.state_dict().items()}
        return {"neuron_0001": dict.fromkeys(THRESHOLDS, dice[seen[-1]])}

    monkeypatch.setattr(trainer, "validation_dice", told)
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": [data]}
    config = replace(config, max_steps=20, evaluation_steps=2, early_stopping=2, checkpoint_steps=3, **split)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 15)  # of step 8, asked for before step 7; step 6 is the checkpoint
        train(config)
    folder = train(config)
    assert seen == [2, 4, 6, 8] and list(log_of(folder, "loss")) == list(range(1, 9))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_0000006", "step_0000008"]
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    stop_at(monkeypatch, 16)
    train(config)
    assert seen == [2, 4, 6, 8]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    best = weights(folder)
    assert best.keys() == at[4].keys()
    assert all(torch.equal(best[key], at[4][key]) for key in best if key != "decoder.classifier.bias")


def test_early_stopping_without_validation_data_is_refused(config):
    with pytest.raises(TrainingError, match="early_stopping: expected validation data to stop by, got none"):
        train(replace(config, early_stopping=1))
    assert not Path(config.output_dir).exists()


@pytest.mark.parametrize("what", ["the loss became nan", "the gradients were not finite"])
def test_what_is_not_finite_stops_the_run_and_names_its_blocks(what, config, monkeypatch):
    original, calls = SegmentationLoss.__call__, []

    def loss(self, logits, labels):
        calls.append(1)
        value = original(self, logits, labels)
        if len(calls) < 4:
            return value
        # A root has the value 0 and no finite slope at 0.
        return value * math.nan if "loss" in what else value + (logits.sum() * 0).sqrt()

    monkeypatch.setattr(SegmentationLoss, "__call__", loss)
    with pytest.raises(TrainingError) as raised:
        train(config)
    found = re.fullmatch(
        what + r" at step 4; the last good checkpoint is step 2 in .*checkpoints. Its blocks: (.*)",
        str(raised.value),
    )
    blocks = found[1].split("; ")
    assert len(blocks) == 2 and blocks[0] != blocks[1]
    assert all(re.fullmatch(r"neuron_000[01], slice \d, tile of \d+ from y -?\d+, x -?\d+", block) for block in blocks)
    checkpoints = Path(config.output_dir) / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["step_0000002"]
    assert all(tensor.isfinite().all() for tensor in weights(checkpoints / "step_0000002").values())


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


@pytest.mark.parametrize(
    ("option", "value"),
    [("initialisation", "random"), ("max_steps", 0), ("log_steps", 0), ("foreground_probability", 1.5)],
)
def test_options_out_of_range_are_refused(option, value, config):
    with pytest.raises(ValueError, match=f"{option} must be .*; got"):
        replace(config, **{option: value})
