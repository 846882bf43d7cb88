"""Tests of --label and --scale: masks, labels and probabilities that other programs wrote."""

import numpy as np
import pytest

from neuron_vit3d import Volume, read_swc, read_volume, write_volume
from support.program import fail, run, succeed


SHAPE = (8, 24, 48)


def lines(*values: int, dtype: str = "uint8", background: int = 0) -> np.ndarray:
    """Voxels with a line for each of some values, one above the other."""
    voxels = np.full(SHAPE, background, dtype)
    for number, value in enumerate(values):
        voxels[3:5, 4 + 8 * number : 6 + 8 * number, 4:44] = value
    return voxels


@pytest.fixture
def labels(tmp_path):
    write_volume(tmp_path / "labels.tif", Volume(lines(1, 2)))
    return tmp_path / "labels.tif"


def test_trace_takes_one_label(labels, tmp_path):
    succeed("trace", labels, "-o", tmp_path / "two.swc", "--label", "2")
    assert (np.abs(read_swc(tmp_path / "two.swc").xyz[:, 1] - 12.5) < 1).all()


def test_trace_makes_a_tree_of_each_label(labels, tmp_path):
    succeed("trace", labels, "-o", tmp_path / "all.swc", "--label", "all")
    for number, y in ((1, 4.5), (2, 12.5)):
        assert (np.abs(read_swc(tmp_path / f"all_{number}.swc").xyz[:, 1] - y) < 1).all()
    assert not (tmp_path / "all.swc").exists()


def test_a_label_that_becomes_no_tree_is_left_out_and_told(tmp_path):
    voxels = lines(1)
    voxels[0, 0, 0] = 5
    write_volume(tmp_path / "a.tif", Volume(voxels))
    told = told_by("trace", tmp_path / "a.tif", "--label", "all")
    assert "label 5 is left out: nothing to trace" in told
    assert (tmp_path / "a_1.swc").exists() and not (tmp_path / "a_5.swc").exists()


def test_labels_without_a_background_are_refused_with_the_option_named(tmp_path):
    write_volume(tmp_path / "a.tif", Volume(lines(2, background=1)))
    said = fail("trace", tmp_path / "a.tif")
    assert "holds the labels 1, 2 and no 0" in said and "--label N" in said
    assert not (tmp_path / "a.swc").exists()
    succeed("trace", tmp_path / "a.tif", "--label", "2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "7"], "expected one of its labels 1, 2, got 7"),
        (["--label", "one"], "--label: expected a whole number or all, got 'one'"),
        (["--label", "1", "--scale", "255"], "expected a label or a scale, got both"),
        (["--label", "all", "--neurons", "2"], "--label all: is as many neurons as there are labels"),
        (["--scale", "0"], "expected a scale above 0, got 0"),
    ],
)
def test_what_is_no_label_or_scale_is_refused(words, said, labels):
    assert said in fail("trace", labels, *words)


def test_evaluate_takes_a_label_of_both(labels, tmp_path):
    write_volume(tmp_path / "gold.tif", Volume(lines(0, 255)))
    told = succeed("evaluate", labels, tmp_path / "gold.tif", "--label", "2")
    assert "dice               1.0000" in told
    assert "--label: is for masks" in fail("evaluate", *trees(tmp_path), "--label", "2")


def test_evaluate_takes_whole_numbers_as_probabilities(tmp_path):
    scores = np.random.default_rng(0).random(SHAPE) * 0.4 + lines(1) * 0.6
    write_volume(tmp_path / "scores.tif", Volume((scores * 255).astype("uint8")))
    write_volume(tmp_path / "gold.tif", Volume(lines(1)))
    words = ("evaluate", tmp_path / "scores.tif", tmp_path / "gold.tif")
    told = run(*words).stdout
    assert "dice               1.0000" in told and "average_precision" in told
    noted = told_by(*words)
    assert "taken for probabilities, as shares of 255" in noted


def test_convert_writes_the_mask_of_a_label_and_scores_of_a_scale(labels, tmp_path):
    succeed("convert", labels, tmp_path / "mask.tif", "--label", "2")
    assert np.array_equal(read_volume(tmp_path / "mask.tif").array != 0, lines(0, 1) != 0)
    succeed("convert", labels, tmp_path / "scores.tif", "--scale", "2")
    assert read_volume(tmp_path / "scores.tif").array.max() == 1
    succeed("convert", labels, tmp_path / "same.tif")
    assert np.array_equal(read_volume(tmp_path / "same.tif").array, lines(1, 2))


def told_by(*words) -> str:
    """Runs the program to its good end; what it says on standard error."""
    result = run(*words)
    assert result.exit_code == 0
    return result.stderr


def trees(folder) -> list:
    paths = [folder / "a.swc", folder / "b.swc"]
    for path in paths:
        path.write_text("1 2 0 0 0 1 -1\n2 2 5 0 0 1 1\n")
    return paths
