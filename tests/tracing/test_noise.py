"""The threshold that follows the noise of a stack's scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from neuron_vit3d import Volume, threshold_from_noise, trace, write_volume
from neuron_vit3d.tracing import noise
from neuron_vit3d.tracing.noise import HIGHEST, LOWEST, LogOdds
from neuron_vit3d.tracing.pieces import Pieces
from neuron_vit3d.volumes import open_volume


def stack(median=-8.0, deviation=1.2, seed=0, neurite=2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    odds = median + deviation * rng.standard_normal((30, 40, 50))
    odds[14:17, 19:22] = neurite
    return expit(odds).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.floats(-9, -6), st.floats(0.5, 1.5), st.integers(0, 1000))
def test_what_is_a_neurite_is_above_it_and_what_is_noise_below(median, deviation, seed):
    scores = stack(median, deviation, seed, neurite=median + 9 * deviation)
    threshold = threshold_from_noise(scores)
    assert LOWEST <= threshold <= HIGHEST
    if LOWEST < threshold < HIGHEST:
        found = scores >= threshold
        assert found[14:17, 19:22].all() and found.mean() < 0.01


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 2), st.integers(0, 1000))
def test_it_moves_with_all_scores(shift, seed):
    first, second = (threshold_from_noise(stack(-8.5 + more, seed=seed, neurite=1 + more)) for more in (0.0, shift))
    assert np.log(second / (1 - second)) - np.log(first / (1 - first)) == pytest.approx(shift, abs=0.1)


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros((4, 5, 6), np.float32),
        np.full((4, 5, 6), 0.3, np.float32),
        np.pad(np.full((2, 2, 20), 0.9, np.float32), 4),  # no background that a model has looked at
        np.where(np.arange(1000).reshape(10, 10, 10) % 50 == 0, 0.9, 0.01).astype(np.float32),  # that does not vary
        np.random.default_rng(0).random((9, 9, 9)),
    ],
)
def test_scores_that_tell_of_no_noise_have_the_usual_one(scores):
    assert threshold_from_noise(scores) == 0.5


def test_tiles_that_were_left_out_do_not_count():
    scores = stack()
    with_empty = np.concatenate([scores, np.zeros((90, 40, 50), np.float32)])
    assert threshold_from_noise(with_empty) == threshold_from_noise(scores)


def test_it_is_the_same_from_a_file_and_from_a_part_of_a_large_one_nearly(tmp_path, monkeypatch):
    scores = stack()
    path = write_volume(tmp_path / "scores.tif", Volume(scores, (2.0, 1.0, 1.0)))
    with open_volume(path) as reader:
        assert threshold_from_noise(reader) == threshold_from_noise(Volume(scores)) == threshold_from_noise(scores)
    along_z = np.moveaxis(scores, 2, 0)  # some of the neurite in every slice
    whole = threshold_from_noise(along_z)
    monkeypatch.setattr(noise, "_VOXELS", scores.size // 2)
    monkeypatch.setattr("neuron_vit3d.tracing.pieces._VOXELS_AT_ONCE", 1)
    assert threshold_from_noise(along_z) == pytest.approx(whole, abs=0.05)


def test_how_sure_a_model_is():
    scores = np.full((10, 10, 10), 0.001, np.float32)
    assert LogOdds(Pieces(scores)).sureness(0.5) == np.inf
    scores[:2] = expit(3.0)
    odds = LogOdds(Pieces(scores))
    assert odds.sureness(0.5) == pytest.approx(3, abs=0.02)
    assert odds.sureness(expit(2.0)) == pytest.approx(1, abs=0.02) and odds.sureness(1.0) == np.inf


def test_pieces_are_counted_once_and_an_array_as_it_is_now(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(LogOdds, "_add", lambda self, scores, add=LogOdds._add: (counted.append(1), add(self, scores)))
    scores = stack()
    write_volume(tmp_path / "scores.tif", Volume(scores))
    with open_volume(tmp_path / "scores.tif") as reader:
        pieces = Pieces(reader)
        threshold = threshold_from_noise(pieces)
        once = len(counted)
        trees = [trace(pieces, threshold=threshold), trace(pieces)]
    assert once == len(counted) > 0
    assert (trees[0].xyz == trees[1].xyz).all() and (trees[0].xyz == trace(scores).xyz).all()
    assert threshold == threshold_from_noise(scores)
    before = len(counted)
    scores[:] = stack(median=-7.5)
    assert threshold_from_noise(scores) != threshold and len(counted) > before
    with open_volume(tmp_path / "scores.tif") as reader:
        before = len(counted)
        assert threshold_from_noise(reader) == threshold and len(counted) > before
