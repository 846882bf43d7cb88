"""Reads what a card states and nobody types: from evaluation reports, the training's own files and the weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from ..model import NeuronViT3DConfig
from .facts import CardError


TRAINING_LOGS = ("training_log.jsonl", "log.jsonl")  # as it is published, and as training writes it
TRAINING_CONFIG = "training_config.json"
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}  # as safetensors and torch name them


@dataclass(frozen=True)
class EvaluationReport:
    """A report of `benchmarks/basics.py volumes`. Each volume: "name", and a number (or None) for each metric."""

    path: Path
    command: str
    machine: str
    volumes: list[dict]


@dataclass(frozen=True)
class TrainingRecord:
    """The record that a run left. Unvalidated: `best_step`, `best_dice` are None, `validation_names` is empty.

    `options` are those of training_config.json, and empty where there is none.
    """

    steps: int
    best_step: int | None
    best_dice: float | None
    validation_names: list[str]
    options: dict

    @property
    def recipe(self) -> str | None:
        """Tells the options that matter most; None where the run did not leave them."""
        try:
            # Older runs did not note how many processes they were; nearly all were one.
            processes, summed = (self.options.get(key, 1) for key in ("num_processes", "gradient_accumulation_steps"))
            text = (
                "{tiles} tiles of {tile_size} x {tile_size} in a batch, AdamW with learning rate {learning_rate} "
                "(encoder {encoder_learning_rate}), seed {seed}"
            )
            return text.format(tiles=self.options["batch_size"] * processes * summed, **self.options)
        except (KeyError, TypeError):
            return None


def read_config(folder: Path) -> NeuronViT3DConfig:
    """Reads the configuration of a folder's checkpoint; raises CardError where it is not of this package."""
    path = folder / "config.json"
    values = _read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != NeuronViT3DConfig.model_type:
        raise CardError(f"{path}: expected a neuron_vit3d checkpoint, found a model of type {kind!r}")
    try:
        return NeuronViT3DConfig.from_dict(values)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise CardError(f"{path}: {' '.join(str(error).split())}") from error


def read_report(path: Path) -> EvaluationReport:
    """Reads an evaluation report; raises CardError with the file and the key."""
    values = _read_json(path)
    if not isinstance(values, dict):
        raise CardError(f"{path}: expected an evaluation report with command, machine and volumes")
    for key, kind in (("command", str), ("machine", str), ("volumes", list)):
        if not isinstance(values.get(key), kind) or not values[key]:
            raise CardError(f"{path}: {key}: expected a {kind.__name__} that is not empty, found {values.get(key)!r}")
    for index, volume in enumerate(values["volumes"]):
        if not isinstance(volume, dict) or not isinstance(volume.get("name"), str) or len(volume) < 2:
            raise CardError(f"{path}: volumes[{index}]: expected a name and numbers, found {volume!r}")
        for key, value in volume.items():
            if key != "name" and (isinstance(value, bool) or not isinstance(value, int | float | None)):
                raise CardError(f"{path}: volumes[{index}].{key}: expected a number or null, found {value!r}")
    return EvaluationReport(path, values["command"], values["machine"], values["volumes"])


def read_training(folder: Path) -> TrainingRecord | None:
    """Reads what training left beside the checkpoint in this folder; None where there is no log."""
    path = training_log(folder)
    if path is None:
        return None
    lines = read_log(path)
    if not lines or not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
        raise CardError(f"{path}: expected a JSON object with a step in every line")
    evaluations = [line for line in lines if "best_threshold_dice" in line]
    best: dict = max(evaluations, key=lambda line: line["best_threshold_dice"], default={})
    options = _read_json(folder / TRAINING_CONFIG) if (folder / TRAINING_CONFIG).is_file() else {}
    if not isinstance(options, dict):
        raise CardError(f"{folder / TRAINING_CONFIG}: expected the options of a training run")
    return TrainingRecord(
        steps=max(line["step"] for line in lines),
        best_step=best.get("step"),
        best_dice=best.get("best_threshold_dice"),
        validation_names=list(best.get("dice_by_volume", {})),
        options=options,
    )


def training_log(folder: Path) -> Path | None:
    """Finds the log that training left in a checkpoint's folder."""
    return next((folder / name for name in TRAINING_LOGS if (folder / name).is_file()), None)


def read_log(path: Path) -> list:
    """Reads the lines of a training log; raises CardError with the number of a bad line."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise CardError(f"{path}: line {number}: expected JSON: {error}") from error
    return lines


def stored_weights(folder: Path) -> dict:
    """How the weights are stored: "dtypes", names of the floating-point types, and "bytes" of all weight files.

    Raises CardError where there are none, or a damaged one.
    """
    dtypes, size = set(), 0
    for path in sorted(folder.glob("model*.safetensors")):
        size += path.stat().st_size
        try:
            with safe_open(path, "pt") as file:
                dtypes |= {file.get_slice(key).get_dtype() for key in file.keys()}
        except SafetensorError as error:
            raise CardError(f"{path}: expected weights in safetensors: {error}") from error
    found = sorted(_DTYPES[dtype] for dtype in dtypes if dtype in _DTYPES)
    if not found:
        raise CardError(f"{folder}: has no weights: expected model.safetensors")
    return {"dtypes": found, "bytes": size}


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CardError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CardError(f"{path}: expected JSON: {error}") from error
