"""The table of a tree's branches is read as it was written, and known to be of the tree or not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d.morphology import Tree
from neuron_vit3d.morphology.branch_table import BranchTableError, branch_table_of, is_table_of, read_branch_table
from neuron_vit3d.morphology.branches import branches_text


@pytest.fixture
def tree() -> Tree:
    points = np.array([(0, 0, 0), (1, 0, 0), (2, 0.3, 0), (3, 1, 0), (3, -1, 5)], float)
    made = Tree.from_parents(points, np.ones(5), np.array([-1, 0, 1, 2, 2]))
    return dataclasses.replace(made, scores=np.array([1, 1, 1, 0.8, 0.2]), bridged=np.zeros(5, bool))


def test_a_table_is_read_as_it_was_written(tree, tmp_path):
    path = tmp_path / "a.branches.csv"
    path.write_text(branches_text(tree.branches))
    read = read_branch_table(path)
    for name in read.dtype.names:
        np.testing.assert_allclose(read[name], tree.branches[name], atol=1e-4)
    assert is_table_of(read, tree)
    assert is_table_of(read, dataclasses.replace(tree, scores=None))  # as an SWC file has it


def test_a_table_of_another_tree_is_told(tree, tmp_path):
    path = tmp_path / "a.branches.csv"
    path.write_text(branches_text(tree.branches))
    read = read_branch_table(path)
    assert not is_table_of(read, dataclasses.replace(tree, xyz=tree.xyz * 2))
    assert not is_table_of(read[:2], tree)
    assert not is_table_of(
        read, dataclasses.replace(tree, ids=tree.ids + 1, parents=tree.parents + (tree.parents > 0))
    )


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0\0", "branch,start\n", b"\xff\xfe\x00"])
def test_what_is_no_table_is_refused(text, tree, tmp_path):
    path = tmp_path / "a.branches.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BranchTableError, match=r"a\.branches\.csv: expected a table of branches"):
        read_branch_table(path)


@pytest.mark.parametrize("line", ["0,1,2,3", "0,a,3,-1,1,1,1,0", "0,1,3,-1,x,1,1,0", f"0,{'9' * 30},3,-1,1,1,1,0"])
def test_a_broken_line_is_refused(line, tree, tmp_path):
    path = tmp_path / "a.branches.csv"
    path.write_text(branches_text(tree.branches) + line + "\n")
    with pytest.raises(BranchTableError):
        read_branch_table(path)


def test_the_table_lies_beside_the_tree():
    assert branch_table_of(Path("x/a.b.swc")) == Path("x/a.b.branches.csv")
    assert branch_table_of(Path("a.traces")) == Path("a.traces.branches.csv")
