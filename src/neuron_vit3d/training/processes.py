"""Lets many processes train as one: sums and batch statistics are those of the global batch, on GPUs and CPUs."""

from __future__ import annotations

import os

import torch
from torch import nn

from .config import TrainingError


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sums a tensor over all processes, with gradients; returns the tensor itself where there is one process.

    A loss made of such sums has the same value in every process, and each process's gradient of it holds the number of
    processes times its own part: DistributedDataParallel's mean over processes is then the gradient of the global
    batch.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return tensor
    return _SumOverProcesses.apply(tensor)


class _SumOverProcesses(torch.autograd.Function):
    """A sum of which each process has a copy. The gradient of a summand comes from all copies."""

    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Gives the model batch norms that normalise by the global batch, not by each process's share of it.

    On GPUs these are torch's own, which do not work on CPUs.
    """
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SynchronisedBatchNorm2d
    return model


class _SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose mean and variance are taken over all processes; the same parameters, buffers and results."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        axes, values = (0, 2, 3), x.to(torch.promote_types(x.dtype, torch.float32))
        # One message: the sums, and how many values they are of.
        sums = torch.stack([values.sum(axes), torch.full_like(self.weight, values[:, 0].numel())])
        sums = sum_over_processes(sums)
        mean, count = sums[0] / sums[1], sums[1, 0].detach()
        centered = values - mean.view(1, -1, 1, 1)
        variance = sum_over_processes(centered.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centered * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)


def refuse_lone_process(num_processes: int) -> None:
    """Raises TrainingError where a launcher was asked for many processes on the CPU but started only this one.

    `accelerate launch --cpu --num_processes 2` does so without a word (accelerate 1.15). It sets the address at which
    the processes would meet, but none of the variables that number them.
    """
    asked = os.environ.get("MASTER_ADDR") and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if num_processes == 1 and asked and "WORLD_SIZE" not in os.environ:
        raise TrainingError(
            "accelerate launch was asked for several processes on the CPU, but starts only one there: use "
            "`ACCELERATE_USE_CPU=true torchrun --nproc_per_node N -m neuron_vit3d train ...`"
        )
