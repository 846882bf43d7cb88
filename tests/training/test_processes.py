"""Many processes as one: batch norm over all of them, sums, and the launcher that starts one only.

What two processes learn together is compared with one in test_train_script.py.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuron_vit3d.training import processes
from neuron_vit3d.training.config import TrainingError
from neuron_vit3d.training.processes import refuse_lone_process, sum_over_processes, synchronise_batch_norm


CPU = torch.device("cpu")


def batch_norm(channels: int, seed: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    generator = torch.Generator().manual_seed(seed)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_(generator=generator)
    return norm


def test_one_process_sums_nothing():
    tensor = torch.ones(3, requires_grad=True)
    assert sum_over_processes(tensor) is tensor


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    side=st.integers(2, 5),
    scale=st.sampled_from([1e-2, 1.0, 100.0]),
)
def test_batch_norm_of_one_process_is_that_of_torch(seed, batch, channels, side, scale):
    """Results, gradients, running statistics; in training and in evaluation."""
    theirs = batch_norm(channels, seed)
    ours = synchronise_batch_norm(copy.deepcopy(theirs), CPU)
    assert type(ours) is not nn.BatchNorm2d and ours.state_dict().keys() == theirs.state_dict().keys()
    x = scale * torch.randn(batch, channels, side, side + 1, generator=torch.Generator().manual_seed(seed)) + 3 * scale
    found = []
    for norm in (ours, theirs):
        values = x.clone().requires_grad_()
        result = norm(values)
        (result * torch.arange(result.numel()).view_as(result).sin()).sum().backward()
        found.append([result, values.grad * scale, norm.weight.grad, norm.bias.grad])
        found[-1] += [norm.running_mean / scale, norm.running_var / scale**2, norm.num_batches_tracked.float()]
        norm.eval()
        found[-1].append(norm(x))
        norm.train()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_batch_norm_of_two_processes_is_that_of_their_batches_together(monkeypatch):
    """Processes of different shares, one after the other; sums are those of a batch that was looked at before."""
    theirs = batch_norm(3, 0)
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    shares = [x[:2], x[2:]]
    mean = x.mean((0, 2, 3), keepdim=True)
    whole = [
        torch.stack([x.sum((0, 2, 3)), torch.full((3,), x[:, 0].numel())]),
        (x - mean).square().sum((0, 2, 3)),
    ]
    found = []
    for share in shares:
        ours, asked = synchronise_batch_norm(copy.deepcopy(theirs), CPU), []

        def total(sums, asked=asked):
            asked.append(sums)
            return whole[len(asked) - 1]

        monkeypatch.setattr(processes, "sum_over_processes", total)
        found.append(ours(share))
        assert len(asked) == 2 and asked[0][1].tolist() == [share[:, 0].numel()] * 3
    torch.testing.assert_close(torch.cat(found), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)


def test_half_precision_goes_in_and_out(monkeypatch):
    ours = synchronise_batch_norm(batch_norm(2, 0), CPU)
    x = torch.randn(2, 2, 4, 4).bfloat16()
    assert ours(x).dtype is torch.bfloat16 and ours.running_mean.dtype is torch.float32


def test_on_other_devices_it_is_torchs_own():
    model = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2), nn.LayerNorm(2)), torch.device("meta"))
    assert [type(layer) for layer in model] == [nn.SyncBatchNorm, nn.LayerNorm]


@pytest.mark.parametrize(
    ("environment", "count", "refused"),
    [
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "True"}, 1, True),
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}, 1, True),
        ({"ACCELERATE_USE_CPU": "True"}, 1, False),  # accelerate launch with one process
        ({"MASTER_ADDR": "127.0.0.1"}, 1, False),  # a cluster's
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "False"}, 1, False),
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "1"}, 1, False),  # torchrun with one
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}, 2, False),
    ],
)
def test_a_lone_process_of_many_is_refused(environment, count, refused, monkeypatch):
    for name in ("MASTER_ADDR", "ACCELERATE_USE_CPU", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not refused:
        return refuse_lone_process(count)
    with pytest.raises(TrainingError, match="ACCELERATE_USE_CPU=true torchrun --nproc_per_node N"):
        refuse_lone_process(count)
