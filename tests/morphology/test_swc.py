"""Reading, checking, repairing and writing SWC files."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d.morphology import SWCError, Tree, check_tree, read_swc
from neuron_vit3d.morphology.soundness import rows_on_cycles


ARRAYS = ("ids", "types", "xyz", "radii", "parents")
GOOD = "# a header\n1 1 0 0 0 2 -1\n2 3 1.5 0 0 1 1\n3 3 2 -1 4e0 0.5 2\n"


def assert_same(a: Tree, b: Tree) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture
def written(tmp_path):
    """A function that writes text or bytes to a file and returns its path."""

    def write(content, name="tree.swc"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@st.composite
def trees(draw, max_nodes=12):
    """Sound trees with scattered ids, several roots and parents anywhere in the file."""
    n = draw(st.integers(1, max_nodes))
    finite = st.floats(-1e6, 1e6, allow_nan=False)
    xyz = [[draw(finite) for _ in range(3)] for _ in range(n)]
    radii = [draw(st.floats(1e-9, 1e6)) for _ in range(n)]
    ids = np.array(draw(st.lists(st.integers(0, 2**53), min_size=n, max_size=n, unique=True)))
    parents = [draw(st.sampled_from([-1, *ids[:row].tolist()])) for row in range(n)]
    order = draw(st.permutations(range(n)))
    types = [draw(st.integers(0, 7)) for _ in range(n)]
    no_control = st.text(st.characters(exclude_categories=("C",)), max_size=8)
    comments = tuple(draw(st.lists(no_control, max_size=3)))
    columns = (np.array(column)[list(order)] for column in (ids, types, xyz, radii, parents))
    return Tree(*columns, comments)


def test_tree_knows_its_shape(written):
    tree = read_swc(written(GOOD))
    assert len(tree) == 3 and tree.comments == ("a header",)
    assert tree.parent_index.tolist() == [-1, 0, 1]
    assert tree.edges.tolist() == [[1, 0], [2, 1]]
    assert tree.roots.tolist() == [0] and tree.num_components == 1
    assert tree.length == pytest.approx(1.5 + np.sqrt(0.25 + 1 + 16))
    assert all(getattr(tree, name).dtype == np.int64 for name in ("ids", "types", "parents"))


def test_segments_are_the_edges_and_the_lone_nodes():
    tree = Tree.from_parents(np.zeros((4, 3)), np.ones(4), [-1, 0, -1, -1])
    assert tree.segments.tolist() == [[1, 0], [2, 2], [3, 3]]


@given(trees())
@settings(max_examples=60, deadline=None)
def test_write_then_read_is_exact(tmp_path_factory, tree):
    path = tree.write(tmp_path_factory.mktemp("swc") / "tree.swc")
    back = read_swc(path)
    assert_same(back, tree)
    assert back.comments == tree.comments
    assert check_tree(tree) == []
    assert [p.name for p in path.parent.iterdir()] == ["tree.swc"]


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace(" ", ","),
        GOOD.replace(" ", ", "),
        GOOD.replace(" ", "\t"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n", "\n\n   \n"),
        GOOD.replace("-1\n", "-1 # the soma\n"),
        GOOD.replace("-1\n2", "-1.0\n2.0").replace("0.5 2", "0.5 2.0"),
        GOOD.replace("2 -1\n", "2 -7\n"),
        GOOD.replace("-1\n", "-1 0 0 8 1\n").replace("1 1\n", "1 1 0 0 8 1\n").replace("0.5 2", "0.5 2 0 0 8 1"),
        "# a header\n3 3 2 -1 4 0.5 2\n2 3 1.5 0 0 1 1\n1 1 0 0 0 2 -1",
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        GOOD.replace("a header", "traced by Jos\xe9, 0.3 \xb5m\x85").encode("latin-1"),
    ],
    ids=lambda content: repr(content)[:40],
)
def test_dialects_read_alike(written, content):
    tree = read_swc(written(content))
    order = np.argsort(tree.ids)
    assert tree.ids[order].tolist() == [1, 2, 3]
    assert tree.parents[order].tolist() == [-1, 1, 2]
    np.testing.assert_array_equal(tree.xyz[order], [[0, 0, 0], [1.5, 0, 0], [2, -1, 4]])
    np.testing.assert_array_equal(tree.radii[order], [2, 1, 0.5])
    assert len(tree.comments) == 1


def test_eswc_may_have_lines_of_different_width(written):
    content = "1 1 0 0 0 2 -1 0 0 8 1 0.5\n2 3 1 0 0 1 1 0 0\n"
    assert len(read_swc(written(content, "tree.eswc"))) == 2
    with pytest.raises(SWCError, match=r"tree.swc:2: expected 12 columns as before, got 9"):
        read_swc(written(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 1 0 0 0 1 -1\n1 3 1 0 0 1 1\n", ":2: id 1 is used before"),
        ("1 1 0 0 0 1 -1\n\n2 3 1 0 0 1 9\n", ":3: node 2: its parent 9 is not in the tree"),
        ("1 1 0 0 0 1 -1\n2 3 1 0 0 1 3\n3 3 1 1 0 1 4\n4 3 0 1 0 1 2\n", ":2: .* own ancestor .*cycle of 3"),
        ("1 1 0 0 0 1 2\n2 3 1 0 0 1 1\n", ":1: .* own ancestor"),
        ("# x\n1 1 0 0 0 1 1\n", ":2: node 1 is its own parent"),
        ("1 1 0 nan 0 1 -1\n", ":1: node 1 has a NaN or infinite number"),
        ("1 1 0 0 0 inf -1\n", ":1: node 1 has a NaN or infinite number"),
        ("1 1 0 0 0 1\n", ":1: expected 7 columns .* got 6"),
        ("1 1 0 0 0 1 -1\n2 3 1 0 0 1 1 3 3 2 0 0 1 2\n", ":2: expected 7 columns as before, got 14"),
        ("1 1 0 0 0 1 -1\n2 3 one 0 0 1 1\n", ":2: x must be a number, got 'one'"),
        ("id type x y z r parent\n1 1 0 0 0 1 -1\n", ":1: id must be a number"),
        ("1.5 1 0 0 0 1 -1\n", ":1: id must be a whole number"),
        ("1 1 0 0 0 1 nan\n", ":1: parent must be a whole number"),
        ("1e300 1 0 0 0 1 -1\n", ":1: id must be a whole number"),
        ("-3 1 0 0 0 1 -1\n", ":1: id -3 is negative"),
        ("1 1 0,5 0,5 0,5 1,0 -1\n", ":1: expected commas or spaces between numbers, got decimal commas"),
        ("1,1,0,,0,1,-1\n", ":1: expected 7 columns .* got 6"),
        ("", "no node in the file"),
        ("# only a header\n", "no node in the file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "got a binary file"),
        (b"\xff\xfe1\0 ", "not"),
    ],
)
def test_what_is_refused_and_why(written, content, message):
    with pytest.raises(SWCError, match=r"tree\.swc.*" + message) as error:
        read_swc(written(content))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_swc(tmp_path / "none.swc")


def test_radii_are_repaired_or_refused(written):
    path = written("1 1 0 0 0 0 -1\n2 3 1 0 0 3 1\n3 3 2 0 0 5 2\n4 3 3 0 0 -1 3\n5 3 4 0 0 nan 4\n")
    with pytest.warns(
        UserWarning, match="2 of 5 radii .* became their parents'; 1 of 5 radii .* became their children's"
    ):
        assert read_swc(path).radii.tolist() == [3, 3, 5, 5, 5]
    with pytest.raises(SWCError, match=r":1: node 1 has radius 0 \(and 2 more\)"):
        read_swc(path, repair=False)
    with pytest.warns(UserWarning, match="became 1"):
        assert read_swc(written("1 1 0 0 0 0 -1\n")).radii.tolist() == [1]


def test_a_bad_root_has_the_radius_of_its_nearest_good_descendant(written):
    bad = "1 1 0 0 0 0 -1\n2 3 1 0 0 0 1\n3 3 2 0 0 0 2\n4 3 3 0 0 7 3\n5 3 1 1 0 0 1\n6 3 1 2 0 2 5\n7 3 9 9 9 0 -1\n"
    with pytest.warns(UserWarning, match="4 of 7 radii .* became their children's; 1 of 7 radii .* became 4.5"):
        assert read_swc(written(bad)).radii.tolist() == [2, 7, 7, 7, 2, 2, 4.5]


def test_ids_may_be_written_with_decimals(written):
    assert read_swc(written("12.0 1.0 0 0 0 1 -1.0\n13.00 3 1 0 0 1 12.\n")).parents.tolist() == [-1, 12]
    first = 720575940661139073
    path = written(f"{first}.0 1 1 1 1 1 -1.0\n{first + 1}.0 2 1 1 1 1 {first}.00\n")
    assert read_swc(path).ids.tolist() == [first, first + 1] and read_swc(path).parents.tolist() == [-1, first]
    with pytest.raises(SWCError, match=f":1: id must be a whole number, got '{first}.5'"):
        read_swc(written(f"{first}.5 1 1 1 1 1 -1\n"))


def test_a_radius_of_a_cycle_is_mended_before_the_cycle_is_refused(written):
    with pytest.warns(UserWarning, match="became 1"), pytest.raises(SWCError, match="own ancestor"):
        read_swc(written("1 1 0 0 0 0 2\n2 3 1 0 0 0 1\n"))


def test_ids_of_64_bits_are_read_as_they_are(written, tmp_path):
    first = 720575940661139073
    path = written(f"{first} 1 1 1 1 1 -1\n{first + 1} 2 1 1 1 1 {first}\n")
    tree = read_swc(path)
    assert tree.ids.tolist() == [first, first + 1] and tree.parents.tolist() == [-1, first]
    assert read_swc(tree.write(tmp_path / "again.swc")).parents.tolist() == [-1, first]
    with pytest.raises(SWCError, match=f":1: node {first}: its parent {first + 5} is not in the tree"):
        read_swc(written(f"{first} 1 1 1 1 1 {first + 5}\n"))
    with pytest.raises(SWCError, match="id must be a whole number"):
        read_swc(written(f"{10**30} 1 1 1 1 1 -1\n"))


def test_nodes_under_new_ids_follow_the_widest(written):
    first = 720575940661139073
    rows = [(0, "1 0 0 0 1", -1), (1, "2 5 0 0 1", -1), (2, "2 1 1 1 1", first), (2, "2 1 1 1 1", first + 1)]
    text = "".join(f"{first + number} {node} {parent}\n" for number, node, parent in rows)
    with pytest.warns(UserWarning, match="1 with another parent kept under a new id"):
        tree = read_swc(written(text), mend_structure=True)
    assert tree.ids.tolist() == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize("end", ["\x1a", "\x1a\r\n", "\r\n\x1a\r\n\r\n", "\x1a" * 128, "\r\n\x1a\r\n \x1a\x1a\n"])
def test_a_dos_end_of_file_is_no_line(written, end):
    assert len(read_swc(written("1 1 0 0 0 1 -1\n2 3 1 0 0 1 1\n" + end))) == 2


@given(trees())
def test_parents_come_first_and_nothing_else_changes(tree):
    sorted_tree = tree.parents_first()
    assert (sorted_tree.parent_index < np.arange(len(tree))).all()
    rows = [sorted_tree.ids.tolist().index(one) for one in tree.ids.tolist()]
    for name in ARRAYS:
        assert np.array_equal(getattr(sorted_tree, name)[rows], getattr(tree, name))


def test_parent_0_is_a_root_only_where_no_node_is_0(written):
    path = written("1 1 0 0 0 1 0\n2 3 1 0 0 3 1\n")
    with pytest.warns(UserWarning, match="parent 0"):
        assert read_swc(path).parents.tolist() == [-1, 1]
    with pytest.raises(SWCError, match=r":1: .*parent 0 is not in the tree"):
        read_swc(path, repair=False)
    assert read_swc(written("0 1 0 0 0 1 -1\n1 3 1 0 0 3 0\n")).parents.tolist() == [-1, 0]


def test_a_sound_file_warns_of_nothing(written):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_swc(written(GOOD), mend_structure=True)


def test_mending_structure_loses_no_edge(written):
    # 2 is listed as a root and with a parent; 4 is where two branches meet; 5 hangs on a node that was cut away.
    path = written(
        "1 3 0 0 0 1 -1\n2 3 1 0 0 1 -1\n2 3 1 0 0 1 1\n3 3 1 2 0 1 2\n4 3 1 5 0 1 3\n4 3 1 5 0 1 5\n5 3 1 9 0 1 99\n"
    )
    with pytest.raises(SWCError, match=":3: id 2 is used before"):
        read_swc(path)
    with pytest.warns(
        UserWarning, match=r"1 node\(s\) whose parent is missing.*1 repeated line.*1 with another parent"
    ):
        tree = read_swc(path, mend_structure=True)
    assert tree.ids.tolist() == [1, 2, 3, 4, 6, 5]
    assert tree.parents.tolist() == [-1, 1, 2, 3, 5, -1]
    assert tree.length == 1 + 2 + 3 + 4
    with pytest.raises(SWCError, match=":2: id 1 is used before"):
        read_swc(written("1 1 0 0 0 1 -1\n1 3 1 0 0 1 1\n"), mend_structure=True)


def test_an_unsound_tree_is_not_written(tmp_path):
    path = tmp_path / "tree.swc"
    path.write_text("what was there before")
    for radius, parent in ((0.0, -1), (np.nan, -1), (1.0, 1), (1.0, 5)):
        with pytest.raises(SWCError, match="not written"):
            Tree([1], [0], [[0, 0, 0]], [radius], [parent]).write(path)
    with pytest.raises(SWCError, match="no node"):
        Tree.from_parents(np.empty((0, 3)), np.empty(0), np.empty(0, dtype=int)).write(path)
    assert path.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    tree = Tree.from_parents([[0, 0, 0]], [1], [-1])
    with pytest.raises(OSError):
        tree.write(tmp_path / "taken")
    with pytest.raises(OSError):
        tree.write(tmp_path / "no folder" / "tree.swc")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_comments_cannot_become_nodes(tmp_path):
    tree = Tree.from_parents([[0, 0, 0]], [1], [-1], comments=("one\n2 1 0 0 0 1 -1", "", "# two"))
    back = read_swc(tree.write(tmp_path / "tree.swc"))
    assert len(back) == 1 and back.comments == ("one", "2 1 0 0 0 1 -1", "", "# two")


@given(trees(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_from_parents_puts_parents_first(tree, random):
    built = Tree.from_parents(tree.xyz, tree.radii, tree.parent_index, tree.types)
    assert built.ids.tolist() == list(range(1, len(tree) + 1))
    assert (built.parents < built.ids).all() and check_tree(built) == []

    def edges(t):
        return sorted((*t.xyz[c], t.radii[c], *t.xyz[p], t.radii[p]) for c, p in t.edges)

    assert edges(built) == edges(tree)
    assert built.num_components == tree.num_components


def test_from_parents_keeps_an_order_that_is_fine_and_refuses_nonsense():
    tree = Tree.from_parents([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [1, 2, 3], [-1, 0, 0])
    assert tree.radii.tolist() == [1, 2, 3]
    with pytest.raises(SWCError, match="lead back"):
        Tree.from_parents(np.zeros((2, 3)), np.ones(2), [1, 0])
    with pytest.raises(SWCError, match="below 2"):
        Tree.from_parents(np.zeros((2, 3)), np.ones(2), [-1, 2])
    with pytest.raises(SWCError, match="shape"):
        Tree.from_parents(np.zeros((2, 3)), np.ones(3), [-1, 0])
    with pytest.raises(SWCError, match="whole numbers"):
        Tree.from_parents(np.zeros((2, 3)), np.ones(2), [-1, 0.5])
    with pytest.raises(SWCError, match=r"xyz must have shape \(1, 3\)"):
        Tree([1], [0], [[0, 0]], [1], [-1])


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_cycles_are_found_whatever_their_form(parents):
    parents = np.array([parent if parent < len(parents) else -1 for parent in parents])
    expected = []
    for row in range(len(parents)):
        at, steps = parents[row], 0
        while at not in (-1, row) and steps < len(parents):
            at, steps = parents[at], steps + 1
        if at == row:
            expected.append(row)
    assert rows_on_cycles(parents).tolist() == expected


def test_a_long_chain_needs_no_recursion(tmp_path):
    n = 5 * sys.getrecursionlimit()
    tree = Tree.from_parents(np.arange(3 * n).reshape(n, 3), np.ones(n), np.append(np.arange(1, n), -1))
    assert_same(read_swc(tree.write(tmp_path / "chain.swc")), tree)
    assert tree.xyz[0].tolist() == [3 * n - 3, 3 * n - 2, 3 * n - 1]  # the root came last, and is now first


def test_morphio_reads_what_is_written(tmp_path):
    morphio = pytest.importorskip("morphio")
    tree = Tree.from_parents(
        [[0, 0, 0], [5, 0, 0], [9, 3, 0], [12, 3, 4], [9, -3, 0.1]],
        [4, 1, 0.9, 0.8, 0.7],
        [-1, 0, 1, 2, 1],
        [1, 3, 3, 3, 3],
    )
    other = morphio.Morphology(str(tree.write(tmp_path / "tree.swc")))
    np.testing.assert_allclose(other.soma.points, tree.xyz[:1], atol=1e-6)
    theirs = np.c_[other.points, other.diameters / 2]
    ours = np.c_[tree.xyz, tree.radii][1:].astype(np.float32)
    # A branching node is listed once in each section that touches it.
    np.testing.assert_array_equal(np.unique(theirs, axis=0), np.unique(ours, axis=0))


def test_neurom_measures_the_same_length(tmp_path):
    neurom = pytest.importorskip("neurom")
    rng = np.random.default_rng(0)
    parents = [-1, 0, *range(1, 30), *(rng.integers(2, 30, 10))]
    tree = Tree.from_parents(rng.uniform(0, 50, (41, 3)), np.ones(41), parents, [1] + [3] * 40)
    other = neurom.load_morphology(tree.write(tmp_path / "tree.swc"))
    # Neurites begin at their first own node: the edge from the soma to it is not theirs.
    soma_edge = np.linalg.norm(tree.xyz[1] - tree.xyz[0])
    assert neurom.get("total_length", other) == pytest.approx(tree.length - soma_edge, rel=1e-5)


@pytest.mark.real_data
@pytest.mark.parametrize("unit", ["voxel", "um"])
def test_diadem_gold_tree_reads_and_writes_back(shared, tmp_path, unit):
    tree = read_swc(shared / "data" / "formats" / f"DIADEM_OP_1_gold_{unit}.swc")
    assert check_tree(tree) == [] and len(tree) > 1000 and tree.num_components == 1
    back = read_swc(tree.write(tmp_path / "tree.swc"))
    assert_same(back, tree)
    assert back.comments == tree.comments


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:.*node.s. whose parent is missing")
def test_every_real_trace_reads(shared, tmp_path):
    paths = sorted((shared / "data").glob("*/*/*.swc"))
    assert len(paths) > 100
    for path in paths:
        tree = read_swc(path, mend_structure=True)
        assert_same(read_swc(tree.write(tmp_path / "tree.swc")), tree)


def test_text_and_back():
    tree = Tree.from_parents(
        np.array([[0.1, 2, 3], [4, 5, 6]]), np.array([1.0, 2.5]), np.array([-1, 0]), comments=["hello"]
    )
    again = Tree.from_text(tree.to_text())
    assert (
        again.comments == ("hello",)
        and np.array_equal(again.xyz, tree.xyz)
        and np.array_equal(again.radii, tree.radii)
    )
    with pytest.raises(SWCError, match=r"^neuron 7:2: id 1 is used before"):
        Tree.from_text("1 0 0 0 0 1 -1\n1 0 0 0 0 1 -1\n", "neuron 7")
