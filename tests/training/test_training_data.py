"""What a run reads: training and validation keep apart, and training labels may be others than those of validation."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from neuron_vit3d import Volume, read_swc, read_volume, segment, write_volume
from neuron_vit3d.data.traced_volume import TracedVolume
from neuron_vit3d.training import reading
from neuron_vit3d.training.config import TrainingConfig, TrainingError
from neuron_vit3d.training.reading import checksums, read_data
from neuron_vit3d.training.trainer import train
from support.tiny_runs import log_of, run_of_a_test


@pytest.fixture
def config(tmp_path) -> Iterator[TrainingConfig]:
    """Trains on one neuron and validates on the other."""
    with run_of_a_test(tmp_path) as options:
        split = {"names": ["neuron_0000"], "validation_names": ["neuron_0001"]}
        yield replace(options, validation_data=options.train_data, **split)


def copy_as(config: TrainingConfig, folder: Path, name: str) -> tuple[Path, Path]:
    """The training neuron once more, under another name."""
    folder.mkdir()
    found = []
    for suffix in (".tif", ".swc"):
        source = Path(config.train_data[0]) / f"neuron_0000{suffix}"
        found.append(Path(shutil.copy(source, folder / f"{name}{suffix}")))
    return tuple(found)


def test_training_and_validation_volumes_are_those_of_their_names(config):
    train, validation = read_data(config)
    assert [volume.name for volume in train] == ["neuron_0000"]
    assert [volume.name for volume in validation] == ["neuron_0001"]


def test_the_same_image_under_another_name_is_refused(config, tmp_path):
    image, tree = copy_as(config, tmp_path / "other", "anna")
    config = replace(config, validation_data=[str(tmp_path / "other")], validation_names=[])
    with pytest.raises(TrainingError, match=r"anna: the same image is neuron_0000 in the training data"):
        read_data(config)
    array = read_volume(image).array.copy()
    array[0, 0, 0] ^= 1
    write_volume(image, Volume(array))
    assert [volume.name for volume in read_data(config)[1]] == ["anna"]
    assert read_swc(tree)


@pytest.mark.parametrize(
    "change",
    [{"radius": "image"}, {"edge_band": 1.0}, {"ignore_untraced": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_label_policy_changes_training_labels_alone(change, config, tmp_path):
    if "ignore_untraced" in change:  # a bright neurite that nobody traced
        for name in ("neuron_0000", "neuron_0001"):
            path = Path(config.train_data[0]) / f"{name}.tif"
            volume = read_volume(path)
            array = volume.array.copy()
            array[:, 2:7, :] = array.max()
            write_volume(path, Volume(array))
    plain, changed = read_data(config), read_data(replace(config, **change))
    assert not np.array_equal(plain[0][0].labels, changed[0][0].labels)
    assert np.array_equal(plain[1][0].labels, changed[1][0].labels)
    assert 255 not in plain[0][0].labels
    assert (255 in changed[0][0].labels) == ("radius" not in change)


def test_radii_are_raised_and_cut_in_validation_too(config):
    plain, cut = (read_data(replace(config, max_radius=limit)) for limit in (0.0, 1.0))
    for part in (0, 1):
        assert cut[part][0].labels.sum() < plain[part][0].labels.sum()


@pytest.mark.parametrize("change", [{"radius": "image"}, {"edge_band": 1.0}, {"ignore_untraced": True}])
def test_a_label_policy_is_refused_with_a_dataset(change, config):
    config = replace(config, train_data=[], validation_data=[], dataset="prepared", **change)
    with pytest.raises(TrainingError, match="a dataset has them from its preparation; they are for train_data"):
        read_data(config)


def test_a_dataset_and_folders_of_pairs_are_not_both_taken(config):
    for change in ({"train_data": []}, {"validation_data": []}):
        with pytest.raises(TrainingError, match="expected one of both, got both"):
            read_data(replace(config, dataset="prepared", **change))


def test_several_slices_are_labelled_in_one_pass(config):
    """Trained, validated, and segmented with the slices of neighbouring blocks apart and averaged."""
    folder = train(replace(config, num_output_slices=3, max_steps=2))
    assert set(log_of(folder, "best_threshold_dice")) == {2}
    volume = read_volume(Path(config.train_data[0]) / "neuron_0001.tif")
    apart, averaged = (segment(volume, str(folder), slice_overlap=overlap).array for overlap in (0, 2))
    assert apart.shape == averaged.shape == volume.shape
    assert np.isfinite(averaged).all() and not np.array_equal(apart, averaged)


def row_of(name: str, array: np.ndarray, swc: str = "1 1 5 5 2 1 -1\n2 3 15 15 2 1 1\n") -> dict:
    return {
        "neuron_id": name,
        "image": [plane.tobytes() for plane in array],
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "swc": swc,
    }


def test_the_same_image_in_two_parts_of_a_dataset_is_refused(config, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    same, other = (rng.integers(0, 255, (5, 20, 20), np.uint8) for _ in range(2))
    parts = {
        "train": Dataset.from_list([row_of("anna", other), row_of("bert", same)]),
        "validation": Dataset.from_list([row_of("carl", same)]),
    }
    monkeypatch.setattr(reading, "is_prepared", lambda folder: True)
    monkeypatch.setattr(reading, "load_bigneuron", lambda folder: parts)
    config = replace(config, train_data=[], validation_data=[], dataset=str(tmp_path), names=[], validation_names=[])
    with pytest.raises(TrainingError, match=r"carl: the same image is bert in the training data"):
        read_data(config)
    assert [volume.name for volume in read_data(replace(config, names=["anna"]))[0]] == ["anna"]


def test_a_change_of_a_prepared_volume_changes_its_checksum():
    array = np.random.default_rng(0).integers(0, 255, (5, 20, 20), np.uint8)
    changed = array.copy()
    changed[2] ^= 1
    rows = [
        row_of("a", array),
        row_of("a", changed),
        row_of("a", array, swc="1 1 5 5 2 1 -1\n2 3 15 16 2 1 1\n"),
        {**row_of("a", array), "edge_band": 1.0},
    ]
    found = [checksums([TracedVolume.from_row(row)]) for row in rows]
    assert len({str(one) for one in found}) == 4 and found[0] == checksums([TracedVolume.from_row(rows[0])])
