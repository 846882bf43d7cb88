"""Stacks are dealt into folds, and a lone one is cut in two."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d import Tree, rasterize, read_swc, read_volume, synthetic_neuron, write_volume
from neuron_vit3d.data.pairs import DataError, Pair
from neuron_vit3d.teaching.folds import MOST_FOLDS, deal, halve, part_of
from support.trees import trees


@given(count=st.integers(2, 20), seed=st.integers(0, 99))
def test_every_stack_is_left_out_once(count, seed):
    names = [f"n{i}" for i in range(count)]
    folds = deal(names, seed)
    assert sorted(name for fold in folds for name in fold) == sorted(names) and len(folds) == min(count, MOST_FOLDS)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert folds == deal(names[::-1], seed)


@given(tree=trees(), axis=st.integers(0, 2), at=st.floats(-50, 50))
def test_parts_hold_all_nodes_and_the_edges_between_them(tree, axis, at):
    parts = [part_of(tree, axis, slice(-1000, at)), part_of(tree, axis, slice(at, 1000))]
    assert sum(map(len, parts)) == len(tree)
    child, parent = tree.edges.T
    below = tree.xyz[:, 2 - axis] < at
    assert sum(len(part.edges) for part in parts) == (below[child] == below[parent]).sum()


def test_the_halves_of_a_stack_are_its_halves(tmp_path):
    neuron = synthetic_neuron((8, 48, 64), seed=2)
    write_volume(tmp_path / "a.tif", neuron.volume)
    neuron.tree.write(tmp_path / "a.swc")
    pair = Pair("a", tmp_path / "a.tif", tmp_path / "a.swc")
    halves = halve(pair, tmp_path / "halves", None)
    volumes = [read_volume(half.image).array for half in halves]
    assert np.array_equal(np.concatenate(volumes, axis=2), neuron.volume.array)
    masks = [rasterize(read_swc(half.annotation), v.shape) for half, v in zip(halves, volumes, strict=True)]
    whole = rasterize(neuron.tree, neuron.volume.array.shape)
    assert (np.concatenate(masks, axis=2) & ~whole).sum() == 0 and sum(m.sum() for m in masks) > 0.8 * whole.sum()
    changed = (tmp_path / "halves" / "a_half1.tif").stat().st_mtime_ns
    assert halve(pair, tmp_path / "halves", None) == halves
    assert (tmp_path / "halves" / "a_half1.tif").stat().st_mtime_ns == changed


def test_what_cannot_be_halved_is_refused(tmp_path):
    neuron = synthetic_neuron((8, 32, 32), seed=2)
    write_volume(tmp_path / "a.tif", neuron.volume)
    Tree.from_parents(np.ones((2, 3)), np.ones(2), np.array([-1, 0])).write(tmp_path / "a.swc")
    with pytest.raises(DataError, match=r"a\.swc: is the only tree, and too small to be halved"):
        halve(Pair("a", tmp_path / "a.tif", tmp_path / "a.swc"), tmp_path / "halves", None)
    with pytest.raises(DataError, match="has no tree to be halved by"):
        halve(Pair("a", tmp_path / "a.tif", tmp_path / "a.mask.tif"), tmp_path / "halves", None)
    assert not (tmp_path / "halves").exists()
