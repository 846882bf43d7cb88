"""Tests of `tracing/cuts.py`: what lies between two thick parts that face each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import trace
from neuron_vit3d.tracing.cuts import WIDEST, cuts
from neuron_vit3d.tracing.foreground import Foreground


def found(mask: np.ndarray, is_thick: np.ndarray | None = None, spacing: tuple = (1.0, 1.0, 1.0)) -> np.ndarray:
    foreground = Foreground.from_mask(mask, np.array(spacing))
    everywhere = np.ones(len(foreground), bool)
    result = np.zeros(mask.shape, bool)
    result.flat[cuts(foreground, everywhere if is_thick is None else is_thick)] = True
    return result


def tube(length: int = 60, side: int = 25, radius: float = 4.0) -> np.ndarray:
    z, y = np.mgrid[:side, :side] - side // 2
    return np.repeat((z**2 + y**2 <= radius**2)[:, :, None], length, axis=2)


@pytest.mark.parametrize("wide", [1, 2, 3])
def test_a_cut_is_closed_and_nothing_else(wide):
    whole = tube()
    mask = whole.copy()
    mask[:, :, 30 : 30 + wide] = False

    assert np.array_equal(mask | found(mask), whole)


def test_a_wider_gap_is_no_cut():
    mask = tube()
    mask[:, :, 30 : 30 + int(WIDEST) + 1] = False

    assert not found(mask).any()


def test_what_is_not_thick_is_not_closed():
    mask = tube()
    mask[:, :, 30:32] = False
    is_thick = np.argwhere(mask)[:, 2] < 30  # one side of the cut only

    assert not found(mask, is_thick).any()


def test_the_width_of_a_gap_is_counted_in_smallest_voxel_sides():
    mask = tube().transpose(2, 0, 1)
    mask[30:32] = False

    assert found(mask, spacing=(1.0, 1.0, 1.0)).any()
    assert not found(mask, spacing=(3.0, 1.0, 1.0)).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_only_background_between_foreground_is_found(seed, share):
    mask = np.random.default_rng(seed).random((9, 10, 11)) < share
    closed = found(mask)

    assert not (closed & mask).any()
    for z, y, x in np.argwhere(closed):  # there is foreground within WIDEST voxels
        reach = int(WIDEST)
        assert mask[
            max(z - reach, 0) : z + reach + 1, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1
        ].any()


def test_one_line_runs_through_a_tube_that_is_cut_aslant():
    mask = tube(length=120, side=31, radius=5.0)
    _, y, x = np.indices(mask.shape)
    mask &= np.abs((x - 60) * 0.6 + (y - 15) * 0.8) > 1.5  # a slab three voxels thick

    tree = trace(mask)

    assert np.bincount(tree.edges.ravel()).max() == 2  # no branch
    inner = np.abs(tree.xyz[:, 0] - 60) < 45  # at the faces of the volume a line may run to a side
    assert np.abs(tree.xyz[inner, 1:] - 15).max() <= 2
