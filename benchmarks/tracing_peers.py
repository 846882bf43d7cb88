"""The peers of tracing.py: kimimaro, and a plain spanning tree of scikit-image's thinned mask."""

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from neuron_vit3d import Tree
from neuron_vit3d.morphology.graphs import sparse_graph
from neuron_vit3d.tracing.skeleton import Skeleton, trim_tips


BRIDGE = 16.0  # voxels, of all three


def kimimaro():
    try:
        import kimimaro
    except ImportError:
        return None
    return kimimaro


def by_kimimaro(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds points, edges and reach of a mask (uint8) by kimimaro, with its own parameters for neurons, in voxels.

    Components are joined over the bridge distance.
    """
    library = kimimaro()
    skeletons = library.skeletonize(
        labels,  # it finds the components itself, as faces, edges and corners connect them
        teasar_params={"scale": 1.5, "const": 3, "pdrf_scale": 100000, "pdrf_exponent": 4},
        anisotropy=(1, 1, 1),
        dust_threshold=10,
        progress=False,
        parallel=1,
    )
    joined = library.join_close_components(list(skeletons.values()), radius=BRIDGE)
    return joined.vertices, joined.edges, np.asarray(joined.radius)


def by_skeletonize(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds points, edges and reach by scikit-image's thinning and the minimum spanning forest of its voxels.

    Gaps up to the bridge distance are joined where the voxels are few enough for it.
    """
    from skimage.morphology import skeletonize

    points = np.argwhere(skeletonize(mask)).astype(float)
    pairs = cKDTree(points).query_pairs(BRIDGE if len(points) < 50_000 else 1.8, output_type="ndarray")
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    graph = sparse_graph(pairs.T, len(points), lengths)
    tree = minimum_spanning_tree(graph).tocoo()
    reach = ndimage.distance_transform_edt(mask)[tuple(points.astype(int).T)]
    return points, np.stack([tree.row, tree.col], axis=1), reach


def trimmed(points: np.ndarray, edges: np.ndarray, reach: np.ndarray, shape: tuple[int, int, int]) -> Tree:
    """A forest z y x as a tree file would hold it, its tips shortened as `trace` does it."""
    graph = sparse_graph(np.asarray(edges, int).T, len(points))
    component = connected_components(graph, directed=False)[1]
    parents = np.full(len(points), -1)
    for root in np.unique(component, return_index=True)[1]:
        order, before = breadth_first_order(graph, root, directed=False)
        parents[order[1:]] = before[order[1:]]
    order = np.argsort(depths(parents), kind="stable")
    row = np.empty(len(points), int)
    row[order] = np.arange(len(points))
    parents = np.where(parents[order] < 0, -1, row[parents[order]])
    skeleton = Skeleton(points[order].astype(float), reach[order].astype(float), parents, component[order], np.ones(3))
    skeleton = trim_tips(skeleton, shape)
    return Tree.from_parents(skeleton.points[:, ::-1], np.maximum(skeleton.reach, 0.5), skeleton.parents)


def depths(parents: np.ndarray) -> np.ndarray:
    """How many ancestors each node has."""
    depth, node = np.zeros(len(parents), int), parents.copy()
    while (node >= 0).any():
        depth += node >= 0
        node = np.where(node >= 0, parents[np.maximum(node, 0)], -1)
    return depth
