"""Smoothing before tracing: along lines where a model is unsure, and not at all where it is sure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from neuron_vit3d.tracing.smoothing import MOST_EVIDENCE, SURE, UNSURE, AlongLines, Gaussian, log_odds


NONE, ISOTROPIC = np.zeros(3), np.ones(3)
UNSURE_ONES = {"sureness": UNSURE, "deviation": NONE, "spacing": ISOTROPIC}


def noise(shape, seed=0, deviation=2.0) -> np.ndarray:
    return expit(np.random.default_rng(seed).normal(-4, deviation, shape)).astype(np.float32)


def test_a_line_stands_out_of_noise_that_a_voxel_does_not():
    odds = np.random.default_rng(0).normal(-4, 2, (20, 30, 60))
    odds[10, 15, :] = np.random.default_rng(1).normal(1, 2, 60)
    scores = expit(odds).astype(np.float32)
    smoothed = AlongLines(0.5, **UNSURE_ONES)(scores)
    on_line = np.zeros(scores.shape, bool)
    on_line[10, 15] = True
    assert (smoothed[on_line] >= 0.5).mean() > 0.95 > 0.8 > (scores[on_line] >= 0.5).mean()
    near = np.zeros(scores.shape, bool)
    near[9:12, 14:17] = True
    assert (smoothed[~near] >= 0.5).mean() < (scores[~near] >= 0.5).mean() / 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 4))
def test_a_part_with_its_halo_is_as_in_the_whole(seed, threshold, corner, z_side):
    spacing = np.array([z_side, 1.0, 1.0])
    lines = AlongLines(threshold, UNSURE, 0.7 / spacing, spacing)
    scores = noise((30, 30, 30), seed)
    whole = lines(scores)
    low = [max(0, at - more) for at, more in zip(corner, lines.halo, strict=True)]
    part = lines(scores[tuple(slice(a, at + 6 + more) for a, at, more in zip(low, corner, lines.halo, strict=True))])
    inner = tuple(slice(at - a, at - a + 6) for a, at in zip(low, corner, strict=True))
    np.testing.assert_array_equal(part[inner], whole[tuple(slice(at, at + 6) for at in corner)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_a_mirror_image_is_smoothed_to_the_mirror_image(seed, threshold):
    lines, scores = AlongLines(threshold, **UNSURE_ONES), noise((9, 10, 11), seed)
    for axis in range(3):
        np.testing.assert_allclose(np.flip(lines(np.flip(scores, axis)), axis), lines(scores), atol=1e-6)


def test_who_is_sure_asks_no_neighbours():
    scores = noise((5, 6, 7))
    lines = AlongLines(0.3, SURE, np.full(3, 0.7), ISOTROPIC)
    assert lines.halo == [0, 0, 0]
    np.testing.assert_array_equal(lines(scores), lines.relative(scores))


def test_scores_become_relative_to_the_threshold():
    lines = AlongLines(0.2, np.inf, NONE, ISOTROPIC)
    relative = lines.relative(np.array([0.0, 0.1, 0.2, 0.6, 1.0]))
    assert relative[2] == pytest.approx(0.5, abs=1e-4) and (np.diff(relative) > 0).all()
    np.testing.assert_allclose(log_odds(relative.astype(float)[[0, -1]]), [-MOST_EVIDENCE, MOST_EVIDENCE], rtol=1e-3)
    assert lines.before(float(relative[1])) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.5, 0.7, 0.99, 1.0])
def test_a_score_that_is_the_threshold_reaches_it_and_background_does_not(threshold):
    scores = np.zeros((9, 9, 40), np.float32)
    scores[3:6, 3:6] = threshold
    for sureness in (0.0, UNSURE, SURE):
        lines = AlongLines(threshold, sureness, NONE, ISOTROPIC)
        assert (lines.relative(scores[3:6, 3:6]) >= 0.5).all() and (lines(scores)[3:6, 3:6] >= 0.5).all()
        assert lines(scores)[0].max() < 0.3 and np.isfinite(lines(scores)).all()


def test_nothing_reaches_a_level_where_no_score_in_reach_does():
    lines = AlongLines(0.4, **UNSURE_ONES)
    scores = np.full((12, 12, 12), np.float32(lines.before(0.1) * 0.999))
    assert lines(scores).max() < 0.1


def test_single_voxels_are_smoothed_as_all_are():
    scores, voxels = noise((12, 13, 14)), np.array([[5, 6, 7], [0, 0, 0], [11, 12, 13], [3, 0, 13]])
    lookup = lambda at: scores[tuple(np.clip(at, 0, np.array(scores.shape) - 1).T)]  # noqa: E731
    for smoothing in (AlongLines(0.3, **UNSURE_ONES), AlongLines(0.3, SURE, NONE, ISOTROPIC)):
        np.testing.assert_allclose(smoothing.at(voxels, lookup), smoothing(scores)[tuple(voxels.T)], rtol=1e-4)
    gaussian = Gaussian(np.full(3, 0.5))
    np.testing.assert_allclose(gaussian.at(voxels, lookup), gaussian(scores)[tuple(voxels.T)], rtol=0.02)
    flat = Gaussian(np.array([0.0, 0.5, 0.5]))
    np.testing.assert_allclose(flat.at(voxels, lookup), flat(scores)[tuple(voxels.T)], rtol=0.02)


def test_lines_are_as_long_in_all_directions_however_thick_the_slices():
    lines = AlongLines(0.5, UNSURE, NONE, np.array([4.0, 1, 1]))
    lengths = [half * np.linalg.norm(step * np.array([4.0, 1, 1])) for step, half in lines.lines]
    assert max(lengths) < 5 and min(lengths) > 3


def test_scores_are_sure_where_half_of_what_is_found_is_far_above_the_threshold():
    def smoother(sureness):
        return AlongLines(0.5, sureness, np.full(3, 0.7), np.ones(3))

    assert Gaussian(np.full(3, 0.7)).is_sure
    assert smoother(SURE).is_sure and not smoother(UNSURE).is_sure
