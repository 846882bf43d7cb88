"""How trees are connected: figures known by hand, laws, and what happens at the borders."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Tree, tree_distance
from neuron_vit3d.evaluation.comparison import Comparison
from neuron_vit3d.evaluation.topology import topology_figures, without_lone_nodes
from neuron_vit3d.morphology.critical_nodes import match_points, matched_distances, node_distances
from neuron_vit3d.morphology.diadem import diadem_score
from neuron_vit3d.morphology.runs import run_lengths
from neuron_vit3d.morphology.swc import SWCError
from support.program import fail, succeed
from support.trees import FORKED, trees


def along_x(*ends: tuple[float, float]) -> Tree:
    """Straight lines along x, each a fragment."""
    xyz = [(x, 0, 0) for pair in ends for x in pair]
    return Tree.from_parents(
        np.array(xyz, float), np.ones(len(xyz)), [-1 if i % 2 == 0 else i - 1 for i in range(len(xyz))]
    )


GOLD = along_x((0, 100))


def with_twig(tree: Tree, row: int, end) -> Tree:
    """The tree with a twig from one of its nodes."""
    rows = np.append(tree.parent_index, row)
    return Tree.from_parents(np.vstack([tree.xyz, end]), np.append(tree.radii, 1.0), rows)


# -- runs -------------------------------------------------------------------------------------------------------------


def test_a_gap_splits():
    figures = run_lengths(along_x((0, 40), (60, 100)), GOLD)
    assert (figures["splits"], figures["merges"], figures["split_edges"]) == (1, 0, 0)
    assert figures["omitted_edges"] == pytest.approx(0.17)  # from 42 to 58, and the piece that leads there
    runs = 42, 41  # up to 42 and from 59 on: pieces that end beyond 2 voxels are out
    assert figures["expected_run_length"] == pytest.approx(sum(run**2 for run in runs) / 100, rel=0.03)
    assert figures["normalized_run_length"] == pytest.approx(figures["expected_run_length"] / 100)


def test_touching_fragments_split_where_one_ends():
    figures = run_lengths(along_x((0, 70), (71, 100)), GOLD)
    assert (figures["splits"], figures["omitted_edges"]) == (1, 0)
    assert figures["split_edges"] == pytest.approx(0.01)
    assert figures["expected_run_length"] == pytest.approx((72**2 + 27**2) / 100, rel=0.02)


def test_a_detour_is_no_split_and_a_missing_end_is_omitted():
    detour = Tree.from_parents(
        np.array([[0, 0, 0], [40, 0, 0], [50, 10, 0], [60, 0, 0], [80, 0, 0]], float), np.ones(5), [-1, 0, 1, 2, 3]
    )
    figures = run_lengths(detour, GOLD)
    assert figures["splits"] == 0 and figures["omitted_edges"] == pytest.approx(0.18)
    assert figures["expected_run_length"] == pytest.approx(82 * 82 / 100)


def test_what_leads_far_from_gold_is_a_merge():
    bent = Tree.from_parents(np.array([[0, 0, 0], [50, 0, 0], [100, 0, 0]], float), np.ones(3), [-1, 0, 1])
    for length, merges in ((40, 0), (60, 1)):  # voxels: 50 are the limit
        figures = run_lengths(with_twig(bent, 1, [50, length, 0]), bent)
        assert (figures["merges"], figures["merged_edges"]) == (merges, merges)
        assert figures["expected_run_length"] == (0 if merges else 100)
    far = dataclasses.replace(bent, xyz=bent.xyz + 500)
    both = Tree.from_parents(np.vstack([bent.xyz, far.xyz]), np.ones(6), [-1, 0, 1, -1, 3, 4])
    assert run_lengths(both, bent)["merges"] == 0  # a fragment that holds nothing of gold


def test_gold_in_fragments_is_one_neuron():
    gold = along_x((0, 40), (41, 100))
    figures = run_lengths(GOLD, gold)
    assert (figures["splits"], figures["merges"], figures["edge_accuracy"]) == (0, 0, 1)
    assert figures["normalized_run_length"] == pytest.approx(1)
    figures = run_lengths(along_x((0, 40)), gold)  # one of them is missed whole
    assert figures["splits"] == 0 and figures["omitted_edges"] == pytest.approx(59 / 99, abs=0.03)


def test_inside_a_thick_neurite_any_line_is_near():
    beside = dataclasses.replace(GOLD, xyz=np.add(GOLD.xyz, [0, 5, 0]))
    assert run_lengths(beside, GOLD)["omitted_edges"] == 1
    assert run_lengths(beside, dataclasses.replace(GOLD, radii=[6, 6]))["edge_accuracy"] == 1


@settings(deadline=None, max_examples=25)
@given(trees(), trees())
def test_laws_of_runs(predicted, gold):
    if not gold.length:
        return
    figures = run_lengths(predicted, gold)
    shares = [figures[name] for name in ("split_edges", "omitted_edges", "merged_edges")]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in [*shares, sum(shares), figures["normalized_run_length"]])
    assert figures["splits"] >= 0 and figures["merges"] >= 0
    assert figures["expected_run_length"] <= gold.length + 1e-9
    same = run_lengths(gold, gold)
    assert (same["splits"], same["merges"], same["omitted_edges"], same["split_edges"]) == (0, 0, 0, 0)
    assert same["normalized_run_length"] == pytest.approx(1)


# -- DIADEM -----------------------------------------------------------------------------------------------------------


def test_weights_of_missing_and_excess_twigs():
    """Tips weigh 1 and the two forks 3 and 2, eight together."""
    short = Tree.from_parents(np.delete(FORKED.xyz, 4, 0), np.ones(5), [-1, 0, 1, 2, 2])
    assert diadem_score(FORKED, FORKED) == 1
    # The tip at 30 is missed; its fork is a continuation, which counts.
    assert diadem_score(short, FORKED) == pytest.approx(7 / 8)
    # The other way round gold weighs 2 + 1 + 1 and the twig is one more.
    assert diadem_score(FORKED, short) == pytest.approx(4 / 5)


def test_connections_count_and_not_places_alone():
    """The same tips at the same places, but two of them are reached by a way that is much longer."""
    detour = Tree.from_parents(
        np.vstack([FORKED.xyz[:4], [[90, 60, 0], [30, 60, 0]], FORKED.xyz[4:]]), np.ones(8), [-1, 0, 1, 2, 3, 4, 5, 2]
    )
    assert tree_distance(detour, FORKED)["tips_recall"] == 3 / 4  # the end at 90 is none any more
    # The tip at 30 and the one at 90, and no fork: of 8 the fork at 30 is a continuation.
    assert diadem_score(detour, FORKED) < 0.8


def test_another_root_in_the_prediction_does_not_matter():
    rerooted = Tree.from_parents(FORKED.xyz, FORKED.radii, [1, 2, -1, 2, 1, 2])
    assert diadem_score(rerooted, FORKED) == 1


@settings(deadline=None, max_examples=25)
@given(trees(), trees())
def test_laws_of_the_score(predicted, gold):
    assert 0 <= diadem_score(predicted, gold) <= 1


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_a_small_shift_keeps_the_score_and_a_large_one_none(seed):
    random = np.random.default_rng(seed)
    parents = [-1, *(max(0, row - random.integers(1, 4)) for row in range(1, 40))]
    xyz = np.zeros((40, 3))
    for row in range(1, 40):
        step = random.normal(0, 1, 3)
        # So long that what the shift changes where a branch leaves the cylinders is below a twentieth of it.
        xyz[row] = xyz[parents[row]] + step / np.linalg.norm(step) * random.uniform(80, 160)
    gold = Tree.from_parents(xyz, np.ones(40), parents)
    assert diadem_score(gold, gold) == 1
    assert diadem_score(dataclasses.replace(gold, xyz=gold.xyz + 1.0), gold) == 1
    assert diadem_score(dataclasses.replace(gold, xyz=gold.xyz + 1e4), gold) == 0


# -- distances of matched nodes ---------------------------------------------------------------------------------------

PLACES = st.lists(st.tuples(*[st.integers(0, 12)] * 3), max_size=6).map(
    lambda points: np.array(points, float).reshape(-1, 3)
)


@settings(deadline=None, max_examples=60)
@given(PLACES, PLACES)
def test_as_many_are_matched_and_they_are_near(first, second):
    distances = matched_distances(first, second)
    assert len(distances) == match_points(first, second)
    assert (distances <= 5).all()


def test_the_nearest_pairing_is_taken():
    first, second = np.array([[0.0, 0, 0], [4, 0, 0]]), np.array([[4.0, 0, 0], [1, 0, 0]])
    assert sorted(matched_distances(first, second)) == [0, 1]
    moved = dataclasses.replace(FORKED, xyz=np.add(FORKED.xyz, [0, 0, 2]))
    assert node_distances(moved, FORKED) == {"branch_points_distance": 2, "tips_distance": 2}
    assert math.isnan(node_distances(GOLD, FORKED)["branch_points_distance"])


# -- all together -----------------------------------------------------------------------------------------------------


def test_trees_without_edges():
    lone = Tree.from_parents(np.zeros((1, 3)), np.ones(1), [-1])
    assert topology_figures(lone, GOLD)["diadem"] == 0 and topology_figures(lone, GOLD)["splits"] == 0
    assert math.isnan(topology_figures(GOLD, lone)["expected_run_length"])
    for function in (run_lengths, diadem_score):
        with pytest.raises(SWCError, match="gold tree with edges"):
            function(GOLD, lone)
        with pytest.raises(SWCError, match="NaN"):
            function(dataclasses.replace(GOLD, xyz=np.full((2, 3), np.nan)), GOLD)


def test_nodes_without_an_edge_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stray = Tree.from_parents(np.vstack([GOLD.xyz, [[0, 300, 0]]]), np.ones(3), [-1, 0, -1])
    stray.write("stray.swc")
    GOLD.write("gold.swc")
    assert len(without_lone_nodes(stray)) == 2 and without_lone_nodes(GOLD) is GOLD
    counted = Comparison(tmp_path / "stray.swc", tmp_path / "gold.swc").figures()
    ignored = Comparison(tmp_path / "stray.swc", tmp_path / "gold.swc", lone_nodes=False).figures()
    assert counted["esa"] > 1 and ignored["esa"] == pytest.approx(0)
    assert "esa                     0.0000" in succeed("evaluate", "stray.swc", "gold.swc", "--ignore-lone-nodes")
    Tree.from_parents(np.zeros((1, 3)), np.ones(1), [-1]).write("lone.swc")
    complaint = fail("evaluate", "lone.swc", "gold.swc", "--ignore-lone-nodes")
    assert complaint.startswith("lone.swc: expected a tree with edges, found 1 node(s)")
