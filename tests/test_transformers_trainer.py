"""transformers' Trainer trains the model, and goes the same way as the project's own loop on the same batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from tiny_models import TILE, tiny_block, tiny_model
from tiny_runs import forget_accelerate, log_of, save_base, save_data, tiny_run
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForSemanticSegmentation, Trainer, TrainingArguments

from neuron_vit3d.data.bigneuron import find_pairs, read_pair
from neuron_vit3d.data.sampling import BlockDataset
from neuron_vit3d.training.trainer import _warmup_cosine, build_model, parameter_groups, train


@pytest.fixture(autouse=True)
def fresh_state():
    forget_accelerate()
    yield
    forget_accelerate()


class InOrder(Trainer):
    """Trainer with the batches in the order of the data set, as the project's loop takes them."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def arguments(folder, **changes) -> TrainingArguments:
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "max_steps": 6,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "max_grad_norm": 1.0,
    }
    return TrainingArguments(**{**options, **changes})


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_reaches_the_same_losses_as_the_projects_own_loop(accumulation, tmp_path):
    config = tiny_run(save_base(tmp_path / "base"), save_data(tmp_path / "data"), tmp_path / "own")
    config = replace(config, gradient_accumulation_steps=accumulation)
    train(config)
    own = log_of(config.output_dir, "loss")

    forget_accelerate()
    set_seed(config.seed)
    model, processor = build_model(config)
    dataset = BlockDataset(
        [read_pair(pair) for pair in find_pairs(config.train_data[0])],
        processor,
        length=config.max_steps * config.batch_size * accumulation,
        tile_size=config.tile_size,
        foreground_probability=config.foreground_probability,
        seed=config.seed,
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    schedule = LambdaLR(optimizer, lambda step: _warmup_cosine(step, config))
    trainer = InOrder(
        model=model,
        args=arguments(tmp_path / "theirs", gradient_accumulation_steps=accumulation, seed=config.seed),
        train_dataset=dataset,
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    theirs = {line["step"]: line["loss"] for line in trainer.state.log_history if "loss" in line}
    assert list(theirs) == list(own) == [1, 2, 3, 4, 5, 6]
    assert max(own.values()) - min(own.values()) > 1e-3  # they move
    differences = [abs(theirs[step] - own[step]) for step in own]
    print(f"largest difference of {len(own)} losses: {max(differences):.1e}")
    assert max(differences) < 1e-5


class Blocks(torch.utils.data.Dataset):
    """Four random blocks whose bright voxels are the neuron."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        block = tiny_block(seed=index, batch=1)[0]
        return {"pixel_values": block, "labels": (block[0, 1:2] > 1).long()}


def test_it_evaluates_predicts_and_saves_what_loads_anywhere(tmp_path):
    trainer = Trainer(
        model=tiny_model(),
        args=arguments(tmp_path / "run", max_steps=2),
        train_dataset=Blocks(),
        eval_dataset=Blocks(),
        compute_metrics=lambda outputs: {
            "accuracy": float((outputs.predictions.argmax(1) == outputs.label_ids).mean())
        },
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert np.isfinite(metrics["eval_loss"]) and 0 <= metrics["eval_accuracy"] <= 1
    predictions = trainer.predict(Blocks())
    assert predictions.predictions.shape == (4, 2, 1, TILE, TILE)
    assert predictions.label_ids.shape == (4, 1, TILE, TILE)

    trainer.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "modeling_neuron_vit3d.py").exists()
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        logits = torch.cat([again(Blocks()[index]["pixel_values"][None]).logits for index in range(4)])
    np.testing.assert_allclose(predictions.predictions, logits.numpy(), atol=1e-5)
