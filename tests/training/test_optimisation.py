"""What learns when and how fast, by hand and in whole runs; and the moving average of the weights."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, Segmenter
from neuron_vit3d.data.pairs import find_pairs, read_pair
from neuron_vit3d.training import trainer
from neuron_vit3d.training.building import build_model
from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.optimisation import (
    DECODER,
    WeightAverage,
    drop_frozen_gradients,
    freeze_layers,
    learning_rate_factor,
    level_of,
    parameter_groups,
    quicken_off_center,
    schedule,
)
from neuron_vit3d.training.trainer import train
from neuron_vit3d.training.validation import THRESHOLDS, validation_dice
from support.tiny_runs import forget_accelerate, log_of, run_of_a_test, same, stop_at, weights


OPTIONS = TrainingConfig(output_dir="run", warmup_steps=4, max_steps=20)


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


@pytest.fixture
def model(config) -> NeuronViT3DForSegmentation:
    return build_model(config)[0]


def every_step(config: TrainingConfig) -> TrainingConfig:
    """The run with a checkpoint of each step, which tells its weights."""
    return replace(config, checkpoint_steps=1, keep_checkpoints=99)


def weights_by_step(folder) -> list[dict[str, torch.Tensor]]:
    return [weights(path) for path in sorted((Path(folder) / "checkpoints").iterdir())]


def level_of_name(name: str) -> int:
    """Of the tiny model: 0 the embeddings, 1 and 2 its layers, DECODER."""
    if not name.startswith("encoder."):
        return DECODER
    return int(name.split(".layers.")[1].split(".")[0]) + 1 if ".layers." in name else 0


def test_every_weight_is_optimised_once_at_its_rate(config, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = []
    for group in parameter_groups(model, config):
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            assert group["lr"] == (1e-3 if name.startswith("encoder.") else 1e-2)
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "position_embeddings"))
            assert group["weight_decay"] == (0.05 if decays else 0.0), name
            assert group["first_step"] == 0
    assert sorted(seen) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_lower_layers_learn_more_slowly_and_later(config, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert level_of(model) == {name: level_of_name(name) for name in names.values()}
    rate, first = {DECODER: 1e-2, 0: 1e-3 / 16, 1: 1e-3 / 4, 2: 1e-3}, {DECODER: 0, 2: 5, 1: 10, 0: 15}
    for group in parameter_groups(model, replace(config, layer_decay=0.25, unfreeze_steps=5, max_steps=30)):
        for level in {level_of_name(names[id(parameter)]) for parameter in group["params"]}:
            assert group["lr"] == pytest.approx(rate[level]) and group["first_step"] == first[level]


def test_layers_that_would_be_unfrozen_after_the_last_step_are_refused(config, model):
    config = replace(config, unfreeze_steps=40, max_steps=100)  # layers 2, 1 and the embeddings at 40, 80, 120
    with pytest.raises(TrainingError, match=r"the embeddings would learn from step 120 on, .* 100; at most 33"):
        parameter_groups(model, config)
    freeze_layers(model, replace(config, frozen_layers=1))
    assert max(group["first_step"] for group in parameter_groups(model, config)) == 40
    with pytest.raises(TrainingError, match=r"layer 2 would learn from step 100 on, .* 100; at most 99"):
        parameter_groups(model, replace(config, unfreeze_steps=100))
    freeze_layers(model, replace(config, frozen_layers=-1))
    assert {group["first_step"] for group in parameter_groups(model, config)} == {0}


@pytest.mark.parametrize(("count", "frozen"), [(0, set()), (1, {0, 1}), (2, {0, 1, 2}), (-1, {0, 1, 2})])
def test_the_lowest_layers_are_frozen(count, frozen, config, model):
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    freeze_layers(model, replace(config, frozen_layers=count))
    after = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert after == {name for name in before if level_of_name(name) not in frozen}
    optimised = parameter_groups(model, config)
    assert sum(len(group["params"]) for group in optimised) == len(after)


def test_more_frozen_layers_than_there_are_is_refused(config):
    with pytest.raises(TrainingError, match="frozen_layers must be at most the encoder's 2 layers; got 3"):
        train(replace(config, frozen_layers=3))
    assert not Path(config.output_dir).exists()


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [learning_rate_factor(step, OPTIONS) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[12] == pytest.approx(0.5) and factors[20] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in pairwise(factors[4:]))


@given(first=st.integers(1, 19), step=st.integers(0, 20))
def test_what_is_unfrozen_later_warms_up_to_where_the_others_are(first, step):
    own, others = (learning_rate_factor(step, OPTIONS, first_step) for first_step in (first, 0))
    if step < first:
        assert own == 0
    else:
        assert own == pytest.approx(others * min(1, (step - first + 1) / 5))


def test_a_schedule_is_a_function_of_the_step_alone():
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [one], "lr": 0.5, "first_step": 0}, {"params": [other], "lr": 2.0, "first_step": 3}]
    plan = schedule(torch.optim.AdamW(groups), OPTIONS)
    for step in range(20):
        expected = [0.5 * learning_rate_factor(step, OPTIONS), 2.0 * learning_rate_factor(step, OPTIONS, 3)]
        assert plan.get_last_lr() == pytest.approx(expected)
        plan.optimizer.step()
        plan.step()


def test_what_is_frozen_for_now_is_left_alone():
    """Not even decayed, though a gradient reaches it; and AdamW begins to count when it learns."""
    still, learning = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.AdamW([{"params": [still], "lr": 0.0}, {"params": [learning], "lr": 0.1}])
    for parameter in (still, learning):
        parameter.grad = torch.ones(2)
    drop_frozen_gradients(optimizer)
    optimizer.step()
    assert torch.equal(still, torch.ones(2)) and still not in optimizer.state
    assert (learning < 1).all() and optimizer.state[learning]["step"] == 1


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))


@settings(deadline=None)
@given(values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30), decay=st.sampled_from([0.1, 0.6, 0.99]))
def test_the_average_of_weights_is_that_of_its_formula(values, decay):
    model = Weights()
    average = WeightAverage(model, decay)
    expected = values[0]
    for n, value in enumerate(values):
        if n:
            keep = min(decay, (1 + n) / (10 + n))
            expected = keep * expected + (1 - keep) * value
        with torch.no_grad():
            model.weight.fill_(value)
            model.mean.fill_(2 * value)
            model.count.fill_(n)
        average.update_parameters(model)
    assert torch.allclose(average.module.weight, torch.full((2,), expected), atol=1e-4)
    assert torch.allclose(average.module.mean, torch.full((3,), 2 * expected), atol=1e-4)
    assert average.module.count == len(values) - 1
    assert not average.module.weight.requires_grad and model.weight.requires_grad


def test_frozen_layers_stay_as_they_are_to_the_bit(config):
    start = build_model(config)[0].state_dict()
    folder = train(replace(config, frozen_layers=1, max_steps=3))
    for name, tensor in weights(folder).items():
        stays = level_of_name(name) in (0, 1) or "backbone.layernorm." in name
        assert torch.equal(tensor, start[name]) == stays, name


@pytest.mark.slow
def test_layers_are_unfrozen_one_after_the_other(config):
    """The upper layer learns from step 3 on, the lower from step 5, the embeddings from step 7."""
    start = build_model(config)[0].state_dict()
    folder = train(every_step(replace(config, unfreeze_steps=2, max_steps=8)))
    steps = [start, *weights_by_step(folder)]
    first = {DECODER: 1, 2: 3, 1: 5, 0: 7}
    learning = {name for name, p in build_model(config)[0].named_parameters() if p.requires_grad}
    for name in learning:
        for step, (before, after) in enumerate(pairwise(steps), start=1):
            learns = step >= first[level_of_name(name)]
            if not learns:
                assert torch.equal(before[name], after[name]), f"{name} in step {step}"
            elif before[name].ndim > 1:
                assert not torch.equal(before[name], after[name]), f"{name} in step {step}"
    for step in (2, 4, 6, 8):
        path = Path(folder) / "checkpoints" / f"step_{step:07d}" / "optimizer.bin"
        state = torch.load(path, weights_only=True)
        for group in state["param_groups"]:
            counts = {int(state["state"][which]["step"]) for which in group["params"] if which in state["state"]}
            assert counts == ({step - group["first_step"]} if step > group["first_step"] else set())


def test_the_average_is_what_is_validated_and_saved(config, monkeypatch):
    validated = []

    def told(segmenter, volumes):
        assert not segmenter.model.training
        validated.append({name: tensor.clone() for name, tensor in segmenter.model.state_dict().items()})
        return {"neuron_0001": dict.fromkeys(THRESHOLDS, 0.1 * len(validated))}

    monkeypatch.setattr(trainer, "validation_dice", told)
    monkeypatch.setattr(trainer, "best_threshold", lambda by_volume: (0.5, by_volume["neuron_0001"][0.5]))
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": config.train_data}
    folder = train(every_step(replace(config, ema_decay=0.3, evaluation_steps=3, **split)))
    steps = weights_by_step(folder)
    expected = {name: tensor.double() for name, tensor in steps[0].items()}
    for n, now in enumerate(steps[1:], start=1):
        keep = min(0.3, (1 + n) / (10 + n))
        expected = {name: keep * tensor + (1 - keep) * now[name].double() for name, tensor in expected.items()}
        if n == 2:
            at_step_3 = expected
    for found, wanted in ((validated[0], at_step_3), (validated[1], expected), (weights(folder), expected)):
        for name, tensor in found.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor.double(), wanted[name], rtol=1e-4, atol=1e-6, msg=name)
            else:  # a batch norm's counter
                assert tensor == (3 if found is validated[0] else 6)
    assert not same(weights(folder), steps[-1])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_validation_of_an_average_computes_with_the_average(precision, config):
    """And not with the weights that it was copied from, however the model is wrapped for its precision."""
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": config.train_data}
    config = replace(config, mixed_precision=precision, ema_decay=0.5, evaluation_steps=6, **split)
    folder = train(config)
    model = NeuronViT3DForSegmentation.from_pretrained(folder)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    segmenter = Segmenter(model, processor=NeuronViT3DImageProcessor.from_pretrained(folder), dtype=dtype)
    volume = read_pair(find_pairs(config.train_data[0])[1])
    dice = validation_dice(segmenter, [volume])["neuron_0001"][0.5]
    assert dice == pytest.approx(log_of(folder, "best_threshold_dice")[6], abs=5e-3)


@pytest.mark.slow
def test_a_run_with_an_average_goes_on_to_the_bit(config, tmp_path):
    config = replace(config, ema_decay=0.9, layer_decay=0.7, unfreeze_steps=1, loss="dice_focal", skeleton_weight=0.1)
    whole = train(every_step(replace(config, output_dir=str(tmp_path / "whole"))))
    folder = train(every_step(config))
    for step in (4, 5, 6):
        for path in (folder / "checkpoints" / f"step_{step:07d}").iterdir():
            path.unlink()
        (folder / "checkpoints" / f"step_{step:07d}").rmdir()
    (folder / "model.safetensors").unlink()
    train(every_step(config))
    assert same(weights(folder), weights(whole)) and log_of(folder, "loss") == log_of(whole, "loss")
    last = Path("checkpoints", "step_0000006", "average.safetensors")
    assert same(load_file(folder / last), load_file(whole / last))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_activation_checkpointing_changes_no_result(frozen, config, tmp_path, monkeypatch):
    """Each layer is computed twice a step; also above frozen ones, whose output needs no gradient."""
    from transformers.models.vit.modeling_vit import ViTMLP

    calls, original = [], ViTMLP.forward
    monkeypatch.setattr(ViTMLP, "forward", lambda self, x: (calls.append(x.requires_grad), original(self, x))[1])
    config = replace(config, max_steps=3, frozen_layers=frozen)
    plain = train(config)
    once = len(calls)
    calls.clear()
    saving = train(replace(config, activation_checkpointing=True, output_dir=str(tmp_path / "saving")))
    assert (once, len(calls)) == (3 * 2, 3 * (4 - frozen))  # a frozen layer is computed once
    assert log_of(saving, "loss") == pytest.approx(log_of(plain, "loss"), abs=1e-5)
    for name, tensor in weights(saving).items():
        torch.testing.assert_close(tensor, weights(plain)[name], rtol=1e-3, atol=1e-4, msg=name)


# -- the embedding's kernels of the slices around the center one ------------------------------------------------------


def embedding_after(config: TrainingConfig, model: NeuronViT3DForSegmentation, steps: int) -> torch.Tensor:
    """The 3D kernel after some steps whose gradients depend on the step alone."""
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    quicken_off_center(optimizer, model, config)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return model.encoder.patch_embedding_3d.detach().clone()


def test_off_center_kernels_learn_at_their_own_rate(config):
    slow = replace(config, encoder_learning_rate=1e-3, weight_decay=0.1)
    fast = replace(slow, encoder_learning_rate=1e-2)
    own = replace(slow, off_center_learning_rate=1e-2)
    kernels = {}
    for name, options in (("slow", slow), ("fast", fast), ("own", own)):
        torch.manual_seed(0)
        kernels[name] = embedding_after(options, build_model(options)[0], steps=1)
    center = kernels["own"].shape[2] // 2
    around = [z for z in range(kernels["own"].shape[2]) if z != center]
    torch.testing.assert_close(kernels["own"][:, :, around], kernels["fast"][:, :, around])
    torch.testing.assert_close(kernels["own"][:, :, center], kernels["slow"][:, :, center], rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_with_a_rate_of_its_own_goes_on_where_it_was(config, monkeypatch):
    config = replace(config, off_center_learning_rate=0.05)
    whole = weights(train(replace(config, output_dir=f"{config.output_dir}_whole")))
    forget_accelerate()
    with monkeypatch.context() as interrupted:
        stop_at(interrupted, block=7)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    forget_accelerate()
    assert same(weights(train(config)), whole)
