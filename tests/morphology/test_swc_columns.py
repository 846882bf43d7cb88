"""Tests of `morphology/swc_columns.py`: large files are read and written as small ones are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_vit3d.morphology import SWCError, Tree, read_swc, swc_columns
from neuron_vit3d.morphology.swc import _by_lines


pytest.importorskip("pyarrow")
ARRAYS = ("ids", "types", "xyz", "radii", "parents")
NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-5, 2**60).map(str),
    st.sampled_from(
        '0 -0 01 1. .5 -.5e-3 1E5 1e400 -1e400 1e-400 4.9e-324 +1 --1 1e 1-2 . - nan inf 1_0 0x1 1,5 "1" #'.split()
    ),
)
SPACE = st.sampled_from([" ", "  ", "\t", " \t ", "\x0b"])
END = st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n# more\n", "\r", "\x1a\n"])


@st.composite
def rows(draw):
    columns = draw(st.lists(st.sampled_from([7, 7, 7, 7, 6, 8]), min_size=1, max_size=4))
    usual = st.sampled_from(["1", "2.5", "-1", "3e2", "12.0"])
    token = draw(st.sampled_from([usual, NUMBERS]))
    lines = (draw(SPACE).join(draw(token) for _ in range(count)) for count in columns)
    return "".join(draw(st.sampled_from(["", " "])) + line + draw(END) for line in lines)


@given(st.sampled_from(["", "# a\n", " #b \r\n\n#\n"]), rows())
def test_what_is_read_by_columns_is_what_is_read_by_lines(header, text):
    found = swc_columns.read_columns(header + text)
    if found is not None:
        table, comments, first = found
        expected, their_comments, numbers, wide = _by_lines(header + text, "a.swc")
        assert np.array_equal(table, expected, equal_nan=True) and wide is None
        assert np.array_equal(np.signbit(table), np.signbit(expected))
        assert comments == their_comments and list(range(first, first + len(table))) == numbers


def test_regular_text_is_read_by_columns():
    found = swc_columns.read_columns("# a\r\n\n#b\n 1\t1 0.5 -2e-3  0 1 -1 \r\n2.0 3 1 0 0 1. 1\x1a\x1a\n")
    assert found is not None
    assert found[0].tolist() == [[1, 1, 0.5, -2e-3, 0, 1, -1], [2, 3, 1, 0, 0, 1, 1]] and found[1:] == (("a", "b"), 4)


@pytest.fixture
def large(monkeypatch):
    """All texts and trees are large."""
    monkeypatch.setattr(swc_columns, "LARGE_TEXT", 0)
    monkeypatch.setattr(swc_columns, "LARGE_TREE", 0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2 3 1 0 0 1", ":4: expected 7 columns"),
        ("2 3 1 0 0 1 1 9", ":4: expected 7 columns as before, got 8"),
        ("2 3 one 0 0 1 1", ":4: x must be a number, got 'one'"),
        ("2.5 3 1 0 0 1 1", ":4: id must be a whole number"),
        ("1 3 1 0 0 1 -1", ":4: id 1 is used before"),
        ("2 3 1 0 0 1 7", ":4: node 2: its parent 7 is not in the tree"),
        ("2 3 1e400 0 0 1 1", ":4: node 2 has a NaN or infinite number"),
        ("2 3 nan 0 0 1 1", ":4: node 2 has a NaN or infinite number"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(row, said, large, tmp_path):
    (tmp_path / "a.swc").write_text(f"# a\n\n1 1 0 0 0 1 -1\n{row}\n3 3 2 0 0 1 1\n")
    with pytest.raises(SWCError, match=r"a\.swc" + said):
        read_swc(tmp_path / "a.swc")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e9]))
def test_a_large_tree_is_written_and_read_bit_for_bit(seed, scale):
    random = np.random.default_rng(seed)
    parents = np.arange(20) - 1 - random.integers(0, 3, 20)
    tree = Tree.from_parents(random.normal(size=(20, 3)) * scale, random.random(20) + 1e-3, parents, comments=("a",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swc_columns, "LARGE_TREE", 0)
        large = tree.to_text()
        patch.setattr(swc_columns, "LARGE_TREE", 100)
        small = tree.to_text()
        for text in (large, small):
            for limit in (0, 1 << 60):
                patch.setattr(swc_columns, "LARGE_TEXT", limit)
                again = Tree.from_text(text)
                assert all(np.array_equal(getattr(again, name), getattr(tree, name)) for name in ARRAYS)
                assert again.comments == tree.comments


def test_without_pyarrow_lines_are_read_and_written(large, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    tree = Tree.from_parents(np.eye(3), np.ones(3), np.array([-1, 0, 1]))
    assert np.array_equal(read_swc(tree.write(tmp_path / "a.swc")).xyz, tree.xyz)
    assert "1 0 1.0 0.0 0.0 1.0 -1" in (tmp_path / "a.swc").read_text()
