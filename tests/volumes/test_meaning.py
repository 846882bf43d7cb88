"""Tests of `volumes/meaning.py`: what the voxels of a mask or of scores mean."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d import read_volume, segmentation_scores, trace, write_volume
from neuron_vit3d.tracing import TraceError
from neuron_vit3d.volumes import Volume, VolumeError, as_mask_or_scores, labels_of, open_volume
from neuron_vit3d.volumes.reader import VolumeReader


SHAPE = (4, 6, 40)
WHOLE = (slice(0, 6), slice(0, 40))
SCORES = np.random.default_rng(0).random(SHAPE)


def line(value: int, dtype: str = "uint8", background: int = 0) -> np.ndarray:
    mask = np.full(SHAPE, background, dtype)
    mask[2, 3, 3:37] = value
    return mask


@pytest.mark.parametrize("mask", [line(1, "bool"), line(1), line(255), line(7, "uint16"), line(3, "int64")])
def test_one_value_beside_0_is_a_mask(mask, recwarn):
    assert as_mask_or_scores(mask) is mask
    assert not recwarn


@pytest.mark.parametrize(("dtype", "highest"), [("uint8", 255), ("uint16", 255), ("uint16", 65535)])
def test_many_values_are_probabilities(dtype, highest):
    voxels = (SCORES * highest).astype(dtype)
    said = rf"a\.tif: holds more than 32 values: they are taken for probabilities, as shares of {highest};"
    with pytest.warns(UserWarning, match=said):
        made = as_mask_or_scores(Volume(voxels, source="a.tif"))

    assert made.dtype == np.float32
    np.testing.assert_allclose(made.array, voxels / highest, atol=1e-6)


def test_a_few_values_beside_0_are_all_neuron_and_told():
    mask = line(1) + np.roll(line(2), 1, axis=1)
    with pytest.warns(UserWarning, match="the mask: holds the labels 1, 2: all are taken for neuron; --label N"):
        assert as_mask_or_scores(mask) is mask


def test_without_a_0_it_is_not_known_what_is_background():
    with pytest.raises(VolumeError, match=r"a\.tif: holds the labels 1, 2 and no 0, .* --label N"):
        as_mask_or_scores(Volume(line(2, background=1), source="a.tif"))


def test_many_values_too_wide_for_probabilities_are_refused():
    with pytest.raises(VolumeError, match="holds more than 32 values, of uint32: labels of objects"):
        as_mask_or_scores(np.arange(960, dtype="uint32").reshape(SHAPE))


def test_values_below_0_are_refused():
    with pytest.raises(VolumeError, match="got values down to -1"):
        as_mask_or_scores(line(1, "int16", background=-1) + line(2, "int16"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_label_is_where_its_value_is(seed, count):
    labels = np.random.default_rng(seed).integers(0, count + 1, SHAPE).astype("uint8")
    assert labels_of(labels) == sorted(set(labels.ravel().tolist()) - {0})
    for label in labels_of(labels):
        assert np.array_equal(as_mask_or_scores(labels, label=label), labels == label)


def test_a_label_that_is_not_there_is_refused_and_those_that_are_named():
    with pytest.raises(VolumeError, match="expected one of its labels 1, 2, got 3"):
        as_mask_or_scores(line(2, background=1), label=3)
    with pytest.raises(VolumeError, match="which are whole numbers"):
        as_mask_or_scores(SCORES, label=1)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_is_above_0(scale):
    with pytest.raises(VolumeError, match="expected a scale above 0"):
        as_mask_or_scores(line(1), scale=scale)


def test_a_reader_gives_what_is_meant_box_by_box(tmp_path):
    voxels = (SCORES * 255).astype("uint8")
    write_volume(tmp_path / "a.tif", Volume(voxels, (2.0, 1.0, 1.0)))
    with open_volume(tmp_path / "a.tif") as reader:
        with pytest.warns(UserWarning, match="probabilities"):
            made = as_mask_or_scores(reader)
        assert made.shape == SHAPE and made.dtype == np.float32 and made.voxel_size == (2.0, 1.0, 1.0)
        box = (slice(1, 3), slice(0, 6), slice(5, 9))
        np.testing.assert_allclose(made.read_box(box), voxels[box] / 255, atol=1e-6)
        np.testing.assert_allclose(made.read(0, 4), voxels / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["mask", "labels", "8 bits", "16 bits", "label"])
def test_a_reader_is_looked_through_once(kind, tmp_path, monkeypatch):
    many = (SCORES * (65535 if kind == "16 bits" else 255)).astype("uint16")
    many[0] = many[0] * (kind != "16 bits") + np.arange(240).reshape(6, 40) * (
        kind == "16 bits"
    )  # high ones come late
    few = line(1) + np.roll(line(2), 1, axis=1)
    write_volume(tmp_path / "a.tif", Volume({"mask": line(9), "labels": few, "label": few}.get(kind, many)))
    monkeypatch.setattr(VolumeReader, "boxes", lambda self: [(slice(z, z + 1), *WHOLE) for z in range(4)])
    with open_volume(tmp_path / "a.tif") as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read, read_box = [], reader.read_box
        monkeypatch.setattr(reader, "read_box", lambda box: (read.append(box[0].start), read_box(box))[1])
        made = as_mask_or_scores(reader, label=2 if kind == "label" else None)
    assert read == list(range(len(read)))
    if kind == "16 bits":
        assert made.dtype == np.float32 and len(read) == 2


def test_values_below_0_that_come_late_are_refused():
    voxels = np.arange(960, dtype="int16").reshape(SHAPE) % 200
    voxels[3, 5, 39] = -7
    with pytest.raises(VolumeError, match="got values down to -7"):
        as_mask_or_scores(voxels)


def test_trace_takes_a_label_of_several():
    labels = line(1, background=0) + np.roll(line(2), 2, axis=1)
    tree = trace(labels, label=2)
    assert (tree.xyz[:, 1] == 5).all()


def test_trace_refuses_labels_without_background():
    with pytest.raises(TraceError, match="--label N"):
        trace(line(2, background=1))


def test_trace_takes_probabilities_in_8_bits_as_scores():
    scores = SCORES * 0.3
    scores[1:3, 2:4, 3:37] += 0.65
    whole = np.rint(scores * 255).astype("uint8")
    with pytest.warns(UserWarning, match="probabilities"):
        tree = trace(whole, threshold=0.5)
    assert np.array_equal(tree.xyz, trace(whole / np.float32(255), threshold=0.5).xyz)


def test_segmentation_scores_of_probabilities_are_those_of_the_mask():
    gold = SCORES > 0.5
    with pytest.warns(UserWarning, match="the predicted mask: holds more than 32 values"):
        assert segmentation_scores((SCORES * 255).round().astype("uint8"), gold)["dice"] > 0.98
    assert segmentation_scores(SCORES, gold)["dice"] == 1


def test_what_is_read_back_is_what_was_meant(tmp_path):
    write_volume(tmp_path / "a.tif", Volume(line(255)))
    assert as_mask_or_scores(read_volume(tmp_path / "a.tif")).array.max() == 255
