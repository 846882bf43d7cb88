"""Distances along z count as deep as things look, between the in-plane side and the voxel size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from neuron_vit3d import Volume, trace
from neuron_vit3d.tracing.elongation import runs_of, seen_spacing
from neuron_vit3d.tracing.pieces import Pieces
from support.trees import tube


def blurred(along_z: float) -> np.ndarray:
    """A tube in a plane, blurred along z: as deep in voxels as wide where the blur is 3."""
    return gaussian_filter(tube((5, 20, 20), (75, 25, 20), radius=3.0).astype(np.float32), (along_z, 1, 1)) >= 0.3


@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_runs_are_counted(seed, share):
    mask = np.random.default_rng(seed).random((4, 5, 6)) < share
    slow = [
        sum(
            len("".join("x" if one else " " for one in line).split())
            for line in np.moveaxis(mask, axis, -1).reshape(-1, mask.shape[axis])
        )
        for axis in range(3)
    ]
    assert runs_of(mask).tolist() == slow
    upper, lower = runs_of(mask[:2]), runs_of(mask[1:], (1, 0, 0))  # in two boxes, the second with the slice before
    assert (upper + lower).tolist() == slow


def test_what_is_round_in_micrometres_keeps_its_voxel_size():
    for deep in (2, 3, 4):
        mask = tube((5, 20, 30), (75, 25, 30), shape=(60, 48, 80), radius=9.0)[::deep]
        assert seen_spacing(Pieces(mask), 0.5, np.array([deep, 1.0, 1.0])).tolist() == [deep, 1, 1]


def test_what_is_round_in_voxels_is_taken_to_be_round():
    side, *in_plane = seen_spacing(Pieces(blurred(1)), 0.5, np.array([4.0, 1.0, 1.0]))
    assert side == 1 and in_plane == [1, 1]
    shallow = np.array([1.0, 3.0, 3.0])
    assert seen_spacing(Pieces(blurred(1)), 0.5, shallow) is shallow, "only z is the optical axis"
    assert seen_spacing(Pieces(np.zeros((3, 3, 3), bool)), 0.5, np.array([4.0, 1, 1])).tolist() == [4, 1, 1]


@pytest.mark.parametrize("kind", ["mask", "scores"])
def test_a_ribbon_has_one_line_and_no_twigs_along_z(kind):
    rng = np.random.default_rng(0)
    mask = blurred(3)
    rough = mask & (rng.random(mask.shape) < 0.9)  # as scores of real stacks are
    array = rough.astype(np.uint8) if kind == "mask" else np.where(rough, 0.9, 0.001).astype(np.float32)
    tree = trace(Volume(array, (4.0, 1.0, 1.0)))
    assert len(tree.branches) <= 2, "the root is the thickest point, which need not be an end"
    assert np.abs(tree.xyz[:, 2] - 20).max() < 3


def test_without_a_voxel_size_only_what_is_very_flat_has_deep_voxels():
    neurite = tube((8, 16, 25), (52, 22, 25), shape=(50, 40, 60), radius=8.0)
    ones = np.ones(3)
    assert seen_spacing(Pieces(neurite), 0.5, ones, is_known=False).tolist() == [1, 1, 1]
    assert seen_spacing(Pieces(neurite[::2]), 0.5, ones, is_known=False).tolist() == [1, 1, 1]
    flat = neurite[::4]
    assert 3 < seen_spacing(Pieces(flat), 0.5, ones, is_known=False)[0] <= 6
    rough = flat & (np.random.default_rng(1).random(flat.shape) < 0.95)
    assert len(trace(rough).branches) <= 2


def test_a_known_voxel_size_is_not_exceeded():
    flat = tube((8, 16, 25), (52, 22, 25), shape=(50, 40, 60), radius=8.0)[::4]
    assert seen_spacing(Pieces(flat), 0.5, np.ones(3)).tolist() == [1, 1, 1]
    assert seen_spacing(Pieces(flat), 0.5, np.array([2.0, 1.0, 1.0])).tolist() == [2, 1, 1]
