"""What a notebook shows of trees: of every tree something, and of names and comments nothing unescaped."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from neuron_vit3d.morphology import Tree
from neuron_vit3d.morphology.notebook import projection_svg


def line(n: int, **more) -> Tree:
    xyz = np.stack([np.arange(n), 2.0 * np.arange(n), np.zeros(n)], axis=1)
    return dataclasses.replace(Tree.from_parents(xyz, np.ones(n), np.arange(n) - 1), **more)


def test_a_tree_is_drawn_with_its_measures():
    html = line(5, scores=np.full(5, 0.2), bridged=np.zeros(5, bool))._repr_html_()
    ElementTree.fromstring(html)
    assert "<th>nodes</th><td>5</td>" in html and "<td>8.9 voxels</td>" in html
    assert "doubtful branches</th><td>1 of 1" in html
    assert re.findall(r'stroke="(#\w+)"', html) == ["#d55e00"]


def test_lengths_are_micrometres_where_the_tree_tells_its_voxel_size():
    html = line(5, comments=("voxel size z y x in um: 1 2 3",))._repr_html_()
    assert "<th>length</th><td>20.0 µm</td>" in html  # steps of 3 and 4


@pytest.mark.parametrize(
    "tree", [line(0), line(1), Tree.from_parents(np.zeros((2, 3)), np.ones(2), np.array([-1, 0]))]
)
def test_every_tree_is_shown(tree):
    assert "<b>Tree</b> without nodes" == tree._repr_html_() or "<svg" in tree._repr_html_()


def test_what_is_not_sound_is_said():
    tree = line(3)
    for broken in (dataclasses.replace(tree, xyz=tree.xyz * np.nan), dataclasses.replace(tree, parents=[7, 1, 2])):
        assert "that is not sound" in broken._repr_html_()


def test_a_large_tree_makes_a_small_drawing():
    assert len(projection_svg(line(100_000))) < 100_000


def test_the_drawing_is_stretched_as_voxels_are():
    sides = [
        re.search(rf' {name}="(\d+)"', projection_svg(line(9), (1, 1, 2), side=116))[1] for name in ("width", "height")
    ]
    assert sides == ["116", "116"]
