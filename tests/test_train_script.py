"""scripts/train.py: options in, a trained model out; alone, from a file, and in two processes."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_runs import forget_accelerate, log_of, same, save_base, save_data, tiny_run, weights

from neuron_vit3d.training.config import TrainingConfig


SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "train.py"


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    yield tiny_run(save_base(tmp_path / "base"), save_data(tmp_path / "data"), tmp_path / "run")
    forget_accelerate()


def arguments_of(config: TrainingConfig) -> list[str]:
    """The options as they are typed."""
    words = []
    for key, value in asdict(config).items():
        if value != []:
            words += [f"--{key}", *([str(item) for item in value] if isinstance(value, list) else [str(value)])]
    return words


def run_script(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code, *capsys.readouterr()


def test_the_script_trains_from_options_or_from_a_file(config, monkeypatch, capsys, tmp_path):
    code, out, _ = run_script(monkeypatch, capsys, *arguments_of(config))
    assert (code, out.split()[-1]) == (0, config.output_dir)
    options = tmp_path / "options.json"
    options.write_text(json.dumps(asdict(replace(config, output_dir=str(tmp_path / "again")))))
    assert run_script(monkeypatch, capsys, options)[0] == 0
    assert same(weights(tmp_path / "again"), weights(config.output_dir))


GIVEN = ["--train-data", "nowhere", "--output-dir", "y", "--cpu"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "arguments are required: --output_dir"),
        ([*GIVEN, "--no-such-option", "1"], "--no-such-option"),
        ([*GIVEN, "--max-steps", "many"], "invalid int value: 'many'"),
        ([*GIVEN, "--initialisation", "zeros"], "initialisation must be one of center, average, scratch; got 'zeros'"),
        (GIVEN, "nowhere: expected a folder of images"),
        (["nowhere.json"], "nowhere.json"),
        ("{", "options.json: expected a JSON object of options"),
        ('{"max_steps": 3}', "options.json: expected a JSON object of options, found: "),
        (
            '{"train_data": ["x"], "output_dir": "y", "z": 1}',
            "options.json: expected a JSON object of options, found: ",
        ),
    ],
)
def test_bad_input_to_the_script_is_one_line_and_status_2(arguments, complaint, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    if isinstance(arguments, str):
        Path("options.json").write_text(arguments)
        arguments = ["options.json"]
    code, out, err = run_script(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("train.py: ") and complaint in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] in ([], ["options.json"])


@pytest.mark.slow
def test_two_processes_train_one_model(config, tmp_path):
    """As torchrun starts them on CPU; on GPUs it is `accelerate launch`. Killed and started again, they go on."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

    def run(options):
        done = subprocess.run(
            command + arguments_of(options), env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()

    config = replace(config, batch_size=1, max_steps=4)
    assert run(config)[-1:] == [config.output_dir]
    folder = Path(config.output_dir)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_0000002", "step_0000004"]
    assert len(log_of(folder, "loss")) == 4
    finished = weights(folder)
    assert all(tensor.isfinite().all() for tensor in finished.values() if tensor.is_floating_point())
    states = sorted(path.name for path in (folder / "checkpoints" / "step_0000004").glob("random_states_*"))
    assert len(states) == 2  # one a process
    shutil.rmtree(folder / "checkpoints" / "step_0000004")
    (folder / "model.safetensors").unlink()
    run(config)
    assert same(weights(folder), finished)
