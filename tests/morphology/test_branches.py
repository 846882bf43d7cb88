"""The branches of a tree: together they are the tree, each has its measures, and pruning by confidence leaves what is
sure."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import Tree, check_tree
from neuron_vit3d.morphology.branches import (
    BRANCH,
    branches_text,
    doubtful_nodes,
    find_branches,
    prune_branches,
)


def tree_of(parents, scores=None, bridged=None) -> Tree:
    """Nodes along x, each a voxel from the next; ids are ten times the row."""
    parents, n = np.array(parents, int), len(parents)
    xyz = np.stack([np.arange(n), np.zeros(n), np.zeros(n)], axis=1)
    ids = 10 * np.arange(1, n + 1)
    return Tree(ids, np.zeros(n), xyz, np.ones(n), np.where(parents < 0, -1, ids[parents]), (), scores, bridged)


@st.composite
def forests(draw, shuffled: bool = False) -> Tree:
    """Random forests with scores and gaps, some positions the same; parents first, or nodes in any order."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parents = np.array([int(rng.integers(max(-1, row - 4), row)) if row else -1 for row in range(n)])
    order = rng.permutation(n) if shuffled else np.arange(n)
    ids = rng.permutation(1000)[:n]
    whole = (
        ids,
        np.zeros(n),
        rng.integers(0, 9, (n, 3)),
        rng.uniform(0.5, 3, n),
        np.where(parents < 0, -1, ids[parents]),
    )
    return Tree(*(column[order] for column in whole), (), rng.uniform(0, 1, n).round(1), rng.random(n) < 0.2)


def one_by_one(tree: Tree) -> dict[int, dict]:
    """The branches by walking up from every end, by the id of the end."""
    parent, children = tree.parent_index, [np.flatnonzero(tree.parent_index == row) for row in range(len(tree))]
    found = {}
    for end in range(len(tree)):
        if len(children[end]) == 1 or (parent[end] < 0 and len(children[end])):
            continue
        nodes = [end]
        while parent[nodes[-1]] >= 0 and parent[parent[nodes[-1]]] >= 0 and len(children[parent[nodes[-1]]]) == 1:
            nodes.append(int(parent[nodes[-1]]))
        start = int(parent[nodes[-1]]) if parent[end] >= 0 else end
        steps = np.linalg.norm(tree.xyz[nodes] - tree.xyz[[*nodes[1:], start]], axis=1)
        found[int(tree.ids[end])] = {
            "start": int(tree.ids[start]),
            "length": steps.sum(),
            "mean_radius": tree.radii[nodes].mean(),
            "confidence": tree.scores[nodes].mean(),
            "bridged_voxels": steps[tree.bridged[nodes]].sum(),
        }
    return found


@settings(max_examples=100, deadline=None)
@given(forests(shuffled=True))
def test_branches_are_those_found_by_walking(tree):
    branches, branch = find_branches(tree)
    expected = one_by_one(tree)
    assert sorted(branches.end) == sorted(expected)
    for one in branches:
        for name, value in expected[int(one.end)].items():
            assert one[name] == pytest.approx(value), name
    ends = {int(end): row for row, end in enumerate(branches.end)}
    lone = branches.start == branches.end
    assert branches.parent_branch.tolist() == [
        -1 if alone else ends.get(int(start), -1) for start, alone in zip(branches.start, lone, strict=True)
    ]
    assert branches.length.sum() == pytest.approx(tree.length)
    # Every node but the roots that branches leave belongs to one.
    assert (branch < 0).sum() == len(tree.roots) - lone.sum()


def test_a_line_is_one_branch_and_a_fork_is_three():
    line = tree_of([-1, 0, 1, 2])
    assert line.branches.tolist()[0][:4] == (10, 40, -1, 3.0) and len(line.branches) == 1
    fork = tree_of([-1, 0, 1, 2, 1, 4], scores=[1, 1, 1, 0, 0.5, 0.5], bridged=[0, 0, 0, 1, 0, 0]).branches
    assert fork.start.tolist() == [10, 20, 20] and fork.end.tolist() == [20, 40, 60]
    assert fork.parent_branch.tolist() == [-1, 0, 0] and fork.length.tolist() == [1, 2, 4]
    assert fork.confidence.tolist() == [1, 0.5, 0.5] and fork.bridged_voxels.tolist() == [0, 1, 0]


def test_a_root_within_a_line_begins_two_branches_and_a_lone_one_is_its_own():
    branches = tree_of([-1, 0, 0, -1], scores=[1, 1, 1, 0.25]).branches
    assert branches.start.tolist() == [10, 10, 40] and branches.end.tolist() == [20, 30, 40]
    assert branches.parent_branch.tolist() == [-1, -1, -1] and branches.length.tolist() == [1, 2, 0]
    assert branches.confidence[2] == 0.25


def test_without_scores_nothing_is_known_and_nothing_pruned():
    tree = tree_of([-1, 0, 1])
    assert np.isnan(tree.branches.confidence).all() and np.isnan(tree.branches.bridged_voxels).all()
    assert not doubtful_nodes(tree).any() and prune_branches(tree, 1.0) is tree
    assert len(tree_of([]).branches) == 0


def test_the_text_is_read_by_the_csv_module():
    tree = tree_of([-1, 0, 1, 2, 1, 4], scores=[1, 1, 1, 0, 0.5, 0.5], bridged=[0, 0, 0, 1, 0, 0])
    rows = list(csv.DictReader(io.StringIO(branches_text(tree.branches))))
    assert [row["branch"] for row in rows] == ["0", "1", "2"] and list(rows[0])[1:] == list(BRANCH.names)
    for row, branch in zip(rows, tree.branches, strict=True):
        assert [float(row[name]) for name in BRANCH.names] == pytest.approx(branch.tolist(), abs=1e-4)
    assert branches_text(tree_of([-1]).branches).splitlines()[1] == "0,10,10,-1,0.0000,1.0000,nan,nan"


def edges_of(tree: Tree) -> set[tuple]:
    return set(map(tuple, tree.xyz[tree.edges].reshape(-1, 6).tolist()))


@settings(max_examples=200, deadline=None)
@given(forests(), st.floats(0, 1), st.booleans())
def test_what_is_left_after_pruning_is_sure_and_sound_and_was_there(tree, min_confidence, fragments):
    pruned = prune_branches(tree, min_confidence, fragments=fragments)
    assert check_tree(pruned) == [] and edges_of(pruned) <= edges_of(tree)
    first = pruned.roots[0]
    assert (pruned.xyz[first] == tree.xyz[tree.roots[0]]).all()
    branches = pruned.branches
    is_first = (branches.start == pruned.ids[first]) & (branches.end == pruned.ids[first])
    assert ((branches.confidence >= min_confidence) | is_first).all()
    assert fragments or len(pruned.roots) <= len(tree.roots)
    assert prune_branches(pruned, min_confidence, fragments=fragments) is pruned
    is_cut = len(pruned.edges) < len(tree.edges) or len(pruned) < len(tree)
    assert len(pruned.comments) == is_cut and (is_cut or pruned is tree)


@settings(max_examples=50, deadline=None)
@given(forests(), st.floats(0, 1), st.floats(0, 1))
def test_as_fragments_no_less_is_kept(tree, one, other):
    low, high = sorted((one, other))
    assert edges_of(prune_branches(tree, high)) <= edges_of(prune_branches(tree, high, fragments=True))
    assert len(prune_branches(tree, low)) <= len(tree)


def test_ends_go_first_and_what_was_two_branches_is_judged_as_one():
    # 0-1-2 (fork) -3-4 and -5-6: the fork's one arm is doubtful; the trunk alone is, too, but not with the other arm.
    tree = tree_of([-1, 0, 1, 2, 3, 2, 5], scores=[1, 0.3, 0.3, 1, 1, 0.1, 0.1], bridged=[0] * 7)
    assert tree.branches.confidence.tolist() == pytest.approx([0.3, 1, 0.1])
    pruned = prune_branches(tree, 0.5)
    assert len(pruned) == 5 and pruned.branches.confidence.tolist() == pytest.approx([0.65])
    told = "dropped 1 branches with what hangs on them, 4 voxels long: confidence under 0.5 (min_confidence)"
    assert pruned.comments == (told,)
    assert pruned.ids.tolist() == [1, 2, 3, 4, 5] and doubtful_nodes(tree).tolist() == [0, 1, 1, 0, 0, 1, 1]


def test_a_doubtful_branch_takes_what_hangs_on_it_or_leaves_it_as_a_fragment():
    scores = [1, 0.1, 0.1, 1, 1, 1, 1]
    tree = tree_of([-1, 0, 1, 2, 3, 2, 5], scores=scores, bridged=[0] * 7)
    alone = prune_branches(tree, 0.5)
    assert len(alone) == 1 and alone.xyz[0, 0] == 0
    apart = prune_branches(tree, 0.5, fragments=True)
    assert len(apart) == 6 and apart.xyz[apart.roots, 0].tolist() == [0, 2]
    assert apart.scores.tolist() == [1, 0.1, 1, 1, 1, 1]


def test_scores_stay_with_their_nodes_and_must_have_their_shape():
    tree = tree_of([-1, 0], scores=[0.5, 1], bridged=[1, 0])
    assert dataclasses.replace(tree, comments=("x",)).scores.tolist() == [0.5, 1] and tree.bridged.dtype == bool
    with pytest.raises(ValueError, match="scores must have shape"):
        tree_of([-1, 0], scores=[0.5])
