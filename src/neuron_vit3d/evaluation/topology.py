"""Compares how a predicted and a gold tree are connected: DIADEM score, error-free lengths, matched nodes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..morphology import Tree
from ..morphology.critical_nodes import node_distances
from ..morphology.diadem import diadem_score
from ..morphology.runs import run_lengths
from ..morphology.swc import SWCError


_OF_RUNS = (
    "splits",
    "merges",
    "split_edges",
    "omitted_edges",
    "merged_edges",
    "edge_accuracy",
    "expected_run_length",
    "normalized_run_length",
)


def topology_figures(predicted: Tree, gold: Tree, *, threshold: float = 2.0) -> dict[str, float]:
    """Compares how two trees are connected.

    Args:
        predicted, gold: trees in voxels.
        threshold: voxels, see [`run_lengths`].

    Returns:
        The figures of `node_distances`, `run_lengths` and `diadem_score`; `diadem` is 0 if the prediction has no edge.
        All but those of `node_distances` are NaN if gold has no edge with a length.
    """
    figures = node_distances(predicted, gold)
    if not gold.length > 0:
        return figures | {"diadem": math.nan} | dict.fromkeys(_OF_RUNS, math.nan)
    diadem = diadem_score(predicted, gold) if len(predicted.edges) else 0.0
    return figures | {"diadem": diadem} | run_lengths(predicted, gold, threshold=threshold)


def without_lone_nodes(tree: Tree) -> Tree:
    """Leaves out the nodes without an edge.

    Raises:
        SWCError: no node has an edge.
    """
    has_edge = np.zeros(len(tree), bool)
    has_edge[tree.edges] = True
    if has_edge.all():
        return tree
    if not has_edge.any():
        raise SWCError(f"expected a tree with edges, found {len(tree)} node(s) without any")
    names = ("ids", "types", "xyz", "radii", "parents", "scores", "bridged")
    kept = {name: getattr(tree, name)[has_edge] for name in names if getattr(tree, name) is not None}
    return dataclasses.replace(tree, **kept)
