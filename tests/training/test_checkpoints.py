"""Checkpoints: whole or not at all, the last few kept; what is damaged or another run's is refused in words."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from neuron_vit3d import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from neuron_vit3d.training import checkpoints
from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.trainer import train
from support import processes
from support.places import REPOSITORY
from support.tiny_runs import forget_accelerate, hidden, log_of, run_of_a_test, same, stop_at, weights


SCRIPT = REPOSITORY / "scripts" / "train.py"
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
TORCH_SAYS = RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 4864 vs 4758")


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path) as options:
        yield options


@pytest.fixture
def stopped(config, monkeypatch) -> TrainingConfig:
    """Stopped after the checkpoint of step 2; it keeps an average of the weights."""
    config = replace(config, ema_decay=0.9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 7)
        train(config)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[TrainingConfig]:
    with run_of_a_test(tmp_path_factory.mktemp("trained")) as options:
        config = replace(options, ema_decay=0.9)
        train(config)
        forget_accelerate()
        yield config


@pytest.fixture
def finished(trained, tmp_path) -> Iterator[TrainingConfig]:
    """A finished run, to do harm to."""
    shutil.copytree(trained.output_dir, tmp_path / "run")
    yield replace(trained, output_dir=str(tmp_path / "run"))
    forget_accelerate()


def names_in(config: TrainingConfig) -> list[str]:
    """Of the checkpoints, with what is half-written."""
    return sorted(path.name for path in (Path(config.output_dir) / "checkpoints").iterdir())


def latest(config: TrainingConfig) -> Path:
    return Path(config.output_dir) / "checkpoints" / names_in(config)[-1]


def ends_as_uninterrupted(config: TrainingConfig, folder: Path) -> bool:
    whole = train(replace(config, output_dir=str(folder)))
    return same(weights(train(config)), weights(whole)) and log_of(config.output_dir, "loss") == log_of(whole, "loss")


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_few_are_kept(keep, config):
    train(replace(config, checkpoint_steps=1, keep_checkpoints=keep))
    assert names_in(config) == [f"step_{step:07d}" for step in range(7 - keep, 7)]


@pytest.mark.slow
@pytest.mark.parametrize("error", [FULL, TORCH_SAYS], ids=["full", "torch"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(error, config, monkeypatch, tmp_path):
    original = Accelerator.save_state

    def save_state(self, folder):
        original(self, folder)
        if "step_0000004" in folder:
            (Path(folder) / "optimizer.bin").write_bytes(b"half")
            raise error

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as raised:
        patch.setattr(Accelerator, "save_state", save_state)
        train(config)
    assert str(raised.value) == (
        f"{config.output_dir}/checkpoints/step_0000004: the checkpoint could not be written ({error}); the last good "
        f"checkpoint is step 2 in {config.output_dir}/checkpoints. Make room and run the same command again"
    )
    assert names_in(config) == ["step_0000002"]
    assert ends_as_uninterrupted(config, tmp_path / "whole")


def test_without_a_checkpoint_before_it_says_so(config, monkeypatch):
    monkeypatch.setattr(checkpoints, "save_file", lambda *_: (_ for _ in ()).throw(FULL))
    with pytest.raises(TrainingError, match=r"No space left on device.*; there is no checkpoint before it"):
        train(replace(config, ema_decay=0.9))
    assert names_in(config) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", [NeuronViT3DForSegmentation, NeuronViT3DImageProcessor])
def test_a_model_that_cannot_be_written_leaves_the_one_before(part, config, monkeypatch, tmp_path):
    config = replace(config, evaluation_steps=2)
    original, calls = part.save_pretrained, []

    def save_pretrained(self, folder, **options):
        calls.append(folder)
        if len(calls) == 2:
            (Path(folder)).mkdir(exist_ok=True)
            (Path(folder) / "model.safetensors").write_bytes(b"half")
            raise FULL
        return original(self, folder, **options)

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as raised:
        patch.setattr(part, "save_pretrained", save_pretrained)
        train(config)
    assert str(raised.value) == (
        f"{config.output_dir}: the model could not be written ({FULL}). Make room and run the same command again"
    )
    assert names_in(config) == ["step_0000002"] and not hidden(config.output_dir)
    assert same(weights(config.output_dir), weights(latest(config)))
    NeuronViT3DForSegmentation.from_pretrained(config.output_dir)
    assert ends_as_uninterrupted(config, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "complaint"), [(2, "the checkpoint"), (99, "the model")])
def test_a_disk_that_is_full_ends_the_script_in_one_line(step, complaint, stopped, tmp_path):
    """For real: files may not grow beyond half of the model (for the model) or of the optimiser's state."""
    config = replace(stopped, checkpoint_steps=step)
    size = (latest(config) / ("optimizer.bin" if step == 2 else "model.safetensors")).stat().st_size // 2 + 4096
    (tmp_path / "options.json").write_text(json.dumps(asdict(config)))
    program = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = processes.run(["-c", program, SCRIPT, tmp_path / "options.json"])
    lines = [line for line in done.stderr.splitlines() if line.startswith("train.py: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr[-3000:]
    assert f"{complaint} could not be written (" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert names_in(config) == ["step_0000002"] and not hidden(config.output_dir)
    assert ends_as_uninterrupted(stopped, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "optimizer.bin",
        "custom_checkpoint_0.pkl",
        "custom_checkpoint_1.pkl",
        "average.safetensors",
        "random_states_0.pkl",
    ],
)
@pytest.mark.parametrize("damage", ["half", "empty", "noise", "missing"])
def test_a_damaged_checkpoint_is_refused(name, damage, finished):
    path = latest(finished) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"half": content[: len(content) // 2], "empty": b"", "noise": content[::-1]}[damage])
    found = r"checkpoint is damaged \([^\n]+\); remove it to go on from the one before"
    if (name, damage) == ("random_states_0.pkl", "missing"):
        found = "is of a run with 0 processes, this one has 1"
    with pytest.raises(TrainingError, match=rf"step_0000006: .*{found}"):
        train(finished)


def test_without_the_damaged_one_it_goes_on_from_the_one_before(finished):
    folder = Path(finished.output_dir)
    before = weights(folder)
    (latest(finished) / "optimizer.bin").write_bytes(b"")
    with pytest.raises(TrainingError, match="damaged"):
        train(finished)
    shutil.rmtree(latest(finished))
    (folder / "model.safetensors").unlink()
    assert same(weights(train(finished)), before)
    assert names_in(finished) == ["step_0000004", "step_0000006"]


def test_a_checkpoint_of_another_number_of_processes_is_refused(stopped):
    shutil.copy(latest(stopped) / "random_states_0.pkl", latest(stopped) / "random_states_1.pkl")
    with pytest.raises(TrainingError, match="step_0000002: is of a run with 2 processes, this one has 1"):
        train(stopped)


def test_killed_while_an_old_checkpoint_is_removed_leaves_none_that_looks_whole(config, monkeypatch):
    original = shutil.rmtree

    def killed(folder, **options):
        if Path(folder).name == ".step_0000002":
            if Path(folder).exists():
                (Path(folder) / "optimizer.bin").unlink()
                raise KeyboardInterrupt
        original(folder, **options)

    config = replace(config, keep_checkpoints=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints.shutil, "rmtree", killed)
        train(config)
    assert names_in(config) == [".step_0000002", "step_0000004"]
    train(config)
    assert names_in(config) == ["step_0000006"]
