"""Tests of `morphology/node_types.py`: types of nodes by name."""

import numpy as np
import pytest

from neuron_vit3d.morphology import Tree
from neuron_vit3d.morphology.node_types import TYPES, with_type


@pytest.mark.parametrize(("name", "number"), [("undefined", 0), ("axon", 2), ("dendrite", 3), ("apical", 4)])
def test_all_nodes_but_the_soma_get_the_type(name, number):
    tree = Tree.from_parents(np.eye(3), np.ones(3), np.array([-1, 0, 1]), types=np.array([1, 0, 7]))
    assert with_type(tree, name).types.tolist() == [1, number, number]
    assert tree.types.tolist() == [1, 0, 7] and TYPES[name] == number


def test_an_unknown_type_is_refused():
    tree = Tree.from_parents(np.eye(3), np.ones(3), np.array([-1, 0, 1]))
    with pytest.raises(ValueError, match="one of undefined, axon, dendrite, apical, got 'glia'"):
        with_type(tree, "glia")
