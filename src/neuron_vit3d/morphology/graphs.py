"""Graphs of voxels, nodes and components, as the algorithms of `scipy.sparse.csgraph` take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from scipy.sparse import csr_array


def sparse_graph(
    edges: Sequence[np.ndarray] | np.ndarray, shape: int | tuple[int, int], weights: np.ndarray | None = None
) -> csr_array:
    """Builds the sparse matrix of a graph, with 32-bit indices.

    scipy before 1.17.1 refuses 64-bit ones in `scipy.sparse.csgraph`, and makes them of 64-bit rows and columns.

    Args:
        edges: two rows of n numbers: where the edges begin, and where they end.
        shape: the number of nodes, or (rows, columns) where those are different things, as in a matching.
        weights: (n,) of the edges; edges given several times add up, and 0 is no edge. None: all 1, as int8, for what
            looks at neither weights nor how often an edge is given.

    Returns:
        The matrix (rows, columns) of the weights.
    """
    from scipy.sparse import coo_array  # here, so that reading an SWC file does not pay for scipy

    rows, columns = (np.asarray(ends).astype(np.int32, copy=False) for ends in edges)
    if weights is None:
        weights = np.ones(len(rows), np.int8)
    shape = (shape, shape) if isinstance(shape, int) else shape
    return coo_array((weights, (rows, columns)), shape=shape).tocsr()
