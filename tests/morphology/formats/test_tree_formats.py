"""Trees in the files of other programs: what is written reads back, and what is broken is refused in one line."""

import dataclasses
import gzip
import json
import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_vit3d import Tree, Volume, read_swc, read_tree, write_tree, write_volume
from neuron_vit3d.morphology.formats import registry
from neuron_vit3d.morphology.swc import SWCError
from neuron_vit3d.morphology.units import voxel_size_of
from support.program import fail, run, succeed
from support.trees import FORKED, trees


SIDES = (0.7, 0.3, 0.25)
HEAD = '<tracings><samplespacing x="0.5" y="0.5" z="2" units="microns"/><imagesize width="9" height="9" depth="9"/>'
NEUROLUCIDA = """("CellBody" (Color Red) (CellBody) (1 1 0 0.01) (-1 1 0 0.01) (-1 -1 0 0.01) (1 -1 0 0.01))
((Dendrite) (0 0 0 2) (0 5 0 2) ( (-5 5 0 3) | (6 5 0 3) ))
((Axon) (0 0 0 2) (0 -4 0 2) ( (6 -4 0 4) | (-5 -4 0 4) ))
"""


def traces(folder: Path, paths: str, head: str = HEAD) -> Path:
    """A plain .traces file with these paths."""
    path = folder / "a.traces"
    path.write_text(f"{head}{paths}</tracings>")
    return path


def points(*places: tuple[float, float, float], r: str = ' r="1"') -> str:
    """Points of a path, in micrometres."""
    return "".join(f'<point x="0" y="0" z="0" xd="{x}" yd="{y}" zd="{z}"{r}/>' for x, y, z in places)


def edges_of(tree: Tree) -> list:
    """The edges as sorted pairs of places, with the child's radius and type, rounded."""
    child, parent = tree.edges.T
    rows = np.hstack([tree.xyz[child], tree.xyz[parent], tree.radii[child, None], tree.types[child, None]])
    return sorted(map(tuple, rows.round(6).tolist()))


@settings(deadline=None, max_examples=40)
@given(trees(), st.sampled_from([None, SIDES, (1.0, 1.0, 1.0)]))
def test_traces_read_back_as_they_were(tmp_path_factory, tree, sides):
    tree = dataclasses.replace(tree, types=np.arange(len(tree)) % 5 // 2)
    path = write_tree(tmp_path_factory.mktemp("traces") / "a.traces", tree, voxel_size=sides)
    again = read_tree(path)
    assert edges_of(again) == edges_of(tree)
    assert again.num_components == tree.num_components and len(again) == len(tree)
    assert voxel_size_of(again) == sides


def length_of_traces(path: Path) -> float:
    """The summed length of a file's paths in micrometres, by the public description of the format alone."""
    root = ElementTree.fromstring(gzip.decompress(path.read_bytes()))
    assert root.tag == "tracings" and [child.tag for child in root][:2] == ["samplespacing", "imagesize"]
    total = 0.0
    for one in root.iter("path"):
        places = [tuple(float(point.get(f"{axis}d")) for axis in "xyz") for point in one.iter("point")]
        own = sum(math.dist(a, b) for a, b in pairwise(places))
        assert own == pytest.approx(float(one.get("reallength")))
        total += own
    return total


def test_traces_hold_the_length_as_snt_counts_it(tmp_path):
    path = write_tree(tmp_path / "a.traces", FORKED, voxel_size=SIDES)
    expected = 90 * 0.25 + 20 * 0.3 + 20 * 0.7
    assert length_of_traces(path) == pytest.approx(expected, rel=1e-9)
    root = ElementTree.fromstring(gzip.decompress(path.read_bytes()))
    paths = root.findall("path")
    assert [one.get("primary") for one in paths] == ["true", None, None]
    # A path that branches off says on which path and where, and begins there.
    for one in paths[1:]:
        first = one.find("point")
        assert one.get("startson") == "0"
        assert [first.get(f"{axis}d") for axis in "xyz"] == [one.get(f"starts{axis}") for axis in "xyz"]
    before = path.read_bytes()
    assert write_tree(path, FORKED, voxel_size=SIDES).read_bytes() == before


def test_traces_of_other_hands(tmp_path):
    """Voxels alone, an index for the place, a path before the one it starts on, a fit that is used, an open loop."""
    path = traces(
        tmp_path,
        '<path id="2" startson="1" startsindex="1"><point x="9" y="2" z="3"/></path>'
        '<path id="1" swctype="3" usefitted="true" fitted="5"><point x="1" y="2" z="3"/><point x="4" y="2" z="3"/>'
        '<point x="7" y="2" z="3"/></path>'
        f'<path id="5" fittedversionof="1">{points((0, 0, 0), (1, 0, 2), (2, 0, 4))}</path>'
        f'<path id="7" startson="5" startx="1" starty="0" startz="2" endson="2">{points((1, 0, 2), (1, 3, 2))}</path>'
        '<fill id="0" metric="x" threshold="1"><node id="0" x="1" y="1" z="1" distance="0" status="open"/></fill>',
    )
    with pytest.warns(UserWarning, match="1 path.* end on another"):
        tree = read_tree(path)
    assert tree.num_components == 1 and voxel_size_of(tree) == (2, 0.5, 0.5)
    assert sorted(map(tuple, tree.xyz.tolist())) == [(0, 0, 0), (2, 0, 1), (2, 6, 1), (4, 0, 2), (9, 2, 3)]
    assert tree.radii.tolist() == [2, 2, 2, 2, 2]  # the last one's is that of the node it hangs on
    at = {tuple(place): row for row, place in enumerate(tree.xyz.tolist())}
    assert tree.parent_index[at[2, 6, 1]] == tree.parent_index[at[9, 2, 3]] == at[2, 0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("<swc/>", "expected SNT's <tracings>, got <swc>"),
        ("1 1 0 0 0 1 -1\n", "line 1: no sound XML"),
        (f"{HEAD}<path id='1'>", "no sound XML"),
        (f"{HEAD}</tracings>", "expected paths with points"),
        (f"{HEAD}<path id='1'/></tracings>", "expected paths with points"),
        (f"{HEAD}<path><point x='1' y='1' z='1'/></path></tracings>", "a path with an id"),
        (f"{HEAD}<path id='1'><point x='1' y='a' z='1'/></path></tracings>", "y must be a finite number, got 'a'"),
        (f"{HEAD}<path id='1'><point x='1' y='inf' z='1'/></path></tracings>", "y must be a finite number"),
        (f"{HEAD}<path id='1e3'/></tracings>", "id must be a whole number"),
        (f"{HEAD}<path id='1' swctype='99999999999999999999'/></tracings>", "swctype must be a whole number"),
        (f"{HEAD}<path id='1'/><path id='1'/></tracings>", "path 1 is there twice"),
        (f"{HEAD}<path id='1' startson='3'><point x='1' y='1' z='1'/></path></tracings>", "which is not there"),
        (
            f"{HEAD}<path id='1' startson='2'><point x='1' y='1' z='1'/></path>"
            "<path id='2' startson='1'><point x='1' y='1' z='1'/></path></tracings>",
            "path 1 starts on a path that starts on it",
        ),
        (HEAD.replace("microns", "furlongs") + "</tracings>", "in um, nm, mm or pixels, got 'furlongs'"),
        (HEAD.replace('x="0.5"', 'x="0"') + "</tracings>", "sample spacing of positive numbers"),
        ("<tracings><path id='1'/></tracings>", "expected <samplespacing> before"),
        ('<!DOCTYPE t [<!ENTITY a "b">]><tracings/>', "entities are refused"),
        ('<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]><tracings/>', "entities are refused"),
        ('<?xml version="1.0" encoding="UTF-9"?><tracings/>', "no sound XML, unknown encoding: UTF-9"),
        ("<tracings>" + "<a>" * 50, "elements within one another"),
        ("<tracings>" + " " * (3 << 20) + "</tracings>", "a tag every"),
    ],
)
def test_broken_traces_are_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "a.traces"
    for content in (text.encode(), gzip.compress(text.encode()) if text else b""):
        path.write_bytes(content)
        with pytest.raises(SWCError, match=re.escape(said)) as caught:
            read_tree(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_gzip_that_swells_is_refused_and_one_cut_short_too(tmp_path):
    path = tmp_path / "a.traces"
    path.write_bytes(gzip.compress(b"<tracings>" + (b"<a/>" + b" " * 1020) * (80 << 10), compresslevel=1))
    with pytest.raises(SWCError, match="swells to more than 100 times"):
        read_tree(path)
    whole = write_tree(path, FORKED).read_bytes()
    for cut in (3, 20, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(SWCError):
            read_tree(path)
    path.write_bytes(whole[:40] + b"\0\0\0\0\0\0\0\0" + whole[48:])
    with pytest.raises(SWCError):
        read_tree(path)


def test_precomputed_skeletons_hold_what_neuroglancers_description_says(tmp_path):
    path = write_tree(tmp_path / "neuron.precomputed", FORKED, voxel_size=SIDES)
    info = json.loads((path / "info").read_text())
    assert info["@type"] == "neuroglancer_skeletons"
    assert info["transform"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    assert info["vertex_attributes"] == [{"id": "radius", "data_type": "float32", "num_components": 1}]
    properties = json.loads((path / info["segment_properties"] / "info").read_text())
    assert properties["@type"] == "neuroglancer_segment_properties" and properties["inline"]["ids"] == ["1"]
    content = (path / "1").read_bytes()
    num_vertices, num_edges = struct.unpack("<II", content[:8])
    assert len(content) == 8 + 12 * num_vertices + 8 * num_edges + 4 * num_vertices
    places = np.frombuffer(content, "<f4", 3 * num_vertices, 8).reshape(-1, 3)
    edges = np.frombuffer(content, "<u4", 2 * num_edges, 8 + 12 * num_vertices).reshape(-1, 2)
    radii = np.frombuffer(content, "<f4", num_vertices, 8 + 12 * num_vertices + 8 * num_edges)
    length = np.linalg.norm(places[edges[:, 0]] - places[edges[:, 1]], axis=1).sum()
    assert length == pytest.approx(1000 * (90 * 0.25 + 20 * 0.3 + 20 * 0.7))
    assert radii == pytest.approx(np.full(6, 250.0))


def test_neurolucida_is_read_by_morphio(tmp_path):
    morphio = pytest.importorskip("morphio")
    path = tmp_path / "a.asc"
    path.write_text(NEUROLUCIDA)
    tree = read_tree(path)
    assert voxel_size_of(tree) == (1, 1, 1) and tree.num_components == 1
    assert tree.types.tolist() == [1, 3, 3, 3, 3, 2, 2, 2, 2]
    theirs = morphio.Morphology(str(path))
    lengths = [np.linalg.norm(np.diff(section.points, axis=0), axis=1).sum() for section in theirs.iter()]
    assert tree.length == pytest.approx(sum(lengths))  # the neurites begin in the soma's middle
    assert tree.radii[0] == pytest.approx(2**0.5) and tree.radii[1:].tolist() == [1, 1, 1.5, 1.5, 1, 1, 2, 2]
    path.write_text(NEUROLUCIDA.replace("(6 5 0 3)", "(6 5 0 0)").replace("(0 5 0 2)", "(0 5 0 0)"))
    with pytest.warns(UserWarning, match="2 of 9 radii were not positive and became their parents'"):
        assert read_tree(path).radii[1:5].tolist() == [1, 1, 1.5, 1]
    for broken in ("", "words\n", NEUROLUCIDA[:150], "((Dendrite) (0 0 0 2", "\0\0\0"):
        path.write_text(broken)
        with pytest.raises(SWCError, match=re.escape(f"{path}: ")) as caught:
            read_tree(path)
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_the_registry_says_what_the_modules_say():
    for name, line in registry.FORMATS.items():
        found = registry.tree_format(name)
        assert found.suffixes == line.suffixes
        assert ((found.read is not None), (found.write is not None)) == (line.reads, line.writes)
    assert registry.as_table().count("\n") == 1 + len(registry.FORMATS)
    with pytest.raises(ValueError, match="one of swc, traces"):
        registry.tree_format("nml")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="only read"):
        write_tree(tmp_path / "a.asc", FORKED)
    with pytest.raises(ValueError, match="expected a suffix"):
        write_tree(tmp_path / "a.xyz", FORKED)
    with pytest.raises(SWCError, match="voxel size"):
        write_tree(tmp_path / "a.precomputed", FORKED)
    with pytest.raises(SWCError, match="too large"):
        write_tree(tmp_path / "a.precomputed", FORKED, voxel_size=(1e36, 1e36, 1e36))
    lone = Tree.from_parents(np.zeros((1, 3)), np.ones(1), [-1])
    with pytest.raises(SWCError, match="edges"):
        write_tree(tmp_path / "a.precomputed", lone, voxel_size=SIDES)
    for suffix in ("traces", "precomputed", "swc"):
        with pytest.raises(SWCError, match="no node"):
            write_tree(tmp_path / f"a.{suffix}", Tree.from_parents(np.zeros((0, 3)), [], []), voxel_size=SIDES)
    assert not any(tmp_path.iterdir())


def test_convert_to_and_from_other_programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FORKED.write("a.swc")
    write_volume(tmp_path / "image.tif", Volume(np.zeros((30, 30, 100), np.uint8)))
    assert succeed("convert", "a.swc", "a.traces", "--voxel-size", "0.7,0.3,0.25") == "a.traces\n"
    succeed("convert", "a.traces", "b.swc")
    assert edges_of(read_swc("b.swc")) == edges_of(FORKED)
    succeed("convert", "a.traces", "skeletons", "--format", "precomputed")  # the voxel size is the file's own
    assert {path.name for path in (tmp_path / "skeletons").iterdir()} == {"info", "1", "segment_properties"}
    assert "length" in succeed("measure", "a.traces") and succeed("evaluate", "a.traces", "a.swc", "--json")
    succeed("view", "image.tif", "a.traces", "-o", "a.png")
    succeed("convert", "a.traces", "mask.tif", "--like", "image.tif")
    assert fail("convert", "a.swc", "c.precomputed").endswith("(--voxel-size z,y,x in micrometres)")
    assert fail("convert", "a.swc", "c.swc", "--format", "nml").startswith("--format: expected one of swc, traces")
    assert fail("convert", "a.swc", "c.asc").startswith("c.asc: Neurolucida's .asc is only read")
    assert fail("convert", "none.traces", "c.swc") == "none.traces: no such file"
    assert fail("convert", "image.tif", "c.traces").startswith("c.traces: an image becomes a tree by")
    succeed("convert", "a.swc", "mask2.tif", "--like", "image.tif", "--voxel-size", "1,1,1")
    assert fail("convert", "a.traces", "skeletons", "--format", "precomputed").startswith(
        "skeletons: expected an empty"
    )
    assert run("convert", "a.swc", "a.swc").exit_code == 2
