"""A mask or scores looked through piece by piece: the same as at once, whatever the pieces, and bounded."""

import numpy as np
import pytest
from scipy import ndimage

from neuron_vit3d.morphology import rasterize
from neuron_vit3d.tracing import TraceError, pieces, trace
from neuron_vit3d.tracing.pieces import Levels, Pieces, look_through
from neuron_vit3d.tracing.smoothing import Gaussian
from neuron_vit3d.volumes import reader as reader_module
from support.readers import reader_of
from support.trees import random_tree


@pytest.mark.parametrize("piece", [(1, 20, 30), (4, 7, 9), (8, 20, 16)])
def test_pieces_cover_the_volume_once(piece, monkeypatch):
    monkeypatch.setattr(pieces, "_VOXELS_AT_ONCE", 300)
    monkeypatch.setattr(reader_module, "_BOX_VOXELS", 300)
    array = np.zeros((13, 20, 30), np.uint8)
    for source in (array, reader_of(array, piece)):
        count = np.zeros(array.shape, int)
        for box in Pieces(source).boxes():
            count[box] += 1
        assert (count == 1).all()


@pytest.mark.parametrize("smoothing", [0, 0.7, 1.5])
@pytest.mark.parametrize("piece", [None, (1, 64, 64), (10, 24, 17)])
def test_trees_are_the_same_whatever_the_pieces(smoothing, piece, monkeypatch):
    scores = rasterize(random_tree(5), (64, 64, 64)) * np.float32(0.9)
    scores[:, :, 30:34] *= np.float32(0.3)  # to be bridged
    whole = trace(scores, smoothing=smoothing, voxel_size=(2, 1, 1))
    monkeypatch.setattr(pieces, "_VOXELS_AT_ONCE", 1)
    monkeypatch.setattr(reader_module, "_BOX_VOXELS", 1)
    source = scores if piece is None else reader_of(scores, piece)
    by_piece = trace(source, smoothing=smoothing, voxel_size=(2, 1, 1))
    np.testing.assert_array_equal(by_piece.xyz, whole.xyz)
    np.testing.assert_array_equal(by_piece.radii, whole.radii)


@pytest.mark.parametrize("deviation", [0.0, 0.7, 3.0])
def test_the_signal_is_that_of_the_whole_volume_smoothed_at_once(deviation, monkeypatch):
    monkeypatch.setattr(pieces, "_TILE", 8)
    rng = np.random.default_rng(0)
    scores = (rasterize(random_tree(5), (64, 64, 64)) * rng.random((64, 64, 64)) * 0.9).astype(np.float32)
    levels = Levels(0.02, 0.03, 0.5, before=0.02)
    found, values, _, _ = look_through(Pieces(scores), levels, Gaussian(np.full(3, deviation)), most=10**6).signal(
        np.ones(3)
    )
    smoothed = ndimage.gaussian_filter(scores, deviation, mode="nearest") if deviation else scores
    np.testing.assert_array_equal(found.voxels, np.argwhere(smoothed >= np.float32(0.02)))
    np.testing.assert_array_equal(values, smoothed[smoothed >= np.float32(0.02)])


def test_masks_are_read_by_pieces_too(monkeypatch):
    mask = rasterize(random_tree(5), (64, 64, 64)).astype(np.uint8)
    whole = trace(mask, voxel_size=(2, 1, 1))
    monkeypatch.setattr(reader_module, "_BOX_VOXELS", 1000)
    np.testing.assert_array_equal(trace(reader_of(mask, (10, 24, 17))).xyz, whole.xyz)  # the reader's voxel size


def test_of_too_much_weak_signal_the_strong_one_is_kept(monkeypatch):
    monkeypatch.setattr(pieces, "_VOXELS_AT_ONCE", 1)
    scores = np.full((20, 9, 9), 0.2, np.float32)
    scores[:, 4, 4] = 0.9
    nothing = Gaussian(np.zeros(3))
    found, values, strong, sure = look_through(
        Pieces(scores), Levels(0.1, 0.5, 0.5, before=0.1), nothing, most=100
    ).signal(np.ones(3))
    assert len(found) == 20 and (found.voxels[:, 1:] == 4).all()
    assert (values == np.float32(0.9)).all() and strong.all() and sure.all()
    with pytest.raises(TraceError, match="mask has 20 foreground voxels"):
        look_through(Pieces(scores), Levels(0.1, 0.5, 0.5, before=0.1), nothing, most=19).check_count(19)


def test_scores_that_are_none_are_refused_wherever_they_lie(monkeypatch):
    monkeypatch.setattr(pieces, "_VOXELS_AT_ONCE", 1)
    for bad in (np.nan, 1.5, -0.1):
        scores = np.zeros((40, 9, 9), np.float32)
        scores[35, 2, 3] = bad
        with pytest.raises(TraceError, match=r"scores must lie in \[0, 1\]"):
            trace(scores)


@pytest.mark.parametrize("options", [{"bridge_distance": 0}, {"smoothing": 2.0}, {}])
def test_nothing_of_a_mask_is_lost_however_thin(options):
    mask = np.zeros((20, 20, 60), bool)
    mask[10, 10, 5:30] = True
    mask[8:13, 8:13, 30:55] = True
    tree = trace(mask, **options)
    assert tree.xyz[:, 0].min() < 8 and tree.xyz[:, 0].max() > 50
