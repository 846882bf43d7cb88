"""neuron-vit3d train and neuron_vit3d.train: the same run as scripts/train.py, from the package alone."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

import neuron_vit3d
from neuron_vit3d import NeuronViT3DForSegmentation
from neuron_vit3d.cli.train import PublishOptions, TeachOptions, check_names, read_options
from neuron_vit3d.training.config import TrainingConfig, choices
from neuron_vit3d.training.trainer import train
from support.program import fail, in_a_process, run, succeed
from support.tiny_runs import forget_accelerate, run_of_a_test, same, save_data, weights


@pytest.fixture
def config(tmp_path):
    with run_of_a_test(tmp_path) as options:
        yield options


def test_the_program_trains_as_the_function_does(config, tmp_path):
    """From a file of options, from Python by a config, and by names."""
    config = replace(config, max_steps=2)
    train(replace(config, output_dir=str(tmp_path / "plain")))
    forget_accelerate()
    (tmp_path / "options.json").write_text(json.dumps(asdict(config)))
    assert run("train", tmp_path / "options.json").stdout == f"{config.output_dir}\n"
    forget_accelerate()
    options = asdict(config) | {"output_dir": str(tmp_path / "named")}
    assert neuron_vit3d.train(**options) == tmp_path / "named"
    forget_accelerate()
    assert neuron_vit3d.train(replace(config, output_dir=str(tmp_path / "config"))) == tmp_path / "config"
    for name in ("run", "named", "config"):
        assert same(weights(tmp_path / name), weights(tmp_path / "plain"))


def test_a_misspelt_option_is_told_of_before_torch_is_imported():
    program = (
        "import sys, neuron_vit3d.cli as cli; sys.argv[1:] = ['train', '--output-dir', 'x', '--max-stpes=5']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n"
        "    print(end.code, [name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "2 []\n"
    assert done.stderr == (
        "neuron-vit3d: error: no such option: --max-stpes; the nearest is --max-steps (--help lists the options)\n"
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--output_dir", "x", "--base_modle", "y"], "no such option: --base_modle; the nearest is --base-model"),
        (["--output-dir", "x", "--xyzzy"], "no such option: --xyzzy (--help lists the options)"),
        (["--output-dir", "x", "--no-augmnt"], "the nearest is --no-augment"),
        ([], "arguments are required: --output_dir"),
        (["none.json"], "none.json"),
        (["--output-dir", "x", "--loss", "mse"], "loss must be one of dice_cross_entropy, dice_focal; got 'mse'"),
    ],
)
def test_wrong_usage_is_one_line(words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint in fail("train", *words)
    assert not list(tmp_path.iterdir())


def test_every_way_to_type_an_option_is_known():
    for option in (*fields(TrainingConfig), *fields(TeachOptions), *fields(PublishOptions)):
        check_names([f"--{option.name}", f"--{option.name.replace('_', '-')}=1", f"--{option.name[:-1]}"])
    check_names(["--no-augment", "--no_augment", "--help", "-h", "--channel", "-1"])
    typed = read_options(["-o", "x", "--no-augment", "--channel", "-1", "--max-st", "7"])
    assert typed == {"output_dir": "x", "augment": False, "channel": -1, "max_steps": 7}


def test_a_misspelt_option_in_a_file_or_in_python(tmp_path):
    path = tmp_path / "options.json"
    path.write_text('{"output_dir": "x", "max_stpes": 5}')
    assert fail("train", path).endswith("found: no such option: max_stpes; the nearest is max_steps")
    with pytest.raises(ValueError, match="no such option: max_stpes; the nearest is max_steps"):
        neuron_vit3d.train(output_dir="x", max_stpes=5)
    with pytest.raises(TypeError, match="expected a config or options, got both: config and max_steps"):
        neuron_vit3d.train(TrainingConfig("x"), max_steps=5)
    with pytest.raises(TypeError, match="config: expected a TrainingConfig, got dict"):
        neuron_vit3d.train({"output_dir": "x"})


def test_help_lists_options_choices_and_examples():
    text = " ".join(succeed("train", "-h").split())
    assert text.startswith("usage: neuron-vit3d train ") and "{}" not in text
    assert all(
        f"--{option.name}" in text
        for option in (*fields(TrainingConfig), *fields(TeachOptions), *fields(PublishOptions))
    )
    assert all(value in text for values in choices().values() for value in values)
    assert "neuron-vit3d train --data mine -o mine_model" in text


@pytest.mark.slow
def test_default_is_the_embedded_checkpoint(tmp_path):
    """No rate, no change: what comes out is what went in."""
    data, output = save_data(tmp_path / "data"), tmp_path / "run"
    words = ["train", "--train-data", data, "--output-dir", output, "--base-model", "default", "--max-steps", 1]
    words += ["--tile-size", 32, "--batch-size", 1, "--num-workers", 0, "--cpu", "--no-augment"]
    words += ["--learning-rate", 0, "--encoder-learning-rate", 0, "--weight-decay", 0]
    done = in_a_process(*words)
    assert (done.returncode, done.stdout) == (0, f"{output}\n"), done.stderr[-3000:]
    assert json.loads((output / "training_config.json").read_text())["base_model"] == "default"
    embedded = Path(neuron_vit3d.__file__).parent / "assets" / "default"
    ours, theirs = (NeuronViT3DForSegmentation.from_pretrained(folder) for folder in (output, embedded))
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (one - other).abs().max() < 1e-3, name


@pytest.mark.slow
def test_two_processes_are_started_by_module(config, tmp_path):
    (tmp_path / "options.json").write_text(json.dumps(asdict(replace(config, batch_size=1, max_steps=2))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "neuron_vit3d", "train", str(tmp_path / "options.json")]
    given = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, f"{config.output_dir}\n"), done.stderr[-3000:]
    states = Path(config.output_dir, "checkpoints", "step_0000002").glob("random_states_*")
    assert len(list(states)) == 2  # one a process
