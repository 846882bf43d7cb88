"""A tree that turns in a browser: its lines, their classes, and a page that is whole and asks nobody."""

import base64
import dataclasses
import json
import re

import numpy as np
import pytest

from neuron_vit3d.evaluation import turning_tree
from neuron_vit3d.evaluation.overlay import Projections
from neuron_vit3d.evaluation.turning_tree import Turned, figure, write_turning_tree
from neuron_vit3d.morphology import Tree


def line(*points, parents=None) -> Tree:
    parents = np.arange(len(points)) - 1 if parents is None else parents
    return Tree.from_parents(np.array(points, float).reshape(-1, 3), np.ones(len(points)), np.array(parents, int))


@pytest.fixture
def fork() -> Tree:
    """A stem of two edges with two arms, of which one is doubtful."""
    points = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 1, 0), (3, -1, 5)]
    tree = line(*points, parents=[-1, 0, 1, 2, 2])
    return dataclasses.replace(tree, scores=np.array([1, 1, 1, 0.8, 0.2]), bridged=np.zeros(5, bool))


def numbers(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["bdata"]), {"f4": "<f4", "u1": "u1"}[packed["dtype"]])


def named(drawing: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in drawing["data"]}


def test_branches_are_drawn_by_their_confidence(fork):
    lines = named(figure(Turned(fork, (2.0, 0.5, 0.25))))
    assert list(lines) == ["sure (confidence 0.9 or more)", "fair (0.75 to 0.9)", "doubtful (below 0.75)", "root"]
    z = numbers(lines["doubtful (below 0.75)"]["z"])
    assert z[:2].tolist() == [0, 10] and np.isnan(z[2])  # in micrometres, with a gap behind
    layout = figure(Turned(fork, (2.0, 0.5, 0.25)))["layout"]
    assert layout["scene"]["zaxis"]["title"]["text"] == "z (µm)"
    assert figure(Turned(fork))["layout"]["scene"]["xaxis"]["title"]["text"] == "x (voxels)"


def test_confidence_may_be_given_or_not_known(fork):
    bare = dataclasses.replace(fork, scores=None, bridged=None)
    assert list(named(figure(Turned(bare)))) == ["tree", "root"]
    known = figure(Turned(bare, confidence=np.array([0.95, np.nan, 0.5])))
    assert [*named(known)][:3] == ["sure (confidence 0.9 or more)", "doubtful (below 0.75)", "confidence not known"]


def test_the_soma_is_marked_where_there_is_one(fork):
    soma = dataclasses.replace(fork, types=np.array([0, 1, 1, 0, 0]))
    assert named(figure(Turned(soma)))["soma"]["x"] == [1.5]
    assert named(figure(Turned(fork)))["root"]["x"] == [0.0]


def test_an_empty_tree_and_a_lone_node_are_drawn():
    assert figure(Turned(line()))["data"] == []
    assert list(named(figure(Turned(line((1, 2, 3)))))) == ["tree", "root"]


def test_too_many_nodes_are_thinned_and_ends_stay(fork, monkeypatch):
    path = line(*[(x, 0, 0) for x in range(1000)])
    monkeypatch.setattr(turning_tree, "_MOST_POINTS", 100)
    assert Turned(path).is_thinned and not Turned(fork).is_thinned
    drawn = numbers(named(figure(Turned(path)))["tree"]["x"])
    assert 90 < len(drawn) < 110 and drawn[0] == 0 and drawn[-2] == 999


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 500, 301)])
def test_the_image_lies_behind_the_tree(shape, fork):
    volume = np.zeros(shape, np.float32)
    volume[0, -1, -1] = 9
    projections = Projections(shape)
    projections.add(0, volume)
    floor = named(figure(Turned(fork, (2.0, 1.0, 1.0), projections=projections)))["image (maximum along z)"]
    height, width = map(int, floor["surfacecolor"]["shape"].split(","))
    gray = numbers(floor["surfacecolor"]).reshape(height, width)
    assert max(height, width) <= 192 and len(numbers(floor["x"])) == width and len(numbers(floor["y"])) == height
    assert (numbers(floor["z"]) == (shape[0] - 0.5) * 2).all()
    assert volume.size == 1 or (gray[-1, -1] == 255 and (gray.ravel()[:-1] == 0).all())


def test_the_page_is_whole_and_names_are_escaped(fork, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed (extra report)")
    title = "</title><script>alert(1)</script>.swc"
    path = write_turning_tree(tmp_path / "a.html", Turned(fork), title)
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]
    text = path.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert "default-src 'none'" in text and not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    drawing = json.loads(re.search(r'id="figure">(.*?)</script>', text, re.DOTALL)[1])
    assert drawing == figure(Turned(fork))
