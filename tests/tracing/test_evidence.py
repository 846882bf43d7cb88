"""What scores say along a tree: the score at a node, gaps that stay gaps, and hollow neurites that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Volume, write_volume
from neuron_vit3d.morphology import Tree, check_tree, rasterize, read_swc, tree_distance
from neuron_vit3d.tracing import TraceError, evidence, trace, trace_neurons
from neuron_vit3d.tracing.center_lines import Rules
from neuron_vit3d.tracing.evidence import with_scores
from neuron_vit3d.tracing.pieces import Levels, Pieces
from neuron_vit3d.tracing.smoothing import Gaussian
from neuron_vit3d.volumes import open_volume


ISOTROPIC = np.ones(3)
RULES = Rules(Levels(0.07, 0.35, 0.5, before=0.07), Gaussian(np.full(3, 0.7)), True, ISOTROPIC, 10, 16.0, [])


def line(length: int = 60, radius: float = 1.0, shape=(20, 20, 70)) -> Tree:
    """Nodes a voxel apart along x, in the middle of the volume."""
    xyz = np.stack([np.arange(5, 5 + length), *(np.full(length, side // 2) for side in shape[1::-1])], axis=1)
    return Tree.from_parents(xyz.astype(float), np.full(length, radius), np.arange(length) - 1)


def tube(radius: float, shape=(20, 20, 70)) -> np.ndarray:
    return rasterize(line(radius=radius, shape=shape), shape)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 9), st.tuples(*[st.integers(1, 15)] * 3), st.integers(1, 30))
def test_scores_are_those_of_the_voxels_or_higher_and_within_the_volumes(seed, radius, shape, n):
    rng = np.random.default_rng(seed)
    scores = rng.random(shape).astype(np.float32)
    voxels = np.stack([rng.integers(0, side, n) for side in shape], axis=1)
    parents = [int(rng.integers(0, row)) if row else -1 for row in range(n)]
    tree = Tree.from_parents(voxels[:, ::-1] + rng.uniform(-0.4, 0.4, (n, 3)), np.full(n, radius), parents)
    found = with_scores(tree, Pieces(scores), ISOTROPIC, RULES).scores
    at = scores[tuple(voxels.T)]
    assert (found >= at - 1e-6).all() and found.max() <= scores.max() + 1e-6
    if radius < evidence.RING_RADIUS:
        reaches = at >= RULES.levels.strong  # what does not is smoothed
        np.testing.assert_allclose(found[reaches], at[reaches], rtol=1e-6)


@pytest.mark.parametrize("radius", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("as_scores", [False, True])
def test_a_gap_is_as_long_as_it_is_however_thick_the_neurite(radius, as_scores):
    mask = tube(radius)
    mask[:, :, 30:38] = False
    source = Pieces(mask.astype(np.float32) * np.float32(0.9) if as_scores else mask)
    tree = with_scores(line(radius=radius), source, ISOTROPIC, RULES)
    branch = tree.branches[0]
    assert branch.bridged_voxels == pytest.approx(8, abs=1)
    assert branch.confidence == pytest.approx((0.9 if as_scores else 1) * (1 - 8 / 60), abs=0.03)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_the_inside_of_a_hollow_neurite_is_no_gap(spacing):
    shape, spacing = (30, 30, 70), np.array(spacing)
    z, y, _ = np.indices(shape)
    distance = np.hypot((z - 15) * spacing[0], y - 15)
    shell = (distance <= 7) & (distance > 5)
    tree = with_scores(line(radius=7.0, shape=shape), Pieces(shell), spacing, RULES)
    assert not tree.bridged.any() and (tree.scores == 1).all()


def test_the_same_from_a_file_and_across_its_boxes(tmp_path, monkeypatch):
    scores = np.random.default_rng(0).random((20, 20, 70)).astype(np.float32)
    write_volume(tmp_path / "a.tif", Volume(scores))
    tree = line(radius=3.0)
    whole = with_scores(tree, Pieces(scores), ISOTROPIC, RULES)
    with open_volume(tmp_path / "a.tif") as reader:
        boxes = [(slice(z, z + 4), slice(0, 20), slice(x, x + 35)) for z in range(0, 20, 4) for x in (0, 35)]
        monkeypatch.setattr(reader, "boxes", lambda: iter(boxes))
        by_boxes = with_scores(tree, Pieces(reader), ISOTROPIC, RULES)
    np.testing.assert_array_equal(whole.scores, by_boxes.scores)
    np.testing.assert_array_equal(whole.bridged, by_boxes.bridged)


def test_a_traced_tree_knows_where_it_bridges_and_forgets_it_in_a_file(tmp_path):
    mask = tube(2.0)
    mask[:, :, 30:38] = False
    tree = trace(mask)
    assert tree.branches.bridged_voxels.sum() == pytest.approx(8, abs=1.5)
    back = read_swc(tree.write(tmp_path / "a.swc"))
    assert back.scores is None and back.branches.length.sum() == tree.branches.length.sum()


def two_pieces() -> np.ndarray:
    """A line whose second part is 26 voxels away, too far to be joined, and a speck."""
    scores = np.zeros((20, 20, 140), np.float32)
    scores[9:12, 9:12, 5:60] = 0.9
    scores[9:12, 9:12, 86:130] = 0.6
    scores[1:4, 1:4, 75:78] = 0.9
    return scores


def test_fragments_are_further_roots_the_largest_first():
    scores = two_pieces()
    alone, forest = trace(scores), trace(scores, fragments=True)
    assert check_tree(forest) == [] and len(alone.roots) == 1 and len(forest.roots) == 2
    np.testing.assert_array_equal(forest.xyz[: len(alone)], alone.xyz)
    assert (forest.xyz[len(alone) :, 0] > 80).all() and forest.roots.tolist() == [0, len(alone)]
    assert forest.comments[-1] == "kept 1 fragments as further roots"
    assert len(forest.comments) == 1 and (forest.xyz[:, 2] > 7).all()  # the speck is smoothed away
    assert tree_distance(forest, forest)["f1"] == 1
    with pytest.raises(TraceError, match="fragments: cannot be kept of 2 neurons"):
        trace_neurons(scores, 2, fragments=True)


def test_pieces_joined_to_each_other_are_one_fragment():
    scores = two_pieces()
    scores[9:12, 9:12, 107:110] = 0  # bridged
    forest = trace(scores, fragments=True)
    assert len(forest.roots) == 2 and check_tree(forest) == []


def test_what_is_not_sure_enough_is_cut_off_and_told():
    scores = two_pieces()
    assert len(trace(scores, fragments=True, min_confidence=0.7).roots) == 1
    scores[9:12, 12:40, 30:33] = 0.55
    whole, sure = trace(scores), trace(scores, min_confidence=0.7)
    assert len(whole.branches) == 3 and len(sure.branches) == 1 and (sure.branches.confidence >= 0.7).all()
    assert sure.comments[-1].startswith("dropped 1 branches")
    with pytest.raises(TraceError, match="min_confidence must lie in"):
        trace(scores, min_confidence=1.1)
