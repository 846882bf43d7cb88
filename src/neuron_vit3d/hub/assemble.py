"""Puts what goes to the Hub into one folder: weights, code, image processor, card, picture and record."""

import contextlib
import functools
import json
import os
import re
import shutil
from pathlib import Path

import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as transformers_logging

from ..files import new_folder
from ..model import NeuronViT3DForSegmentation, NeuronViT3DImageProcessor
from ..model.loading import load_whole, one_clear_error
from .cards import model_card, picture_path
from .evidence import TRAINING_CONFIG, TRAINING_LOGS, read_config, read_log, stored_weights, training_log
from .facts import CardError, ModelFacts, read_facts


FACTS_FILE = "facts.yaml"  # in a checkpoint's folder, where no other facts are given
_TEXT = {".json", ".jsonl", ".md"}
# Options of a training run that name places of its machine; the last two may be names on the Hub as well.
_PLACES, _PLACES_OR_NAMES = ("output_dir", "train_data", "validation_data"), ("base_model", "dataset")


def assemble(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    facts: ModelFacts | str | os.PathLike | None = None,
    repo_id: str | None = None,
) -> Path:
    """Writes the folder that `publish` uploads, to look at it before, or to upload it by other means.

    The checkpoint is loaded and saved again, in the precision it is stored in. So the folder is complete, whatever the
    checkpoint's folder lacks. Paths of this machine that training wrote down are shortened to their last part.

    Args:
        checkpoint: folder with model.safetensors, config.json, preprocessor_config.json; what training left there
            (log.jsonl or training_log.jsonl, training_config.json) comes along.
        folder: to be made; it must not exist, or be empty.
        facts: [`ModelFacts`] or the path of their file; None: facts.yaml in the checkpoint's folder.
        repo_id: where it is going to be on the Hub, for the card.

    Returns:
        The folder.

    Raises:
        CardError (a ValueError): facts are missing or wrong, or a card cannot be made of them.
        ValueError: the weights, the image processor and the configuration do not belong together.
        OSError: the checkpoint cannot be read, the folder cannot be written.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: expected a new or an empty folder to assemble the checkpoint in")
    facts = _facts_of(checkpoint, facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder, alone=True) as partial:
        with without_bars():
            model, processor = _load(checkpoint)
            model.config.name_or_path = ""
            model.save_pretrained(partial)
            processor.save_pretrained(partial)
        copy_record(checkpoint, partial, keep=facts.base_model.hub_id)
        if facts.picture:
            target = partial / picture_path(facts.picture)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(facts.picture.file, target)
        model_card(partial, facts, repo_id).save(partial / "README.md")
        _refuse_paths_of_this_machine(partial, checkpoint)
    return folder


@contextlib.contextmanager
def without_bars():
    """Hides the progress bars of transformers and huggingface_hub.

    Work on this disk is too fast for them.
    """
    shown, others_hidden = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()  # and those of huggingface_hub
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
        (disable_progress_bars if others_hidden else enable_progress_bars)()


def _facts_of(checkpoint: Path, facts: ModelFacts | str | os.PathLike | None) -> ModelFacts:
    if isinstance(facts, ModelFacts):
        return facts
    if facts is None and not (checkpoint / FACTS_FILE).is_file():
        raise CardError(
            f"{checkpoint}: has no {FACTS_FILE}: a card needs the facts that no file of a checkpoint holds (data, "
            f"licences, limits); give them as facts=..., as model_cards/default.yaml has them, or put {FACTS_FILE} "
            "there"
        )
    return read_facts(checkpoint / FACTS_FILE if facts is None else facts, ModelFacts)


def _load(folder: Path) -> tuple[NeuronViT3DForSegmentation, NeuronViT3DImageProcessor]:
    """Loads model (in its weights' precision) and image processor, and checks that they are complete and fit."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a checkpoint, as training writes it")
    config = read_config(folder)
    with one_clear_error(folder):
        # The widest of them, where there are several: no weight loses digits.
        dtypes = [getattr(torch, name) for name in stored_weights(folder)["dtypes"]]
    dtype = functools.reduce(torch.promote_types, dtypes)
    return load_whole(NeuronViT3DForSegmentation, NeuronViT3DImageProcessor, folder, config, dtype)


def copy_record(checkpoint: Path, folder: Path, keep: str | None = None) -> None:
    """Copies the log and the options that training wrote, without paths of this machine.

    keep: a name on the Hub, which looks like a path but is none. Raises CardError where a file is damaged.
    """
    log = training_log(checkpoint)
    if log is not None:
        lines = [json.dumps(_without_places(line)) + "\n" for line in read_log(log)]
        (folder / TRAINING_LOGS[0]).write_text("".join(lines), encoding="utf-8")
    options = checkpoint / TRAINING_CONFIG
    if options.is_file():
        try:
            values = json.loads(options.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CardError(f"{options}: expected JSON: {error}") from error
        if isinstance(values, dict):
            values |= {key: _last_part(values[key]) for key in _PLACES if key in values}
            values |= {
                key: _last_part(values[key])
                for key in _PLACES_OR_NAMES
                if key in values and values[key] != keep and not _is_on_hub(values[key])
            }
        text = json.dumps(values, indent=1) + "\n"
        (folder / TRAINING_CONFIG).write_text(text, encoding="utf-8")


def _last_part(value):
    """Returns the last part of a path, or of each path in a list."""
    if isinstance(value, list):
        return [_last_part(inner) for inner in value]
    parts = [part for part in re.split(r"[/\\]+", value) if part] if isinstance(value, str) else []
    return parts[-1] if parts else value


def _without_places(line):
    """Removes this machine's folders from the names of neurons in a log's line; `lab/neuron` is a name."""
    dice = line.get("dice_by_volume") if isinstance(line, dict) else None
    if not isinstance(dice, dict):
        return line
    named: dict[str, float] = {}
    for name, value in dice.items():
        short, count = _last_part(name) if re.match(r"[/\\~]|\w:", name) else name, 1
        while (own := short if count == 1 else f"{short} ({count})") in named:
            count += 1
        named[own] = value
    return {**line, "dice_by_volume": named}


def _is_on_hub(value) -> bool:
    """Tells whether it is a name `user/name`, and no folder here."""
    return isinstance(value, str) and bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", value)) and not Path(value).exists()


def _refuse_paths_of_this_machine(folder: Path, checkpoint: Path) -> None:
    """Raises CardError where a text that is to be published names a folder of this machine's user."""
    home = str(Path.home())
    places = [str(checkpoint.resolve()), *([home] if home.count("/") > 1 else [])]  # one such as /root tells nothing
    named = re.compile(rf"(?<![\w.~/-])({'|'.join(map(re.escape, places))})(?![\w-])")
    for path in sorted(folder.rglob("*")):
        if path.suffix in _TEXT and (found := named.search(path.read_text(encoding="utf-8"))):
            raise CardError(
                f"{path.name}: names a folder of this machine, {found[1]}: take it out of the facts or the run"
            )
