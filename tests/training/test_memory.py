"""Running out of memory ends in advice; every other error stays what it is."""

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from neuron_vit3d.model.modeling_neuron_vit3d import NeuronViT3DForSegmentation
from neuron_vit3d.training import trainer
from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.losses import SegmentationLoss
from neuron_vit3d.training.memory import advice, memory_advice, told_of_workers
from neuron_vit3d.training.trainer import train
from neuron_vit3d.volumes import VolumeError
from support.tiny_runs import run_of_a_test


PLAIN = TrainingConfig(output_dir="run", mixed_precision="no", batch_size=8, gradient_accumulation_steps=3)
CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


def failing_with(error: Exception):
    def fail(*_, **__):
        raise error

    return fail


def test_advice_is_what_the_run_does_not_do_yet():
    words = "; ".join(advice(PLAIN))
    for told in (
        "--activation-checkpointing true",
        "--mixed-precision bf16",
        "--batch-size 4 --gradient-accumulation-steps 6",
        "a smaller --tile-size than 224",
    ):
        assert told in words
    thrifty = replace(PLAIN, activation_checkpointing=True, mixed_precision="bf16", batch_size=1)
    assert advice(thrifty) == ["a smaller --tile-size than 224, or a smaller --base-model"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(CPU_ALLOCATOR),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("place", [(SegmentationLoss, "__call__"), (NeuronViT3DForSegmentation, "forward")])
def test_a_step_without_memory_ends_in_advice(place, error, config, monkeypatch):
    monkeypatch.setattr(*place, failing_with(error))
    with pytest.raises(
        TrainingError, match=r"out of memory in a step; --activation-checkpointing true .*; or "
    ) as raised:
        train(config)
    assert raised.value.__cause__ is error and str(error) in str(raised.value)


def test_a_real_allocation_that_is_too_large_is_understood():
    with pytest.raises(TrainingError, match="out of memory"), memory_advice(PLAIN, "a step"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), KeyError("x"), TrainingError("y")])
def test_other_errors_pass_through_untouched(error, config, monkeypatch):
    monkeypatch.setattr(SegmentationLoss, "__call__", failing_with(error))
    with pytest.raises(type(error)) as raised:
        train(config)
    assert raised.value is error


def test_validation_without_memory_ends_in_advice(config, monkeypatch):
    monkeypatch.setattr(trainer, "validation_dice", failing_with(torch.OutOfMemoryError("CUDA out of memory")))
    split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"], "validation_data": config.train_data}
    with pytest.raises(TrainingError, match=r"out of memory in validation; a smaller --tile-size than 32, or"):
        train(replace(config, max_steps=1, mixed_precision="bf16", **split))


class Blocks(torch.utils.data.Dataset):
    """Of which some cannot be prepared."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            if self.error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise self.error
        return torch.zeros(1)


@pytest.fixture
def logging_is_free():
    """Tells of a test that left the lock of `logging` held, and replaces the lock.

    A worker that dies raises its error in the middle of whatever runs, so also where `logging` is about to give its
    lock back; a later test would wait for it for ever, in a thread of zarr's.
    """
    yield
    found = []
    thread = threading.Thread(target=_try_the_lock, args=(found,))
    thread.start()
    thread.join()
    if not found:
        warnings.warn(f"this test left the lock of logging held: {logging._lock!r}", stacklevel=1)
        logging._lock = threading.RLock()


def _try_the_lock(found: list) -> None:
    if logging._lock.acquire(timeout=5):
        logging._lock.release()
        found.append(True)


@pytest.mark.usefixtures("logging_is_free")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, r"a process that prepares blocks died, or had no memory left; fewer --num-workers .*"),
        (MemoryError(), r"a process that prepares blocks died, or had no memory left; fewer --num-workers .*"),
        (VolumeError("a.tif: plane 7 ends beyond the file"), r"a\.tif: plane 7 ends beyond the file"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_in_a_line(error, told):
    loader = torch.utils.data.DataLoader(Blocks(error), batch_size=1, num_workers=1)
    message = ""
    try:
        list(told_of_workers(loader))
    except TrainingError as failure:
        message = str(failure)
    # With the error its frames go, and with them the loader's workers: while torch knows of a dead one, any signal of
    # a child raises its error anew, in the middle of whatever runs.
    assert re.fullmatch(told, message)


def test_a_mistake_of_the_program_in_a_worker_stays_what_it_is():
    loader = torch.utils.data.DataLoader(Blocks(RuntimeError("shapes differ")), batch_size=1, num_workers=1)
    with pytest.raises(RuntimeError, match="shapes differ") as caught:
        list(told_of_workers(loader))
    assert not isinstance(caught.value, TrainingError)


def test_volumes_that_do_not_fit_into_memory_are_told_of(config, monkeypatch):
    monkeypatch.setattr(trainer, "read_data", failing_with(MemoryError()))
    with pytest.raises(TrainingError, match=r"out of memory while the volumes were read; .* \(--dataset\)"):
        train(config)
