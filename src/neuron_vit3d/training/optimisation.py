"""Decides what learns how fast: parameter groups, their learning rates, and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch.optim.swa_utils import AveragedModel

from ..model import NeuronViT3DForSegmentation
from .config import TrainingConfig, TrainingError


DECODER = -1  # level of what is not the encoder's


def freeze_layers(model: NeuronViT3DForSegmentation, config: TrainingConfig) -> None:
    """Freezes the embeddings and the lowest `frozen_layers` of the encoder; -1 freezes all of it.

    Raises:
        TrainingError: the encoder has fewer layers.
    """
    count, depth = config.frozen_layers, len(model.encoder.layers)
    if count > depth:
        raise TrainingError(f"frozen_layers must be at most the encoder's {depth} layers; got {count}")
    if count:
        highest, levels = depth if count < 0 else count, level_of(model)
        for name, parameter in model.named_parameters():
            if DECODER < levels[name] <= highest:
                parameter.requires_grad_(False)


def level_of(model: NeuronViT3DForSegmentation) -> dict[str, int]:
    """Maps each parameter's name to its level: 0 for embeddings, 1 for the encoder's lowest layer, ...; `DECODER`."""
    levels = {id(p): number for number, layer in enumerate(model.encoder.layers, 1) for p in layer.parameters()}
    return {
        name: levels.get(id(parameter), 0) if name.startswith("encoder.") else DECODER
        for name, parameter in model.named_parameters()
    }


def parameter_groups(model: NeuronViT3DForSegmentation, config: TrainingConfig) -> list[dict]:
    """Makes AdamW's groups, one for each level.

    The encoder learns at its lower rate, which falls by `layer_decay` from layer to layer downwards (Clark et al.
    2020, ELECTRA; Bao et al. 2021, BEiT); weight decay acts on matrices and kernels only.

    Raises:
        TrainingError: `unfreeze_steps` is so large that the lowest layers that are not frozen would never learn.
    """
    levels = level_of(model)
    groups: dict[tuple[int, bool], list] = {}
    top = max(model.config.out_indices)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(("_token", "position_embeddings"))
            groups.setdefault((levels[name], decays), []).append(parameter)
    lowest = min((level for level, _ in groups if level != DECODER), default=top + 1)
    steps_up = top - lowest + 1
    if config.unfreeze_steps * steps_up >= config.max_steps:
        raise TrainingError(
            f"unfreeze_steps: {f'layer {lowest}' if lowest else 'the embeddings'} would learn from step "
            f"{config.unfreeze_steps * steps_up} on, after the last of {config.max_steps}; at most "
            f"{(config.max_steps - 1) // steps_up}"
        )
    return [
        {
            "params": parameters,
            "lr": config.learning_rate
            if level == DECODER
            else config.encoder_learning_rate * config.layer_decay ** (top - level),
            "weight_decay": config.weight_decay if decays else 0.0,
            # Gradual unfreezing (Howard & Ruder 2018, ULMFiT, 3.3): the layers from above, at last the embeddings.
            "first_step": 0 if level == DECODER else config.unfreeze_steps * (top - level + 1),
        }
        for (level, decays), parameters in groups.items()
    ]


def quicken_off_center(optimizer: torch.optim.Optimizer, model: NeuronViT3DForSegmentation, config: TrainingConfig):
    """Lets the embedding's kernels of all slices but the center one learn at their own rate.

    All kernels are one tensor, for which an optimiser has one rate. So after each step the change of these kernels is
    multiplied by the ratio of the rates. AdamW would do the same, since its step and its weight decay are in
    proportion to the rate.

    After center inflation these kernels are 0, and at the encoder's rate they stay near 0: a trained center kernel had
    a norm of 26, its neighbours 0.3 to 0.4, and accuracy without the neighbours was better.
    """
    rate, own = config.encoder_learning_rate, config.off_center_learning_rate
    kernel = model.get_input_embeddings().weight
    if not own or own == rate or not rate or not kernel.requires_grad:
        return
    before = torch.empty_like(kernel, requires_grad=False)
    slices = torch.arange(kernel.shape[1], device=kernel.device) % model.config.num_slices
    off_center = slices != model.config.num_slices // 2

    @torch.no_grad()
    def keep(*_) -> None:
        before.copy_(kernel)

    @torch.no_grad()
    def enlarge(*_) -> None:
        change = kernel[:, off_center] - before[:, off_center]
        kernel[:, off_center] += (own / rate - 1) * change

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(enlarge)


def schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> torch.optim.lr_scheduler.LambdaLR:
    """Returns the learning rates of all groups; they depend on the step alone, so that a run can be continued."""

    def factor_of(first_step: int):
        return lambda step: learning_rate_factor(step, config, first_step)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor_of(g["first_step"]) for g in optimizer.param_groups])


def learning_rate_factor(step: int, config: TrainingConfig, first_step: int = 0) -> float:
    """Returns the learning rate's factor: linear from 0 to 1 over the warm-up, then a cosine to 0 at the last step.

    A group that is frozen until `first_step` has the rate 0 until then, and then warms up to the rate of the others.
    """
    if step < first_step:
        return 0.0
    own = 1.0
    if first_step:
        own = min(1.0, (step - first_step + 1) / (config.warmup_steps + 1))
    if step < config.warmup_steps:
        return own * (step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
    return own * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def drop_frozen_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Removes the gradients of groups whose rate is 0, so that AdamW changes neither them nor its moments of them."""
    for group in optimizer.param_groups:
        if group["lr"] == 0.0:
            for parameter in group["params"]:
                parameter.grad = None


class WeightAverage(AveragedModel):
    """Exponential moving average of weights and buffers (Polyak & Juditsky 1992).

    The decay grows to `decay` over the first steps, (1 + n) / (10 + n) after n, so that the average does not keep the
    untrained beginning.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
            if not averaged[0].is_floating_point():  # a batch norm's counter
                torch._foreach_copy_(averaged, current)
                return
            n = int(count)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(model, multi_avg_fn=average, use_buffers=True)
        self.requires_grad_(False)
