"""Reads the facts that a human must state about a checkpoint or a data set, strictly, from a YAML file.

Everything else on a card comes from the checkpoint and the evaluation reports. Every key below must be
there, and no other: a fact that was forgotten or misspelled would leave a hole in the card.
"""

import dataclasses
import os
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


class CardError(ValueError):
    """A card cannot be made; the message is one line and names the file, the key or line, and what was expected."""


@dataclass(frozen=True)
class BaseModel:
    """The 2D model that a checkpoint was made of. `hub_id`: its name on the Hub, or None where it has none."""

    name: str
    hub_id: str | None
    license: str
    pretraining: str


@dataclass(frozen=True)
class Split:
    """Neurons of a data set by their use: their names, or how many there are."""

    train: int | list[str]
    validation: int | list[str]
    test: int | list[str]

    def counts(self) -> dict[str, int]:
        """Counts the neurons for training, validation and testing."""
        values = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: value if isinstance(value, int) else len(value) for name, value in values.items()}

    def first_part(self) -> str:
        """Returns the first of train, validation and test that has any neurons."""
        return next((part for part, count in self.counts().items() if count), "train")


@dataclass(frozen=True)
class DataSource:
    """Volumes from one source. `hub_id`: its name on the Hub, or None; `volumes`: how many of it were used."""

    name: str
    hub_id: str | None
    license: str
    what: str
    volumes: int
    split: Split


@dataclass(frozen=True)
class Evaluation:
    """A report of `benchmarks/basics.py volumes` as JSON, and what a reader must know to understand it."""

    report: Path
    note: str


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Recipe:
    """A recipe to make it again: shell commands, and what they need that is not in the repository."""

    needs: str
    commands: str


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a checkpoint. `license` is that of its weights, as the Hub spells it (`apache-2.0`)."""

    title: str
    summary: str
    license: str
    tags: list[str]
    base_model: BaseModel
    data: list[DataSource]
    evaluation: list[Evaluation]
    picture: Picture | None
    limits: str
    make_again: Recipe


@dataclass(frozen=True)
class DatasetConfig:
    """A configuration of a data set on the Hub.

    `rows`: how many of each part; `how_to_read`: Python, for a `row` of it.
    """

    name: str
    what: str
    rows: Split
    how_to_read: str


@dataclass(frozen=True)
class DatasetFacts:
    """Facts about a data set. `size_bytes`: what is to be downloaded."""

    title: str
    summary: str
    license: str
    tags: list[str]
    data: list[DataSource]
    configs: list[DatasetConfig]
    size_bytes: int
    picture: Picture | None
    limits: str
    make_again: Recipe


Facts = typing.TypeVar("Facts", ModelFacts, DatasetFacts)


@typing.overload
def read_facts(path: str | os.PathLike) -> ModelFacts: ...
@typing.overload
def read_facts(path: str | os.PathLike, kind: type[Facts]) -> Facts: ...
def read_facts(path, kind=ModelFacts):
    """Reads facts from a YAML file; paths in it are relative to it.

    Args:
        path: the file.
        kind: [`ModelFacts`] or [`DatasetFacts`].

    Raises:
        CardError: it cannot be read, a key is missing, unknown or of the wrong kind, or the numbers contradict each
            other.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        facts = _read(kind, values, "", path.parent)
        for index, source in enumerate(facts.data):
            _check_split(source, f"data[{index}]")
    except OSError as error:
        raise CardError(f"{path}: facts about the checkpoint cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    except _FactError as error:
        raise CardError(f"{path}: {error}") from error
    return facts


class _FactError(Exception):
    """A file of facts is wrong; the caller knows its name."""


def _read(kind, value, where: str, folder: Path):
    """Reads a value as `kind`: a class from above, text, a number, a path, a list, or a choice of those."""
    if isinstance(kind, types.UnionType):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        fitting = [one for one in kinds if one is not type(None) and isinstance(value, typing.get_origin(one) or one)]
        return _read((fitting or [one for one in kinds if one is not type(None)])[0], value, where, folder)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_keys(kind, value, where, folder)
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise _FactError(f"{where}: expected a list, found {value!r}")
        (item,) = typing.get_args(kind)
        return [_read(item, one, f"{where}[{index}]", folder) for index, one in enumerate(value)]
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _FactError(f"{where}: expected a number, at least 0, found {value!r}")
        return value
    if not isinstance(value, str) or not value.strip():
        raise _FactError(f"{where}: expected text, found {value!r}")
    if kind is Path:
        path = folder / value.strip()
        if not path.is_file():
            raise _FactError(f"{where}: no such file: {value.strip()}")
        return path
    if where.endswith(".hub_id"):
        _check_hub_id(value, where)
    return value.strip()


def _read_keys(kind: type, value, where: str, folder: Path):
    """Reads a mapping as a class from above; its keys are the class's fields."""
    expected = typing.get_type_hints(kind)
    above = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise _FactError(f"{where or 'the file'}: expected the keys {', '.join(expected)}, found {value!r}")
    for key in expected:
        if key not in value:
            raise _FactError(f"{above}{key} is missing")
    for key in value:
        if key not in expected:
            raise _FactError(f"{above}{key} is unknown; the keys here are {', '.join(expected)}")
    return kind(**{key: _read(inner, value[key], above + key, folder) for key, inner in expected.items()})


def _check_hub_id(value: str, where: str) -> None:
    """Checks a name on the Hub: the Hub would refuse a card with a wrong one, or it would be somebody else's model."""
    try:
        validate_repo_id(value)
    except HFValidationError as error:
        raise _FactError(
            f"{where}: expected a name on the Hub, such as facebook/dino-vitb16, or null: {error}"
        ) from error


def _check_split(source: DataSource, where: str) -> None:
    """Checks that a split adds up, and that no neuron is used for two purposes."""
    counts = source.split.counts()
    if sum(counts.values()) != source.volumes:
        parts = " + ".join(map(str, counts.values()))
        raise _FactError(f"{where}.split: {parts} neurons, but {where}.volumes is {source.volumes}")
    seen = set()
    for part in counts:
        names = getattr(source.split, part)
        for name in names if isinstance(names, list) else ():
            if name in seen:
                raise _FactError(f"{where}.split.{part}: {name} is named twice; the split is by neuron")
            seen.add(name)
