"""Graphs for scipy's csgraph, whose older versions take nothing but 32-bit indices."""

import inspect

import numpy as np
import pytest
from scipy.sparse import csgraph, issparse

from neuron_vit3d.morphology import Tree, tree_distance
from neuron_vit3d.morphology.graphs import sparse_graph
from neuron_vit3d.tracing import by_region, trace, trace_neurons
from neuron_vit3d.tracing import teasar as tracing
from neuron_vit3d.training import losses


@pytest.fixture
def indices_seen(monkeypatch) -> dict[str, set[str]]:
    """The types of the indices of the graphs that each function of csgraph is given, by its name."""
    seen = {}

    def watched(name, function):
        def call(graph, *args, **kwargs):
            assert issparse(graph)
            row = graph.tocsr()
            seen.setdefault(name, set()).update((str(row.indices.dtype), str(row.indptr.dtype)))
            return function(graph, *args, **kwargs)

        return call

    for name, function in inspect.getmembers(csgraph, callable):
        if not name.startswith("_") and not inspect.isclass(function):
            monkeypatch.setattr(csgraph, name, watched(name, function))
    monkeypatch.setattr(losses, "connected_components", csgraph.connected_components)
    return seen


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.intp, np.uint16])
def test_indices_are_32_bits_whatever_the_edges_are(kind):
    edges = np.array([[0, 0, 2], [1, 2, 3]], kind)
    graph = sparse_graph(edges, 5, np.array([0.5, 2.0, 3.0]))
    assert graph.indices.dtype == graph.indptr.dtype == np.int32
    assert graph.shape == (5, 5) and graph.toarray()[0, 2] == 2 and graph.nnz == 3
    assert csgraph.connected_components(graph, directed=False)[0] == 2
    # as columns of pairs, and as a tuple
    assert (sparse_graph(edges.T.copy().T, 5) != sparse_graph(tuple(edges), 5)).nnz == 0


def test_without_weights_without_edges_and_with_two_kinds_of_nodes():
    assert sparse_graph(([0, 1], [1, 2]), 3).toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    empty = sparse_graph(np.empty((2, 0), np.int64), 4)
    assert empty.indices.dtype == empty.indptr.dtype == np.int32
    assert csgraph.connected_components(empty, directed=False)[0] == 4
    assert sparse_graph(([0, 1], [4, 2]), (2, 5)).shape == (2, 5)


def test_all_that_tracing_and_scoring_hand_to_csgraph_has_32_bit_indices(indices_seen, monkeypatch):
    scores = np.zeros((24, 48, 96), np.float32)
    scores[11:14, 20:23, 5:90] = scores[11:14, 5:45, 30:33] = 0.9
    scores[11:14, 20:23, 50:54] = 0.3  # joined by weak signal
    scores[11:14, 20:23, 70:74] = 0  # a gap to bridge
    tree = trace(scores, threshold=0.5, smoothing=0)
    assert len(trace_neurons(scores, [(5.0, 21.0, 12.0), (31.0, 44.0, 12.0)], threshold=0.5, smoothing=0)) == 2
    tree_distance(tree, tree)
    Tree.from_parents(tree.xyz[:3], tree.radii[:3], np.array([1, 2, -1]))  # parents after their children: to be sorted
    monkeypatch.setattr(tracing, "VOXELS_AT_ONCE", 1)
    monkeypatch.setattr(tracing, "MAX_SHARE", 1.0)
    for module in (tracing, by_region):
        monkeypatch.setattr(module, "REGION_SIDES", (32,))
    trace(scores, threshold=0.5, smoothing=0)
    losses.divide_center_lines(scores[None] > 0.5)
    assert set(indices_seen) >= {"breadth_first_order", "connected_components", "depth_first_order", "dijkstra"}
    assert set(indices_seen) >= {"maximum_bipartite_matching", "minimum_spanning_tree"}
    assert set.union(*indices_seen.values()) == {"int32"}, indices_seen
