"""Edits of a tree: each does what it says, is refused in one sentence, and any sequence leaves a sound tree."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.apps.napari.editing import (
    Cut,
    Delete,
    Draw,
    EditError,
    Join,
    Keep,
    Reroot,
    apply,
    branch_rows,
    from_line,
    numbered,
    pieces_of,
    to_line,
)
from neuron_vit3d.morphology import Tree, check_tree
from support.trees import FORKED, trees


# A trunk 1-2-3-4 along x with twigs 5 (on 2) and 6 (on 3), and a piece 7-8 apart.
FOREST = numbered(
    Tree.from_parents(
        np.concatenate([FORKED.xyz, [[100, 0, 0], [110, 0, 0]]]), np.ones(8), [*FORKED.parent_index, -1, 6]
    )
)


def edges(tree: Tree) -> set[frozenset]:
    """The pairs of ids that edges join."""
    return {frozenset(pair) for pair in tree.ids[tree.edges].tolist()}


@st.composite
def edits(draw, tree: Tree):
    """Any edit of a tree, possible or not."""
    node = st.sampled_from(tree.ids.tolist())
    kind = draw(st.sampled_from([Delete, Cut, Join, Reroot, Keep, Draw]))
    if kind is Draw:
        points = draw(st.lists(st.tuples(*[st.floats(-5, 60)] * 3), max_size=4))
        radii = [draw(st.floats(0.5, 4)) for _ in points]
        return Draw(tuple(points), tuple(radii), draw(st.none() | node), draw(st.none() | node))
    return Join(draw(node), draw(node)) if kind is Join else kind(draw(node))


@settings(max_examples=150, deadline=None)
@given(trees(), st.data())
def test_any_sequence_of_edits_leaves_a_sound_tree(tree, data):
    tree = numbered(tree)
    for _ in range(data.draw(st.integers(1, 12))):
        edit = data.draw(edits(tree))
        before = {name: getattr(tree, name).copy() for name in ("ids", "xyz", "parents", "scores")}
        try:
            after = apply(tree, edit)
        except EditError as error:
            assert "\n" not in str(error)
            continue
        for name, values in before.items():
            np.testing.assert_array_equal(getattr(tree, name), values)
        assert check_tree(after) == []
        assert (np.diff(after.ids) > 0).all()
        kept = set(after.ids.tolist()) & set(tree.ids.tolist())
        if not isinstance(edit, Delete):
            assert kept == set(tree.ids.tolist())
        if isinstance(edit, Reroot | Keep):
            assert edges(after) == edges(tree)
        elif isinstance(edit, Cut):
            assert len(edges(tree) - edges(after)) == 1 and after.num_components == tree.num_components + 1
        elif isinstance(edit, Join):
            assert len(edges(after) - edges(tree)) == 1 and after.num_components == tree.num_components - 1
        elif isinstance(edit, Delete):
            assert edges(after) <= edges(tree) and edit.node not in kept
        else:
            joined = [node for node in (edit.start, edit.end) if node is not None]
            assert after.num_components == tree.num_components + 1 - len(joined)
            assert edges(tree) <= edges(after)
        assert apply(tree, from_line(to_line(edit))).to_text() == after.to_text()
        tree = after


def test_a_branch_goes_with_what_hangs_on_it():
    after = apply(FOREST, Delete(3))
    assert after.ids.tolist() == [1, 2, 5, 7, 8]
    assert apply(after, Delete(8)).ids.tolist() == [1, 2, 5], "the last branch takes the root along"
    assert apply(FOREST, Delete(7)).ids.tolist() == [1, 2, 3, 4, 5, 6], "of a root, all"


def test_a_soma_and_the_last_node_stay():
    soma = Tree(**{name: getattr(FOREST, name) for name in ("ids", "xyz", "radii", "parents")}, types=[1, *[0] * 7])
    assert 1 in apply(numbered(soma), Delete(2)).ids
    line = numbered(Tree.from_parents([[0, 0, 0], [1, 0, 0]], [1, 1], [-1, 0]))
    left = apply(line, Delete(2))
    assert left.ids.tolist() == [1]
    with pytest.raises(EditError, match="at least one node"):
        apply(left, Delete(1))


def test_a_cut_piece_is_joined_again_elsewhere():
    cut = apply(FOREST, Cut(3))
    assert cut.roots.tolist() == [0, 2, 6]
    joined = apply(cut, Join(4, 8))
    assert joined.parents[joined.ids == 4] == 8 and joined.parents[joined.ids == 3] == 4
    assert len(set(pieces_of(joined).tolist())) == 2


def test_a_drawn_path_joins_two_pieces_in_its_direction():
    after = apply(FOREST, Draw(((95.0, 0, 0), (97.0, 0, 0)), (1.0, 1.0), start=4, end=8))
    parents = dict(zip(after.ids.tolist(), after.parents.tolist(), strict=True))
    assert (parents[9], parents[10], parents[8], parents[7]) == (4, 9, 10, 8)
    assert after.scores[-2:].tolist() == [1, 1]
    only_end = apply(FOREST, Draw(((95.0, 0, 0), (97.0, 0, 0)), (1.0, 2.0), end=7))
    assert only_end.parents[-2:].tolist() == [7, 9] and only_end.radii[-2:].tolist() == [2, 1]


def test_branches_are_those_of_the_tree():
    for one in FOREST.branches:
        rows = branch_rows(FOREST, int(np.flatnonzero(FOREST.ids == one.end)[0]))
        assert FOREST.ids[rows[0]] == one.end and FOREST.parents[rows[-1]] == one.start
        for row in rows:
            np.testing.assert_array_equal(branch_rows(FOREST, row), rows)


def test_a_branch_that_was_looked_at_is_sure():
    kept = apply(FOREST, Keep(5))
    assert kept.branches.confidence[kept.branches.end == 5] == 1
    assert np.isnan(kept.branches.confidence[kept.branches.end != 5]).all()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Cut(1), "root already"),
        (Join(1, 4), "same piece"),
        (Delete(99), "no longer in the tree"),
        (Keep(1), "choose a node of a branch"),
        (Draw((), ()), "no node"),
        (Draw((), (), start=3), "no node"),
        (Draw(((1.0, 1, 1),), (1.0,), start=1, end=4), "loop"),
        (Draw(((1.0, 1, 1),), (0.0,), start=1), "positive radii"),
        (Draw(((1.0, 1, float("nan")),), (1.0,)), "finite"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(edit, sentence):
    with pytest.raises(EditError, match=sentence):
        apply(FOREST, edit)


@pytest.mark.parametrize(
    "record",
    [
        {"edit": "erase", "node": 1},
        {"edit": "delete"},
        {"edit": "delete", "node": 1.5},
        {"edit": "delete", "node": None},
        {"edit": "delete", "node": 1, "more": 2},
        {"edit": "draw", "points": [["a"]], "radii": [], "start": None, "end": None},
    ],
)
def test_a_line_that_is_no_edit_is_refused(record):
    with pytest.raises(ValueError):
        from_line(json.dumps(record))
