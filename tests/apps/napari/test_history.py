"""Undo restores exactly, and a session that is killed between any two bytes goes on with nothing lost."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.apps.napari import history
from neuron_vit3d.apps.napari.editing import Cut, Delete, Draw, EditError, Keep, Reroot, numbered
from neuron_vit3d.apps.napari.history import Session, SessionError, Stack, unfinished
from neuron_vit3d.morphology import SWCError, Tree, check_tree
from support.places import REPOSITORY
from support.trees import FORKED, random_tree, trees


STACK = Stack("image.tif", (1, 2, 3), (10, 20, 30), (0.5, 0.1, 0.1))


def assert_same(one: Tree, other: Tree) -> None:
    for field in dataclasses.fields(Tree):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def some_edit(data, tree: Tree):
    node = data.draw(st.sampled_from(tree.ids.tolist()))
    kinds = [Delete(node), Cut(node), Reroot(node), Keep(node), Draw(((1.0, 2.0, 3.0),), (1.5,), start=node)]
    return data.draw(st.sampled_from(kinds))


@settings(max_examples=60, deadline=None)
@given(trees(), st.data(), st.sampled_from([0, 2000, 1 << 29]))
def test_undo_restores_exactly_and_so_does_going_on(tree, data, kept_bytes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "KEPT_BYTES", kept_bytes)
        session = Session.begin(tree, Path(folder), "one", STACK)
        states = [session.tree]
        assert_same(states[0], numbered(tree))
        for _ in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(["do", "do", "do", "undo", "redo"]))
            try:
                if step == "do":
                    session.do(some_edit(data, session.tree))
                    states = [*states[: session.num_edits], session.tree]
                else:
                    getattr(session, step)()
            except EditError:
                continue
            assert check_tree(session.tree) == []
            assert_same(session.tree, states[session.num_edits])
        session.close()
        again = Session.go_on(Path(folder), "one")
        assert again.stack == STACK and again.num_edits == session.num_edits
        assert_same(again.tree, session.tree)
        while again.can_redo:
            assert_same(again.redo(), states[again.num_edits])
        while again.can_undo:
            assert_same(again.undo(), states[again.num_edits])
        assert_same(again.tree, states[0])
        again.close()


def test_killed_at_any_byte_no_whole_edit_is_lost(tmp_path):
    session = Session.begin(FORKED, tmp_path, "one")
    ends, trees_then = [], []
    path = tmp_path / "one.edits.jsonl"
    for edit in (Delete(5), Cut(3), Draw(((1.0, 2, 3), (2.0, 3, 4)), (1.0, 1.0), start=2)):
        ends.append(path.stat().st_size)
        trees_then.append(session.tree)
        session.do(edit)
    session.close()
    content = path.read_bytes()
    for size in range(ends[0], len(content)):
        path.write_bytes(content[:size])
        again = Session.go_on(tmp_path, "one")
        assert_same(again.tree, trees_then[sum(end <= size for end in ends) - 1])
        if size in (ends[1] + 5, ends[2] - 1):  # and goes on from there
            number = again.num_edits
            again.do(Keep(2))
            again.close()
            again = Session.go_on(tmp_path, "one")
            assert again.num_edits == number + 1
        again.close()


@pytest.mark.slow
def test_a_process_that_is_killed_has_lost_nothing(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from pathlib import Path
from support.trees import random_tree
from neuron_vit3d.apps.napari.editing import Keep
from neuron_vit3d.apps.napari.history import Session
session = Session.begin(random_tree(0), Path({str(tmp_path)!r}), "one")
number = 0
while True:
    node = int(session.tree.ids[1 + number % (len(session.tree) - 1)])
    session.do(Keep(node))
    number += 1
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        last = 0
        for line in process.stdout:
            last = int(line)
            if last == 25:
                process.kill()
    session = Session.go_on(tmp_path, "one")
    assert last <= session.num_edits <= last + 1 and last >= 25
    while session.can_undo:
        session.undo()
    assert_same(session.tree, numbered(random_tree(0)))


def test_a_done_neuron_is_not_unfinished_until_it_is_edited_again(tmp_path):
    assert unfinished(tmp_path / "nowhere") == []
    session = Session.begin(FORKED, tmp_path, "one")
    assert unfinished(tmp_path) == []
    session.do(Delete(5))
    assert unfinished(tmp_path) == ["one"]
    session.done()
    assert session.is_done and unfinished(tmp_path) == []
    session.close()
    again = Session.go_on(tmp_path, "one")
    assert again.is_done
    again.undo()
    assert not again.is_done and unfinished(tmp_path) == ["one"]


def test_unfinished_corrections_are_not_written_over(tmp_path):
    session = Session.begin(FORKED, tmp_path, "one")
    session.do(Delete(5))
    session.close()
    with pytest.raises(SessionError, match="unfinished"):
        Session.begin(FORKED, tmp_path, "one")
    Session.begin(FORKED, tmp_path, "two").close()


def test_two_windows_cannot_correct_the_same(tmp_path):
    session = Session.begin(FORKED, tmp_path, "one")
    with pytest.raises(SessionError, match="another window"):
        Session.go_on(tmp_path, "one")
    session.close()
    Session.go_on(tmp_path, "one").close()


def test_an_edit_that_cannot_be_written_is_not_made(tmp_path, monkeypatch):
    session = Session.begin(FORKED, tmp_path, "one")

    def full(path, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "append_line", full)
    before = session.tree
    with pytest.raises(OSError, match="No space"):
        session.do(Delete(5))
    assert session.tree is before and not session.can_undo


def test_nothing_is_undone_or_done_again_that_was_not(tmp_path):
    session = Session.in_memory(FORKED)
    with pytest.raises(EditError, match="nothing to undo"):
        session.undo()
    with pytest.raises(EditError, match="nothing to make again"):
        session.redo()
    session.do(Delete(5))
    session.undo()
    session.do(Delete(6))
    with pytest.raises(EditError):
        session.redo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("no JSON", "one.edits.jsonl:2: expected a line of JSON"),
        ("[1]", "one.edits.jsonl:2: expected a JSON object"),
        ('{"step": "undo"}', "one.edits.jsonl:2: there is nothing to undo"),
        ('{"edit": "delete", "node": 99}', "one.edits.jsonl:2: node 99 is no longer"),
        ('{"edit": "draw", "points": 3, "radii": [], "start": null, "end": null}', "one.edits.jsonl:2"),
        ('{"what": 1}', "one.edits.jsonl:2: expected an edit or a step"),
    ],
)
def test_damaged_files_are_refused_by_name_and_line(tmp_path, line, sentence):
    Session.begin(FORKED, tmp_path, "one").close()
    path = tmp_path / "one.edits.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SessionError, match=sentence) as refused:
        Session.go_on(tmp_path, "one")
    assert "\n" not in str(refused.value)


def test_another_tree_or_version_is_refused(tmp_path):
    Session.begin(FORKED, tmp_path, "one").close()
    Session.begin(numbered(FORKED), tmp_path, "two").close()
    start = tmp_path / "one.start.npz"
    start.write_bytes(start.read_bytes()[:-1] + b"x")
    with pytest.raises(SessionError, match="is not the tree"):
        Session.go_on(tmp_path, "one")
    path = tmp_path / "two.edits.jsonl"
    path.write_text(json.dumps({"neuron_vit3d": 99}) + "\n")
    with pytest.raises(SessionError, match="version 1"):
        Session.go_on(tmp_path, "two")


def test_a_tree_that_is_not_sound_is_refused(tmp_path):
    radii = FORKED.radii.copy()
    radii[2] = 0
    with pytest.raises(SessionError, match="node 3 has radius 0"):
        Session.begin(dataclasses.replace(FORKED, radii=radii), tmp_path, "one")
    with pytest.raises(SWCError):
        Session.begin(dataclasses.replace(FORKED, parents=[-1, 1, 2, 3, 99, 3]), tmp_path, "one")
    assert list(tmp_path.iterdir()) == []
