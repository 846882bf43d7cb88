"""transformers' own Trainer trains the model, and arrives where the Accelerate loop of this package does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Subset
from transformers import AutoModelForSemanticSegmentation, Trainer, TrainingArguments

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from neuron_vit3d.data.pairs import find_pairs, read_pair
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.model.configuration_neuron_vit3d import AUTO_MAP
from neuron_vit3d.training.building import build_model
from neuron_vit3d.training.optimisation import learning_rate_factor, parameter_groups
from neuron_vit3d.training.trainer import train
from support.tiny_runs import forget_accelerate, log_of, save_base, save_data, tiny_run, weights


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("files")
    return SimpleNamespace(data=save_data(folder / "data"), base=save_base(folder / "base"))


@pytest.fixture
def config(files, tmp_path) -> Iterator:
    forget_accelerate()
    yield tiny_run(files.base, files.data, tmp_path / "own")
    forget_accelerate()


def as_trainer(config, folder: Path, **changes) -> Trainer:
    """transformers' Trainer, told what the Accelerate loop is told by `config`."""
    set_seed(config.seed)
    model, processor = build_model(config)
    blocks = BlockDataset(
        [read_pair(pair) for pair in find_pairs(config.train_data[0])],
        processor,
        length=config.max_steps * config.batch_size * config.gradient_accumulation_steps,
        tile_size=config.tile_size,
        foreground_probability=config.foreground_probability,
        seed=config.seed,
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    options = {
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "max_grad_norm": config.gradient_clipping,
        "train_sampling_strategy": "sequential",  # the blocks are random already
        "seed": config.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**options, **changes}),
        train_dataset=blocks,
        eval_dataset=Subset(blocks, range(4)),
        processing_class=processor,
        optimizers=(optimizer, LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))),
    )


def losses_of(trainer: Trainer) -> dict[int, float]:
    """step -> loss."""
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


# -- two loops, one run ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_trainer_and_the_own_loop_have_the_same_loss_at_every_step_and_end_at_the_same_weights(
    accumulated, config, tmp_path
):
    config = replace(config, gradient_accumulation_steps=accumulated)
    own = log_of(train(config), "loss")
    forget_accelerate()
    trainer = as_trainer(config, tmp_path / "trainer")
    trainer.train()
    theirs = losses_of(trainer)
    assert list(own) == list(theirs) == [1, 2, 3, 4, 5, 6]
    assert max(own.values()) - min(own.values()) > 1e-3  # they move
    assert max(abs(own[step] - theirs[step]) for step in own) < 1e-5
    trainer.save_model()
    ours, saved = weights(config.output_dir), weights(tmp_path / "trainer")
    assert ours.keys() == saved.keys()
    for key, tensor in ours.items():
        torch.testing.assert_close(saved[key], tensor, atol=1e-5, rtol=0, msg=key)


@pytest.mark.slow
def test_accumulated_batches_weigh_as_one_step_of_their_mean(config, tmp_path):
    # Trainer divides by the batches itself unless a model says that its loss is a sum over `num_items_in_batch`.
    first = {}
    for accumulated in (1, 2):
        trainer = as_trainer(replace(config, gradient_accumulation_steps=accumulated), tmp_path / str(accumulated))
        assert not trainer.model_accepts_loss_kwargs
        trainer.train()
        first[accumulated] = trainer.state.log_history[0]
    set_seed(config.seed)
    model = as_trainer(config, tmp_path / "by_hand").model.train()
    blocks = as_trainer(replace(config, gradient_accumulation_steps=2), tmp_path / "blocks").train_dataset
    losses = []
    for start in (0, 2):
        batch = [blocks[start], blocks[start + 1]]
        losses.append(
            model(
                **{key: torch.from_numpy(np.stack([b[key] for b in batch])) for key in ("pixel_values", "labels")}
            ).loss
        )
    torch.stack(losses).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf")).item()
    assert first[1]["loss"] == pytest.approx(losses[0].item(), abs=1e-5)
    assert first[2]["loss"] == pytest.approx(sum(loss.item() for loss in losses) / 2, abs=1e-5)
    assert first[2]["grad_norm"] == pytest.approx(norm, abs=1e-4)


# -- what else Trainer does ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_trainer_learns(config, tmp_path):
    config = replace(config, max_steps=40, learning_rate=2e-2)
    trainer = as_trainer(config, tmp_path)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.8 * before


def test_evaluate_is_the_mean_loss_of_the_batches_and_passes_logits_to_the_metrics(config, tmp_path):
    trainer, seen = as_trainer(config, tmp_path), {}

    def accuracy(prediction) -> dict:
        seen.update(logits=prediction.predictions, labels=prediction.label_ids)
        valid = prediction.label_ids != 255
        return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids)[valid].mean())}

    trainer.compute_metrics = accuracy
    metrics = trainer.evaluate()
    model, blocks = trainer.model.eval(), [trainer.eval_dataset[index] for index in range(4)]
    batch = {key: torch.from_numpy(np.stack([block[key] for block in blocks])) for key in blocks[0]}
    with torch.no_grad():
        halves = [model(batch["pixel_values"][each], batch["labels"][each]) for each in (slice(0, 2), slice(2, 4))]
    assert metrics["eval_loss"] == pytest.approx(np.mean([half.loss.item() for half in halves]), abs=1e-6)
    np.testing.assert_allclose(seen["logits"], torch.cat([half.logits for half in halves]), atol=1e-5)
    np.testing.assert_array_equal(seen["labels"], batch["labels"])
    assert 0 <= metrics["eval_accuracy"] <= 1


def test_predict_returns_logits_and_hidden_states_where_the_config_asks_for_them(config, tmp_path):
    trainer = as_trainer(config, tmp_path)
    prediction = trainer.predict(Subset(trainer.train_dataset, range(5)))
    assert prediction.predictions.shape == (5, 2, 1, 32, 32)
    assert prediction.label_ids.shape == (5, 1, 32, 32) and "test_loss" in prediction.metrics
    trainer.model.config.output_hidden_states = True
    logits, hidden_states = trainer.predict(Subset(trainer.train_dataset, range(5))).predictions
    np.testing.assert_allclose(logits, prediction.predictions, atol=1e-5)
    assert [state.shape for state in hidden_states] == [(5, 17, 32)] * 3


def test_predict_needs_no_labels(config, tmp_path):
    trainer = as_trainer(config, tmp_path)
    unlabelled = [{"pixel_values": trainer.train_dataset[index]["pixel_values"]} for index in range(3)]
    prediction = trainer.predict(unlabelled)
    assert prediction.predictions.shape == (3, 2, 1, 32, 32)
    assert prediction.label_ids is None and "test_loss" not in prediction.metrics


def test_save_model_leaves_a_whole_checkpoint(config, tmp_path):
    trainer = as_trainer(config, tmp_path)
    trainer.save_model()
    written = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= written
    for entry in AUTO_MAP.values():
        assert f"{entry.split('.')[0]}.py" in written
    assert {"modeling_neuron_vit3d.py", "decoder.py", "loss.py", "backbones.py", "inflation.py"} <= written
    again = NeuronViT3DForSegmentation.from_pretrained(tmp_path)
    assert NeuronViT3DImageProcessor.from_pretrained(tmp_path).to_dict() == trainer.processing_class.to_dict()
    assert type(AutoModelForSemanticSegmentation.from_pretrained(tmp_path)) is type(again)
    state = trainer.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.state_dict().items())
    blocks, predictions = trainer.eval_dataset, trainer.predict(trainer.eval_dataset).predictions
    with torch.no_grad():
        logits = again(torch.from_numpy(np.stack([blocks[index]["pixel_values"] for index in range(4)]))).logits
    np.testing.assert_allclose(predictions, logits, atol=1e-5)


@pytest.mark.slow
def test_interrupted_trainer_goes_on_from_its_checkpoint_to_the_same_weights(config, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3}
    as_trainer(config, tmp_path / "whole", **options).train()
    parts = as_trainer(config, tmp_path / "parts", **options)
    parts.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    whole = load_file(tmp_path / "whole" / "checkpoint-6" / "model.safetensors")
    ended = load_file(tmp_path / "parts" / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(tensor, whole[key]) for key, tensor in ended.items()) and len(ended) == len(whole)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["activation_checkpointing", "bf16"])
def test_options_that_save_memory_train_nearly_the_same(option, config, tmp_path):
    losses = []
    for changes in ({}, {option: True}):
        trainer = as_trainer(config, tmp_path / str(len(losses)), **changes)
        trainer.train()
        losses.append(np.array(list(losses_of(trainer).values())))
        forget_accelerate()
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-5 if option == "activation_checkpointing" else 0.02)
