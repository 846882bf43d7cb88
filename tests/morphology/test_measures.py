"""Measures of a tree: against figures known by hand, against neurom, and laws that hold for every tree."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neuron_vit3d import Tree, measure
from neuron_vit3d.evaluation.sholl_picture import IN_2D, IN_3D
from neuron_vit3d.morphology.measures import sholl_crossings
from neuron_vit3d.morphology.swc import SWCError
from support.program import fail, run, succeed
from support.trees import FORKED, trees


def test_figures_known_by_hand():
    figures = measure(FORKED).figures
    expected = {
        "unit": "voxels", "nodes": 6, "trees": 1, "branches": 5, "branch_points": 2, "tips": 4, "length": 130,
        "width": 90, "height": 20, "depth": 20, "max_order": 2, "strahler": 2, "branch_length_mean": 26,
        "branch_length_median": 30, "branch_length_max": 30, "tortuosity_mean": 1, "radius_mean": 1,
        "edges_without_length": 0, "max_path_distance": 90, "max_radial_distance": 90,
    }  # fmt: skip
    assert {key: figures[key] for key in expected} == pytest.approx(expected)
    assert figures["surface"] == pytest.approx(2 * np.pi * 130) and figures["volume"] == pytest.approx(np.pi * 130)


def test_micrometres():
    measures = measure(FORKED, voxel_size=(2.0, 0.5, 0.25), sholl_step=5)
    figures = measures.figures
    assert figures["unit"] == "um"
    assert figures["length"] == 90 * 0.25 + 20 * 0.5 + 20 * 2.0
    assert (figures["width"], figures["height"], figures["depth"]) == (22.5, 10, 40)
    assert figures["radius_max"] == 0.25  # in units of the smallest side, as traced trees have them
    assert measures.sholl.radius[0] == 5


def test_sholl_crossings_known_by_hand():
    sholl = sholl_crossings(FORKED, FORKED.xyz[0], 15.0)
    assert sholl.radius.tolist() == [15, 30, 45, 60, 75, 90]
    # The node at 30 lies on a sphere and is counted once; the twig at 30 ends 36 away, the other 63.2.
    assert sholl.crossings.tolist() == [1, 1, 1, 1, 1, 1]
    twice = sholl_crossings(FORKED, FORKED.xyz[0], 31.0)
    assert twice.crossings.tolist() == [2, 2] and twice.crossings_2d.tolist() == [2, 1]


def test_the_center_is_the_soma():
    soma = dataclasses.replace(FORKED, types=[3, 3, 1, 3, 3, 3])
    assert measure(soma).figures["max_radial_distance"] == 60
    assert measure(FORKED).figures["max_radial_distance"] == 90


def test_orders_and_strahler():
    branches = measure(FORKED).branches
    by_ends = {(branch.start, branch.end): (branch.order, branch.strahler) for branch in branches}
    assert by_ends == {(1, 2): (0, 2), (2, 3): (1, 2), (2, 5): (1, 1), (3, 4): (2, 1), (3, 6): (2, 1)}


@settings(deadline=None, max_examples=40)
@given(trees(), st.floats(0.1, 10))
def test_laws(tree, factor):
    """Lengths scale with the voxel size, counts do not; branches make up the length; order and place do not matter."""
    measures, scaled = measure(tree), measure(tree, voxel_size=(factor,) * 3, sholl_step=10 * factor)
    one, two = measures.figures, scaled.figures
    for key in ("length", "width", "branch_length_max", "radius_mean", "max_path_distance", "max_radial_distance"):
        assert two[key] == pytest.approx(one[key] * factor)
    for key in ("branches", "branch_points", "tips", "max_order", "strahler"):
        assert two[key] == one[key]
    assert measures.branches.length.sum() == pytest.approx(one["length"])
    bent = measures.branches.tortuosity
    assert (bent[np.isfinite(bent)] >= 1 - 1e-9).all()
    assert one["tips"] >= 1 or one["branch_points"] == 0
    order = np.random.default_rng(0).permutation(len(tree))
    shuffled = dataclasses.replace(
        tree, **{name: getattr(tree, name)[order] for name in ("ids", "types", "radii", "parents")},
        xyz=tree.xyz[order] + 1000.0,
    )  # fmt: skip
    again = measure(shuffled).figures
    assert {key: again[key] for key in one if key != "sholl_step"} == pytest.approx(
        {key: one[key] for key in one if key != "sholl_step"}, nan_ok=True
    )


@settings(deadline=None, max_examples=20)
@given(trees())
def test_sholl_against_a_count_edge_by_edge(tree):
    sholl = sholl_crossings(tree, tree.xyz[0], 7.0)
    ends = np.sort(np.linalg.norm(tree.xyz - tree.xyz[0], axis=1)[tree.edges], axis=1)
    assert sholl.crossings.tolist() == [int(((ends[:, 0] < r) & (r <= ends[:, 1])).sum()) for r in sholl.radius]


def test_neurom_measures_the_same(tmp_path):
    """A soma of one point, at a place of its own; neurom leaves out the edge to it."""
    neurom = pytest.importorskip("neurom")
    random = np.random.default_rng(5)
    rows = 120
    parents = np.array([-1, 0, *(max(1, row - 1 - (row % 9 == 0) * random.integers(0, 20)) for row in range(2, rows))])
    xyz = np.zeros((rows, 3))
    for row in range(1, rows):
        xyz[row] = xyz[parents[row]] + random.normal(0, 4, 3) + 2
    tree = Tree.from_parents(xyz, random.uniform(0.5, 2, rows), parents, np.where(np.arange(rows) == 0, 1, 3))
    theirs = neurom.load_morphology(tree.write(tmp_path / "tree.swc"))
    # The same without the soma and its edge.
    ours = measure(Tree.from_parents(tree.xyz[1:], tree.radii[1:], parents[1:] - 1, np.full(rows - 1, 3)))
    lengths = neurom.get("section_lengths", theirs)
    assert ours.figures["length"] == pytest.approx(neurom.get("total_length", theirs), rel=1e-5)
    assert sorted(ours.branches.length) == pytest.approx(sorted(lengths), rel=1e-5)
    assert sorted(ours.branches.order) == sorted(neurom.get("section_branch_orders", theirs))
    assert sorted(ours.branches.strahler) == sorted(neurom.get("section_strahler_orders", theirs))
    assert sorted(ours.branches.tortuosity) == pytest.approx(
        sorted(neurom.get("section_tortuosity", theirs)), rel=1e-5
    )
    assert ours.figures["surface"] == pytest.approx(neurom.get("total_area", theirs), rel=1e-5)
    assert ours.figures["volume"] == pytest.approx(neurom.get("total_volume", theirs), rel=1e-5)
    sholl = sholl_crossings(tree, tree.xyz[0], 7.0)
    soma_edge = (np.linalg.norm(xyz[1]) >= sholl.radius).astype(int)
    crossings = neurom.get("sholl_crossings", theirs, center=xyz[0], radii=sholl.radius)
    assert (sholl.crossings - soma_edge).tolist() == list(crossings)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (Tree.from_parents(np.zeros((1, 3)), np.ones(1), [-1]), "edges"),
        (dataclasses.replace(FORKED, xyz=np.full((6, 3), np.nan)), "NaN"),
        (dataclasses.replace(FORKED, xyz=FORKED.xyz * 1e9), "spheres"),
    ],
)
def test_what_cannot_be_measured(tree, said):
    with pytest.raises(SWCError, match=said):
        measure(tree)
    with pytest.raises(ValueError, match="voxel_size"):
        measure(FORKED, voxel_size=(1, 0, 1))


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FORKED.write("a.swc")
    (tmp_path / "more").mkdir()
    FORKED.write("more/b.swc")
    result = run("measure", "a.swc", "more", "m*/*.swc", "--voxel-size", "1,1,1", "--json", "--csv", "t.csv",
                 "--sholl", "s.csv", "--branches", "b.csv")  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert [one["file"] for one in told] == ["a.swc", "more/b.swc"]
    assert told[0]["length"] == 130 and told[0]["unit"] == "um" and told[0]["sholl"]["radius"][0] == 10
    table = (tmp_path / "t.csv").read_text().splitlines()
    assert len(table) == 3 and table[0].startswith("file,unit,nodes,") and ",130.0," in table[1]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 2 * 9
    assert (tmp_path / "b.csv").read_text().splitlines()[1].startswith("a.swc,1,2,0,2,30.0,30.0,1.0,1.0")
    succeed("measure", "a.swc", "more/b.swc", "--voxel-size", "1,1,1", "--picture", "p.png")
    with Image.open("p.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000 and picture.height > 2 * 350
        colours = np.asarray(picture).reshape(-1, 3)
    for key in (IN_3D, IN_2D):
        assert (colours == key.colour).all(axis=1).sum() > 2 * 300  # two curves
    result = run("measure", "a.swc")
    assert "length" in result.stdout and "voxels" in result.stdout and "--voxel-size" in result.stderr


def test_bad_input_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FORKED.write("a.swc")
    Tree.from_parents(np.zeros((1, 3)), np.ones(1), [-1]).write("lone.swc")
    (tmp_path / "empty").mkdir()
    assert fail("measure", "none.swc") == "none.swc: no such file"
    assert fail("measure", "empty").startswith("empty: expected a folder with trees (SWC")
    assert fail("measure", "x*.swc").startswith("x*.swc: expected a pattern that fits")
    assert fail("measure", "lone.swc", "--csv", "t.csv").startswith("lone.swc: expected a tree with edges")
    assert fail("measure", "a.swc", "--sholl-step", "0").startswith("--sholl-step: expected a number above 0")
    assert fail("measure", "a.swc", "--voxel-size", "1,1").startswith("--voxel-size: expected z,y,x")
    assert fail("measure", "a.swc", "--csv", "a.swc").startswith("a.swc: expected another file to write")
    assert fail("measure", "a.swc", "--csv", "t.csv", "--sholl", "t.csv").endswith("got one twice")
    assert fail("measure", *[FORKED.write(f"{i}.swc").name for i in range(9)], "--picture", "p.png").startswith(
        "--picture: shows at most 8 trees"
    )
    assert not (tmp_path / "t.csv").exists() and not (tmp_path / "p.png").exists()


def test_flat_and_tiny_trees_have_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, places in (
        ("up", [[0, 0, 0], [0, 0, 50]]),
        ("tiny", [[0, 0, 0], [1, 0, 0]]),
        ("far", [[0, 0, 0], [0, 1e6, 0]]),
    ):
        Tree.from_parents(np.array(places, float), np.ones(2), [-1, 0]).write(f"{name}.swc")
    succeed("measure", "up.swc", "tiny.swc", "far.swc", "--voxel-size", "1,1,1", "--picture", "p.png")
    assert Image.open("p.png").width > 1000
