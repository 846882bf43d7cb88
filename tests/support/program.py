"""Running the command line in tests, and the files that it is run on."""

import re
import subprocess
from pathlib import Path

from transformers.utils import logging as transformers_logging
from typer.testing import CliRunner

from neuron_vit3d import NeuronViT3DImageProcessor, Volume, write_volume
from neuron_vit3d.cli import app
from support import processes
from support.tiny_models import tiny_model


def run(*arguments):
    """Runs the program in this process; an exception that it does not handle fails the test."""
    # The program quiets transformers; the tests after it shall hear it as before.
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    transformers_logging.set_verbosity(level)
    if bars:
        transformers_logging.enable_progress_bar()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments) -> str:
    """Runs the program to its good end, without a word on standard error; what it prints."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fail(*arguments) -> str:
    """Runs the program to exit status 2; its one line on standard error, without the beginning."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"neuron-vit3d: error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr.removeprefix("neuron-vit3d: error: ").strip()


def in_a_process(*arguments) -> subprocess.CompletedProcess:
    """Runs the program as a shell does."""
    return processes.run(["-m", "neuron_vit3d.cli", *arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save_checkpoint(folder: Path, seed: int = 0) -> Path:
    """A checkpoint with random weights, whose scores stay away from 0 and 1."""
    model = tiny_model(seed=seed)
    model.decoder.classifier.weight.data *= 0.1
    model.save_pretrained(folder)
    NeuronViT3DImageProcessor.for_model(model.config, tile_size=32, tile_overlap=8).save_pretrained(folder)
    return folder


def save_neuron(folder: Path, neuron) -> Path:
    """A synthetic neuron's image.tif, its gold.swc and drawn.tif, the tree's mask."""
    write_volume(folder / "image.tif", neuron.volume)
    write_volume(folder / "drawn.tif", Volume(neuron.mask))
    neuron.tree.write(folder / "gold.swc")
    return folder
