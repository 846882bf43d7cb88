"""Reads the data of a training run: folders of pairs, or a prepared dataset."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.bigneuron import is_prepared, load_bigneuron
from ..data.fresh_neurons import FreshNeurons
from ..data.labels import LabelPolicy
from ..data.pairs import DataError, LabelledVolume, Pair, find_pairs, read_pair
from ..data.traced_volume import TracedVolume
from ..data.wild import INGREDIENTS
from ..volumes import read_volume
from .config import TrainingConfig, TrainingError


_SLICES_OF_CHECKSUM = 8


def read_data(config: TrainingConfig) -> tuple[Sequence[LabelledVolume | TracedVolume], list[LabelledVolume]]:
    """Reads the volumes to train on and the volumes to validate on.

    Raises:
        DataError, VolumeError, SWCError: a folder, a pair or a prepared dataset cannot be used.
        TrainingError: there is nothing to train on, or a neuron is in training and validation.
    """
    if config.dataset and (config.train_data or config.validation_data):
        raise TrainingError("dataset, or train_data and validation_data: expected one of both, got both")
    if config.dataset:
        if (config.min_radius, config.max_radius, config.channel) != (1.0, 0.0, -1):
            raise TrainingError(
                "min_radius, max_radius and channel: a dataset has them from its preparation; they are for train_data"
            )
        if config.radius != "given" or config.edge_band or config.ignore_untraced:
            raise TrainingError(
                "radius, edge_band and ignore_untraced: a dataset has them from its preparation; they are for "
                "train_data"
            )
        return _read_dataset(config)
    train_pairs = _choose("train_data", config.train_data, config.names)
    validation_pairs = _choose("validation_data", config.validation_data, config.validation_names)
    if not train_pairs and not config.synthetic_share:
        raise TrainingError("train_data: expected at least one folder of pairs to train on, got none")
    both = {pair.image.resolve() for pair in train_pairs} & {pair.image.resolve() for pair in validation_pairs}
    if both:
        raise TrainingError(
            f"{sorted(both)[0]}: is in the training and in the validation data; a neuron may be in one"
        )
    channel = None if config.channel < 0 else config.channel
    given = LabelPolicy(min_radius=config.min_radius, max_radius=config.max_radius or None)
    policy = replace(given, radius=config.radius, edge_band=config.edge_band, ignore_untraced=config.ignore_untraced)
    train = [read_pair(pair, channel=channel, policy=policy) for pair in train_pairs]
    # As the trees were drawn, whatever training makes of them: runs of different policies stay comparable.
    validation = [read_pair(pair, channel=channel, policy=given) for pair in validation_pairs]
    _refuse_same_image(train, validation)
    return train, validation


def fresh_neurons(config: TrainingConfig) -> FreshNeurons | None:
    """Returns the synthetic neurons that a run makes for itself; None where it wants none.

    Raises:
        VolumeError: a background cannot be read.
        TrainingError: an ingredient that there is not.
    """
    if not config.synthetic_share:
        return None
    if unknown := set(config.synthetic_without) - set(INGREDIENTS):
        raise TrainingError(
            f"synthetic_without: expected ingredients out of {', '.join(INGREDIENTS)}, got {min(unknown)!r}"
        )
    backgrounds = [read_volume(path).array for path in config.synthetic_backgrounds]
    return FreshNeurons(
        seed=config.seed, batch_size=config.batch_size, without=config.synthetic_without, backgrounds=backgrounds
    )


def check_channels(volumes: list[LabelledVolume | TracedVolume], expected: int) -> None:
    """Raises TrainingError where a volume has not as many channels as the model takes."""
    for volume in volumes:
        if len(volume.image) != expected:
            raise TrainingError(
                f"{volume.name}: expected {expected} channel(s), found {len(volume.image)}; choose one with --channel"
            )


def checksums(volumes: Sequence[LabelledVolume | TracedVolume]) -> list[tuple[str, int]]:
    """Returns the name and the checksum of each volume, which covers its shape, voxels and labels.

    Of a volume that stays on disk it covers some slices and the tree.
    """
    return [(volume.name, _checksum(volume)) for volume in volumes]


def _checksum(volume: LabelledVolume | TracedVolume) -> int:
    value = zlib.crc32(repr(volume.image.shape).encode())
    if isinstance(volume, TracedVolume):
        value = zlib.crc32(volume.made_of.encode(), value)
        arrays = [volume.image[:, :: max(1, volume.image.shape[1] // _SLICES_OF_CHECKSUM)]]
    else:
        arrays = [volume.image, volume.labels]
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return value


def _refuse_same_image(
    train: Sequence[LabelledVolume | TracedVolume], validation: Sequence[LabelledVolume | TracedVolume]
) -> None:
    """Raises TrainingError where the same image is in both, whatever its names."""
    for ours in validation:
        middle = ours.image.shape[1] // 2
        for theirs in train:
            if (
                ours.image.shape == theirs.image.shape
                and np.array_equal(ours.image[:, middle], theirs.image[:, middle])  # of most the rest need not be read
                and np.array_equal(ours.image, theirs.image)
            ):
                raise TrainingError(
                    f"{ours.name}: the same image is {theirs.name} in the training data; a neuron may be in one"
                )


def _read_dataset(config: TrainingConfig) -> tuple[list[TracedVolume], list[LabelledVolume]]:
    """Reads the parts "train" and "validation" of a prepared dataset.

    Volumes for training stay on disk; those for validation are read into memory.
    """
    if Path(config.dataset).is_dir():
        if not is_prepared(config.dataset):
            raise TrainingError(f"dataset {config.dataset}: expected a folder that `neuron-vit3d prepare` made")
        parts = load_bigneuron(config.dataset)
    else:
        from datasets import load_dataset

        try:
            parts = load_dataset(config.dataset, "volumes")
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"dataset {config.dataset}: expected a prepared folder or a dataset on the Hub with 'volumes': {error}"
            ) from error
    if "train" not in parts:
        raise TrainingError(f"dataset {config.dataset}: has no part 'train', only {', '.join(parts)}")
    train, validation = (
        [volume for volume in TracedVolume.all_of(parts[part]) if not names or volume.name in names]
        if part in parts
        else []
        for part, names in (("train", config.names), ("validation", config.validation_names))
    )
    both = {volume.name for volume in train} & {volume.name for volume in validation}
    if both:
        raise TrainingError(
            f"dataset {config.dataset}: {min(both)} is in train and validation; a neuron may be in one"
        )
    missing = {*config.names, *config.validation_names} - {volume.name for volume in (*train, *validation)}
    if missing:
        raise TrainingError(
            f"dataset {config.dataset}: found no neuron named {min(missing)!r} in the part to use it in"
        )
    _refuse_same_image(train, validation)
    return train, [_in_memory(volume) for volume in validation]


def _in_memory(volume: TracedVolume) -> LabelledVolume:
    """Reads a volume into memory, with the labels of all of it, with which validation compares."""
    return LabelledVolume(volume.name, volume.image, volume.labels(tuple(slice(0, side) for side in volume.shape)))


def _choose(option: str, folders: list[str], names: list[str]) -> list[Pair]:
    if names and not folders:
        raise TrainingError(f"{option}: expected a folder of pairs to find {min(names)!r} in, got none")
    pairs = [pair for folder in folders for pair in find_pairs(folder)]
    missing = set(names) - {pair.name for pair in pairs}
    if missing:
        raise DataError(f"{', '.join(folders)}: found no pair named {sorted(missing)[0]!r}")
    return [pair for pair in pairs if not names or pair.name in names]
